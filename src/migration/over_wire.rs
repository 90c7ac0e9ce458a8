//! A migration over the library's own wire: what the caller says and hears, and which device of the group is which of the wire.

use super::Migration;
use super::drain::Budget;
use crate::dialect::DialectKind;
use crate::error::{Error, Result};
use crate::transport::caller_patience;
use crate::wire::{DeviceEntry, MAX_CHANNELS, Table, Timed};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A round where the caller has no wish.
pub(crate) const ROUND: Budget = Budget { bytes: 64 << 20, time: Duration::from_secs(1) };

/// What [`Migration::save_to`] shall do.
///
/// Example: [`SaveStep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Rounds while the guest runs, each of so much. `None`: the guest stands still already, or shall at once.
    pub rounds: Option<Budget>,
}

impl Default for SaveOptions {
    /// Without rounds.
    fn default() -> Self {
        SaveOptions { rounds: None }
    }
}

impl SaveOptions {
    /// With rounds of 64 MiB or a second.
    pub fn with_rounds() -> Self {
        SaveOptions { rounds: Some(ROUND) }
    }
}

/// A moment of a save over a wire, in which the VMM does its own part. docs/vmm-guide.md says what that is.
///
/// ```
/// use vfiomig::dialect::Direction;
/// use vfiomig::migration::{EndOptions, LoadStep, Migration, Phase, SaveNext, SaveOptions, SaveStep};
/// use vfiomig::wire::{Input, Output, WireOptions};
/// # use std::sync::Arc;
/// # use vfiomig::{device, group::Group, tracker};
/// # fn vm(hardware: &simdev::Device) -> vfiomig::Result<Arc<Group>> {
/// #     let options = device::DeviceOptions { name: "gpu0".into(), ..device::DeviceOptions::default() };
/// #     let device = Arc::new(device::Device::new(hardware.transport(), options)?);
/// #     let devices = vec![Arc::clone(&device)];
/// #     let options = tracker::TrackerOptions { devices, everything: true, ..tracker::TrackerOptions::default() };
/// #     let group = Arc::new(Group::new(Default::default()));
/// #     group.add_device(device)?;
/// #     group.add_tracker(Arc::new(tracker::Tracker::new(options)?))?;
/// #     Ok(group)
/// # }
/// # let [one, other] = [1, 2].map(|seed| simdev::Device::new(simdev::Config::v1(simdev::Window::Area).seeded(seed)));
/// # let (source, destination) = (vm(&one)?, vm(&other)?);
///
/// const RAM: u64 = 1;
/// let save = Migration::new(source, Direction::Save)?;
/// let mut outputs = [Output::new(Vec::new(), WireOptions::default(), save.wire_table(1)?)?];
/// save.save_to(&mut outputs, SaveOptions::with_rounds(), &mut |step, outputs| {
///     match step {
///         // The first round sends all RAM, the next ones what the harvest says.
///         SaveStep::Round { ready: false, .. } => return Ok(SaveNext::Again),
///         SaveStep::Stopped => outputs[0].vmm(None, RAM, b"pages")?,
///         _ => {}
///     }
///     Ok(SaveNext::Go)
/// })?;
/// let [output] = outputs;
/// let wire = output.into_inner();
///
/// let load = Migration::new(destination, Direction::Load)?;
/// load.load_from(&mut [Input::new(&wire[..])], &[], &mut |step| {
///     if let LoadStep::Vmm { kind: RAM, bytes, .. } = step {
///         assert_eq!(bytes, b"pages");
///     }
///     Ok(())
/// })?;
/// load.advance(Phase::LoadRunning)?;
/// save.end(true, EndOptions { waive_harvest: true, ..EndOptions::default() })?;
/// # assert!(one.same_content(&other));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveStep {
    /// Something was written; about ten times a second.
    Progress {
        /// Bytes of devices that this call has written.
        bytes: u64,
    },
    /// A round has ended: the VMM sends its RAM, or what of it became dirty, and says whether another round follows.
    Round {
        /// From 1.
        number: u32,
        /// No device is known to have initial data left (C4).
        ready: bool,
        /// Bytes of devices that this call has written.
        bytes: u64,
    },
    /// vCPUs and everything of the VMM that emulates stop now, before the devices (N18). A VMM with a vIOMMU enters VIOMMU_GRACE
    /// before (N20).
    StopVm,
    /// The devices start no DMA between each other any more: the VMM saves what the kernel owns, such as the configuration
    /// space (N17).
    Grace,
    /// The devices stand still: the final harvest and the last RAM (P12).
    Stopped,
    /// Every stream is on the wire: the VMM's last records. The channels are finished behind it.
    Last,
}

/// What follows a [`SaveStep`].
///
/// Example: [`SaveStep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveNext {
    /// The next step.
    Go,
    /// Of a round: another one.
    Again,
}

/// What a load over a wire brings, or how far it is.
///
/// Example: [`SaveStep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStep<'a> {
    /// What the source side has; no device was touched. The devices are those of the group.
    Table(&'a Table),
    /// A record of the VMM.
    Vmm {
        /// The device of the group that it is of, if it is of one.
        device: Option<usize>,
        /// The VMM's own number.
        kind: u64,
        /// Any.
        bytes: &'a [u8],
    },
    /// Something came; about ten times a second.
    Progress {
        /// Bytes of devices that this call has read.
        bytes: u64,
    },
}

/// How often the caller hears of progress.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

impl Migration {
    /// The devices of the group as a wire has them, in turn over `channels` channels, 1 to 64 (else ARGUMENT). The VMM may add
    /// words, and share the channels out by itself.
    ///
    /// Example: [`SaveStep`].
    pub fn wire_table(&self, channels: u16) -> Result<Table> {
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(Error::argument(format!("channels: {channels}: a wire has 1 to {MAX_CHANNELS}")));
        }
        let mut devices = self.wire_devices()?;
        for (device, channel) in devices.iter_mut().zip((0..channels).cycle()) {
            device.channel = channel;
        }
        Table::new(devices)
    }

    /// A descriptor for [`Output`](crate::wire::Output) or [`Input`](crate::wire::Input), whose waits end by a cancel or an
    /// abort of this migration, and after 60 s without a byte. [`Timed::by`] adds a deadline for all of it.
    pub fn wire_fd<'a>(&'a self, fd: BorrowedFd<'a>) -> Timed<'a> {
        Timed::new(fd, caller_patience()).until(|| self.cancel.check_drain().is_err())
    }

    /// What ends waits of channels that C has made.
    #[cfg(feature = "capi")]
    pub(crate) fn cancel_of_waits(&self) -> &std::sync::Arc<crate::cancel::Cancel> {
        &self.cancel
    }

    /// In the order of the group.
    pub(super) fn wire_devices(&self) -> Result<Vec<DeviceEntry>> {
        let entry = |device: &std::sync::Arc<crate::device::Device>| {
            let kind: Option<DialectKind> = device.info().dialect;
            let kind = kind.ok_or_else(|| Error::unsupported(format!("{}: not migratable", device.name())))?;
            Ok(DeviceEntry::new(device.name(), kind))
        };
        self.devices.iter().map(entry).collect()
    }

    /// For each device of the wire, which it is of the group. `demanded`: words that the table must have; other devices of the
    /// group are without.
    pub(super) fn wire_places(&self, table: &Table, demanded: &[DeviceEntry]) -> Result<Vec<usize>> {
        let mut ours = self.wire_devices()?;
        for entry in demanded {
            let Some(own) = ours.iter_mut().find(|own| own.name == entry.name) else {
                return Err(Error::argument(format!("{}: the group has no such device", entry.name)));
            };
            own.words.clone_from(&entry.words);
        }
        table.places(&ours)
    }
}

/// The channels of a wire are each there once: for each place in the caller's list, its channel.
pub(super) fn check_channels(found: &[(u16, u16, u64)]) -> Result<()> {
    let refused = |text: String| Err(Error::argument(format!("channels: {text}")));
    let Some((_, channels, wire)) = found.first().copied() else {
        return refused("a wire has at least one".to_string());
    };
    if found.len() != usize::from(channels) {
        return refused(format!("{} are given, the wire has {channels}", found.len()));
    }
    let mut seen = vec![false; found.len()];
    for (channel, of, number) in found {
        if (*of, *number) != (channels, wire) {
            return refused(format!(
                "channel {channel} is one of {of} of wire {number:#x}, the first is one of {channels} of wire {wire:#x}"
            ));
        }
        match seen.get_mut(usize::from(*channel)) {
            Some(seen) if !*seen => *seen = true,
            _ => return refused(format!("channel {channel} is given twice")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_of_one_wire_is_there_once() {
        assert!(check_channels(&[(1, 2, 7), (0, 2, 7)]).is_ok());
        let bad = [
            vec![],
            vec![(0, 2, 7)],
            vec![(0, 1, 7), (0, 1, 7)],
            vec![(0, 2, 7), (0, 2, 7)],
            vec![(0, 2, 7), (1, 2, 8)],
            vec![(0, 2, 7), (1, 3, 7)],
        ];
        for found in bad {
            assert!(check_channels(&found).is_err(), "{found:?}");
        }
    }
}
