//! The end of each device's stream on the destination side, as it comes: LOADED is entered with the last.
//!
//! Rules: F7 (some drivers accept a stream that was cut, so its length is stated), W7 and N11 (where a stream is judged).

use super::Migration;
use super::course::BY_DEVICE;
use super::sequence::Phase;
use crate::device::Device;
use crate::error::{Error, Result};
use std::sync::Arc;

impl Migration {
    /// States the length of a device's stream, as [`Device::finish`] does, and enters LOADED with the last device of the group.
    /// Whether it was entered. *whole; blocks in the kernel with the last device, for the slowest one.*
    ///
    /// Of several threads that say it at once one hears that LOADED was entered. What only a device call would refuse, a stream that
    /// is too short for instance, leaves the migration as it was.
    pub fn load_done(&self, device: &Arc<Device>, total: Option<u64>) -> Result<bool> {
        const WHAT: &str = "load_done";
        let (mut inner, mut run) = self.enter()?;
        if !inner.members.iter().any(|member| Arc::ptr_eq(&member.device, device)) {
            return Err(Error::argument(format!("{}: the group has no such device", device.name())));
        }
        run.check_entered(WHAT, Phase::LoadResuming)?;
        if run.partial.is_some() {
            return Err(Error::order(format!("{WHAT} is refused: {BY_DEVICE}")));
        }
        self.cancel.check()?;
        if device.info().complete {
            return Err(Error::order(format!("{}: its stream was stated complete before", device.name())));
        }
        device.finish(total)?;
        if inner.members.iter().any(|member| !member.device.info().complete) {
            return Ok(false);
        }
        self.course.advance(&mut inner, &mut run, Phase::LoadLoaded, false).map(|()| true)
    }
}
