//! What a VMM says of its VM when it stops or starts, and what came of it.

use crate::error::Result;

/// One word of the VMM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Switch {
    pub to: SwitchTo,
    /// The first pass of two.
    pub half: bool,
}

/// Where the VM goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwitchTo {
    /// It stands still: its user wants it, or something went wrong.
    Stop,
    /// It stands still so that its guest is handed over.
    HandOver,
    Start,
}

/// What a stop or a start did, or tried to do. Example: [`Switched`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SwitchAction {
    /// Devices are where they have to be.
    #[default]
    Nothing,
    /// The devices were stopped; a migration is as it was.
    Paused,
    /// The devices run again.
    Resumed,
    /// The migration entered another phase.
    Advanced,
    /// The migration was aborted, and the devices were brought where the VM is.
    Aborted,
}

/// What came of a stop or a start.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::{Caps, State};
/// use vfiomig::group::{Group, GroupOptions, SwitchAction};
///
/// let hardware = simdev::Device::new(simdev::Config::v2(Caps { p2p: true, pre_copy: true }));
/// let group = Group::new(GroupOptions::default());
/// group.add_device(Arc::new(Device::new(hardware.transport(), DeviceOptions::default())?))?;
/// let stopped = group.stop(false);
/// stopped.outcome?;
/// assert_eq!(stopped.action, SwitchAction::Paused);
/// assert!(stopped.void.is_empty(), "nothing was being sent");
/// assert_eq!(hardware.state(), State::Stop);
/// group.start().outcome?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Switched {
    /// What was done, or tried.
    pub action: SwitchAction,
    /// Members whose stream became void by it, in the order of the group: what was sent of them the destination throws away.
    pub void: Vec<usize>,
    /// Whether it succeeded.
    pub outcome: Result<()>,
}
