//! What a writer and a reader of C are: a channel with its descriptor or its function, one call at a time.

use super::input::borrow_fd;
use super::wire_table::{TableForC, vfiomig_wire_device};
use crate::cancel::{Cancel, Follower};
use crate::error::{Error, Result};
use crate::gate::this_thread;
use crate::transport::{caller_patience, wait_any};
use crate::wire::{Input, Output, Timed};
use parking_lot::{Mutex, MutexGuard};
use std::ffi::c_void;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a channel whose function has nothing is left alone.
const NAP: Duration = Duration::from_millis(1);
/// How long a wait for a descriptor lasts at most.
const LOOK: Duration = Duration::from_millis(20);

/// Takes bytes of a channel. Returns how many, 1 to `len`; -EAGAIN if it takes none now; else
/// -errno, which ends the channel. 0 and more than `len` do, too.
pub type vfiomig_write_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, data: *const c_void, len: usize) -> i64>;

/// Brings the next bytes of a channel. Returns how many, at most `len`; 0 at the end of the channel;
/// -EAGAIN if it has none now; else -errno, which ends the channel.
pub type vfiomig_read_fn = Option<unsafe extern "C" fn(opaque: *mut c_void, buf: *mut c_void, len: usize) -> i64>;

/// Where the bytes of a channel go or come from.
pub enum Way<F> {
    /// In a box: without one, compiled code looks at fields of the other variant before it asks which it is, and valgrind says so.
    Fd(Box<Timed<'static>>),
    Function {
        function: F,
        opaque: *mut c_void,
    },
}

// SAFETY: the pointer is only passed back to the caller's function, which is called on the thread that called the library.
unsafe impl<F: Send> Send for Way<F> {}

/// What the caller's function answered for `len` bytes.
fn answered(what: &str, answer: i64, len: usize) -> io::Result<usize> {
    match usize::try_from(answer) {
        Ok(moved) if moved <= len => Ok(moved),
        Ok(moved) => Err(Error::argument(format!("{what}: it answered {moved} for {len} bytes")).into()),
        Err(_) => {
            let errno = answer.checked_neg().and_then(|errno| i32::try_from(errno).ok());
            Err(io::Error::from_raw_os_error(errno.filter(|errno| *errno > 0).unwrap_or(libc::EIO)))
        }
    }
}

type WriteFn = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> i64;
type ReadFn = unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> i64;

impl Write for Way<WriteFn> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Way::Fd(timed) => timed.write(bytes),
            Way::Function { function, opaque } => {
                // SAFETY: a slice is readable for its length; the rest is the caller's contract for its function.
                let answer = unsafe { function(*opaque, bytes.as_ptr().cast(), bytes.len()) };
                answered("the write function", answer, bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Way<ReadFn> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Way::Fd(timed) => timed.read(buf),
            Way::Function { function, opaque } => {
                // SAFETY: a slice is writable for its length; the rest is the caller's contract for its function.
                let answer = unsafe { function(*opaque, buf.as_mut_ptr().cast(), buf.len()) };
                answered("the read function", answer, buf.len())
            }
        }
    }
}

/// One value, one call at a time: another one is BUSY, and one from the call's own function EDEADLK.
pub struct OneCall<T> {
    value: Mutex<Option<T>>,
    /// The thread whose call has it.
    owner: AtomicUsize,
}

/// A call in progress.
pub struct CallTurn<'a, T> {
    value: MutexGuard<'a, Option<T>>,
    owner: &'a AtomicUsize,
}

impl<T> Drop for CallTurn<'_, T> {
    fn drop(&mut self) {
        self.owner.store(0, Ordering::Release);
    }
}

impl<T> OneCall<T> {
    fn new(value: T) -> Self {
        OneCall { value: Mutex::new(Some(value)), owner: AtomicUsize::new(0) }
    }

    fn check_not_mine(&self) -> Result<()> {
        if self.owner.load(Ordering::Acquire) == this_thread() {
            return Err(Error::reentry("called from the function of its own channel"));
        }
        Ok(())
    }

    fn held<'a>(&'a self, value: MutexGuard<'a, Option<T>>) -> CallTurn<'a, T> {
        self.owner.store(this_thread(), Ordering::Release);
        CallTurn { value, owner: &self.owner }
    }

    fn with<R>(&self, what: &str, call: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        self.check_not_mine()?;
        let free = self.value.try_lock();
        let value = free.ok_or_else(|| Error::busy(format!("another call on the {what} is in progress")))?;
        let mut turn = self.held(value);
        match turn.value.as_mut() {
            Some(value) => call(value),
            None => Err(Error::gone(format!("the {what} was freed"))),
        }
    }

    /// Waits for the call in progress.
    fn close(&self) -> Result<()> {
        self.check_not_mine()?;
        let mut turn = self.held(self.value.lock());
        *turn.value = None;
        Ok(())
    }
}

/// A channel for which a handle stands.
pub struct Channel<T> {
    call: OneCall<T>,
    what: &'static str,
    fd: Option<(BorrowedFd<'static>, bool)>,
    follower: Arc<Follower>,
}

impl<T> Channel<T> {
    /// One call.
    pub fn with<R>(&self, call: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        self.call.with(self.what, call)
    }

    /// Waits end by a cancel of this migration from now on.
    pub(crate) fn follow(&self, cancel: &Arc<Cancel>) {
        self.follower.follow(cancel);
    }

    /// Whether it may be used on any thread: no function of the caller is called.
    pub fn any_thread(&self) -> bool {
        self.fd.is_some()
    }

    /// Its descriptor, and whether it is written.
    pub fn descriptor(&self) -> Option<(BorrowedFd<'static>, bool)> {
        self.fd
    }

    /// Waits a little until it may be ready.
    pub fn wait(&self) {
        match self.fd {
            Some(fd) => drop(wait_any(&[fd], LOOK)),
            None => std::thread::sleep(NAP),
        }
    }

    /// The last touch of its descriptor and function.
    pub fn close(&self) -> Result<()> {
        self.call.close()
    }
}

/// A channel that is written.
pub type WireWriter = Channel<Output<Way<WriteFn>>>;

/// A channel that is read.
pub struct WireReader {
    channel: Channel<Input<Way<ReadFn>>>,
    table: OnceLock<TableForC>,
}

impl std::ops::Deref for WireReader {
    type Target = Channel<Input<Way<ReadFn>>>;
    fn deref(&self) -> &Self::Target {
        &self.channel
    }
}

impl WireReader {
    /// A device of its table; `None`: there is none of that number.
    pub fn device(&self, index: usize) -> Result<Option<vfiomig_wire_device>> {
        if self.table.get().is_none() {
            let table = self.with(|input| Ok(input.table().map(TableForC::new)))?;
            let table = table.ok_or_else(|| Error::order("VFIOMIG_RECORD_TABLE has not come"))?;
            // Another thread made the same one.
            let _ = self.table.set(table);
        }
        Ok(self.table.get().and_then(|table| table.device(index)))
    }

    /// The last touch of its descriptor and function.
    pub fn close(&self) -> Result<()> {
        self.channel.close()
    }
}

/// How a channel is reached, as its options say.
pub(super) struct Reached {
    pub by_fd: bool,
    pub fd: i32,
    pub timeout_ms: u32,
    pub deadline_ms: u64,
    pub opaque: *mut c_void,
}

impl Reached {
    /// # Safety
    /// With `by_fd`, `fd` is -1 or stays open as long as the result is used; else `opaque` is what the function wants.
    unsafe fn way<F>(&self, function: Option<F>) -> Result<(Way<F>, Option<BorrowedFd<'static>>, Arc<Follower>)> {
        let follower = Arc::new(Follower::default());
        match (self.by_fd, function) {
            (true, Some(_)) => Err(Error::argument("options: a descriptor and a function are both given")),
            (false, None) => Err(Error::argument("options: neither a descriptor nor a function is given")),
            (false, Some(function)) => Ok((Way::Function { function, opaque: self.opaque }, None, follower)),
            (true, None) => {
                // SAFETY: the contract of this function.
                let fd = unsafe { borrow_fd("fd", self.fd) }?;
                let patience = match self.timeout_ms {
                    0 => caller_patience(),
                    ms => Duration::from_millis(u64::from(ms)),
                };
                let ends = Arc::clone(&follower);
                let timed = Timed::new(fd, patience).until(move || ends.ends_drain());
                let limit = (self.deadline_ms != 0).then_some(Duration::from_millis(self.deadline_ms));
                let timed = match limit.and_then(|limit| Instant::now().checked_add(limit)) {
                    Some(deadline) => timed.by(deadline),
                    None => timed,
                };
                Ok((Way::Fd(Box::new(timed)), Some(fd), follower))
            }
        }
    }

    /// # Safety
    /// As the options of a writer say.
    pub unsafe fn writer(
        &self,
        function: vfiomig_write_fn,
        make: impl FnOnce(Way<WriteFn>) -> Result<Output<Way<WriteFn>>>,
    ) -> Result<WireWriter> {
        // SAFETY: the contract of this function.
        let (way, fd, follower) = unsafe { self.way(function) }?;
        let call = OneCall::new(make(way)?);
        Ok(Channel { call, what: "writer", fd: fd.map(|fd| (fd, true)), follower })
    }

    /// # Safety
    /// As the options of a reader say.
    pub unsafe fn reader(&self, function: vfiomig_read_fn) -> Result<WireReader> {
        // SAFETY: the contract of this function.
        let (way, fd, follower) = unsafe { self.way(function) }?;
        let call = OneCall::new(Input::new(way));
        let channel = Channel { call, what: "reader", fd: fd.map(|fd| (fd, false)), follower };
        Ok(WireReader { channel, table: OnceLock::new() })
    }
}
