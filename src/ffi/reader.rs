//! Readers: one channel of a wire, as it comes (docs/wire.md).

use super::error_object::vfiomig_error;
use super::guard::guard;
pub use super::handle::vfiomig_reader;
use super::handle::{free, new, on, value_of};
use super::save::VFIOMIG_CHUNK_SEGMENT_END;
use super::sized::{ExtensibleStruct, copy_in};
use super::wire_object::{Reached, WireReader, vfiomig_read_fn};
use super::wire_table::vfiomig_wire_device;
use super::writer::VFIOMIG_RECORD_NO_DEVICE;
use crate::error::Error;
use crate::wire::WireRecord;
use std::ffi::{c_int, c_void};

/// vfiomig_reader_options: `fd` is given, and `read` is NULL.
pub const VFIOMIG_READER_F_FD: u32 = 0x1;

/// vfiomig_record: the devices came; vfiomig_reader_get_device() has them. Always the first record.
pub const VFIOMIG_RECORD_TABLE: u32 = 1;
/// vfiomig_record: the next bytes of a device's stream.
pub const VFIOMIG_RECORD_DATA: u32 = 2;
/// vfiomig_record: a device's stream is whole.
pub const VFIOMIG_RECORD_END: u32 = 3;
/// vfiomig_record: a device's stream begins anew; what came of it is thrown away.
pub const VFIOMIG_RECORD_VOID: u32 = 4;
/// vfiomig_record: a record of the VMM.
pub const VFIOMIG_RECORD_VMM: u32 = 5;
/// vfiomig_record: the channel is whole, and nothing more of it follows.
pub const VFIOMIG_RECORD_FINISH: u32 = 6;

/// How a reader works. Set up with VFIOMIG_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_reader_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_READER_F_*.
    pub flags: u32,
    /// Brings the bytes; or NULL, with VFIOMIG_READER_F_FD.
    pub read: vfiomig_read_fn,
    /// Passed to `read`.
    pub opaque: *mut c_void,
    /// With VFIOMIG_READER_F_FD: the descriptor, a socket, a pipe or a file. It is borrowed, and no
    /// byte after the channel's last record is read.
    pub fd: i32,
    /// With VFIOMIG_READER_F_FD: how long a call waits while the descriptor brings nothing. 0: 60 s.
    /// Nothing is waited for in non-blocking mode.
    pub timeout_ms: u32,
    /// With VFIOMIG_READER_F_FD: how long after vfiomig_reader_new() every call fails (-ETIMEDOUT),
    /// whatever moves: the time for all of the channel. 0: no limit.
    pub deadline_ms: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below); zeros are a value, NULL pointers.
unsafe impl ExtensibleStruct for vfiomig_reader_options {
    const NAME: &'static str = "vfiomig_reader_options";
    const FLAGS: u32 = VFIOMIG_READER_F_FD;
}

/// A record of a wire. Fixed layout, never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_record {
    /// DATA, VMM: its bytes, which stay until the next call on the reader; else NULL.
    pub data: *const c_void,
    /// Number of bytes.
    pub len: usize,
    /// DATA: bytes of the stream before these. END: the stream's length. VOID: bytes that are thrown
    /// away. VMM: the VMM's own number for the kind of record.
    pub position: u64,
    /// VFIOMIG_RECORD_*.
    pub record: u32,
    /// The number of the device in the table, or VFIOMIG_RECORD_NO_DEVICE.
    pub device_index: u32,
    /// DATA: VFIOMIG_CHUNK_SEGMENT_END or 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<vfiomig_reader_options>() == 40 && size_of::<vfiomig_record>() == 40);

impl vfiomig_record {
    fn new(record: WireRecord<'_>) -> Self {
        let number = |device: usize| u32::try_from(device).unwrap_or(VFIOMIG_RECORD_NO_DEVICE);
        let (kind, device, position, bytes, segment_end): (_, _, _, &[u8], _) = match record {
            WireRecord::Table => (VFIOMIG_RECORD_TABLE, None, 0, &[], false),
            WireRecord::Data { device, position, bytes, segment_end } => {
                (VFIOMIG_RECORD_DATA, Some(device), position, bytes, segment_end)
            }
            WireRecord::End { device, total } => (VFIOMIG_RECORD_END, Some(device), total, &[], false),
            WireRecord::Void { device, bytes } => (VFIOMIG_RECORD_VOID, Some(device), bytes, &[], false),
            WireRecord::Vmm { device, kind, bytes } => (VFIOMIG_RECORD_VMM, device, kind, bytes, false),
            WireRecord::Finish => (VFIOMIG_RECORD_FINISH, None, 0, &[], false),
        };
        vfiomig_record {
            data: if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr().cast() },
            len: bytes.len(),
            position,
            record: kind,
            device_index: device.map_or(VFIOMIG_RECORD_NO_DEVICE, number),
            flags: if segment_end { VFIOMIG_CHUNK_SEGMENT_END } else { 0 },
            reserved: 0,
        }
    }
}

/// Makes a reader for one channel of a wire. Nothing is read before vfiomig_reader_next().
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`o`, `out` NULL; -EBADF).
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `o` is readable for its argsz, its pointers as described; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_reader_new(
    o: *const vfiomig_reader_options,
    out: *mut *mut vfiomig_reader,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        // SAFETY: the contract of this function.
        let o = unsafe { copy_in(o) }?.ok_or_else(|| Error::argument("o is NULL"))?;
        let by_fd = o.flags & VFIOMIG_READER_F_FD != 0;
        let reached =
            Reached { by_fd, fd: o.fd, timeout_ms: o.timeout_ms, deadline_ms: o.deadline_ms, opaque: o.opaque };
        // SAFETY: the contract of this function.
        let reader = unsafe { reached.reader(o.read) }?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(new(reader)) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_reader_new", errp, || (), body) }
}

/// Frees a reader; NULL is legal. Waits for the call in progress. What it has given stays no longer;
/// the descriptor stays open. Called from its own `read` it frees nothing and logs an error.
///
/// Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns. Since: 0.1
// Safety: `r` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_reader_free(r: *mut vfiomig_reader) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_reader_free", r) };
}

/// Reads the next record, and checks it against docs/wire.md before any of its bytes is given. After
/// VFIOMIG_RECORD_FINISH it gives that again. At most one record is kept, so a peer cannot make it
/// need more than 1 MiB and the table.
///
/// -EAGAIN: the channel has no more bytes now; call again. Any other failure is final, and every
/// further call returns it: PROTOCOL (against the format; -EBADMSG: bytes changed on the way),
/// UNSUPPORTED (a later version, or a record or feature that this version does not know),
/// INCOMPLETE (the wire was cut; -ECONNABORTED: the source side gave up, and the message says why),
/// SYSTEM (the channel failed; -ETIMEDOUT). The message says which record of which device, where
/// it is, and what was expected and found.
///
/// Returns: 0 or -errno.
/// Errors: as above, and ARGUMENT (`out` NULL), BUSY (another call on the reader is in progress),
/// CANCELED.
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `r` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_reader_next(
    r: *mut vfiomig_reader,
    out: *mut vfiomig_record,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |reader: &WireReader| {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let record = reader.with(|input| input.next().map(vfiomig_record::new))?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(record) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_reader_next", r, errp, body) }
}

/// How many devices the wire has.
///
/// Returns: their number; 0 before VFIOMIG_RECORD_TABLE came, for NULL, and while another call on
/// the reader is in progress.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_reader_get_device_count(r: *const vfiomig_reader) -> usize {
    let count = |reader: &WireReader| {
        let count = reader.with(|input| Ok(input.table().map_or(0, |table| table.devices().len())));
        count.unwrap_or(0)
    };
    // SAFETY: the contract of this function.
    unsafe { value_of("vfiomig_reader_get_device_count", r, 0, count) }
}

/// A device of the wire by its number, as the source side described it: for a VMM that compares more
/// than names and dialects. The texts stay as long as the reader.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL, `device_index`), BUSY (another call on the reader is in progress),
/// ORDER (VFIOMIG_RECORD_TABLE has not come).
/// Threads: any, one at a time. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live handle; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_reader_get_device(
    r: *mut vfiomig_reader,
    device_index: u32,
    out: *mut vfiomig_wire_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |reader: &WireReader| {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        let device = reader.device(device_index as usize)?;
        let device =
            device.ok_or_else(|| Error::argument(format!("device_index: there is no device {device_index}")))?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(device) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_reader_get_device", r, errp, body) }
}
