//! Devices behind a vfio-user server: by the VMM's own client.

use super::device_data::{VFIOMIG_OPS_F_ANY_THREAD, vfiomig_device_options};
use super::device_new::make;
use super::error_object::vfiomig_error;
use super::guard::guard;
use super::handle::vfiomig_device;
use super::sized::{ExtensibleStruct, copy_in};
use crate::error::Error;
use crate::transport::Transport;
use crate::transport::vfio_user::ops::{
    MAP_REGION, MAY_BE_UNKNOWN, NO_ERRNO, NO_REPLY, OpsChannel, UserOps, or_default,
};
use crate::transport::vfio_user::{VfioUser, VfioUserOptions};
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// First generation: map the window of the migration region where the server offers it. Some servers
/// need it (SPDK); others offer a window that they never look at, whose bytes are all zero: a save
/// finds that out and fails.
pub const VFIOMIG_VFIO_USER_F_MAP_REGION: u32 = 0x2;

/// In vfiomig_vfio_user_call.flags, set by the library: the server may not know the command. If its
/// reply has the error flag and errno 0, another reply follows, which is to be thrown away.
pub const VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN: u32 = 0x1;
/// In vfiomig_vfio_user_call.flags, set by who answers: the reply had the error flag and errno 0.
pub const VFIOMIG_VFIO_USER_NO_ERRNO: u32 = 0x2;
/// In vfiomig_vfio_user_call.flags, set by who answers: no reply came in time.
pub const VFIOMIG_VFIO_USER_NO_REPLY: u32 = 0x4;

const _: () = assert!(MAP_REGION == VFIOMIG_VFIO_USER_F_MAP_REGION && MAP_REGION != VFIOMIG_OPS_F_ANY_THREAD);
const _: () = assert!(MAY_BE_UNKNOWN == VFIOMIG_VFIO_USER_F_MAY_BE_UNKNOWN && NO_ERRNO == VFIOMIG_VFIO_USER_NO_ERRNO);
const _: () = assert!(NO_REPLY == VFIOMIG_VFIO_USER_NO_REPLY);

// SAFETY: repr(C) with argsz and flags first, no padding (its size is asserted), and zeros are a value.
unsafe impl ExtensibleStruct for UserOps {
    const NAME: &'static str = "vfiomig_vfio_user_ops";
    const FLAGS: u32 = VFIOMIG_OPS_F_ANY_THREAD | VFIOMIG_VFIO_USER_F_MAP_REGION;
}

/// Makes a device from the VMM's own connection to a vfio-user server, which has negotiated a
/// version already. The library speaks both generations of the protocol through one function; which
/// of them the server speaks it finds out itself. The table is copied; `opaque` is passed to the
/// function and not used otherwise. What the VMM must do beside it is in docs/vfio-user.md.
///
/// Returns: 0 or -errno.
/// Errors: ARGUMENT (`ops` or `out` NULL; a table without `call`, or with limits that hold no
/// message; options, as of vfiomig_device_new_kernel()), UNSUPPORTED (a dialect that this version
/// does not know), DEVICE (the server or the connection failed), PROTOCOL (the server reports
/// impossible values).
/// States: any.
/// Threads: any. Blocks: in your function. Since: 0.1
// Safety: Until the handle is freed the function may be called as `struct vfiomig_vfio_user_ops` describes; pointers are NULL or
// valid as described.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_device_new_vfio_user(
    ops: *const UserOps,
    opaque: *mut c_void,
    o: *const vfiomig_device_options,
    out: *mut *mut vfiomig_device,
    errp: *mut *mut vfiomig_error,
) -> c_int {
    let body = || {
        let transport = || {
            // SAFETY: the contract of this function.
            let ops = unsafe { copy_in(ops) }?.ok_or_else(|| Error::argument("ops is NULL"))?;
            let usual = VfioUserOptions::default();
            let options = VfioUserOptions {
                max_write: or_default(ops.max_write, usual.max_write),
                max_read: or_default(ops.max_read, usual.max_read),
                map_region: ops.flags & VFIOMIG_VFIO_USER_F_MAP_REGION != 0,
            };
            // SAFETY: the contract of this function.
            let channel = unsafe { OpsChannel::new(ops, opaque) }?;
            Ok(Box::new(VfioUser::new(Arc::new(channel), options)?) as Box<dyn Transport>)
        };
        // SAFETY: the contract of this function.
        unsafe { make(o, out, transport) }
    };
    // SAFETY: the contract of this function.
    unsafe { guard("vfiomig_device_new_vfio_user", errp, || (), body) }
}
