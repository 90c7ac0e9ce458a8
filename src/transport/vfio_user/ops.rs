//! The VMM's own vfio-user client as a carrier: one function.

use super::exchange::{Exchange, VfioUserChannel, VfioUserLimits};
use crate::error::{Errno, Error};
use crate::gate::{Gate, GateLevel};
use crate::transport::ops::ANY_THREAD;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// In vfiomig_vfio_user_call.flags: the server may not know the command.
/// cbindgen:ignore
pub const MAY_BE_UNKNOWN: u32 = 0x1;
/// In vfiomig_vfio_user_call.flags, set by the function: the reply had the error flag and errno 0.
/// cbindgen:ignore
pub const NO_ERRNO: u32 = 0x2;
/// In vfiomig_vfio_user_call.flags, set by the function: no reply came in time.
/// cbindgen:ignore
pub const NO_REPLY: u32 = 0x4;
/// cbindgen:ignore
pub const MAP_REGION: u32 = 0x2;

/// Most descriptors that the library takes with one reply.
const MOST_FDS: usize = 8;

/// One request to a vfio-user server, without its header, and memory for the payload of its reply.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UserCall {
    /// Size of this struct.
    pub argsz: u32,
    /// VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN from the asker; VFIOMIG_VFIO_USER_NO_ERRNO and
    /// VFIOMIG_VFIO_USER_NO_REPLY from who answers.
    pub flags: u32,
    /// The command's number in the protocol.
    pub command: u32,
    /// How many descriptors go with the request.
    pub fd_count: u32,
    /// The payload of the request; NULL if request_len is 0.
    pub request: *const c_void,
    /// Its length in bytes.
    pub request_len: u64,
    /// The descriptors, which stay their owner's; NULL if fd_count is 0.
    pub fds: *const c_int,
    /// Room for the payload of the reply; NULL if reply_room is 0.
    pub reply: *mut c_void,
    /// Its size in bytes.
    pub reply_room: u64,
    /// Set by who answers: the bytes of the reply's payload.
    pub reply_len: u64,
    /// Room for descriptors that come with the reply; NULL if reply_fd_room is 0.
    pub reply_fds: *mut c_int,
    /// How many of them are taken; who answers closes all others.
    pub reply_fd_room: u32,
    /// Set by who answers: how many there are. They belong to the asker.
    pub reply_fd_count: u32,
}

/// The VMM's own vfio-user client: one function, and what it has negotiated with the server. The
/// table is copied when a device is made from it. The function is called on the thread that called
/// the library, or with VFIOMIG_OPS_F_ANY_THREAD on threads that the library makes within a call;
/// one call at a time for each device, with asynchronous signals blocked. It may block. It must not
/// call back into the same device (-EDEADLK).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UserOps {
    /// Size of this struct, set by VFIOMIG_INIT.
    pub argsz: u32,
    /// VFIOMIG_OPS_F_ANY_THREAD, VFIOMIG_VFIO_USER_F_MAP_REGION.
    pub flags: u32,
    /// Sends the request and waits for its reply. Returns 0; -errno of a reply with the error flag, or
    /// of a connection that has failed. A reply with the error flag and errno 0 is -EIO, and sets
    /// VFIOMIG_VFIO_USER_NO_ERRNO; if VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN is set then, one more reply
    /// arrives, whose msg_id is that of no request: read it and throw it away. A reply that is larger
    /// than reply_room is read to its end and thrown away: -EMSGSIZE. No reply in time is -ETIMEDOUT,
    /// and sets VFIOMIG_VFIO_USER_NO_REPLY: the library asks for nothing more in the step that it is
    /// in, so that a silent server costs that one wait. Requests of the server are answered meanwhile,
    /// as your client always does.
    pub call: Option<unsafe extern "C" fn(opaque: *mut c_void, call: *mut UserCall) -> c_int>,
    /// max_data_xfer_size, the smaller of both sides'; 0: 1 MiB.
    pub max_data: u64,
    /// Most bytes of state in one message to the server; 0: 32 KiB. Many servers read a message of
    /// more than 36 KiB in part, and are out of step from then on, whatever they negotiated.
    pub max_write: u64,
    /// Most bytes of state in one reply; 0: 1 MiB, or what max_data allows.
    pub max_read: u64,
    /// migration.pgsize: page size of the dirty log of a first-generation server; 0: 4096.
    pub page_size: u64,
    /// Of the version 0.minor that was negotiated.
    pub minor: u32,
    /// max_msg_fds; 0: 1.
    pub max_fds: u32,
}

const _: () = assert!(size_of::<UserCall>() == 80 && size_of::<UserOps>() == 56);

/// `value`, or the default where it is 0.
pub(crate) fn or_default(value: u64, default: usize) -> usize {
    if value == 0 { default } else { usize::try_from(value).unwrap_or(usize::MAX) }
}

/// The `UserOps` table as a channel.
pub struct OpsChannel {
    ops: UserOps,
    call: unsafe extern "C" fn(opaque: *mut c_void, call: *mut UserCall) -> c_int,
    opaque: *mut c_void,
    limits: VfioUserLimits,
    /// Lets one call through at a time: a harvest asks for the log while another thread may read data.
    turn: Gate<()>,
}

// SAFETY: `opaque` is never dereferenced here, only handed to the VMM's function; `OpsChannel::new`'s contract makes the VMM
// answer for calls from different threads, one at a time by the gate.
unsafe impl Send for OpsChannel {}
// SAFETY: as above.
unsafe impl Sync for OpsChannel {}

impl OpsChannel {
    /// Checks the table, and keeps a copy of it.
    ///
    /// # Safety
    /// Until the channel is dropped `call` may be called with `opaque`, one call at a time, from the threads that use the device.
    /// It writes to the memory that it is given and no further, and descriptors that it returns have no other owner.
    pub unsafe fn new(ops: UserOps, opaque: *mut c_void) -> Result<Self, Error> {
        let call = ops.call.ok_or_else(|| Error::argument("ops: call is NULL: the device cannot be reached"))?;
        let defaults = VfioUserLimits::default();
        let page_size = if ops.page_size == 0 { defaults.page_size } else { ops.page_size };
        if !page_size.is_power_of_two() {
            return Err(Error::argument(format!("ops: page_size: {page_size} is no power of two")));
        }
        let limits = VfioUserLimits {
            minor: u16::try_from(ops.minor).unwrap_or(u16::MAX),
            max_data: or_default(ops.max_data, defaults.max_data),
            max_fds: or_default(u64::from(ops.max_fds), defaults.max_fds),
            page_size,
        };
        Ok(OpsChannel { ops, call, opaque, limits, turn: Gate::new(GateLevel::Functions, ()) })
    }
}

impl VfioUserChannel for OpsChannel {
    fn limits(&self) -> VfioUserLimits {
        self.limits
    }

    fn any_thread(&self) -> bool {
        self.ops.flags & ANY_THREAD != 0
    }

    fn calls_me(&self) -> bool {
        self.turn.is_mine()
    }

    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
        let fds: Vec<RawFd> = exchange.fds().iter().map(AsRawFd::as_raw_fd).collect();
        let mut reply_fds = [-1; MOST_FDS];
        let wanted = exchange.fds_wanted().min(MOST_FDS);
        let room = exchange.reply_mut();
        let (reply, reply_room) = (room.as_mut_ptr(), room.len());
        let request = exchange.request();
        let mut call = UserCall {
            argsz: size_of::<UserCall>() as u32,
            flags: if exchange.may_be_unknown() { MAY_BE_UNKNOWN } else { 0 },
            command: u32::from(exchange.command()),
            fd_count: u32::try_from(fds.len()).unwrap_or(0),
            request: if request.is_empty() { std::ptr::null() } else { request.as_ptr().cast() },
            request_len: request.len() as u64,
            fds: if fds.is_empty() { std::ptr::null() } else { fds.as_ptr() },
            reply: if reply_room == 0 { std::ptr::null_mut() } else { reply.cast() },
            reply_room: reply_room as u64,
            reply_len: 0,
            reply_fds: if wanted == 0 { std::ptr::null_mut() } else { reply_fds.as_mut_ptr() },
            reply_fd_room: u32::try_from(wanted).unwrap_or(0),
            reply_fd_count: 0,
        };
        let turn = self.turn.enter_whole().map_err(|_| Errno::new(libc::EDEADLK))?;
        // SAFETY: all pointers are valid for the lengths beside them while the call lasts; the rest is `new`'s contract.
        let result = unsafe { (self.call)(self.opaque, &mut call) };
        drop(turn);
        let came = (call.reply_fd_count as usize).min(wanted);
        for &fd in reply_fds.iter().take(came).filter(|&&fd| fd >= 0) {
            // SAFETY: `new`'s contract: it has no other owner.
            exchange.give_fd(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        if result != 0 {
            if call.flags & NO_ERRNO != 0 {
                exchange.had_no_errno();
            }
            if call.flags & NO_REPLY != 0 {
                exchange.had_no_reply();
            }
            return Err(Errno::new(result.checked_neg().unwrap_or(libc::EIO)));
        }
        match usize::try_from(call.reply_len) {
            Ok(len) if len <= reply_room => Ok(len),
            _ => Err(Errno::new(libc::EPROTO)),
        }
    }
}
