//! A device that is reached by functions of the VMM: QEMU's io_ops, a vfio-user client, a software device.

use super::feature::check_argsz;
use super::kernel::KernelData;
use super::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};
use crate::error::{Errno, Error};
use crate::gate::{Gate, GateLevel, Pass};
use crate::uapi::{device as ud, region as ur};
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// Functions of the VMM in place of a device fd. They return a count or 0 on success, and -errno on
/// failure; a positive result where 0 is success is a failure, too (EIO). A NULL member means that
/// the request does not exist. device_feature or region_info must be set. The table is copied when a
/// device is made from it. The functions are called on the thread that called the library, or with
/// VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call; one call at a time for
/// each device, with asynchronous signals blocked. They may block. A function must not call back
/// into the same device (-EDEADLK). A coroutine must not yield in it and continue on another thread.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ops {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_OPS_F_*.
    pub flags: u32,
    /// VFIO_DEVICE_GET_INFO: fills struct vfio_device_info, argsz bytes. NULL: no migration region is
    /// looked for, so that v1 and the draft are not found, and it is not known whether the device can
    /// be reset.
    pub device_info: Option<unsafe extern "C" fn(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int>,
    /// VFIO_DEVICE_FEATURE: struct vfio_device_feature in place, argsz bytes, with the kernel's
    /// numbers (linux/vfio.h), not those of VFIOMIG_STATE_*. -ENOTTY or -EINVAL: the feature does not
    /// exist. Needed for v2.
    pub device_feature: Option<unsafe extern "C" fn(opaque: *mut c_void, feature: *mut c_void, argsz: u32) -> c_int>,
    /// VFIO_DEVICE_GET_REGION_INFO: struct vfio_region_info and its capabilities in place, argsz
    /// bytes. Needed for v1 and the draft, together with device_info, region_read and region_write.
    pub region_info: Option<unsafe extern "C" fn(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int>,
    /// Reads from a region. Fewer bytes than `len` are legal, more are not (-EPROTO). Accesses of 4
    /// and 8 bytes must not be split.
    pub region_read:
        Option<unsafe extern "C" fn(opaque: *mut c_void, index: u32, offset: u64, buf: *mut c_void, len: usize) -> i64>,
    /// Writes to a region, as region_read reads.
    pub region_write: Option<
        unsafe extern "C" fn(opaque: *mut c_void, index: u32, offset: u64, buf: *const c_void, len: usize) -> i64,
    >,
    /// Maps a part of a region, shared with the device. Set together with region_unmap, or not at all.
    pub region_map: Option<
        unsafe extern "C" fn(opaque: *mut c_void, index: u32, offset: u64, len: usize, ptr: *mut *mut c_void) -> c_int,
    >,
    /// Undoes region_map.
    pub region_unmap: Option<unsafe extern "C" fn(opaque: *mut c_void, index: u32, ptr: *mut c_void, len: usize)>,
    /// Does VFIO_DEVICE_RESET once; the library calls it again after -EAGAIN. NULL: the device cannot
    /// be reset (UNSUPPORTED).
    pub device_reset: Option<unsafe extern "C" fn(opaque: *mut c_void) -> c_int>,
    /// read() of the data fd. data_read, data_write and data_close are all NULL or all set. NULL: the
    /// data_fd in the feature is a descriptor, which the library makes non-blocking and closes. Set:
    /// that number is ignored. -EAGAIN: nothing was moved, and the library asks again. Every other
    /// failure breaks the session, except ENOMSG of a read, and an EINTR of a read that goes away
    /// within a second. A count above `len` is -EPROTO.
    pub data_read: Option<unsafe extern "C" fn(opaque: *mut c_void, buf: *mut c_void, len: usize) -> i64>,
    /// write() of the data fd.
    pub data_write: Option<unsafe extern "C" fn(opaque: *mut c_void, buf: *const c_void, len: usize) -> i64>,
    /// VFIO_MIG_GET_PRECOPY_INFO: struct vfio_precopy_info in place. Only with the three data
    /// functions. NULL: sizes in pre-copy are not known.
    pub data_precopy_info: Option<unsafe extern "C" fn(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int>,
    /// close() of the data fd: the session has ended.
    pub data_close: Option<unsafe extern "C" fn(opaque: *mut c_void)>,
}

/// `VFIOMIG_OPS_F_ANY_THREAD`: the functions may be called from threads of the library.
pub(crate) const ANY_THREAD: u32 = 0x1;
/// `VFIOMIG_OPS_F_REPORT_ADDS_BITS`: a report of the DMA log leaves the bits that are on already.
/// cbindgen:ignore
pub const REPORT_ADDS_BITS: u32 = 0x2;

/// The table and what its functions are called with.
struct OpsTable {
    ops: Ops,
    opaque: *mut c_void,
    /// One call at a time: a harvest asks for the DMA log while another thread may read data.
    turn: Gate<()>,
}

impl OpsTable {
    /// The right to call a function; EDEADLK from within one.
    fn turn(&self) -> Result<Pass<'_, ()>, Errno> {
        self.turn.enter_whole().map_err(|_| Errno::new(libc::EDEADLK))
    }
}

// SAFETY: `opaque` is never dereferenced here, only handed to the VMM's functions; `OpsTransport::new`'s contract makes the
// VMM answer for calls from different threads (one at a time per device, by the gate in `device`).
unsafe impl Send for OpsTable {}
// SAFETY: as above.
unsafe impl Sync for OpsTable {}

/// The `ops` transport.
pub struct OpsTransport {
    table: Arc<OpsTable>,
    data_functions: bool,
}

impl OpsTransport {
    /// Checks and takes a copy of the table.
    ///
    /// # Safety
    /// Until the transport, and what it has made, are dropped each function may be called with `opaque`, from the threads that
    /// use the device, one call at a time and in any order, and must stay within the buffers that it is given. Memory of
    /// `region_map` is as [`Mapped::new`] wants it. Without data functions the `data_fd` of a state change is as
    /// [`Feature::returns_fd`] wants it.
    pub unsafe fn new(ops: Ops, opaque: *mut c_void) -> Result<Self, Error> {
        let any_request = ops.device_feature.is_some() || ops.region_info.is_some();
        if !any_request {
            return Err(Error::argument(
                "ops: device_feature and region_info are both NULL: no way to reach the device",
            ));
        }
        let data = [ops.data_read.is_some(), ops.data_write.is_some(), ops.data_close.is_some()];
        let data_functions = data.contains(&true);
        if data_functions && data.contains(&false) {
            return Err(Error::argument("ops: data_read, data_write and data_close must be all NULL or all set"));
        }
        if ops.data_precopy_info.is_some() && !data_functions {
            return Err(Error::argument(
                "ops: data_precopy_info is set, but data_read, data_write and data_close are NULL",
            ));
        }
        if ops.region_map.is_some() != ops.region_unmap.is_some() {
            return Err(Error::argument("ops: region_map and region_unmap must be both NULL or both set"));
        }
        Ok(OpsTransport {
            table: Arc::new(OpsTable { ops, opaque, turn: Gate::new(GateLevel::Functions, ()) }),
            data_functions,
        })
    }
}

/// ENOTTY: what a kernel answers for a request that it does not know.
fn absent() -> Errno {
    Errno::new(libc::ENOTTY)
}

/// 0 is success; what is no -errno either is a bug of the function, and counts as a failure.
fn status(result: c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::new(result.checked_neg().unwrap_or(libc::EIO))) }
}

/// A count from a function of the VMM: one beyond what was asked for is a bug of the function, not a length.
fn count(result: i64, asked: usize) -> Result<usize, Errno> {
    match usize::try_from(result) {
        Ok(moved) if moved <= asked => Ok(moved),
        Ok(_) => Err(Errno::new(libc::EPROTO)),
        Err(_) => Err(Errno::new(result.checked_neg().and_then(|e| i32::try_from(e).ok()).unwrap_or(libc::EIO))),
    }
}

fn argsz(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Transport for OpsTransport {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let function = self.table.ops.device_info.ok_or_else(absent)?;
        check_argsz(info, ud::INFO_SIZE)?;
        let _turn = self.table.turn()?;
        // SAFETY: `info` is writable for `argsz` bytes; the rest is `new`'s contract.
        status(unsafe { function(self.table.opaque, info.as_mut_ptr().cast(), argsz(info)) })
    }

    fn any_thread(&self) -> bool {
        self.table.ops.flags & ANY_THREAD != 0
    }

    fn calls_me(&self) -> bool {
        self.table.turn.is_mine()
    }

    fn report_adds_bits(&self) -> bool {
        self.table.ops.flags & REPORT_ADDS_BITS != 0
    }

    fn has_device_info(&self) -> bool {
        self.table.ops.device_info.is_some()
    }

    fn has_region_info(&self) -> bool {
        self.table.ops.region_info.is_some()
    }

    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let function = self.table.ops.device_feature.ok_or_else(absent)?;
        let bytes = feature.request_mut();
        let turn = self.table.turn()?;
        // SAFETY: `bytes` is writable for `argsz` bytes and aligned to 8; memory that it names is valid for the request, as the
        // library made it; the rest is `new`'s contract.
        status(unsafe { function(self.table.opaque, bytes.as_mut_ptr().cast(), argsz(bytes)) })?;
        drop(turn);
        if !self.data_functions {
            // SAFETY: `new`'s contract.
            unsafe { feature.returns_fd() };
        }
        Ok(())
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let function = self.table.ops.region_info.ok_or_else(absent)?;
        check_argsz(info, ur::INFO_SIZE)?;
        let _turn = self.table.turn()?;
        // SAFETY: `info` is writable for `argsz` bytes; the rest is `new`'s contract.
        status(unsafe { function(self.table.opaque, info.as_mut_ptr().cast(), argsz(info)) })
    }

    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let function = self.table.ops.region_read.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        // SAFETY: `buf` is writable for its length; the rest is `new`'s contract.
        let result = unsafe { function(self.table.opaque, index, offset, buf.as_mut_ptr().cast(), buf.len()) };
        count(result, buf.len())
    }

    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        let function = self.table.ops.region_write.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        // SAFETY: `buf` is readable for its length; the rest is `new`'s contract.
        let result = unsafe { function(self.table.opaque, index, offset, buf.as_ptr().cast(), buf.len()) };
        count(result, buf.len())
    }

    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let function = self.table.ops.region_map.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        let mut memory = std::ptr::null_mut();
        // SAFETY: `memory` holds one pointer; the rest is `new`'s contract.
        status(unsafe { function(self.table.opaque, index, offset, len, &mut memory) })?;
        let memory = NonNull::new(memory.cast()).ok_or(Errno::new(libc::EPROTO))?;
        let table = Arc::clone(&self.table);
        let unmap = move |memory: NonNull<u8>, len| {
            if let Some(function) = table.ops.region_unmap {
                let _turn = table.turn();
                // SAFETY: `memory` and `len` are a mapping of region_map; the rest is `new`'s contract.
                unsafe { function(table.opaque, index, memory.as_ptr().cast(), len) };
            }
        };
        // SAFETY: `new`'s contract.
        Ok(unsafe { Mapped::new(memory, len, unmap) })
    }

    fn reset(&self) -> Result<(), Errno> {
        let function = self.table.ops.device_reset.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        // SAFETY: `new`'s contract.
        status(unsafe { function(self.table.opaque) })
    }

    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        if self.data_functions {
            return Ok(Box::new(OpsData { table: Arc::clone(&self.table) }));
        }
        KernelData::open(data_fd)
    }
}

/// A session served by the data functions.
struct OpsData {
    table: Arc<OpsTable>,
}

impl DataFd for OpsData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let function = self.table.ops.data_read.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        // SAFETY: `buf` is writable for its length; the rest is `OpsTransport::new`'s contract.
        count(unsafe { function(self.table.opaque, buf.as_mut_ptr().cast(), buf.len()) }, buf.len())
    }

    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        let function = self.table.ops.data_write.ok_or_else(absent)?;
        let _turn = self.table.turn()?;
        // SAFETY: `buf` is readable for its length; the rest is `OpsTransport::new`'s contract.
        count(unsafe { function(self.table.opaque, buf.as_ptr().cast(), buf.len()) }, buf.len())
    }

    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        let function = self.table.ops.data_precopy_info.ok_or_else(absent)?;
        let bytes = info.request_mut();
        let _turn = self.table.turn()?;
        // SAFETY: `bytes` is writable for `argsz` bytes and aligned to 8; the rest is `OpsTransport::new`'s contract.
        status(unsafe { function(self.table.opaque, bytes.as_mut_ptr().cast(), argsz(bytes)) })
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for OpsData {
    fn drop(&mut self) {
        if let Some(function) = self.table.ops.data_close {
            let _turn = self.table.turn();
            // SAFETY: `OpsTransport::new`'s contract.
            unsafe { function(self.table.opaque) };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::uapi::feature::{GET, MIGRATION};

    /// Counts the calls, and notes the size that the buffer itself says.
    unsafe extern "C" fn note(opaque: *mut c_void, info: *mut c_void, argsz: u32) -> c_int {
        // SAFETY: `opaque` is the counter of the test, which no other thread uses.
        let calls = unsafe { &mut *opaque.cast::<usize>() };
        *calls += 1;
        // SAFETY: a buffer of the library begins with a u32.
        assert_eq!(unsafe { info.cast::<u32>().read_unaligned() }, argsz);
        0
    }

    /// A positive result may be an errno without its sign: taken for success it would hide a failure.
    #[test]
    fn what_is_neither_0_nor_an_errno_is_a_failure() {
        let eio = Errno::new(libc::EIO);
        assert_eq!((status(0), status(-libc::EBUSY)), (Ok(()), Err(Errno::new(libc::EBUSY))));
        for odd in [1, libc::EBUSY, c_int::MAX, c_int::MIN, -4096] {
            assert_eq!(status(odd), Err(eio), "{odd}");
        }
    }

    /// A function that trusts the size in its struct stays within the buffer.
    #[test]
    fn a_size_beyond_the_buffer_reaches_no_function() {
        let mut calls = 0_usize;
        let ops = Ops {
            argsz: size_of::<Ops>() as u32,
            flags: 0,
            device_info: Some(note),
            device_feature: Some(note),
            region_info: Some(note),
            region_read: None,
            region_write: None,
            region_map: None,
            region_unmap: None,
            device_reset: None,
            data_read: None,
            data_write: None,
            data_precopy_info: None,
            data_close: None,
        };
        // SAFETY: `note` writes to the counter only, which outlives the transport.
        let transport = unsafe { OpsTransport::new(ops, (&raw mut calls).cast()) }.unwrap();
        let with = |argsz: u32, len: usize| {
            let mut info = vec![0; len];
            info[..4].copy_from_slice(&argsz.to_ne_bytes());
            info
        };
        let einval = Err(Errno::new(libc::EINVAL));
        for (argsz, len) in [(64, 32), (u32::MAX, 32), (0, 32), (8, 8)] {
            assert_eq!(transport.device_info(&mut with(argsz, len)), einval);
            assert_eq!(transport.region_info(&mut with(argsz, len)), einval);
        }
        transport.device_info(&mut with(24, 24)).unwrap();
        transport.region_info(&mut with(32, 32)).unwrap();
        let mut feature = Feature::new(MIGRATION | GET, 8);
        feature.put_u32(0, 4096);
        transport.device_feature(&mut feature).unwrap();
        drop(transport);
        assert_eq!(calls, 3);
    }
}
