//! Why a window could not do what was asked, and how many bytes have moved: both are known in the same place.

use crate::dialect::registers::Fault;
use crate::error::{Errno, Error};
use std::fmt;

/// How far a call that failed had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Neither the device nor the caller's descriptor has moved: the same call can be made again.
    Nothing,
    /// So many bytes have moved for certain, and perhaps more: it is not known from where to continue.
    AtLeast(usize),
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// A parameter is wrong, or the device's window cannot take what it says.
    Refused(Error),
    /// There is no memory for a buffer of so many bytes.
    Memory(usize),
    /// The caller's descriptor failed.
    Descriptor(Errno),
    /// A wait for the device was canceled.
    Canceled,
    /// The device failed an access.
    Device(Errno),
    /// The device broke the protocol, in words.
    Nonsense(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Refused(error) => write!(f, "{error}"),
            Cause::Memory(bytes) => write!(f, "no memory for a buffer of {bytes} bytes"),
            Cause::Descriptor(errno) => write!(f, "the caller's fd failed: {errno}"),
            Cause::Canceled => f.write_str("canceled while the device was not ready"),
            Cause::Device(errno) => write!(f, "{errno}"),
            Cause::Nonsense(text) => f.write_str(text),
        }
    }
}

impl From<Fault> for Cause {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Errno(errno) => Cause::Device(errno),
            Fault::Nonsense(text) => Cause::Nonsense(text),
        }
    }
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Cause::Refused(error)
    }
}

#[derive(Debug)]
pub(crate) struct Trouble {
    pub cause: Cause,
    pub moved: Moved,
}

impl Trouble {
    /// Nothing had moved.
    pub fn before(cause: impl Into<Cause>) -> Self {
        Trouble { cause: cause.into(), moved: Moved::Nothing }
    }

    /// `bytes` had moved for certain; 0 where it is not known.
    pub fn after(cause: impl Into<Cause>, bytes: usize) -> Self {
        Trouble { cause: cause.into(), moved: Moved::AtLeast(bytes) }
    }

    /// The device failed a request to take bytes of which it had `bytes`. EAGAIN says that it looked at none of the rest.
    pub fn of_write(errno: Errno, bytes: usize) -> Self {
        match (errno.get(), bytes) {
            (libc::EAGAIN, 0) => Trouble::before(Cause::Device(errno)),
            _ => Trouble::after(Cause::Device(errno), bytes),
        }
    }

    /// The caller's descriptor failed before anything was moved.
    pub fn of_descriptor(&self) -> Option<Errno> {
        match self.cause {
            Cause::Descriptor(errno) if self.moved == Moved::Nothing => Some(errno),
            _ => None,
        }
    }

    /// The device has looked at nothing.
    pub fn is_device_not_ready(&self) -> bool {
        let not_ready = match &self.cause {
            Cause::Device(errno) => errno.get() == libc::EAGAIN,
            Cause::Refused(error) => error.is_not_ready(),
            _ => false,
        };
        not_ready && self.moved == Moved::Nothing
    }

    /// The same in a call of which `bytes` had gone before.
    pub fn behind(self, bytes: usize) -> Self {
        let moved = match self.moved {
            Moved::Nothing if bytes == 0 => Moved::Nothing,
            Moved::Nothing => Moved::AtLeast(bytes),
            Moved::AtLeast(more) => Moved::AtLeast(more.saturating_add(bytes)),
        };
        Trouble { moved, ..self }
    }

    /// The same where the bytes cannot be given again, though the device may have none of them.
    pub fn with_bytes_lost(self) -> Self {
        match self.moved {
            Moved::Nothing => Trouble { moved: Moved::AtLeast(0), ..self },
            Moved::AtLeast(_) => self,
        }
    }
}

pub(crate) type WindowResult<T> = Result<T, Trouble>;
