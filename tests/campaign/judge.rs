//! What holds after every fault, whatever was done: each function returns what is wrong in words.

use crate::fleet::Model;
use crate::kinds::Kind;
use crate::outcome::Outcome;
use crate::rig::{self, Rig};
use simdev::FaultId;
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::{Action, Error, ErrorKind};
use vfiomig::migration::{AbortTo, Migration, Phase};

/// `Err` with the text unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

/// Wrong, and what.
pub type Judged<T> = Result<T, String>;

/// A group in which a fault waits for a call of one device.
pub struct Run<'a> {
    pub rig: &'a Rig,
    pub models: &'a [Model],
    pub device: usize,
    pub kind: Kind,
    pub fault: FaultId,
    /// Of the devices when the fault was set.
    pub contents: Vec<u64>,
    /// Whether the group is to be migrated anew afterwards, which takes its time.
    pub again: bool,
}

impl Run<'_> {
    fn gone(&self) -> bool {
        self.kind == Kind::Gone
    }

    /// An error of a group or of a data call: it names the device, no other, with its errno, and what it says is true.
    pub fn check_error(&self, error: &Error) -> Judged<()> {
        let (rig, name) = (self.rig, self.rig.devices[self.device].name());
        ensure!(error.kind() != ErrorKind::Panic, "a panic: {error}");
        ensure!(error.errno() > 0, "no errno: {error}");
        let mut named = error.to_string().contains(name);
        for result in error.results() {
            let i = rig.devices.iter().position(|device| device.name() == result.device);
            let Some(i) = i else { return Err(format!("a result of {}, which is no device", result.device)) };
            named |= i == self.device && result.errno != 0;
            ensure!(i == self.device || result.errno == 0, "d{i} is blamed: {result:?}");
            ensure!(
                result.errno == 0 || result.message.contains(&result.device),
                "d{i} failed without a word: {result:?}"
            );
            let unknown = result.action == Action::Dead || result.found == State::Error.number();
            let state = rig.fakes[i].state();
            ensure!(unknown || result.found == state.number(), "d{i} is in {state}: {result:?}");
        }
        ensure!(named, "{name} is not named: {error}");
        // Of a device that is well the state would be lost. One of a destination was reset when the error was made.
        let state = rig.fakes[self.device].state();
        let text = error.to_string();
        let only = text.contains("only a reset") && !text.contains("; reset, now RUNNING");
        ensure!(!only || matches!(state, State::Error | State::Resuming), "in {state}: {error}");
        if error.kind() == ErrorKind::Device
            && let Some(errno) = self.kind.errno()
        {
            ensure!(error.errno() == errno, "errno {} instead of {errno}: {error}", error.errno());
        }
        Ok(())
    }

    /// What the handles believe is true; a device that cannot be reached is known as one in ERROR.
    pub fn states_are_known(&self) -> Judged<()> {
        for (i, device) in self.rig.devices.iter().enumerate() {
            let (known, is) = (device.state(), self.rig.fakes[i].state());
            let mine = i == self.device;
            ensure!(known == is || (known == State::Error && mine), "d{i} is in {is} and known as in {known}");
        }
        Ok(())
    }

    /// No descriptor of a stream is left.
    pub fn sessions_are_closed(&self) -> Judged<()> {
        // A server of vfio-user hands no descriptor out.
        for (i, fake) in self.rig.fakes.iter().enumerate().filter(|(i, _)| !self.models[*i].served) {
            // The number of a descriptor that was lost, or never came.
            let lost = u64::from(i == self.device && matches!(self.kind, Kind::Moved | Kind::NoFd));
            let open = fake.sessions_opened().saturating_sub(fake.sessions_closed());
            ensure!(open <= lost, "d{i}: {open} sessions are open");
        }
        Ok(())
    }

    /// The VMM ends: what was mapped for the life of a handle is given back, too.
    pub fn nothing_is_left(&self, migration: &Migration) -> Judged<()> {
        migration.close().map_err(|error| format!("the end of the migration: {error}"))?;
        for (i, device) in self.rig.devices.iter().enumerate() {
            device.close().map_err(|error| format!("the end of d{i}: {error}"))?;
            let mappings = self.rig.fakes[i].mappings();
            ensure!(mappings == 0, "d{i}: {mappings} mappings are left");
        }
        self.sessions_are_closed()
    }

    /// No device was asked for what the protocol forbids.
    pub fn nothing_was_violated(&self, but: &[&str]) -> Judged<()> {
        for (i, fake) in self.rig.fakes.iter().enumerate() {
            // A register may be read once more in ERROR: what fails while a segment is acknowledged shows at the next call.
            let allowed = |rule: &str| (rule == "N14" && self.kind == Kind::ToError) || but.contains(&rule);
            let wrong: Vec<_> = fake.violations().into_iter().filter(|v| !allowed(v.rule)).collect();
            ensure!(wrong.is_empty(), "d{i}: {wrong:?}");
        }
        Ok(())
    }

    pub fn was_reached(&self) -> Judged<()> {
        let reached = self.rig.fakes[self.device].fault_reached(self.fault) > 0;
        ensure!(reached, "the call did not come");
        Ok(())
    }

    /// The guest goes on where it was: abort, and what the report asks for. Which of them it took.
    pub fn bring_back(&self, save: &Migration) -> Judged<Outcome> {
        let back = || save.abort_without_second_guest(AbortTo::Running);
        let (mut outcome, mut only_reset) = (Outcome::Back, false);
        if let Err(error) = back() {
            self.check_error(&error)?;
            self.others_run(&error)?;
            if self.gone() {
                return self.is_lost();
            }
            ensure!(self.rig.fakes[self.device].resets() == 0, "the library has reset a source");
            // One whose state could only not be read is tried again before that.
            outcome = Outcome::BackAgain;
            let dead = error.results().get(self.device).is_some_and(|result| result.action == Action::Dead);
            let in_error = !dead && self.rig.fakes[self.device].state() == State::Error;
            if in_error || back().is_err() {
                only_reset = self.only_a_reset_helps(&error)?;
                self.rig.devices[self.device].reset().map_err(|error| format!("the reset: {error}"))?;
                back().map_err(|error| format!("behind the reset: {error}"))?;
                outcome = Outcome::Reset;
            }
        }
        self.all_run_with_their_states(only_reset)?;
        ensure!(save.phase() == Phase::Idle, "phase {}", save.phase());
        ensure!(*self.rig.log.started.lock() == 0, "the dirty log is on");
        self.sessions_are_closed()?;
        self.states_are_known()?;
        Ok(outcome)
    }

    /// Who does not run is the device with the fault.
    fn others_run(&self, error: &Error) -> Judged<()> {
        for (i, fake) in self.rig.fakes.iter().enumerate() {
            let runs = fake.state() == State::Running;
            ensure!(runs || i == self.device, "d{i} does not run and is not named: {error}");
        }
        Ok(())
    }

    /// The device does not answer: it is known as such, and a reset does not help.
    pub fn is_lost(&self) -> Judged<Outcome> {
        let device = &self.rig.devices[self.device];
        ensure!(device.reset().is_err(), "a device that is gone was reset");
        ensure!(device.state() == State::Error, "a device that is gone is known as in {}", device.state());
        Ok(Outcome::Lost)
    }

    /// EIO from a step that ended a pre-copy: some drivers of v2 (K17) do not survive another request, and the error says so.
    /// Else the device has to be in ERROR.
    fn only_a_reset_helps(&self, error: &Error) -> Judged<bool> {
        let result = error.results().get(self.device).ok_or("no result of the device")?;
        let from = State::from_number(result.from).ok_or("no state that it came from")?;
        let ended_precopy = rig::kind(&self.rig.configs[self.device]) == DialectKind::V2 && from.is_precopy();
        let said = result.errno == libc::EIO && error.to_string().contains("nothing but a reset");
        ensure!(ended_precopy || !said, "only a reset: {error}");
        let state = self.rig.fakes[self.device].state();
        ensure!(state == State::Error || said, "twice without success, in {state}: {error}");
        Ok(said)
    }

    fn all_run_with_their_states(&self, only_reset: bool) -> Judged<()> {
        for (i, fake) in self.rig.fakes.iter().enumerate() {
            ensure!(fake.state() == State::Running, "d{i} is in {}", fake.state());
            let kept = fake.checksum() == self.contents[i];
            ensure!(fake.resets() > 0 || kept, "d{i} has lost its state");
            let may_be = i == self.device && (self.kind == Kind::ToError || only_reset);
            ensure!(fake.resets() == 0 || may_be, "d{i} was reset");
        }
        Ok(())
    }
}
