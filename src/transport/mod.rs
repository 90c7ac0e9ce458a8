//! How requests reach a device. A dialect knows only the [`Transport`] trait; it is shaped like the interfaces that VMMs
//! have already (QEMU's VFIODeviceIOOps).
//!
//! May import: uapi, error, gate, log. Start reading at [`Transport`] here, then at `kernel` (a VFIO device fd), `ops`
//! (functions of a VMM), `vfio_user` (another process) or `vfio_ioctls` (that crate's devices). `feature`, `region` and `caps`
//! are the requests in words, `mapped` and `returned` what they answer, `requests` asks them one by one; `dma_log`, `iommufd`,
//! `type1` and `tracker_ops` are for dirty logs; `signals`, `threads`, `clock` and `one_call` are what the library asks of the
//! thread that it is on, `host_page` what it asks of the host.
//!
//! `unsafe` lives in kernel.rs, ops.rs, feature.rs, mapped.rs, returned.rs, signals.rs, threads.rs, clock.rs, host_page.rs,
//! type1.rs, iommufd.rs, tracker_ops.rs, vfio_ioctls.rs, in some functions of this file and, of vfio_user, in ops.rs, socket.rs and
//! region_memory.rs.
//!
//! Safe code can implement all traits of this room and call all that implements them, whatever it answers or asks:
//! memory of a device comes as [`Mapped`], a data fd as [`Returned`], and a request goes to a kernel as the library
//! made it ([`Feature`]), or after a check that its size lies within its buffer. Only what cannot be checked is
//! `unsafe`, with its contract.
//!
//! Example: [`Transport`].

pub(crate) mod caps;
pub(crate) mod clock;
pub(crate) mod dma_log;
mod feature;
pub(crate) mod host_page;
pub mod iommufd;
pub mod kernel;
mod mapped;
pub(crate) mod one_call;
#[doc(hidden)]
pub mod ops;
mod region;
#[doc(hidden)]
pub mod requests;
mod returned;
pub(crate) mod signals;
pub(crate) mod threads;
pub mod tracker_ops;
pub mod type1;
#[cfg(feature = "vfio-ioctls")]
pub mod vfio_ioctls;
pub mod vfio_user;

use crate::error::{Errno, Error};
use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

pub use feature::{Feature, PrecopyInfo};
pub use mapped::Mapped;
pub(crate) use region::{Area, RegionInfo, VfioDeviceInfo, device_info, region_info};
pub(crate) use returned::DataNumber;
pub use returned::Returned;

/// What a transport speaks to. Two with the same identity speak to the same thing, as far as this process can know: a copy of a
/// descriptor is not recognised.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::transport::Identity;
///
/// let client = Arc::new("a connection");
/// assert_eq!(Identity::of(&client), Identity::of(&Arc::clone(&client)));
/// assert_ne!(Identity::of(&client), Identity::Fd(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An open descriptor.
    Fd(i32),
    /// An object of this process, by its address.
    Object(usize),
    /// Functions of a VMM, by the address of one of them and by what they are called with.
    Functions(usize, usize),
}

impl Identity {
    /// Of an object that is shared.
    pub fn of<T: ?Sized>(object: &Arc<T>) -> Identity {
        Identity::Object(Arc::as_ptr(object).cast::<()>().addr())
    }
}

/// Who answers the requests of a transport: why a device cannot be migrated is said in other words of a driver than of a server.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::error::{Errno, Error};
/// use vfiomig::transport::{DataFd, Peer, Returned, Transport};
///
/// /// A server that answers nothing but its description.
/// struct Refuses;
///
/// impl Transport for Refuses {
///     fn peer(&self) -> Peer {
///         Peer::VfioUser { knows_features: true }
///     }
///     fn device_info(&self, _: &mut [u8]) -> Result<(), Errno> {
///         Ok(())
///     }
///     fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
///         Err(Errno::new(libc::ENOTTY).into())
///     }
/// }
///
/// let device = Device::new(Box::new(Refuses), DeviceOptions::default())?;
/// assert!(device.info().reason.unwrap().to_string().contains("the vfio-user server"));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A driver of the kernel, or functions of the VMM.
    Driver,
    /// A vfio-user server.
    VfioUser {
        /// It knows device features, whether it has that of migration or not (U-3).
        knows_features: bool,
    },
}

/// Requests to one device. All of them may block for as long as the device takes, and come with asynchronous signals blocked.
/// Functions have default bodies that say "absent" (ENOTTY), so a transport implements what its device has.
///
/// ```
/// use std::io::{Cursor, Read, Write};
/// use std::os::fd::BorrowedFd;
/// use std::sync::Mutex;
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::State;
/// use vfiomig::error::{Errno, Error};
/// use vfiomig::transport::{DataFd, Feature, PrecopyInfo, Returned, Transport};
///
/// /// A v2 device that a VMM emulates: its state as `enum vfio_device_mig_state` has it, and what it would save.
/// struct Emulated(Mutex<u32>, &'static [u8]);
///
/// const STOP_COPY: u32 = 3;
/// const GET: u32 = 1 << 16;
/// const SET: u32 = 1 << 17;
///
/// impl Transport for Emulated {
///     fn has_device_info(&self) -> bool {
///         false
///     }
///     fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
///         let mut state = self.0.lock().unwrap();
///         match feature.flags() {
///             0x1_0001 => feature.put_u64(8, 1), // VFIO_DEVICE_FEATURE_MIGRATION: stop-copy
///             flags if flags == GET | 2 => feature.put_u32(8, *state),
///             flags if flags == SET | 2 => {
///                 *state = feature.u32_at(8);
///                 // A number that `open_data` gets; -1: this state has no session.
///                 feature.put_u32(12, if *state == STOP_COPY { 0 } else { u32::MAX });
///             }
///             _ => return Err(Errno::new(libc::ENOTTY)),
///         }
///         Ok(())
///     }
///     fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
///         Ok(Box::new(Data(Cursor::new(self.1))))
///     }
/// }
///
/// struct Data(Cursor<&'static [u8]>);
///
/// impl DataFd for Data {
///     fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
///         Ok(self.0.read(buf)?)
///     }
///     fn write(&mut self, _: &[u8]) -> Result<usize, Errno> {
///         Err(Errno::new(libc::EOPNOTSUPP))
///     }
///     fn precopy_info(&mut self, _: &mut PrecopyInfo) -> Result<(), Errno> {
///         Err(Errno::new(libc::ENOTTY))
///     }
///     fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
///         None
///     }
/// }
///
/// let device = Device::new(Box::new(Emulated(Mutex::new(2), b"its state")), DeviceOptions::default())?;
/// device.set_state(State::StopCopy, OnFailure::Keep, false)?;
/// assert_eq!(&device.peek(0)?[..], b"its state");
/// # Ok::<(), vfiomig::Error>(())
/// ```
pub trait Transport: Send + Sync {
    /// `VFIO_DEVICE_GET_INFO`: fills `struct vfio_device_info`; `info` starts with argsz, which is no more than its length (else
    /// EINVAL).
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let _ = info;
        Err(Errno::new(libc::ENOTTY))
    }

    /// What tells this device from others in errors and in the log, where its options give it no name. `None`: nothing does.
    fn name(&self) -> Option<String> {
        None
    }

    /// Who answers.
    fn peer(&self) -> Peer {
        Peer::Driver
    }

    /// Whether `device_info` must answer; a table of the VMM's functions may lack it, a kernel's device fd cannot.
    fn has_device_info(&self) -> bool {
        true
    }

    /// Whether `region_info` must answer, likewise.
    fn has_region_info(&self) -> bool {
        true
    }

    /// Whether requests may come from threads that the library makes inside a call, one at a time per device. Else they come
    /// only on the thread that called the library.
    fn any_thread(&self) -> bool {
        true
    }

    /// Whether a report of the DMA log only sets bits and leaves the others of the buffer as they are, as the kernel's does
    /// (L5): then reports of several devices can go into one buffer.
    fn report_adds_bits(&self) -> bool {
        false
    }

    /// Whether the log of written pages is kept mapping by mapping, and each part goes with its mapping: then a report is asked
    /// for whole mappings only, and before they are unmapped (U-12, U-13).
    fn logs_by_mapping(&self) -> bool {
        false
    }

    /// Whether the calling thread is within a function of the VMM's through which this transport reaches the device: it can ask
    /// for nothing before that returns.
    fn calls_me(&self) -> bool {
        false
    }

    /// `VFIO_DEVICE_FEATURE`: the kernel's buffer, in and out. The data fd of a state change is a number, which
    /// [`open_data`](Self::open_data) gets, unless [`Feature::returns_fd`] says that it is a descriptor.
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let _ = feature;
        Err(Errno::new(libc::ENOTTY))
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`: fills `struct vfio_region_info` and its capabilities; `info` starts with argsz,
    /// flags, index, as for `device_info`. A device that needs more room says so in argsz.
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let _ = info;
        Err(Errno::new(libc::ENOTTY))
    }

    /// Reads from a region; returns bytes moved, fewer than asked for are legal. 4- and 8-byte accesses are never split.
    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let _ = (index, offset, buf);
        Err(Errno::new(libc::ENOTTY))
    }

    /// Writes to a region; as `region_read`.
    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        let _ = (index, offset, buf);
        Err(Errno::new(libc::ENOTTY))
    }

    /// Maps `len` bytes of a region, readable and writable, shared with the device. Optional: where it is missing or fails,
    /// `region_read` and `region_write` are used. The memory stays valid until the result is dropped, which the library does
    /// before it drops the transport.
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let _ = (index, offset, len);
        Err(Errno::new(libc::ENOTTY))
    }

    /// `VFIO_DEVICE_RESET`, once; retries are the caller's.
    fn reset(&self) -> Result<(), Errno> {
        Err(Errno::new(libc::ENOTTY))
    }

    /// Takes the data fd that a state change returned. `None`: the change opened a session but brought none. A transport with
    /// data functions of its own ignores it.
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error>;
}

/// The data fd of one session, which one thread at a time uses. Dropping it closes it.
///
/// Example: [`Transport`].
pub trait DataFd: Send {
    /// `read()`; 0 is the end for now or for good (F3). ENOMSG: nothing now, in PRE_COPY states only. EAGAIN: nothing was
    /// moved, and the library asks again. Any other errno breaks the session, but an EINTR that goes away within a second does
    /// not.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno>;
    /// `write()`; fewer bytes than asked for are legal. EAGAIN: nothing was moved, and the library asks again. Any other errno,
    /// and a count of 0, break the session (F6).
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno>;
    /// `VFIO_MIG_GET_PRECOPY_INFO`, in and out.
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno>;
    /// The real descriptor if there is one, to wait on it when it answers EAGAIN.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;
}

thread_local! {
    static CALLER_PATIENCE: Cell<Duration> = const { Cell::new(Duration::from_secs(60)) };
}

/// How long a call from this thread waits for descriptors of the caller while nothing moves: no call waits for ever, and a
/// destination may be busy with what it has for long.
pub(crate) fn caller_patience() -> Duration {
    CALLER_PATIENCE.get()
}

#[doc(hidden)]
/// For tests: calls from this thread wait for so long.
pub fn set_caller_patience(patience: Duration) {
    CALLER_PATIENCE.set(patience);
}

/// One `write()` of `bytes` to a descriptor of the caller, which never waits, whatever mode the descriptor is in: EAGAIN. A
/// reader that is gone is EPIPE, never SIGPIPE.
pub(crate) fn write_to(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: a slice is readable for its length.
    unsafe { write_from(fd, bytes.as_ptr(), bytes.len()) }
}

/// As [`write_to`], from memory that no reference may point to.
///
/// # Safety
/// `memory` is readable for `len` bytes.
pub(crate) unsafe fn write_from(fd: BorrowedFd<'_>, memory: *const u8, len: usize) -> Result<usize, Errno> {
    // SAFETY: the contract of this function.
    unsafe { kernel::write_from(fd, memory, len) }
}

/// One `read()` from a descriptor of the caller, which never waits: EAGAIN; 0 is its end.
pub(crate) fn read_from(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: a slice is writable for its length.
    unsafe { read_into(fd, buf.as_mut_ptr(), buf.len()) }
}

/// As [`read_from`], into memory that no reference may point to.
///
/// # Safety
/// `memory` is writable for `len` bytes.
pub(crate) unsafe fn read_into(fd: BorrowedFd<'_>, memory: *mut u8, len: usize) -> Result<usize, Errno> {
    // SAFETY: the contract of this function.
    unsafe { kernel::read_into(fd, memory, len) }
}

/// Whether the caller's descriptor is in non-blocking mode: then it wants to hear EAGAIN rather than to wait.
pub(crate) fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    kernel::is_nonblocking(fd)
}

/// Waits until one of the descriptors is ready, `true` to write, or `limit` has gone by; which ones are.
pub(crate) fn wait_any(fds: &[(BorrowedFd<'_>, bool)], limit: Duration) -> Vec<bool> {
    kernel::wait_any(fds, limit)
}

/// Waits until `fd` is ready or about 100 ms have gone by; without a descriptor it sleeps 1 ms.
pub(crate) fn wait_ready(fd: Option<BorrowedFd<'_>>, for_write: bool) {
    kernel::wait_ready(fd, for_write);
}
