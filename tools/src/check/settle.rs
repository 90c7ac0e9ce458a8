//! Between two checks a device runs, and has no session. It is brought to that from whatever a check left behind; where nothing
//! helps it is lost.

use super::subject::{Speaks, Subject};
use super::table::Stop;
use vfiomig::dialect::State;
use vfiomig::error::Errno;

/// How many steps towards RUNNING are tried.
const TRIES: usize = 6;

impl Subject<'_> {
    /// Brings the device to RUNNING.
    pub fn settle(&mut self) {
        if self.lost.is_some() {
            return;
        }
        self.close_session();
        let mut failed_way = false;
        for _ in 0..TRIES {
            let state = match self.state() {
                Ok(state) => state,
                Err(stop) if failed_way => {
                    self.lost = Some(stop.text);
                    return;
                }
                Err(stop) => {
                    self.note(stop.rule, &stop.blame, stop.text);
                    failed_way = true;
                    continue;
                }
            };
            if state == State::Running && !self.tainted {
                return;
            }
            if let Err(errno) = self.towards_running(state, failed_way) {
                let rule = match state {
                    State::Error => "N16",
                    State::Resuming => "V2-14",
                    _ if matches!(self.speaks, Speaks::V1(_)) => "V1-3",
                    _ => "V2-12",
                };
                let text = format!("behind the check the way back from {state} failed: {errno}");
                self.note(rule, &format!("the step back from {state}"), text);
                failed_way = true;
            }
        }
        self.lost = Some("it does not come back to RUNNING, whatever is tried".into());
    }

    fn towards_running(&mut self, state: State, failed_way: bool) -> Result<(), Errno> {
        let only_reset = matches!(&self.speaks, Speaks::V2(client) if client.only_reset);
        let needs_reset = self.tainted || failed_way || only_reset || matches!(state, State::Error | State::Resuming);
        let reset = if needs_reset && self.can_reset { Some(self.reset()) } else { None };
        if let Some(Err(errno)) = reset {
            // EINVAL: the server has no reset in this state (K24).
            if errno.get() != libc::EINVAL {
                self.note("V2-14", "the reset", format!("behind the check a reset in {state} failed: {errno}"));
            }
        }
        if reset == Some(Ok(())) {
            self.tainted = false;
            if let Speaks::V2(client) = &mut self.speaks {
                client.only_reset = false;
            }
            // libvfio-user leaves the state as it is (K24). RESUMING without a byte is left for STOP.
            return match self.state() {
                Ok(State::Resuming) => self.ask(State::Stop),
                _ => Ok(()),
            };
        }
        match state {
            _ if only_reset => Err(Errno::new(libc::EIO)),
            State::Error => Err(Errno::new(libc::EIO)),
            // No reset helps: the state that the device had before is loaded.
            State::Resuming => self.give_back(),
            State::Running => {
                self.tainted = false;
                Ok(())
            }
            // The uAPI has the way by STOP alone; a cancel is what drivers take as well (V1-3).
            State::StopCopy if matches!(self.speaks, Speaks::V1(_)) => {
                self.ask(State::Running).or_else(|_| self.ask(State::Stop))
            }
            _ => self.ask(State::Running),
        }
    }

    /// Keeps the first failure, which is the cause of the others.
    fn note(&mut self, rule: &'static str, blame: &str, text: String) {
        self.trouble.get_or_insert(Stop { rule, blame: blame.into(), text });
    }

    /// Closes the session. A save is read to its end before, for some devices leave STOP_COPY only there (K6). A load of a device
    /// without a reset is made whole: nothing else leads out of RESUMING, and such a device was given nothing wrong.
    fn close_session(&mut self) {
        let Speaks::V2(client) = &mut self.speaks else { return };
        let state = client.session.as_ref().and_then(|_| client.state().ok());
        match state {
            Some(State::StopCopy) => {
                let _ = client.read_to_end(&[1 << 20]);
            }
            Some(State::Resuming) if !self.can_reset => {
                let image = self.image.as_deref().unwrap_or_default();
                while let Some(rest) = image.get(client.written..).filter(|rest| !rest.is_empty()) {
                    if client.write(rest).is_err() {
                        break;
                    }
                }
            }
            _ => {}
        }
        client.session = None;
    }

    fn ask(&mut self, to: State) -> Result<(), Errno> {
        match &mut self.speaks {
            Speaks::V2(client) => client.try_set(to.number()).map(drop),
            Speaks::V1(registers) => registers.try_set(to),
        }
    }

    /// Loads what was saved first into a device that is in RESUMING.
    fn give_back(&mut self) -> Result<(), Errno> {
        if let Speaks::V2(client) = &mut self.speaks {
            client.try_set(State::Stop.number())?;
        }
        self.load_image()
    }

    /// Loads what was saved first, and lets the device run.
    fn load_image(&mut self) -> Result<(), Errno> {
        let failed = |_| Errno::new(libc::EIO);
        let Some(image) = self.image.clone() else { return Err(Errno::new(libc::ENODATA)) };
        let segments = self.segments.clone();
        match &mut self.speaks {
            Speaks::V2(client) => {
                client.set(State::Resuming).map_err(failed)?;
                let mut rest = image.as_slice();
                while !rest.is_empty() {
                    let len = client.write(rest)?;
                    rest = rest.get(len..).unwrap_or_default();
                }
                client.set(State::Running).map_err(failed)
            }
            Speaks::V1(registers) => {
                registers.try_set(State::Resuming)?;
                registers.write_segments(&image, &segments).map_err(|(_, errno)| errno)?;
                registers.try_set(State::Running)
            }
        }
    }

    /// Gives the device the state that it had before the checks, if that was saved.
    pub fn restore(&mut self) {
        if self.lost.is_some() || self.image.is_none() {
            return;
        }
        if let Err(errno) = self.load_image() {
            self.unrestored = Some(errno.to_string());
            self.tainted = self.can_reset;
            self.settle();
        }
    }

    /// What is not as it was before the checks, of this device and of the second.
    pub fn troubles(&self) -> Vec<String> {
        let lost = self.lost.iter().map(|lost| format!("{} could not be brought back: {lost}", self.name));
        let other = self.unrestored.iter().map(|why| {
            format!("{} has another state than before the checks, for that could not be loaded: {why}", self.name)
        });
        lost.chain(other).chain(self.second.iter().flat_map(|second| second.troubles())).collect()
    }
}
