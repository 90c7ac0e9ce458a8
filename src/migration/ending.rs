//! The end of a save by one word: the guest is the destination's, or it stays.
//!
//! Rules: N2 and F5 (HALTED ends the sessions, so everything was read before), N28 (the way back), V2-9.

use super::abort::AbortTo;
use super::sequence::Phase;
use super::{Migration, Run};
use crate::dialect::Direction;
use crate::error::{Error, Result};
use Phase::{Failed, Idle, SaveHalted, SaveP2pGrace, SavePreCopy, SaveStopCopy, SaveTracking, SaveViommuGrace};

/// What the caller of [`Migration::end`] states besides.
///
/// ```
/// use vfiomig::dialect::{Direction, State};
/// use vfiomig::migration::{EndOptions, Migration, Phase};
/// # use std::sync::Arc;
/// # let hardware = simdev::Device::new(simdev::Config::default());
/// # let options = vfiomig::device::DeviceOptions { name: "nic0".into(), ..Default::default() };
/// # let device = Arc::new(vfiomig::Device::new(hardware.transport(), options)?);
/// # let options = vfiomig::tracker::TrackerOptions { devices: vec![device.clone()], everything: true, ..Default::default() };
/// # let tracker = vfiomig::tracker::Tracker::new(options)?;
/// # let group = Arc::new(vfiomig::group::Group::new(Default::default()));
/// # group.add_device(device)?;
/// # group.add_tracker(Arc::new(tracker))?;
///
/// let save = Migration::new(Arc::clone(&group), Direction::Save)?;
/// save.advance(Phase::SaveStopCopy)?;
/// save.save_complete(&[], &mut |_piece| Ok(()))?;
/// // The VMM sends all of RAM after the guest was stopped, so it needs no final harvest.
/// save.end(true, EndOptions { waive_harvest: true, ..EndOptions::default() })?;
/// assert_eq!(hardware.state(), State::Stop);
/// // The destination was lost before its guest ran.
/// save.end(false, EndOptions { no_second_guest: true, ..EndOptions::default() })?;
/// assert_eq!(hardware.state(), State::Running);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndOptions {
    /// With a committed save: its copy of RAM is whole without a final harvest.
    pub waive_harvest: bool,
    /// With one that is not committed: the guest runs nowhere else, and will not.
    pub no_second_guest: bool,
}

/// What the end of a save does in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Nothing,
    /// Every device to STOP, after a look at the final harvest and all ENDs.
    Halt,
    /// Back to what the VM is now.
    Abort,
    /// The same, and only by the caller's word that there is no second guest.
    AbortByWord,
    /// Nothing was saved that a destination could run.
    TooEarly,
    /// The first failure again.
    FirstError,
}

use Ending::{Abort, AbortByWord, FirstError, Halt, Nothing, TooEarly};

/// Phase; whether HALTED was begun; the end if the save is committed; if it is not.
const ENDINGS: [(Phase, bool, Ending, Ending); 10] = [
    (Idle, false, TooEarly, Abort),
    (SaveTracking, false, TooEarly, Abort),
    (SavePreCopy, false, TooEarly, Abort),
    (SaveViommuGrace, false, TooEarly, Abort),
    (SaveP2pGrace, false, TooEarly, Abort),
    (SaveStopCopy, false, Halt, Abort),
    // Device by device: it is begun, and the rest follows.
    (SaveStopCopy, true, Halt, AbortByWord),
    (SaveHalted, true, Nothing, AbortByWord),
    (Failed, false, FirstError, Abort),
    (Failed, true, FirstError, AbortByWord),
];

fn ending(phase: Phase, halted: bool, committed: bool) -> Ending {
    let row = ENDINGS.iter().find(|row| (row.0, row.1) == (phase, halted));
    row.map_or(FirstError, |row| if committed { row.2 } else { row.3 })
}

impl Migration {
    /// Ends a save. `committed`: the destination has everything, and its guest runs or may run: HALTED. If not, the guest stays
    /// here: abort to what the VM is now. *whole; blocks in the kernel for the slowest device.*
    ///
    /// A committed save is refused, and nothing is done, before STOP_COPY and where the final harvest or an END is missing. If a
    /// device fails on the way to HALTED no device is brought back, for the guest is elsewhere.
    pub fn end(&self, committed: bool, options: EndOptions) -> Result<()> {
        if self.direction() != Direction::Save {
            return Err(Error::argument("a load has no such end: it ends in RUNNING, or by abort"));
        }
        let foreign = if committed { options.no_second_guest } else { options.waive_harvest };
        if foreign {
            return Err(Error::argument("what is stated besides does not go with this end"));
        }
        // What abort has to refuse it refuses itself: between two looks another call may have begun HALTED.
        match self.next_end(committed)? {
            Nothing => Ok(()),
            Halt if options.waive_harvest => self.advance_without_harvest(),
            Halt => self.advance(SaveHalted),
            Abort | AbortByWord if options.no_second_guest => self.abort_without_second_guest(AbortTo::RunState),
            Abort | AbortByWord => self.abort(AbortTo::RunState),
            TooEarly => {
                let phase = self.phase();
                Err(Error::order(format!(
                    "a committed end is refused: {phase} is before {SaveStopCopy}: not all was saved"
                )))
            }
            FirstError => Err(self.error()?.unwrap_or_else(|| Error::order("the migration has failed"))),
        }
    }

    fn next_end(&self, committed: bool) -> Result<Ending> {
        let run = self.enter_run()?;
        let Run { entered, shown, halted, .. } = &*run;
        let phase = if shown.error.is_some() { Failed } else { *entered };
        Ok(ending(phase, *halted, committed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_of_a_save_has_one_row_for_each_word() {
        let phases = (0..=Failed.number()).filter_map(Phase::from_number);
        for phase in phases.filter(|phase| !phase.name().starts_with("LOAD")) {
            for halted in [false, true] {
                let rows = ENDINGS.iter().filter(|row| (row.0, row.1) == (phase, halted)).count();
                let can_be = match phase {
                    SaveHalted => halted,
                    SaveStopCopy | Failed => true,
                    _ => !halted,
                };
                assert_eq!(rows, usize::from(can_be), "{phase} {halted}");
            }
        }
    }

    #[test]
    fn the_guest_of_a_save_whose_end_was_begun_comes_back_only_by_word() {
        for (phase, halted, committed, not) in ENDINGS {
            assert_eq!(not, if halted { AbortByWord } else { Abort }, "{phase}");
            assert!(!matches!(committed, Abort | AbortByWord), "{phase}");
        }
    }
}
