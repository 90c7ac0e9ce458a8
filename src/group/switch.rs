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

/// What a stop or a start did, or tried to do.
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
