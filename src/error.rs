//! Errors: a kind that decides, an errno, a text for people, and one result per device of the step that failed.
//!
//! May import: log. Start reading at [`Error`] and [`ErrorKind`].
//!
//! [`State`](crate::dialect::State) is known by its number, which results carry as `u32`.
//!
//! ```
//! use vfiomig::device::{Device, DeviceOptions, OnFailure};
//! use vfiomig::dialect::State;
//! use vfiomig::error::ErrorKind;
//!
//! let hardware = simdev::Device::new(simdev::Config::default());
//! let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
//! hardware.inject(simdev::Fault::at(simdev::Access::StateWrite, 0, simdev::Effect::Errno(libc::EBUSY)));
//! let error = device.set_state(State::Stop, OnFailure::Keep, false).unwrap_err();
//! assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::EBUSY));
//! assert_eq!(error.results()[0].found_state(), Some(State::Running));
//! println!("{error}"); // for people; a program decides by kind, errno and results
//! # Ok::<(), vfiomig::Error>(())
//! ```

use crate::log::{Level, write};
use std::{fmt, io};

/// A positive errno value as the kernel or a VMM's function gave it.
///
/// ```
/// use vfiomig::error::Errno;
///
/// assert_eq!(Errno::new(libc::EBUSY).to_string(), "Device or resource busy");
/// assert_eq!(Errno::new(-1), Errno::new(libc::EIO));
/// let kind = std::io::Error::from(Errno::new(libc::ENOENT)).kind();
/// assert_eq!(kind, std::io::ErrorKind::NotFound);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// From a positive errno. Zero and negative values come only from a broken peer and read as EIO.
    pub fn new(value: i32) -> Self {
        if value > 0 && value < 4096 { Errno(value) } else { Errno(libc::EIO) }
    }

    /// The calling thread's errno.
    pub fn last() -> Self {
        Errno::new(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// The positive number.
    pub fn get(self) -> i32 {
        self.0
    }

    /// An errno that no program should see, because the kernel keeps it to itself: a driver has let one out, as xe
    /// (K7) does after a signal. On a data fd it means that bytes of a read are lost.
    pub fn is_kernel_internal(self) -> bool {
        self.0 > LAST_PUBLIC
    }

    /// ENOTTY and EINVAL on a probe both mean that the thing is absent (V2-15).
    pub fn means_absent(self) -> bool {
        matches!(self.0, libc::ENOTTY | libc::EINVAL)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({})", self.0)
    }
}

/// EHWPOISON, the last one of <errno.h>.
const LAST_PUBLIC: i32 = 133;

/// Names and meanings of what is beyond (include/linux/errno.h of the kernel).
const KERNEL_INTERNAL: [(i32, &str, &str); 7] = [
    (512, "ERESTARTSYS", "a signal cut the request short"),
    (513, "ERESTARTNOINTR", "a signal cut the request short"),
    (514, "ERESTARTNOHAND", "a signal cut the request short"),
    (515, "ENOIOCTLCMD", "the driver does not know the request"),
    (516, "ERESTART_RESTARTBLOCK", "a signal cut the request short"),
    (517, "EPROBE_DEFER", "the driver is not ready yet"),
    (524, "ENOTSUPP", "the driver does not support it"),
];

/// In words, without Rust's "(os error N)".
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_kernel_internal() {
            return match KERNEL_INTERNAL.iter().find(|(number, ..)| *number == self.0) {
                Some((number, name, means)) => write!(f, "errno {number} ({name}, internal to the kernel: {means})"),
                None => write!(f, "errno {} (internal to the kernel)", self.0),
            };
        }
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        f.write_str(text.rsplit_once(" (os error").map_or(&*text, |(words, _)| words))
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.0)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        Errno::new(errno_of(&error))
    }
}

/// What an I/O error without an errno is called in those, as far as they have a word for it.
const IO_KINDS: [(io::ErrorKind, i32); 12] = [
    (io::ErrorKind::NotFound, libc::ENOENT),
    (io::ErrorKind::PermissionDenied, libc::EACCES),
    (io::ErrorKind::ConnectionReset, libc::ECONNRESET),
    (io::ErrorKind::ConnectionAborted, libc::ECONNABORTED),
    (io::ErrorKind::NotConnected, libc::ENOTCONN),
    (io::ErrorKind::BrokenPipe, libc::EPIPE),
    (io::ErrorKind::WouldBlock, libc::EAGAIN),
    (io::ErrorKind::InvalidInput, libc::EINVAL),
    (io::ErrorKind::TimedOut, libc::ETIMEDOUT),
    (io::ErrorKind::Interrupted, libc::EINTR),
    (io::ErrorKind::Unsupported, libc::EOPNOTSUPP),
    (io::ErrorKind::OutOfMemory, libc::ENOMEM),
];

fn errno_of(error: &io::Error) -> i32 {
    let by_kind = || IO_KINDS.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, errno)| *errno);
    error.raw_os_error().or_else(by_kind).unwrap_or(libc::EIO)
}

/// The table goes first: Rust 1.85 has no kind for EOPNOTSUPP.
fn kind_of(errno: i32) -> io::ErrorKind {
    let known = IO_KINDS.iter().find(|(_, of)| *of == errno).map(|(kind, _)| *kind);
    known.unwrap_or_else(|| io::Error::from_raw_os_error(errno).kind())
}

/// What kind of failure it is; callers decide by this, never by the text.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::State;
/// use vfiomig::error::ErrorKind;
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// let error = device.read(&mut [0; 64]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Order, "no session is open: {error}");
/// hardware.inject(simdev::Fault::at(simdev::Access::StateWrite, 0, simdev::Effect::Errno(libc::EIO)));
/// let error = device.set_state(State::Stop, OnFailure::Keep, false).unwrap_err();
/// assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::EIO));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum ErrorKind {
    /// A parameter is wrong: nothing was done.
    Argument = 1,
    /// A chunk or buffer is still lent; another call is in progress on a device whose calls do not wait
    /// ([`no_wait`](crate::device::DeviceOptions::no_wait)); or the call comes from a callback and would wait for itself
    /// (EDEADLK).
    Busy = 2,
    /// The call is not allowed in this state or phase: nothing was done.
    Order = 3,
    /// The device, its driver or this library cannot do it.
    Unsupported = 4,
    /// The device or its driver refused or failed a request; the errno is the kernel's.
    Device = 5,
    /// The device broke the protocol.
    Protocol = 6,
    /// A descriptor or function of the caller failed (socket, file, memory), not the device.
    System = 7,
    /// A stream is shorter or longer than the source side counted.
    Incomplete = 8,
    /// The session has ended or is broken, the stream is void, or the device was changed outside of this library; with ENODEV:
    /// the handle of a member was freed.
    Stale = 9,
    /// A cancel was asked for, or an abort has ended the call.
    Canceled = 10,
    /// A bug in the library was caught; the handle accepts only `_free`.
    Panic = 11,
}

/// What was done about a device after a step failed.
///
/// Example: [`DeviceResult`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Action {
    /// Nothing: it stays in the state that `found` names.
    None = 0,
    /// It was brought to the state that the caller named for this case.
    Recovered = 1,
    /// It was reset: its former state is gone.
    Reset = 2,
    /// Its state cannot be read: only `_reset`, `_reprobe` or giving it up are left.
    Dead = 3,
}

/// One device's part in a step.
///
/// ```
/// use simdev::{Access, Effect, Fault};
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::State;
/// use vfiomig::error::Action;
///
/// let hardware = simdev::Device::new(simdev::Config::default());
/// let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
/// hardware.inject(Fault::at(Access::StateWrite, 0, Effect::ToError(libc::EIO)));
/// let error = device.set_state(State::Stop, OnFailure::Reset, false).unwrap_err();
/// let result = &error.results()[0];
/// assert_eq!((result.device.as_str(), result.errno, result.action), ("nic0", libc::EIO, Action::Reset));
/// assert_eq!((result.from_state(), result.to_state()), (Some(State::Running), Some(State::Stop)));
/// assert_eq!(result.found_state(), Some(State::Running));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DeviceResult {
    /// The device's name.
    pub device: String,
    /// The device's errno, positive; 0 where the device itself did not fail.
    pub errno: i32,
    /// State before the step (`VFIOMIG_STATE_*`); as a [`State`](crate::dialect::State): [`from_state`](Self::from_state).
    pub from: u32,
    /// State asked for; [`to_state`](Self::to_state).
    pub to: u32,
    /// State read back after everything that `action` names; [`found_state`](Self::found_state).
    pub found: u32,
    /// What the library did about the device after a failure.
    pub action: Action,
    /// The device was not waited for any longer, or has more to give than a call waits for: the same call can be made again. An
    /// ETIMEDOUT without it is the driver's own.
    pub again: bool,
    /// How long the step took on this device.
    pub duration: std::time::Duration,
    /// The same in words.
    pub message: String,
}

/// The library's error.
///
/// It goes with `?` into [`io::Error`], which keeps it whole, and out of it again. An I/O error of the caller's own, as one of
/// the socket to which a `put` function writes, becomes one of the kind [`System`](ErrorKind::System) with its errno.
///
/// ```
/// use std::io;
/// use vfiomig::Error;
/// use vfiomig::error::ErrorKind;
///
/// fn put() -> vfiomig::Result<()> {
///     Err(io::Error::from_raw_os_error(32))?
/// }
///
/// let error: Error = put().unwrap_err();
/// assert_eq!((error.kind(), error.errno()), (ErrorKind::System, 32));
/// let outside = io::Error::from(error);
/// assert_eq!(outside.kind(), io::ErrorKind::BrokenPipe);
/// assert_eq!(Error::from(outside).errno(), 32);
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    errno: i32,
    message: String,
    results: Vec<DeviceResult>,
    /// The log has it already.
    logged: bool,
    /// The library's own patience has ended: the call can be made again.
    again: bool,
}

/// Shorthand of the crate.
///
/// Example: [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident, $errno:expr;)*) => {
        $($(#[$doc])* #[cold] pub(crate) fn $name(message: impl Into<String>) -> Self {
            Error::new(ErrorKind::$kind, $errno, message)
        })*
    };
}

impl Error {
    /// An error of the caller's own code; `errno` is positive, as in `<errno.h>`.
    pub fn new(kind: ErrorKind, errno: i32, message: impl Into<String>) -> Self {
        Error::made(kind, errno, message.into())
    }

    /// Not inlined, so that what leads to an error is short where it could happen.
    #[cold]
    #[inline(never)]
    fn made(kind: ErrorKind, errno: i32, message: String) -> Self {
        Error { kind, errno, message, results: Vec::new(), logged: false, again: false }
    }

    constructors! {
        argument => Argument, libc::EINVAL;
        order => Order, libc::EINVAL;
        unsupported => Unsupported, libc::EOPNOTSUPP;
        protocol => Protocol, libc::EPROTO;
        incomplete => Incomplete, libc::ENODATA;
        stale => Stale, libc::ESTALE;
        busy => Busy, libc::EBUSY;
        canceled => Canceled, libc::ECANCELED;
        /// The call came from a callback of the same handle.
        reentry => Busy, libc::EDEADLK;
        /// A handle was given that was freed.
        gone => Argument, libc::ENODEV;
        /// The handle of a member was freed while the group or a migration still needs it: an unplug, which is no caller's fault.
        unplugged => Stale, libc::ENODEV;
        /// Memory that the caller asked for could not be had.
        memory => System, libc::ENOMEM;
    }

    pub(crate) fn device(errno: Errno, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Device, errno.get(), message)
    }

    /// A device had no time for a data call, in which nothing was moved: the call can be made again.
    pub(crate) fn is_not_ready(&self) -> bool {
        self.kind == ErrorKind::Device && self.errno == libc::EAGAIN
    }

    /// The library waits for a device no longer (ETIMEDOUT); the same call can be made again.
    pub(crate) fn waited_enough(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Device, libc::ETIMEDOUT, message).for_again(true)
    }

    pub(crate) fn for_again(self, again: bool) -> Self {
        Error { again, ..self }
    }

    pub(crate) fn is_for_again(&self) -> bool {
        self.again
    }

    pub(crate) fn system(errno: Errno, message: impl Into<String>) -> Self {
        Error::new(ErrorKind::System, errno.get(), message)
    }

    /// For a call on a group: that a member's handle was freed is no wrong parameter of that call, so the kind becomes STALE.
    pub(crate) fn of_member(self) -> Self {
        if self.kind == ErrorKind::Argument && self.errno == libc::ENODEV {
            return Error { kind: ErrorKind::Stale, ..self };
        }
        self
    }

    pub(crate) fn with_result(mut self, result: DeviceResult) -> Self {
        self.results.push(result);
        self
    }

    pub(crate) fn with_results(mut self, results: Vec<DeviceResult>) -> Self {
        self.results = results;
        self
    }

    /// Puts `context: ` before the text.
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Writes the error to the log. One failure is one line at the level ERROR, from the code that meets it first; what more
    /// comes of it is INFO, and so is a cancel, which was asked for.
    pub(crate) fn tell(&mut self, before: impl fmt::Display) {
        let is_news = !self.logged && self.kind != ErrorKind::Canceled;
        write(if is_news { Level::Error } else { Level::Info }, format_args!("{before}: {self}"));
        self.logged = true;
    }

    /// The log has it already if it has `other`, which is the same failure met before.
    pub(crate) fn logged_as(&mut self, other: Option<&Error>) {
        self.logged = other.is_some_and(|other| other.logged);
    }

    /// The same failure in other words.
    pub(crate) fn in_words(&self, message: String) -> Self {
        Error { message, ..self.clone() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno, positive: a call of the C API returns its negative.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// One entry per device of which the error speaks.
    pub fn results(&self) -> &[DeviceResult] {
        &self.results
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(kind_of(error.errno), error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => {
                let (errno, text) = match error.raw_os_error() {
                    Some(errno) => (errno, Errno::new(errno).to_string()),
                    None => (errno_of(&error), error.to_string()),
                };
                Error::new(ErrorKind::System, errno, text)
            }
        }
    }
}

impl From<Errno> for Error {
    /// The errno is one of a descriptor or function of the caller: the kind is `System`.
    fn from(errno: Errno) -> Error {
        Error::system(errno, errno.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There and back nothing is lost; what came from elsewhere keeps errno and kind.
    #[test]
    fn an_io_error_and_an_error_are_each_others() {
        let result = DeviceResult {
            device: "nic0".into(),
            errno: libc::EIO,
            from: 1,
            to: 2,
            found: 1,
            action: Action::None,
            again: false,
            duration: std::time::Duration::ZERO,
            message: String::new(),
        };
        let error = Error::stale("nic0: its stream is void").with_result(result);
        let back = Error::from(io::Error::from(error));
        assert_eq!((back.kind(), back.errno(), back.results().len()), (ErrorKind::Stale, libc::ESTALE, 1));
        assert_eq!(back.to_string(), "nic0: its stream is void");
        for errno in 1..=LAST_PUBLIC {
            let io = io::Error::from_raw_os_error(errno);
            let kind = if errno == libc::EOPNOTSUPP { io::ErrorKind::Unsupported } else { io.kind() };
            let ours = Error::from(io);
            assert_eq!((ours.kind(), ours.errno()), (ErrorKind::System, errno));
            assert!(!ours.to_string().contains("os error"), "{ours}");
            assert_eq!(io::Error::from(ours).kind(), kind);
        }
        for (kind, errno) in IO_KINDS {
            let ours = Error::from(io::Error::new(kind, "why"));
            assert_eq!((ours.errno(), ours.to_string().as_str()), (errno, "why"));
            assert_eq!(io::Error::from(ours).kind(), kind);
        }
        assert_eq!(Error::from(io::Error::other("why")).errno(), libc::EIO);
    }

    /// Words for people, also for what libc has no words for (K7).
    #[test]
    fn an_errno_is_told_in_words() {
        for number in 1..=LAST_PUBLIC {
            let text = Errno::new(number).to_string();
            assert!(!text.contains("os error") && !text.is_empty(), "{number}: {text}");
            // 41 and 58 are holes in Linux's table.
            assert_eq!(text.contains("Unknown"), matches!(number, 41 | 58), "{number}: {text}");
        }
        let lost = Errno::new(512);
        assert!(lost.is_kernel_internal() && !Errno::new(LAST_PUBLIC).is_kernel_internal());
        assert!(Errno::new(LAST_PUBLIC + 1).is_kernel_internal());
        assert_eq!(lost.to_string(), "errno 512 (ERESTARTSYS, internal to the kernel: a signal cut the request short)");
        assert_eq!(Errno::new(1000).to_string(), "errno 1000 (internal to the kernel)");
    }
}
