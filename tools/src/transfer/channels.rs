//! The connections of a wire: one for each channel. The first is channel 0, on which the two ends also talk.

use super::progress::say;
use super::talk;
use crate::host::Trouble;
use crate::{signals, text};
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vfiomig::Error;
use vfiomig::error::ErrorKind;
use vfiomig::wire::{Input, Timed, WireRecord};

/// How long a connection may take, and how long a destination waits for those behind the first.
const CONNECT: Duration = Duration::from_secs(20);
/// How long one may take until it has brought the table with which a wire begins: who is no source holds the door no longer.
const GREETING: Duration = Duration::from_secs(10);
/// How long either end waits for the other one's bytes, if it is not told to be more patient with its servers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a wire may bring or take nothing: as long as a server may take for a step, for the other end has such servers, too.
pub fn patience(timeout: Duration) -> Duration {
    PATIENCE.max(timeout)
}

/// A connection as a wire is written to it, whose waits end by a signal.
pub fn timed(stream: &TcpStream, patience: Duration) -> Timed<'_> {
    Timed::new(stream.as_fd(), patience).until(signals::interrupted)
}

/// Makes a source's connections, in the order of their channels: a destination takes them in the order in which they were made.
pub fn connect(to: &str, count: u16) -> Result<Vec<TcpStream>, Trouble> {
    (0..count).map(|_| connect_one(to)).collect()
}

fn connect_one(to: &str) -> Result<TcpStream, Trouble> {
    let trouble = |error: std::io::Error| {
        Trouble::new(
            format!("connecting to {to} failed: {error}"),
            "start vfiomig receive --listen there, and look at firewalls",
        )
    };
    let host = to.to_string();
    signals::unless_interrupted(move || reach(&host)).and_then(|reached| reached).map_err(trouble)
}

/// To ask for the addresses of a name takes time, too.
fn reach(to: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection that a destination has taken, as a wire is read from it.
pub struct Channel {
    pub stream: Arc<TcpStream>,
    /// Where the other end is.
    pub peer: String,
    patience: Duration,
    since: Instant,
    /// It has brought a table.
    greeted: AtomicBool,
}

impl Channel {
    fn is_late(&self) -> bool {
        !self.greeted.load(Ordering::Relaxed) && self.since.elapsed() >= GREETING
    }

    /// Reads the table, which comes before all else.
    pub fn greet(input: &mut Input<Channel>) -> Result<(), Error> {
        let came = input.next()?;
        debug_assert!(matches!(came, WireRecord::Table));
        input.get_ref().greeted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What is said of a peer that is no source of the wire that is waited for; the door goes on. It fails where a signal has come.
    pub fn stranger(&self, why: &str) -> Result<(), Trouble> {
        if signals::interrupted() {
            return Err(interrupted());
        }
        let late = format!("it brought no table within {GREETING:?}");
        let why = if self.is_late() { &late } else { why };
        say(&text::plain(&format!("{} is no source: {why}; listening on", self.peer)));
        // A source of another version is told why.
        let _ = talk::say(&self.stream, "no", why);
        Ok(())
    }
}

impl Read for Channel {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.is_late() {
            // Also one that brings a byte now and then.
            return Err(Error::new(ErrorKind::Canceled, libc::ECANCELED, "it took too long").into());
        }
        timed(&self.stream, self.patience).until(|| self.is_late()).read(buf)
    }
}

/// Where a destination waits.
pub struct Door {
    listener: TcpListener,
    listen: String,
    patience: Duration,
}

impl Door {
    /// Listens, and writes a line that says where.
    pub fn open(listen: &str, patience: Duration) -> Result<Door, Trouble> {
        // A port alone is reached from this host only: the wire is neither encrypted nor does it know who sends.
        let address = if listen.contains(':') { listen.to_string() } else { format!("127.0.0.1:{listen}") };
        let trouble = |error| no_door("listening on", listen, &error);
        let listener = TcpListener::bind(&address).map_err(trouble)?;
        listener.set_nonblocking(true).map_err(trouble)?;
        if let Ok(address) = listener.local_addr() {
            say(&format!("listening on {address}"));
        }
        Ok(Door { listener, listen: listen.to_string(), patience })
    }

    /// Waits for a source, however long that takes. Its table was read.
    pub fn source(&self) -> Result<Input<Channel>, Trouble> {
        loop {
            let mut input = Input::new(self.next(None)?);
            match Channel::greet(&mut input) {
                Ok(()) => return Ok(input),
                Err(error) => input.get_ref().stranger(&error.to_string())?,
            }
        }
    }

    /// Takes the other channels of a wire whose first is there: the source makes all connections at once.
    pub fn others(&self, channels: u16, wire: u64) -> Result<Vec<Input<Channel>>, Trouble> {
        let (since, mut inputs) = (Instant::now(), Vec::new());
        while inputs.len() < usize::from(channels.saturating_sub(1)) {
            let mut input = Input::new(self.next(Some(since))?);
            let greeted = Channel::greet(&mut input);
            match (greeted, input.reader().channel()) {
                (Ok(()), Some((_, _, number))) if number == wire => inputs.push(input),
                (Ok(()), _) => input.get_ref().stranger("it has another wire than the one that is taken in")?,
                (Err(error), _) => input.get_ref().stranger(&error.to_string())?,
            }
        }
        Ok(inputs)
    }

    fn next(&self, since: Option<Instant>) -> Result<Channel, Trouble> {
        let trouble = |error| no_door("accepting on", &self.listen, &error);
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(false).map_err(trouble)?;
                    let _ = stream.set_nodelay(true);
                    return Ok(Channel {
                        stream: Arc::new(stream),
                        peer: peer.to_string(),
                        patience: self.patience,
                        since: Instant::now(),
                        greeted: AtomicBool::new(false),
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(trouble(error)),
            }
            if signals::interrupted() {
                return Err(interrupted());
            }
            if since.is_some_and(|since| since.elapsed() >= CONNECT) {
                let what = format!("not all channels of the wire came within {CONNECT:?}");
                return Err(Trouble::new(what, "look at the source, and at firewalls"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn interrupted() -> Trouble {
    Trouble::new("interrupted before a source connected", "begin again")
}

fn no_door(what: &str, listen: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(format!("{what} {listen} failed: {error}"), "name an address of this host with a port that is free")
}
