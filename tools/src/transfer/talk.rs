//! What the two ends say to each other beside the wire: short lines, so that no device moves before the other side has agreed,
//! and none runs on both sides.
//!
//! Source: the beginning of the wire. Destination: `ready`. Source: the rest of the wire. Destination: `loaded`. Source, whose
//! devices stand still for good: `run`. Destination: `running`. In the place of each of its words the destination may say `no WHY`.
//!
//! `no` says that no device of the destination runs with what it was sent: then the source's may run again, also behind `run`.
//! Where a device could not be reset the word is `lost WHY`, and the source's must not.

use crate::{signals, text};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;
use vfiomig::Error;
use vfiomig::error::ErrorKind;
use vfiomig::wire::Timed;

/// How long one end waits for a line at least: a destination may need long for what it has to load.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the reason of an end that has gone is waited for: it was sent before, or never is.
const SHORT: Duration = Duration::from_secs(2);
/// Longest line that is read.
const LONGEST: usize = 1024;

/// Sends a word, and behind it the reason, if there is one.
pub fn say(stream: &TcpStream, word: &str, why: &str) -> Result<(), Error> {
    let mut line: String = format!("{word} {why}").trim().replace(['\n', '\r'], " ");
    while line.len() >= LONGEST {
        line.pop();
    }
    line.push('\n');
    let mut to = Timed::new(stream.as_fd(), PATIENCE);
    to.write_all(line.as_bytes()).map_err(Error::from)
}

/// What the other side said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The word that was waited for.
    Word,
    /// The other side gave up, and none of its devices runs with what was sent.
    No(String),
    /// The other side gave up, and does not say that none of its devices runs.
    Lost(String),
}

fn heard(line: &str, word: &str) -> Heard {
    // The words of a peer are shown on a terminal.
    let said = text::plain(line);
    match said.split_once(' ') {
        _ if line == word => Heard::Word,
        Some(("no", why)) => Heard::No(why.into()),
        Some(("lost", why)) => Heard::Lost(why.into()),
        _ => Heard::Lost(format!("it says {said:?}, and not {word:?}")),
    }
}

/// Waits for a word, and gives what comes in its place, too. A signal ends the wait if `may_end`.
pub fn listen(stream: &TcpStream, word: &str, patience: Duration, may_end: bool) -> Result<Heard, Error> {
    Ok(heard(&line(stream, patience.max(PATIENCE), may_end)?, word))
}

/// Waits for a word; anything else is the reason for an error.
pub fn hear(stream: &TcpStream, word: &str, patience: Duration) -> Result<(), Error> {
    match listen(stream, word, patience, true)? {
        Heard::Word => Ok(()),
        Heard::No(said) | Heard::Lost(said) => {
            Err(Error::new(ErrorKind::Device, libc::ECONNABORTED, format!("the other side: {said}")))
        }
    }
}

/// Why the other side gave up, if it has said so.
pub fn reason(stream: &TcpStream) -> Option<String> {
    match heard(&line(stream, SHORT, true).ok()?, "") {
        Heard::No(why) | Heard::Lost(why) => Some(why),
        Heard::Word => None,
    }
}

fn line(stream: &TcpStream, patience: Duration, may_end: bool) -> Result<String, Error> {
    let mut from = Timed::new(stream.as_fd(), patience).until(move || may_end && signals::interrupted());
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line is not for this reader.
    while line.len() < LONGEST {
        if from.read(&mut byte).map_err(Error::from)? == 0 {
            return Err(Error::new(ErrorKind::System, libc::ECONNRESET, "the other side has closed the connection"));
        }
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.extend_from_slice(&byte);
    }
    Err(Error::new(ErrorKind::Protocol, libc::EPROTO, "the other side does not speak as vfiomig does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_no_lets_the_source_run_again() {
        assert_eq!(heard("running", "running"), Heard::Word);
        assert_eq!(heard("no EIO", "running"), Heard::No("EIO".into()));
        assert_eq!(heard("lost EIO", "running"), Heard::Lost("EIO".into()));
        for odd in ["", "no", "No EIO", "nothing", "runnin", "running now"] {
            assert!(matches!(heard(odd, "running"), Heard::Lost(_)), "{odd}");
        }
        assert_eq!(heard("no \x1b[2J", "running"), Heard::No("\\u{1b}[2J".into()));
    }
}
