//! What only a save has: trackers, and the proof that everything was read before devices leave STOP_COPY (P12).

use super::Run;
use super::sequence::Phase;
use crate::device::{Device, VoidRemains};
use crate::error::{Error, Result};
use crate::group::GroupInner;
use crate::group::outcome::DeviceOutcome;
use crate::log::log;
use crate::tracker::{Tracker, side_by_side};
use std::sync::Arc;

/// C9: the decision to stop was made before vCPUs stopped, and a device may have begun again with initial data since. Whoever
/// wants to know looks at `ready` once more; that a size could not be read is no reason to stop here.
pub(super) fn say_late_initial_data(inner: &GroupInner, wanted: &[bool], outcomes: &mut [DeviceOutcome]) {
    let devices: Vec<&Device> = inner.members.iter().map(|member| &*member.device).collect();
    let looks = inner.side_by_side(&devices, false, |i| {
        let member = inner.members.get(i).filter(|_| wanted.get(i).copied().unwrap_or(false))?;
        Some(member.device.late_initial_data())
    });
    for (look, outcome) in looks.into_iter().zip(outcomes) {
        match look {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(bytes))) => {
                outcome.result.message =
                    format!("not ready: {bytes} bytes of initial data are left, or are new (REINIT)");
            }
            Some(Err(error)) => outcome.result.message = error.to_string(),
        }
    }
}

/// Before `first`, `anew` or after a resume: no stream begins in the middle of a session, and none that is void is taken for one
/// that continues. The caller may not have noticed; the guest still runs.
pub(super) fn check_beginnings(inner: &GroupInner, first: Phase, anew: bool) -> Result<()> {
    let remains: Vec<(&str, VoidRemains)> = inner
        .members
        .iter()
        .filter_map(|member| Some((member.device.name(), member.device.void_remains(anew)?)))
        .collect();
    if let Some((name, _)) = remains.iter().find(|(_, remains)| *remains == VoidRemains::Session) {
        return Err(Error::order(format!(
            "{first} is refused: {name}: its session is open still, and what was sent of it is void: resume or abort first"
        )));
    }
    match remains.first().filter(|_| first != Phase::SavePreCopy) {
        Some((name, _)) => Err(Error::order(format!(
            "{first} is refused: {name}: what was sent of its stream is void: {} comes first, which begins new ones, or \
             vfiomig_device_restart_stream()",
            Phase::SavePreCopy
        ))),
        None => Ok(()),
    }
}

/// What a device writes that no tracker speaks for would be lost.
fn check_covered(inner: &GroupInner, phase: Phase) -> Result<()> {
    let uncovered = inner.uncovered();
    if uncovered.is_empty() { Ok(()) } else { Err(Error::order(format!("{phase}: {}", uncovered.join("; ")))) }
}

impl Run {
    /// From here on the guest may run elsewhere, and here by the caller's word only.
    pub(super) fn give_away(&mut self, inner: &mut GroupInner) {
        self.halted = true;
        inner.members.iter().for_each(|member| member.device.hand_over(true));
    }

    /// Starts every tracker of the group, or none. One whose handle was freed since the migration began has gone with its address
    /// space; its devices need another one.
    pub(super) fn start_trackers(&mut self, inner: &GroupInner) -> Result<()> {
        check_covered(inner, Phase::SaveTracking)?;
        let trackers: Vec<Arc<Tracker>> =
            inner.trackers.iter().filter(|tracker| !tracker.is_closed()).cloned().collect();
        let held = inner.trackers_side_by_side(&trackers, Tracker::hold);
        let mut failed = None;
        for (tracker, outcome) in trackers.iter().zip(held) {
            match outcome {
                Ok(()) => self.follow(tracker),
                Err(error) => {
                    failed = failed.or(Some(error.context(format!("{}: {}", Phase::SaveTracking, tracker.name()))));
                }
            }
        }
        let Some(error) = failed else { return Ok(()) };
        self.stop_trackers(Some(inner));
        Err(error)
    }

    fn follow(&mut self, tracker: &Arc<Tracker>) {
        self.shown.recorder.follow(tracker);
        self.tracking.push(Arc::clone(tracker));
    }

    /// An address space came while RAM is sent: what was written through it is not known.
    pub(super) fn tracker_came(&mut self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()> {
        let held = inner.trackers_side_by_side(std::slice::from_ref(tracker), Tracker::hold_late);
        held.into_iter().collect::<Result<()>>()?;
        self.follow(tracker);
        Ok(())
    }

    /// An address space goes while the migration exists. Refused while something would be lost with it: what devices have written
    /// through it, or may yet.
    pub(super) fn tracker_goes(&mut self, inner: &GroupInner, tracker: &Arc<Tracker>) -> Result<()> {
        let Some(place) = self.tracking.iter().position(|held| Arc::ptr_eq(held, tracker)) else { return Ok(()) };
        if tracker.would_lose()? {
            let text = "a migration tracks by it, and pages are mapped or not reported: unmap with a harvest first";
            return Err(Error::order(format!("{}: {text}", tracker.name())));
        }
        let tracker = self.tracking.remove(place);
        inner.trackers_side_by_side(&[tracker], Tracker::release).into_iter().collect()
    }

    /// After the step that opens the drafts' sessions, in the call that has started the trackers: its caller sends RAM when it
    /// returns (P14). One whose session opens later finds everything dirty once.
    pub(super) fn nothing_was_sent(&self) {
        for tracker in &self.tracking {
            // One that cannot be asked does without, and everything is dirty.
            let _ = tracker.nothing_was_sent();
        }
    }

    /// Stops what was started. A tracker that does not stop costs a log, not the migration; what is to be said of it.
    pub(super) fn stop_trackers(&mut self, inner: Option<&GroupInner>) -> Vec<String> {
        let mut notes = Vec::new();
        let trackers: Vec<Arc<Tracker>> =
            self.tracking.drain(..).filter(|tracker| !tracker.went_without_loss()).collect();
        let released = match inner {
            Some(inner) => inner.trackers_side_by_side(&trackers, Tracker::release),
            None => side_by_side(&trackers, 1, None, Tracker::release),
        };
        for (tracker, outcome) in trackers.iter().zip(released) {
            if let Err(error) = outcome {
                let note = format!("{}: the tracker did not stop: {error}", tracker.name());
                log!(Warning, "{note}");
                notes.push(note);
            }
        }
        notes
    }

    /// Before devices stop: every tracker will answer for its final harvest, and each device has one.
    pub(super) fn check_trackers(&self, inner: &GroupInner) -> Result<()> {
        let mut tracking = self.tracking.iter().filter(|tracker| !tracker.went_without_loss());
        tracking.try_for_each(|tracker| tracker.end_final())?;
        check_covered(inner, Phase::SaveStopCopy)
    }

    /// Every log was read over all its ranges since the devices stopped, or the caller does without.
    pub(super) fn check_harvested(&self, waived: bool) -> Result<()> {
        if waived {
            return Ok(());
        }
        let missing: Vec<String> = self
            .tracking
            .iter()
            .filter_map(|tracker| {
                if tracker.went_without_loss() {
                    return None;
                }
                // A tracker that cannot answer any more has lost what it knew.
                let missing = tracker.final_missing().unwrap_or_else(|error| Some(error.to_string()));
                missing.map(|text| format!("{}: {text}", tracker.name()))
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::order(format!("{}: the final harvest is missing: {}", Phase::SaveHalted, missing.join("; "))))
    }

    /// Streams are whole where the next phase ends their sessions: F7 on load, V1-8 and F5 on save.
    pub(super) fn check_streams(&self, inner: &GroupInner, phase: Phase, wanted: &[bool]) -> Result<()> {
        let missing = match phase {
            Phase::SaveHalted => "its END was not consumed",
            Phase::LoadLoaded => "the length of its stream was not stated (finish)",
            _ => return Ok(()),
        };
        let cut: Vec<String> = inner
            .members
            .iter()
            .zip(wanted)
            .filter(|(member, wanted)| **wanted && !member.device.has_load_end())
            .map(|(member, _)| format!("{}: {missing}", member.device.name()))
            .collect();
        if cut.is_empty() { Ok(()) } else { Err(Error::order(format!("{phase}: {}", cut.join("; ")))) }
    }
}
