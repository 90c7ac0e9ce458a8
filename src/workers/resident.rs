//! A thread that goes on between two calls, for what a caller has asked for beforehand (docs/threading.md, "Threads that stay").

use super::threads::make_threads;
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, current};

/// One such thread. It must be ended by other means: whoever drops this waits for it, but not on the thread itself.
#[derive(Debug)]
pub struct Resident(Option<JoinHandle<()>>);

impl Resident {
    /// Makes the thread, with all asynchronous signals blocked (P1). `None`: none can be had, and the log says so.
    pub fn new(name: &str, work: impl FnOnce() + Send + 'static) -> Option<Resident> {
        // A name with a NUL is none for the system.
        let name: String = format!("vfiomig-{name}").chars().filter(|c| *c != '\0').collect();
        // It is not made anew if the system has refused it.
        let work = Arc::new(Mutex::new(Some(work)));
        let mut handle = None;
        let made = make_threads(1, || {
            let work = Arc::clone(&work);
            let run = move || {
                let work = work.lock().take();
                work.into_iter().for_each(|work| work());
            };
            handle = Some(Builder::new().name(name.clone()).spawn(run)?);
            Ok(())
        });
        made.report();
        handle.map(|handle| Resident(Some(handle)))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take().filter(|handle| handle.thread().id() != current().id()) {
            // A panic of it was kept by its own work.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::signals::is_blocked;
    use crate::workers::refuse_threads_beyond;
    use std::sync::mpsc::channel;

    #[test]
    fn it_has_its_name_and_no_signals_and_is_joined() {
        let (tell, hear) = channel();
        let resident = Resident::new("nic\x000", move || {
            let name = current().name().map(str::to_string);
            tell.send((name, is_blocked(libc::SIGTERM))).unwrap();
        });
        drop(resident.unwrap());
        assert_eq!(hear.try_recv().unwrap(), (Some("vfiomig-nic0".to_string()), true));
    }

    #[test]
    fn one_that_drops_itself_does_not_wait_for_itself() {
        let (give, get) = channel::<Resident>();
        let resident = Resident::new("self", move || drop(get.recv().unwrap())).unwrap();
        give.send(resident).unwrap();
    }

    #[test]
    fn there_may_be_none() {
        refuse_threads_beyond(0);
        let none = Resident::new("none", || panic!("it was refused")).is_none();
        refuse_threads_beyond(usize::MAX);
        assert!(none);
    }
}
