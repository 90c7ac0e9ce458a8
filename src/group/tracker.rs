//! What a group asks of the dirty log of one address space.

use crate::device::Device;
use crate::error::Result;
use std::sync::Arc;

/// The dirty log of one address space. Calls wait for each other.
pub trait Tracker: Send + Sync {
    /// For messages.
    fn name(&self) -> &str;
    /// Whether the writes of this device are in the log.
    fn covers(&self, device: &Arc<Device>) -> bool;
    /// Whether it calls everything dirty, so that it covers every device.
    fn is_everything(&self) -> bool;
    /// Starts the log; counted.
    fn start(&self) -> Result<()>;
    /// Undoes one start. Refused (ORDER) for the last one while a final harvest is owed.
    fn stop(&self) -> Result<()>;
    /// The devices are stopped: from here on a final harvest is owed.
    fn begin_final(&self);
    /// No final harvest is owed any more.
    fn end_final(&self);
    /// What the final harvest has not read yet, in words.
    fn final_missing(&self) -> Option<String>;
}
