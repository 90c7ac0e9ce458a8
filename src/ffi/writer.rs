//! Writers: one channel of a wire, as it is made (docs/wire.md).

use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::{free, new, object_of, on};
pub use super::handle::{vfiomig_group, vfiomig_writer};
use super::input::{slice, text_of};
use super::save::VFIOMIG_CHUNK_SEGMENT_END;
use super::sized::{ExtensibleStruct, copy_in};
use super::wire_object::{Reached, WireWriter, vfiomig_write_fn};
use super::wire_table::{devices_of, entries_of, vfiomig_wire_device};
use crate::dialect::DialectKind;
use crate::error::{Error, Result};
use crate::wire::{DeviceEntry, Output, Table, WireOptions};
use std::ffi::{CStr, c_char, c_int, c_void};

/// vfiomig_writer_options: `fd` is given, and `write` is NULL.
pub const VFIOMIG_WRITER_F_FD: u32 = 0x1;

/// In place of the number of a device: the record is of none.
pub const VFIOMIG_RECORD_NO_DEVICE: u32 = 0xffff_ffff;

/// How a writer works. Set up with VFIOMIG_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_writer_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_WRITER_F_*.
    pub flags: u32,
    /// Takes the bytes; or NULL, with VFIOMIG_WRITER_F_FD.
    pub write: vfiomig_write_fn,
    /// Passed to `write`.
    pub opaque: *mut c_void,
    /// With VFIOMIG_WRITER_F_FD: the descriptor, a socket, a pipe or a file. It is borrowed.
    pub fd: i32,
    /// With VFIOMIG_WRITER_F_FD: how long a call waits while the descriptor takes nothing. 0: 60 s.
    /// Nothing is waited for in non-blocking mode.
    pub timeout_ms: u32,
    /// Which channel of the wire this is, from 0.
    pub channel: u32,
    /// How many the wire has, at most 64. 0: 1.
    pub channels: u32,
    /// A number that no other wire has, the same in all its channels.
    pub wire: u64,
    /// The devices of the wire, or, with a group, those that have words or channels of their own.
    /// May be NULL if `device_count` is 0.
    pub devices: *const vfiomig_wire_device,
    /// At most 1024.
    pub device_count: usize,
    /// With VFIOMIG_WRITER_F_FD: how long after vfiomig_writer_new() every call fails (-ETIMEDOUT),
    /// whatever moves: the time for all of the channel. 0: no limit.
    pub deadline_ms: u64,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below); zeros are a value, NULL pointers.
unsafe impl ExtensibleStruct for vfiomig_writer_options {
    const NAME: &'static str = "vfiomig_writer_options";
    const FLAGS: u32 = VFIOMIG_WRITER_F_FD;
}

const _: () = assert!(size_of::<vfiomig_writer_options>() == 72);

/// The table: the caller's devices, or those of the group with what the caller says of them.
fn table_of(group: Option<Vec<DeviceEntry>>, given: Vec<(DeviceEntry, Option<DialectKind>)>) -> Result<Table> {
    let Some(mut devices) = group else {
        let missing = given.iter().find(|(_, dialect)| dialect.is_none());
        if let Some((device, _)) = missing {
            return Err(Error::argument(format!(
                "devices: {}: without a group its dialect must be given",
                device.name
            )));
        }
        return Table::new(given.into_iter().map(|(device, _)| device).collect());
    };
    for (entry, dialect) in given {
        let Some(own) = devices.iter_mut().find(|own| own.name == entry.name) else {
            return Err(Error::argument(format!("devices: {}: the group has no such device", entry.name)));
        };
        if dialect.is_some_and(|dialect| dialect != own.dialect) {
            return Err(Error::argument(format!("devices: {}: it speaks {}", entry.name, own.dialect.name())));
        }
        *own = DeviceEntry { dialect: own.dialect, ..entry };
    }
    Table::new(devices)
}

/// Makes a writer for one channel of a wire. With `g`, the table has the devices of the group, in
/// their order, each in channel 0 unless `devices` has it; without it (NULL), it has `devices`.
/// Preamble and table are written with the first record, or by vfiomig_writer_flush().
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`o`, `out` NULL, channel, devices; -EBADF), UNSUPPORTED (a device of the group
/// is not migratable).
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `g` is NULL or a live handle; `o` is readable for its argsz, its pointers as described; `out` and `errp` are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_new(
    g: *mut vfiomig_group,
    o: *const vfiomig_writer_options,
    out: *mut *mut vfiomig_writer,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_writer_new";
    let body = || {
        if out.is_null() {
            return Err(Error::argument("out is NULL"));
        }
        // SAFETY: the contract of this function.
        let o = unsafe { copy_in(o) }?.ok_or_else(|| Error::argument("o is NULL"))?;
        // SAFETY: the contract of this function.
        let given = unsafe { devices_of(o.devices, o.device_count) }?;
        let group = if g.is_null() {
            None
        } else {
            // SAFETY: the contract of this function.
            Some(entries_of(&*unsafe { object_of(NAME, g.cast_const()) }?)?)
        };
        let table = table_of(group, given)?;
        let number = |what: &str, number: u32| {
            u16::try_from(number).map_err(|_| Error::argument(format!("options: {what}: {number} is too many")))
        };
        let options = WireOptions {
            channel: number("channel", o.channel)?,
            channels: number("channels", o.channels.max(1))?,
            wire: o.wire,
        };
        let by_fd = o.flags & VFIOMIG_WRITER_F_FD != 0;
        let reached =
            Reached { by_fd, fd: o.fd, timeout_ms: o.timeout_ms, deadline_ms: o.deadline_ms, opaque: o.opaque };
        // SAFETY: the contract of this function.
        let writer = unsafe { reached.writer(o.write, |way| Output::new(way, options, table)) }?;
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { out.write(new(writer)) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { guard(NAME, errp, || (), body) }
}

/// Frees a writer; NULL is legal. Waits for the call in progress; what the channel did not take yet
/// is lost. The descriptor stays open. Called from its own `write` it frees nothing and logs an
/// error.
///
/// Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns. Since: 0.1
// Safety: `w` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_free(w: *mut vfiomig_writer) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_writer_free", w) };
}

/// Writes the next bytes of a device's stream, 1 byte to 1 MiB, as one record. `device_index` is its
/// number in the table. `flags` is VFIOMIG_CHUNK_SEGMENT_END with the last bytes of a segment (v1,
/// draft), else 0.
///
/// A record that the channel takes in part is kept in the writer and continued by the next call;
/// -EAGAIN: the one before is still there, and nothing of this one was taken. After any other
/// failure of the channel every call returns that failure.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`device_index`, `data` NULL, `len`, `flags`), BUSY (another call on the writer
/// is in progress), ORDER (against docs/wire.md, which the message says), SYSTEM (the channel
/// failed;
/// -EAGAIN; -ETIMEDOUT), CANCELED.
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `data` is NULL or readable for `len`; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_data(
    w: *mut vfiomig_writer,
    device_index: u32,
    data: *const c_void,
    len: usize,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |writer: &WireWriter| {
        if flags & !VFIOMIG_CHUNK_SEGMENT_END != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown bits")));
        }
        // SAFETY: the contract of this function.
        let bytes = unsafe { slice("data", data.cast::<u8>(), len) }?;
        if len > crate::wire::MAX_PAYLOAD {
            return Err(Error::argument(format!("len: {len} bytes of one record")));
        }
        writer.with(|output| output.data(device_index as usize, bytes, flags != 0))
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_data", w, errp, body) }
}

/// Says that a device's stream is whole. `total` is its length as the library counted it
/// (saved_bytes of vfiomig_device_info); it is compared with what was written.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_writer_data(); ORDER also: `total` is not what was written.
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_end(
    w: *mut vfiomig_writer,
    device_index: u32,
    total: u64,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |writer: &WireWriter| {
        writer.with(|output| {
            let written = output.position(device_index as usize);
            if written != total {
                return Err(Error::order(format!("total: {total} bytes, but {written} are on the wire")));
            }
            output.end(device_index as usize)
        })
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_end", w, errp, body) }
}

/// Says that a device's stream begins anew: what was written of it, and its END, is thrown away.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_writer_data().
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_void(
    w: *mut vfiomig_writer,
    device_index: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |writer: &WireWriter| writer.with(|output| output.void(device_index as usize));
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_void", w, errp, body) }
}

/// Writes a record of the VMM, at most 1 MiB. `device_index` is the number of a device in the table,
/// or VFIOMIG_RECORD_NO_DEVICE. `kind` is the VMM's own number.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_writer_data().
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `data` is NULL or readable for `len`; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_vmm(
    w: *mut vfiomig_writer,
    device_index: u32,
    kind: u64,
    data: *const c_void,
    len: usize,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |writer: &WireWriter| {
        let device = (device_index != VFIOMIG_RECORD_NO_DEVICE).then_some(device_index as usize);
        // SAFETY: the contract of this function.
        let bytes = unsafe { slice("data", data.cast::<u8>(), len) }?;
        writer.with(|output| output.vmm(device, kind, bytes))
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_vmm", w, errp, body) }
}

/// Writes the last record: the channel is whole. Refused (ORDER) before the END of each device of
/// the channel. vfiomig_writer_flush() says when the channel has taken everything.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_writer_data().
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_finish(w: *mut vfiomig_writer, errp: *mut *mut vfiomig_error) -> c_int {
    let body = |writer: &WireWriter| writer.with(Output::finish);
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_finish", w, errp, body) }
}

/// Writes the last record of a channel whose source side gives up, so that the other side need not
/// wait. `text` says why, in at most 1024 bytes; the rest is cut.
///
/// Returns: 0 or -errno.
/// Errors: as vfiomig_writer_data().
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `text` is NULL or a C string; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_fail(
    w: *mut vfiomig_writer,
    text: *const c_char,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |writer: &WireWriter| {
        if text.is_null() {
            return Err(Error::argument("text is NULL"));
        }
        // SAFETY: not NULL, so a C string by the contract of this function.
        let text = text_of(unsafe { CStr::from_ptr(text) });
        writer.with(|output| output.fail(&text))
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_fail", w, errp, body) }
}

/// Writes what the channel did not take yet.
///
/// Returns: 0 if nothing is left, or -errno.
/// Errors: as vfiomig_writer_data(); -EAGAIN: something is left.
/// Threads: any, one at a time. Blocks: on the channel. Since: 0.1
// Safety: `w` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_writer_flush(w: *mut vfiomig_writer, errp: *mut *mut vfiomig_error) -> c_int {
    let body = |writer: &WireWriter| writer.with(Output::flush);
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_writer_flush", w, errp, body) }
}
