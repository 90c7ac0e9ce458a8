//! SIGINT, SIGTERM and SIGHUP. Every thread blocks them, and one waits for them: drivers throw a migration away when a signal
//! comes in the middle of a request (P1). What is in progress ends at the next place where it may, and the device runs again.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once};
use std::time::Duration;

static COUNT: AtomicU32 = AtomicU32::new(0);
/// With which status the process ends: 128 and the number of the first signal, where SIGTERM counts as SIGINT.
static STATUS: AtomicU8 = AtomicU8::new(130);
const HUNG_UP: u8 = 129;
static WATCH: Once = Once::new();
type Hook = Box<dyn Fn() + Send>;
static HOOKS: Mutex<Vec<Hook>> = Mutex::new(Vec::new());

/// How often a wait looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);

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
            // A signal that is ignored, as behind nohup, would come all the same where it is blocked.
            if !is_ignored(libc::SIGHUP) {
                libc::sigaddset(set.as_mut_ptr(), libc::SIGHUP);
            }
            set.assume_init()
        };
        // SAFETY: `set` is initialised, and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        // Without the thread the signals stay blocked, so that the command cannot be interrupted; its devices are safe.
        let _ = std::thread::Builder::new().name("signals".into()).spawn(move || wait(&set));
    });
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `found` has the size of a struct sigaction, and nothing is changed.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) };
    // SAFETY: the call has filled it, and zeros are one, too.
    asked == 0 && unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN
}

fn wait(set: &libc::sigset_t) {
    loop {
        let mut signal = 0;
        // SAFETY: `set` is an initialised set, and `signal` is writable.
        if unsafe { libc::sigwait(std::ptr::from_ref(set), &raw mut signal) } != 0 {
            return;
        }
        if signal == libc::SIGHUP && !interrupted() {
            STATUS.store(HUNG_UP, Ordering::Relaxed);
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if count >= IMPATIENT {
            std::process::exit(status().into());
        }
        // Not eprintln!(), which panics where standard error is gone: the signals behind this one would not be counted.
        let text = format!(
            "a signal: what is in progress ends, and devices are brought back (send it {IMPATIENT} times to give up at once)"
        );
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

/// The status of a process that a signal has ended.
pub fn status() -> u8 {
    STATUS.load(Ordering::Relaxed)
}

/// What `make` gives, for which a thread of its own waits, so that a signal ends the wait. That thread is left behind then, and
/// ends with the process.
pub fn unless_interrupted<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (give, take) = mpsc::channel();
    std::thread::Builder::new().name("connect".into()).spawn(move || give.send(make()))?;
    loop {
        match take.recv_timeout(LOOK) {
            Ok(made) => return Ok(made),
            Err(RecvTimeoutError::Timeout) if !interrupted() => {}
            Err(_) => return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
        }
    }
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
