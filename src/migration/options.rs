//! How a migration works, where its caller chooses.

use crate::device::Device;
use crate::dialect::Direction;
use crate::error::{Error, Result};
use crate::gate::GateToken;
use crate::window::MIN_SHARE;
use std::sync::Arc;

/// How a migration works, for [`Migration::with_options`](super::Migration::with_options).
///
/// ```
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{AbortTo, Migration, MigrationOptions, Phase};
/// use vfiomig::window::StreamFlags;
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device.clone())?;
/// # group.add_tracker(Arc::new(tracker))?;
///
/// let options = MigrationOptions { queue_bytes: 64 << 20 };
/// let save = Migration::with_options(Arc::clone(&group), Direction::Save, options)?;
/// save.advance(Phase::SaveStopCopy)?;
/// // Each device is read from now on, whichever of them the caller's loop serves.
/// let mut stream = Vec::new();
/// loop {
///     let chunk = device.peek(0)?;
///     if chunk.flags().contains(StreamFlags::END) {
///         break;
///     }
///     stream.extend_from_slice(&chunk);
///     let len = chunk.len();
///     device.consume(chunk, len)?;
/// }
/// # save.abort(AbortTo::Running)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrationOptions {
    /// Memory for queues between devices and the caller, in bytes and for all devices together; 0: none.
    ///
    /// Load: write, receive, commit and finish put what they get into a queue for each device, and a thread for each, which
    /// goes on between the calls, gives it to the device; [`load_done`](super::Migration::load_done) does not wait for it, but
    /// with the last device it waits for all.
    ///
    /// Save: it reads ahead. In STOP_COPY a thread per device reads its stream into a queue, from which the data calls on the
    /// device take: for callers that serve one device after another, whose devices work side by side all the same. Bytes,
    /// order, segments and sizes stay as they are; an error comes where it happened. At least 16 KiB for each device
    /// (ARGUMENT). Drafts are read by the calls themselves.
    ///
    /// Devices that may not be served by any thread, and groups with `max_workers` 1, have no queues.
    pub queue_bytes: usize,
}

impl MigrationOptions {
    pub(super) fn check(self, direction: Direction, devices: usize) -> Result<()> {
        let least = devices.saturating_mul(MIN_SHARE);
        match (self.queue_bytes, direction) {
            (0, _) => Ok(()),
            (bytes, Direction::Save) if bytes < least => Err(Error::argument(format!(
                "queue_bytes: {bytes} bytes for {devices} devices are less than {MIN_SHARE} for each"
            ))),
            (_, Direction::Save | Direction::Load) => Ok(()),
        }
    }

    /// Each device that may be served by any thread has its share. `calls`: gates of calls that wait for the devices.
    pub(super) fn allow_write_behind(self, devices: &[Arc<Device>], calls: &[GateToken]) {
        let free: Vec<&Arc<Device>> = devices.iter().filter(|device| device.any_thread()).collect();
        let share = self.queue_bytes.checked_div(free.len()).unwrap_or(0);
        if share > 0 {
            free.iter().for_each(|device| device.allow_write_behind(share, calls.into()));
        }
    }
}
