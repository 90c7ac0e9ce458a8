//! The messages of one client, from the first to the last, and what the device does between them.

use super::answer::Answer;
use super::connection::Connection;
use super::options::{Happens, Paced};
use super::quirks::Quirk;
use super::socket::{LOOK, Received, is_signal};
use super::wire::{Command, Header, Message, rule};
use crate::base::memory::PAGE;
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has closed it.
    Closed,
    /// The server died, as it was asked to.
    Died,
    /// The server was asked to stop.
    Stopped,
    /// The client could not be understood any more, or not from the start.
    Broken(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed => f.write_str("the client has closed the connection"),
            End::Died => f.write_str("the server died, as it was asked to"),
            End::Stopped => f.write_str("the server was stopped"),
            End::Broken(why) => write!(f, "the connection is broken: {why}"),
        }
    }
}

impl Connection<'_> {
    /// Serves until the client has gone.
    pub fn run(&mut self) -> End {
        loop {
            let ended = match self.next() {
                Ok(message) => self.serve(message),
                Err(end) => Some(end),
            };
            self.server.report_offences();
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// The next message of the client. Meanwhile the device does what it does by itself.
    fn next(&mut self) -> Result<Message, End> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        loop {
            if self.server.is_stopped() {
                return Err(End::Stopped);
            }
            let pause = self.act();
            match self.main.wait(Some(pause)) {
                Ok(true) => match self.receive()? {
                    Some(message) => return Ok(message),
                    None => self.server.report_offences(),
                },
                Ok(false) => {}
                Err(error) if is_signal(&error) => {}
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
    }

    /// `None`: what came was cut, and has its answer.
    fn receive(&mut self) -> Result<Option<Message>, End> {
        let stray = self.options().quirks.has(Quirk::StrayErrors);
        let agreed = self.agreed;
        let received = self.main.receive(self.reading(), |header| stray && agreed && known(header, stray).is_none());
        match received {
            Ok(Received::Message(message)) => Ok(Some(message)),
            Ok(Received::Cut(header)) => {
                self.send(&header.refusal(libc::EINVAL), &Answer::empty())?;
                Ok(None)
            }
            Ok(Received::Nonsense(header)) => {
                let text = format!("a header that says {} bytes", header.size);
                self.judge(rule::MESSAGE, text.clone());
                self.send(&header.refusal(libc::EINVAL), &Answer::empty())?;
                Err(End::Broken(text))
            }
            Ok(Received::End) => Err(End::Closed),
            Err(error) => Err(End::Broken(error.to_string())),
        }
    }

    /// What of its own the device does now; how long until the next.
    fn act(&mut self) -> Duration {
        let (writes, changes) = (self.options().writes, self.options().changes);
        let mut pause = LOOK;
        for (which, paced) in [writes, changes].into_iter().enumerate() {
            let Some((paced, slot)) = paced.zip(self.paced.get_mut(which)) else { continue };
            let (due, round) = *slot;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *slot = (Instant::now() + paced.period, round + 1);
                if which == 0 { self.write_itself(paced, round) } else { self.change_itself(paced, round) }
            }
            pause = pause.min(if left.is_zero() { paced.period } else { left });
        }
        pause
    }

    fn write_itself(&mut self, paced: Paced, round: u64) {
        let pages = (paced.len / PAGE).max(1);
        // There may be no memory, or the device may not run.
        let _ = self.write_pages(paced.start / PAGE + round % pages, 1);
    }

    fn change_itself(&mut self, paced: Paced, round: u64) {
        // It may not run.
        let _ = self.device().touch(paced.start as usize, paced.len as usize, round);
    }

    /// Serves one message; `Some` if it was the last.
    fn serve(&mut self, message: Message) -> Option<End> {
        let Message { header, payload, fds } = message;
        self.server.saw(header.size);
        if header.is_reply() {
            self.judge(
                rule::MESSAGE,
                format!("an answer {} to command {} that is not waited for", header.id, header.command),
            );
            return None;
        }
        let before: Vec<u64> = self.options().triggers.iter().map(|t| self.device().count(t.access)).collect();
        let result = self.result_of(&header, &payload, fds);
        if self.spins {
            return Some(self.spin());
        }
        let counts = before.iter().zip(&self.options().triggers);
        let happens = counts.filter(|(from, t)| (**from..self.device().count(t.access)).contains(&t.nth));
        match happens.map(|(_, trigger)| trigger.happens).next() {
            Some(Happens::Dies) => return Some(End::Died),
            Some(Happens::IsSilent) => return None,
            None => {}
        }
        let refused_version = result.is_err() && !self.agreed;
        let sent = match result {
            _ if header.wants_no_reply() => Ok(()),
            Ok(answer) => self.send(&header.reply(answer.payload.len()), &answer),
            Err(errno) => self.send(&header.refusal(errno), &Answer::empty()),
        };
        match sent {
            Err(end) => Some(end),
            Ok(()) if refused_version => Some(End::Broken("no version was agreed on".into())),
            Ok(()) => None,
        }
    }

    fn result_of(&mut self, header: &Header, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Answer, i32> {
        let stray = self.options().quirks.has(Quirk::StrayErrors);
        match known(header, stray) {
            _ if !header.is_command() => {
                self.refuse(rule::MESSAGE, format!("a message of type {:#x}", header.flags), libc::EINVAL)
            }
            None if stray => Err(0),
            None => self.refuse(rule::MESSAGE, format!("command {}", header.command), libc::EINVAL),
            Some(command) if self.agreed == (command == Command::Version) => {
                self.refuse(rule::AGREED, format!("{command:?} out of turn: VERSION is first, and once"), libc::EINVAL)
            }
            Some(command) => self.dispatch(command, payload, fds),
        }
    }

    fn send(&self, header: &Header, answer: &Answer) -> Result<(), End> {
        self.main.send(header, &answer.payload, &answer.fds).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => End::Closed,
            _ => End::Broken(error.to_string()),
        })
    }

    /// Answers nothing any more, until the client has gone.
    fn spin(&self) -> End {
        loop {
            match self.main.wait(Some(LOOK)) {
                Ok(true) if !matches!(self.main.receive(self.reading(), |_| false), Ok(Received::Message(_))) => {
                    return End::Closed;
                }
                _ if self.server.is_stopped() => return End::Stopped,
                _ => {}
            }
        }
    }
}

/// The command, if the server knows it.
fn known(header: &Header, without_migration: bool) -> Option<Command> {
    Command::from_number(header.command).filter(|command| !(without_migration && command.is_of_migration()))
}
