//! A client of v2 that asks for one thing at a time, right or wrong, and remembers what is in progress: the state as the device
//! said it, and the data fd of the session.

use super::poll;
use super::slow::Slow;
use super::table::{Result, Stop};
use crate::{signals, text};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, DialectKind, State, path};
use vfiomig::error::Errno;
use vfiomig::transport::requests::{self, PrecopyAnswer};
use vfiomig::transport::{DataFd, Transport};

/// How long "not ready" may last.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may last with a device that was never ready within that time: each check behind would wait as long.
const AFTER_A_STALL: Duration = Duration::from_millis(100);
/// Longest stream that is kept.
pub const LONGEST: usize = 1 << 30;

/// What is blamed where a read fails.
pub const READING: &str = "reading the stream";

/// The kernel's number of each state.
pub fn number(state: State) -> u32 {
    state.number()
}

/// A device of v2.
pub struct Client<'a> {
    transport: &'a dyn Transport,
    /// What the device can.
    pub caps: Caps,
    /// Sessions have data fds: it is a device of the kernel.
    pub kernel: bool,
    /// The session that is open.
    pub session: Option<Box<dyn DataFd>>,
    /// A pre-copy ended with EIO: anything but a reset may crash a host (K17).
    pub only_reset: bool,
    /// Requests that took long.
    pub slow: Slow,
    /// How much was written in the session that is open.
    pub written: usize,
    /// How often reads have slept: the descriptor does not wait (O_NONBLOCK), so none has to (F8).
    pub slept: i64,
    /// The data fd was once not ready for as long as anybody waits.
    stalled: bool,
}

/// What a read says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// So many bytes came.
    Bytes(usize),
    /// The answer was 0.
    Zero,
    /// The answer was ENOMSG.
    NoMessage,
}

impl<'a> Client<'a> {
    /// A client of a device with these abilities.
    pub fn new(transport: &'a dyn Transport, caps: Caps, kernel: bool) -> Self {
        Client {
            transport,
            caps,
            kernel,
            session: None,
            only_reset: false,
            slow: Slow::default(),
            written: 0,
            slept: 0,
            stalled: false,
        }
    }

    /// The transport, for requests that only one check makes.
    pub fn transport(&self) -> &'a dyn Transport {
        self.transport
    }

    /// The state, as a number of the kernel.
    pub fn raw_state(&self) -> std::result::Result<u32, Errno> {
        self.slow.timed("reading the state", || requests::state(self.transport))
    }

    /// Reads the state.
    pub fn state(&self) -> Result<State> {
        let stop = |text| Stop { rule: "N6", blame: "reading the state".into(), text };
        let number = self.raw_state().map_err(|errno| stop(format!("reading the state failed: {errno}")))?;
        let state = State::from_number(number).filter(|state| *state == State::Error || self.caps.has(*state));
        state.ok_or_else(|| stop(format!("the device says that it is in state {number}, which it does not have")))
    }

    /// Asks for a state, and hands over the answer; the session that is kept here stays.
    pub fn try_set(&mut self, number: u32) -> std::result::Result<requests::StateAnswer, Errno> {
        let name = State::from_number(number).map_or(number.to_string(), |state| state.to_string());
        self.slow.timed(&format!("the request for {name}"), || requests::set_state(self.transport, number))
    }

    /// Asks for a state as a client does, and takes the session that it opens. The blame for a failure is that of the step at
    /// which the device stopped.
    pub fn set(&mut self, to: State) -> Result<()> {
        let from = self.state()?;
        let states = path(DialectKind::V2, self.caps, from, to).unwrap_or_default();
        let leaves = states.iter().any(|state| state.session() != from.session() || state.session().is_none());
        let opens = to.session().is_some() && !states.is_empty() && leaves;
        if leaves {
            // Its descriptor gives nothing more (F5), and a write to it may crash the host (K10).
            self.session = None;
        }
        let answer = match self.try_set(number(to)) {
            Ok(answer) => answer,
            Err(errno) => {
                self.only_reset |= from.is_precopy() && errno.get() == libc::EIO;
                return Err(self.failed(from, to, errno));
            }
        };
        if opens {
            let session = self.transport.open_data(answer.data_fd).map_err(|error| Stop {
                rule: "V2-5",
                blame: format!("the data fd of {to}"),
                text: format!("the request for {to} brought no data fd that could be used: {error}"),
            })?;
            self.session = Some(session);
            self.written = 0;
        } else if self.kernel && answer.number >= 0 {
            return Err(Stop {
                rule: "V2-4",
                blame: "a data fd too many".into(),
                text: format!(
                    "the request {from} to {to} begins no session, and answers the data fd {}",
                    answer.number
                ),
            });
        }
        let now = self.state()?;
        if now == to {
            return Ok(());
        }
        let text = format!("the request {from} to {to} succeeded, and the device says that it is in {now}");
        Err(Stop { rule: "N6", blame: format!("the state after {to}"), text })
    }

    fn failed(&self, from: State, to: State, errno: Errno) -> Stop {
        let found = self.state().ok();
        let next = found.and_then(|found| {
            let next = path(DialectKind::V2, self.caps, found, to)?.first().copied()?;
            Some(format!("the step {found} to {next}"))
        });
        let found = found.map_or("its state cannot be read".into(), |found| format!("it is in {found}"));
        Stop {
            rule: "V2-12",
            blame: next.unwrap_or_else(|| format!("{from} to {to}")),
            text: format!("the request {from} to {to} failed: {errno}; {found}"),
        }
    }

    fn patience(&self) -> Duration {
        if self.stalled { AFTER_A_STALL } else { PATIENCE }
    }

    /// Makes one read, and waits while the device is not ready.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<Said> {
        let (begun, patience) = (Instant::now(), self.patience());
        let session = self.session.as_mut().ok_or_else(no_session)?;
        loop {
            let before = poll::sleeps();
            let said = session.read(buf);
            self.slept = self.slept.saturating_add(poll::sleeps().saturating_sub(before));
            match said {
                Ok(0) => return Ok(Said::Zero),
                Ok(len) if len <= buf.len() => return Ok(Said::Bytes(len)),
                Ok(len) => return Err(bad_read(format!("a read of {} bytes answered {len}", buf.len()))),
                Err(errno) if errno.get() == libc::ENOMSG => return Ok(Said::NoMessage),
                Err(errno) if errno.get() == libc::EAGAIN => {
                    if begun.elapsed() >= patience || signals::interrupted() {
                        self.stalled = true;
                        return Err(bad_read(format!(
                            "for {} the data fd was not ready (EAGAIN)",
                            text::time(patience)
                        )));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(errno) => return Err(bad_read(format!("a read of the data fd failed: {errno}"))),
            }
        }
    }

    /// Reads in STOP_COPY to the end of the stream; `sizes`: lengths of the reads, by turns.
    pub fn read_to_end(&mut self, sizes: &[usize]) -> Result<Vec<u8>> {
        let largest = sizes.iter().copied().max().unwrap_or(4096);
        let (mut all, mut buf) = (Vec::new(), vec![0; largest]);
        for size in sizes.iter().copied().cycle() {
            let room = buf.get_mut(..size).unwrap_or_default();
            match self.read(room)? {
                Said::Bytes(len) => all.extend_from_slice(room.get(..len).unwrap_or_default()),
                Said::Zero => break,
                Said::NoMessage => return Err(bad_read("a read in STOP_COPY answered ENOMSG".into())),
            }
            if all.len() > LONGEST {
                return Err(bad_read(format!("the stream is longer than {LONGEST} bytes: too long for this check")));
            }
        }
        Ok(all)
    }

    /// Reads in a PRE_COPY state until there is nothing now, or the time is over.
    pub fn read_for_now(&mut self, limit: Duration) -> Result<(Vec<u8>, Option<Said>)> {
        let (mut all, mut buf, begun) = (Vec::new(), vec![0; 1 << 16], Instant::now());
        while begun.elapsed() < limit && all.len() <= LONGEST {
            match self.read(&mut buf)? {
                Said::Bytes(len) => all.extend_from_slice(buf.get(..len).unwrap_or_default()),
                said => return Ok((all, Some(said))),
            }
        }
        Ok((all, None))
    }

    /// Asks for pre-copy info, with both counts preset.
    pub fn precopy_info(&mut self, preset: u64) -> std::result::Result<PrecopyAnswer, Errno> {
        let session = self.session.as_mut().ok_or(Errno::new(libc::EBADF))?;
        requests::precopy_info(&mut **session, preset)
    }

    /// Makes one write, which may be taken in part.
    pub fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, Errno> {
        let (begun, patience) = (Instant::now(), self.patience());
        let session = self.session.as_mut().ok_or(Errno::new(libc::EBADF))?;
        loop {
            match session.write(bytes) {
                Err(errno) if errno.get() == libc::EAGAIN => {
                    if begun.elapsed() >= patience || signals::interrupted() {
                        self.stalled = true;
                        return Err(errno);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                // No device may say that it took nothing, or more than there was.
                Ok(len) if len > bytes.len() || len == 0 => return Err(Errno::new(libc::EPROTO)),
                result => {
                    self.written = self.written.saturating_add(result.unwrap_or(0));
                    return result;
                }
            }
        }
    }
}

fn no_session() -> Stop {
    Stop { rule: "V2-5", blame: "no session".into(), text: "there is no data fd".into() }
}

fn bad_read(text: String) -> Stop {
    Stop { rule: "F2", blame: READING.into(), text }
}
