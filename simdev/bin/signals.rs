//! SIGINT and SIGTERM end the server in good order; a second one ends it at once.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

extern "C" fn stop(signal: libc::c_int) {
    if let Some(flag) = STOP.get() {
        flag.store(true, Ordering::Relaxed);
    }
    // SAFETY: signal() may be called in a handler, and the default action needs no function.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// What is true once such a signal has come.
pub fn stop_on_signals() -> Arc<AtomicBool> {
    let flag = STOP.get_or_init(Arc::default);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores into an atomic that lives as long as the program, and calls signal().
        unsafe { libc::signal(signal, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
    Arc::clone(flag)
}
