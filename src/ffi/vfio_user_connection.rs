//! Connections of the library's own to vfio-user servers, and devices on them.

use super::device_data::{VFIOMIG_OPS_F_ANY_THREAD, vfiomig_device_options};
use super::device_new::make;
use super::error_object::vfiomig_error;
use super::guard::guard;
pub use super::handle::vfiomig_vfio_user;
use super::handle::{free, new, object_of, on, vfiomig_device};
use super::input::{borrow_fd, slice};
use super::sized::{ExtensibleStruct, check_out, clear_answers, copy_in, copy_out};
use super::vfio_user::{
    VFIOMIG_VFIO_USER_F_MAP_REGION, VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN, VFIOMIG_VFIO_USER_NO_ERRNO,
    VFIOMIG_VFIO_USER_NO_REPLY,
};
use crate::error::{Errno, Error, Result};
use crate::transport::Transport;
use crate::transport::vfio_user::ops::{UserCall, or_default};
use crate::transport::vfio_user::{
    ConnectOptions, DmaAccess, Exchange, ServerDma, VfioUserChannel, VfioUserConnection, VfioUserOptions,
};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// vfiomig_vfio_user_options: do not ask the server for a second socket for its own requests.
/// Without one libvfio-user mixes up messages when both sides send at once.
pub const VFIOMIG_VFIO_USER_F_ONE_SOCKET: u32 = 0x4;

/// vfiomig_vfio_user_map(): the device may read the memory.
pub const VFIOMIG_VFIO_USER_DMA_F_READ: u32 = 0x1;
/// vfiomig_vfio_user_map(): the device may write to the memory.
pub const VFIOMIG_VFIO_USER_DMA_F_WRITE: u32 = 0x2;

/// In vfiomig_vfio_user_info.flags: the server says that its device can be migrated. A hint;
/// vfiomig_device_get_info() knows.
pub const VFIOMIG_VFIO_USER_MIGRATABLE: u32 = 0x1;
/// In vfiomig_vfio_user_info.flags: the server has a second socket for its own requests.
pub const VFIOMIG_VFIO_USER_TWIN_SOCKET: u32 = 0x2;

/// How a connection is made. Set up with VFIOMIG_INIT. NULL stands for all defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_vfio_user_options {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_VFIO_USER_F_*; VFIOMIG_OPS_F_ANY_THREAD is for dma_read and dma_write.
    pub flags: u32,
    /// How long a request may take in milliseconds, and those of a state change, a reset or a probe in
    /// all; 0: 60000. A server stops its device within a state change.
    pub timeout_ms: u32,
    /// Most bytes of data in a message, 4096 to 2^20; 0: 2^20.
    pub max_data: u32,
    /// Most bytes of state in one message to the server; 0: 32 KiB (struct vfiomig_vfio_user_ops).
    pub max_write: u64,
    /// Most bytes of state in one reply; 0: 1 MiB, or what was negotiated.
    pub max_read: u64,
    /// Reads memory for a server that sends messages: 0 or -errno. Called one at a time, within calls
    /// on the connection and on devices on it, on their threads, or with VFIOMIG_OPS_F_ANY_THREAD on
    /// threads that the library has for those devices; must not call those back (-EDEADLK). NULL: the
    /// library reads and writes what was mapped with a descriptor. Set together with dma_write, or not
    /// at all.
    pub dma_read:
        Option<unsafe extern "C" fn(opaque: *mut c_void, address: u64, buf: *mut c_void, len: usize) -> c_int>,
    /// Writes memory, likewise. The pages are marked in the dirty log of the connection's device.
    pub dma_write:
        Option<unsafe extern "C" fn(opaque: *mut c_void, address: u64, buf: *const c_void, len: usize) -> c_int>,
    /// For the two functions.
    pub opaque: *mut c_void,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_vfio_user_options {
    const NAME: &'static str = "vfiomig_vfio_user_options";
    const FLAGS: u32 = VFIOMIG_OPS_F_ANY_THREAD | VFIOMIG_VFIO_USER_F_MAP_REGION | VFIOMIG_VFIO_USER_F_ONE_SOCKET;
}

/// What is known of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_vfio_user_info {
    /// Size of this struct, set by VFIOMIG_INIT; left as it is.
    pub argsz: u32,
    /// VFIOMIG_VFIO_USER_MIGRATABLE, VFIOMIG_VFIO_USER_TWIN_SOCKET.
    pub flags: u32,
    /// Of the version 0.minor.
    pub minor: u32,
    /// Most descriptors with a message.
    pub max_fds: u32,
    /// Most bytes of data in a message.
    pub max_data: u64,
    /// Page size of the dirty log of a first-generation server.
    pub page_size: u64,
    /// The socket by which the server asks for something: when it is readable,
    /// vfiomig_vfio_user_serve() has something to do. Neither read nor write it.
    pub server_fd: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C) with argsz and flags first, no padding (asserted below), and zeros are a value.
unsafe impl ExtensibleStruct for vfiomig_vfio_user_info {
    const NAME: &'static str = "vfiomig_vfio_user_info";
    const FLAGS: u32 = 0;
}

// SAFETY: repr(C) with argsz and flags first, no padding (its size is asserted), and zeros are a value.
unsafe impl ExtensibleStruct for UserCall {
    const NAME: &'static str = "vfiomig_vfio_user_call";
    const FLAGS: u32 = VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN;
}

const _: () =
    assert!(VFIOMIG_OPS_F_ANY_THREAD & (VFIOMIG_VFIO_USER_F_MAP_REGION | VFIOMIG_VFIO_USER_F_ONE_SOCKET) == 0);
const _: () = assert!(size_of::<vfiomig_vfio_user_options>() == 56 && size_of::<vfiomig_vfio_user_info>() == 40);

/// The VMM's functions for memory.
struct OpsDma {
    read: unsafe extern "C" fn(opaque: *mut c_void, address: u64, buf: *mut c_void, len: usize) -> c_int,
    write: unsafe extern "C" fn(opaque: *mut c_void, address: u64, buf: *const c_void, len: usize) -> c_int,
    opaque: *mut c_void,
    any_thread: bool,
}

// SAFETY: `opaque` is only handed to the VMM's functions, which are called one at a time, on threads of the VMM's and of the
// library's, as the options say.
unsafe impl Send for OpsDma {}
// SAFETY: as above.
unsafe impl Sync for OpsDma {}

fn status(result: c_int) -> std::result::Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(Errno::new(result.checked_neg().unwrap_or(libc::EIO))) }
}

impl ServerDma for OpsDma {
    fn read(&self, address: u64, buf: &mut [u8]) -> std::result::Result<(), Errno> {
        // SAFETY: `buf` is writable for its length; the rest is the contract of the functions that connect.
        status(unsafe { (self.read)(self.opaque, address, buf.as_mut_ptr().cast(), buf.len()) })
    }
    fn write(&self, address: u64, bytes: &[u8]) -> std::result::Result<(), Errno> {
        // SAFETY: `bytes` is readable for its length; the rest is the contract of the functions that connect.
        status(unsafe { (self.write)(self.opaque, address, bytes.as_ptr().cast(), bytes.len()) })
    }
    fn any_thread(&self) -> bool {
        self.any_thread
    }
}

/// # Safety
/// `o` is NULL or readable for its argsz, and its functions may be called until the connection is freed.
unsafe fn read_options(o: *const vfiomig_vfio_user_options) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::default();
    // SAFETY: the contract of this function.
    let Some(given) = unsafe { copy_in(o) }? else { return Ok(options) };
    if given.timeout_ms != 0 {
        options.timeout = Duration::from_millis(u64::from(given.timeout_ms));
    }
    options.max_data = or_default(u64::from(given.max_data), options.max_data);
    options.twin_socket = given.flags & VFIOMIG_VFIO_USER_F_ONE_SOCKET == 0;
    let usual = VfioUserOptions::default();
    options.server = VfioUserOptions {
        max_write: or_default(given.max_write, usual.max_write),
        max_read: or_default(given.max_read, usual.max_read),
        map_region: given.flags & VFIOMIG_VFIO_USER_F_MAP_REGION != 0,
    };
    let (opaque, any_thread) = (given.opaque, given.flags & VFIOMIG_OPS_F_ANY_THREAD != 0);
    options.dma = match (given.dma_read, given.dma_write) {
        (Some(read), Some(write)) => Some(Box::new(OpsDma { read, write, opaque, any_thread })),
        (None, None) => None,
        _ => return Err(Error::argument("options: dma_read and dma_write must be both NULL or both set")),
    };
    Ok(options)
}

/// # Safety
/// `out` is NULL or points to memory for one pointer; `o` as for [`read_options`].
unsafe fn connect(
    o: *const vfiomig_vfio_user_options,
    out: *mut *mut vfiomig_vfio_user,
    connect: impl FnOnce(ConnectOptions) -> Result<VfioUserConnection>,
) -> Result<()> {
    if out.is_null() {
        return Err(Error::argument("out is NULL"));
    }
    // SAFETY: the contract of this function.
    let connection = connect(unsafe { read_options(o) }?)?;
    // SAFETY: not NULL, so writable by the contract of this function.
    unsafe { out.write(new(connection)) };
    Ok(())
}

/// Connects to the UNIX socket of a vfio-user server, which serves one device, and agrees on a
/// version. The library makes no thread for it: requests of the server are answered within calls on
/// the connection and on its device, and by vfiomig_vfio_user_serve().
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`path` or `out` NULL; options), SYSTEM (no socket of that path), DEVICE (the
/// server refused, has gone, or was silent), PROTOCOL (its answer), UNSUPPORTED (another
/// version).
/// Threads: any. Blocks: until the server answers, timeout_ms at most. Since: 0.1
// Safety: the functions of the options may be called until the handle is freed; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_connect(
    path: *const c_char,
    o: *const vfiomig_vfio_user_options,
    out: *mut *mut vfiomig_vfio_user,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        if path.is_null() {
            return Err(Error::argument("path is NULL"));
        }
        // SAFETY: a C string by the contract of this function.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
        // SAFETY: the contract of this function.
        unsafe { connect(o, out, |options| VfioUserConnection::connect(path, options)) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_vfio_user_connect", errp, || (), body) }
}

/// The same over a socket that is connected to a server already and on which nothing was said. The
/// library uses a copy of the descriptor: close yours when you like.
///
/// Returns: 0 or -errno.
/// Errors: as of vfiomig_vfio_user_connect(); ARGUMENT (-1 as fd: -EBADF; no UNIX stream socket).
/// Threads: any. Blocks: until the server answers, timeout_ms at most. Since: 0.1
// Safety: `fd` is open; the rest as of vfiomig_vfio_user_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_connect_fd(
    fd: c_int,
    o: *const vfiomig_vfio_user_options,
    out: *mut *mut vfiomig_vfio_user,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        // SAFETY: the contract of this function.
        let socket = unsafe { borrow_fd("fd", fd) }?.try_clone_to_owned()?;
        // SAFETY: the contract of this function.
        unsafe { connect(o, out, |options| VfioUserConnection::new(socket, options)) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_vfio_user_connect_fd", errp, || (), body) }
}

/// Ends a connection; NULL is legal. Waits for the call in progress. Devices on it fail from then on
/// (-ENODEV): free them first. Called from one of its own functions it frees nothing and logs an
/// error.
///
/// Threads: any; no call on the handle may begin during or after it. Blocks: until the call in
/// progress returns. Since: 0.1
// Safety: `c` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_free(c: *mut vfiomig_vfio_user) {
    // SAFETY: the contract of this function.
    unsafe { free("vfiomig_vfio_user_free", c) };
}

/// What was negotiated.
///
/// Returns: 0 or -errno.
/// Errors: those of every function.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `c` is NULL or a live handle; `info` is NULL or valid for its argsz; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_get_info(
    c: *const vfiomig_vfio_user,
    info: *mut vfiomig_vfio_user_info,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |connection: &VfioUserConnection| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(info) }?;
        let limits = connection.limits();
        let (main, server) = connection.fds();
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let ours = vfiomig_vfio_user_info {
            argsz: 0,
            flags: flag(connection.migratable(), VFIOMIG_VFIO_USER_MIGRATABLE)
                | flag(main != server, VFIOMIG_VFIO_USER_TWIN_SOCKET),
            minor: u32::from(limits.minor),
            max_fds: u32::try_from(limits.max_fds).unwrap_or(u32::MAX),
            max_data: limits.max_data as u64,
            page_size: limits.page_size,
            server_fd: server,
            reserved: 0,
        };
        // SAFETY: `size` is what check_out returned for `info`.
        unsafe { copy_out(info, size, &ours) };
        Ok(())
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_vfio_user_get_info", c, errp, body) }
}

/// Gives the server memory of the VM. With a descriptor (memfd, file; -1: none) the server uses the
/// memory by itself, `offset` bytes into it, and keeps a copy of the descriptor until the memory is
/// unmapped. Without one it sends messages, which dma_read and dma_write answer. Report the same
/// mappings, each as a whole, to a tracker (vfiomig_tracker_map()).
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (unknown flags), DEVICE (-EEXIST: it overlaps another mapping; -ETIMEDOUT: the
/// server may have it all the same, and vfiomig_vfio_user_unmap() takes it away; the server refused;
/// the connection has failed).
/// Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
/// most. Since: 0.1
// Safety: `c` is NULL or a live handle; `fd` is open or -1; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_map(
    c: *mut vfiomig_vfio_user,
    iova: u64,
    size: u64,
    fd: c_int,
    offset: u64,
    flags: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |connection: &VfioUserConnection| {
        let known = VFIOMIG_VFIO_USER_DMA_F_READ | VFIOMIG_VFIO_USER_DMA_F_WRITE;
        if flags & !known != 0 {
            return Err(Error::argument(format!("flags: {flags:#x} has unknown ones")));
        }
        let access = DmaAccess {
            read: flags & VFIOMIG_VFIO_USER_DMA_F_READ != 0,
            write: flags & VFIOMIG_VFIO_USER_DMA_F_WRITE != 0,
        };
        // SAFETY: the contract of this function.
        let memory = (fd >= 0).then(|| unsafe { borrow_fd("fd", fd) }).transpose()?;
        connection.map(iova, size, memory.map(|fd| (fd, offset)), access)
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_vfio_user_map", c.cast_const(), errp, body) }
}

/// Takes a mapping away, as it was given. Where a tracker runs, call it from the unmap function of
/// vfiomig_tracker_unmap(): what the server has logged of the memory goes with it.
///
/// Returns: 0 or -errno.
/// Errors: DEVICE (-ENOENT: nothing is mapped so, here or at the server; the server refused; the
/// connection has failed).
/// Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
/// most. Since: 0.1
// Safety: `c` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_unmap(
    c: *mut vfiomig_vfio_user,
    iova: u64,
    size: u64,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |connection: &VfioUserConnection| connection.unmap(iova, size);
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_vfio_user_unmap", c.cast_const(), errp, body) }
}

/// Answers what the server asks for: waits up to `timeout_ms` for a message, and serves all that are
/// there. Call it when server_fd is readable.
///
/// Returns: how many messages there were, or -errno.
/// Errors: DEVICE (the connection has failed).
/// Threads: any; waits for the call in progress. Blocks: timeout_ms, then for as long as messages
/// come, but begins none after the connection's timeout_ms, which is also how long one may take; and
/// in dma_read and dma_write.
/// Since: 0.1
// Safety: `c` is NULL or a live handle; `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_serve(
    c: *mut vfiomig_vfio_user,
    timeout_ms: u32,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let mut served = 0;
    let body = |connection: &VfioUserConnection| {
        let count = connection.serve(Duration::from_millis(u64::from(timeout_ms)))?;
        served = c_int::try_from(count).unwrap_or(c_int::MAX);
        Ok(())
    };
    // SAFETY: the contract of this function.
    let status = unsafe { on("vfiomig_vfio_user_serve", c.cast_const(), errp, body) };
    if status < 0 { status } else { served }
}

/// Sends any other request of the protocol, as those of interrupts or of BARs, and waits for its
/// reply. Not for those that the library makes itself: device features, state data, DMA.
///
/// Returns: 0 or -errno, also of a reply with the error flag; its errno 0 is -EIO, with
/// VFIOMIG_VFIO_USER_NO_ERRNO in the flags. No reply in time is -ETIMEDOUT, with
/// VFIOMIG_VFIO_USER_NO_REPLY.
/// Errors: ARGUMENT (`call` NULL, or with a length and no memory), DEVICE (the server refused; the
/// connection has failed; -EMSGSIZE: the reply is larger than reply_room).
/// Threads: any; waits for the call in progress. Blocks: until the server answers, timeout_ms at
/// most. Since: 0.1
// Safety: `c` is NULL or a live handle; `call` is NULL or valid for its argsz, and its pointers for the lengths beside them;
// `errp` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_vfio_user_call(
    c: *mut vfiomig_vfio_user,
    call: *mut UserCall,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = |connection: &VfioUserConnection| {
        // SAFETY: the contract of this function.
        let size = unsafe { check_out(call.cast_const()) }?;
        // SAFETY: check_out has found a struct at `call`, which is the caller's to be written to.
        unsafe { clear_answers(call, VFIOMIG_VFIO_USER_NO_ERRNO | VFIOMIG_VFIO_USER_NO_REPLY) };
        // SAFETY: the contract of this function.
        let mut ours = unsafe { copy_in(call.cast_const()) }?.ok_or_else(|| Error::argument("call is NULL"))?;
        // SAFETY: the contract of this function.
        let outcome = unsafe { forward(connection, &mut ours) };
        // SAFETY: `size` is what check_out returned for `call`.
        unsafe { copy_out(call, size, &ours) };
        outcome
    };
    // SAFETY: the contract of this function.
    unsafe { on("vfiomig_vfio_user_call", c.cast_const(), errp, body) }
}

/// # Safety
/// The pointers of `call` are valid for the lengths beside them.
unsafe fn forward(connection: &VfioUserConnection, call: &mut UserCall) -> Result<()> {
    let len = |len: u64| usize::try_from(len).unwrap_or(usize::MAX);
    let (request_len, reply_room) = (len(call.request_len), len(call.reply_room));
    // SAFETY: the contract of this function.
    let request = unsafe { slice("request", call.request.cast::<u8>(), request_len) }?;
    // SAFETY: the contract of this function.
    let numbers = unsafe { slice("fds", call.fds, call.fd_count as usize) }?;
    // SAFETY: the contract of this function.
    let reply = unsafe { slice_mut("reply", call.reply.cast::<u8>(), reply_room) }?;
    // SAFETY: the contract of this function.
    let reply_fds = unsafe { slice_mut("reply_fds", call.reply_fds, call.reply_fd_room as usize) }?;
    let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
    for &fd in numbers {
        // SAFETY: the contract of this function.
        fds.push(unsafe { borrow_fd("fds", fd) }?);
    }
    let command = u16::try_from(call.command).map_err(|_| Error::argument("command: it has 16 bits"))?;
    let mut exchange = Exchange::new(command, request, reply).with_fds(&fds).wanting_fds(reply_fds.len());
    if call.flags & VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN != 0 {
        exchange = exchange.that_may_be_unknown();
    }
    let outcome = connection.request(&mut exchange);
    let found =
        [(exchange.has_no_errno(), VFIOMIG_VFIO_USER_NO_ERRNO), (exchange.has_no_reply(), VFIOMIG_VFIO_USER_NO_REPLY)];
    for (found, flag) in found {
        call.flags |= if found { flag } else { 0 };
    }
    call.reply_fd_count = 0;
    for (to, fd) in reply_fds.iter_mut().zip(exchange.into_fds()) {
        *to = fd.into_raw_fd();
        call.reply_fd_count = call.reply_fd_count.saturating_add(1);
    }
    call.reply_len = outcome? as u64;
    Ok(())
}

/// # Safety
/// `memory` is NULL or writable for `count` elements, and nothing else uses it.
unsafe fn slice_mut<'a, T>(what: &str, memory: *mut T, count: usize) -> Result<&'a mut [T]> {
    // SAFETY: the contract of this function; it checks that there can be such an array.
    let count = unsafe { slice(what, memory.cast_const(), count) }?.len();
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: an array, as was checked; the rest is the contract of this function.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory, count) })
}

/// Makes a device from a connection of the library's own. The connection is used until
/// vfiomig_device_free(); free it afterwards. One device at a time.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`out` NULL; options, as of vfiomig_device_new_kernel()), UNSUPPORTED (a dialect
/// that this version does not know), DEVICE (the server or the connection failed), PROTOCOL (the
/// server reports impossible values).
/// States: any.
/// Threads: any. Blocks: until the server has answered all of it, timeout_ms at most. Since: 0.1
// Safety: `c` is NULL or a live handle; pointers are NULL or valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_new_connection(
    c: *mut vfiomig_vfio_user,
    o: *const vfiomig_device_options,
    out: *mut *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    const NAME: &str = "vfiomig_device_new_connection";
    let body = || {
        let transport = || {
            // SAFETY: the contract of this function.
            let connection = unsafe { object_of(NAME, c.cast_const()) }?;
            Ok(Box::new(connection.transport()?) as Box<dyn Transport>)
        };
        // SAFETY: the contract of this function.
        unsafe { make(o, out, transport) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard(NAME, errp, || (), body) }
}
