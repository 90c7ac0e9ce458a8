//! SIGINT and SIGTERM. Every thread blocks them, and one waits for them: drivers throw a migration away when a signal comes in
//! the middle of a request (P1). What is in progress ends at the next place where it may, and the device runs again.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

static COUNT: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();
type Hook = Box<dyn Fn() + Send>;
static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// So many signals end the process at once, whatever state devices are in.
const IMPATIENT: u32 = 3;

/// Begins to watch, once; called before any other thread is made.
pub fn watch() {
    WATCH.call_once(|| {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` has the size of a sigset_t, which sigemptyset initialises; the numbers are valid signals.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            set.assume_init()
        };
        // SAFETY: `set` is initialised, and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        // Without the thread the signals stay blocked, so that the command cannot be interrupted; its devices are safe.
        let _ = std::thread::Builder::new().name("signals".into()).spawn(move || wait(&set));
    });
}

fn wait(set: &libc::sigset_t) {
    loop {
        let mut signal = 0;
        // SAFETY: `set` is an initialised set, and `signal` is writable.
        if unsafe { libc::sigwait(std::ptr::from_ref(set), &raw mut signal) } != 0 {
            return;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if count >= IMPATIENT {
            std::process::exit(130);
        }
        // Not eprintln!(), which panics where standard error is gone: the signals behind this one would not be counted.
        let text = format!("a signal: the devices are brought back (send it {IMPATIENT} times to give up at once)");
        let _ = writeln!(io::stderr(), "vfiomig: {text}");
        if let Ok(hooks) = HOOKS.lock() {
            hooks.iter().for_each(|hook| hook());
        }
    }
}

/// Whether a signal has come, so that what is in progress should end.
pub fn interrupted() -> bool {
    COUNT.load(Ordering::Relaxed) > 0
}

/// Adds what a signal does besides, on the thread that waits for it.
pub fn on_signal(hook: impl Fn() + Send + 'static) {
    if let Ok(mut hooks) = HOOKS.lock() {
        hooks.push(Box::new(hook));
    }
    if interrupted() {
        // It came before there was a hook.
        HOOKS.lock().iter().for_each(|hooks| hooks.iter().for_each(|hook| hook()));
    }
}
