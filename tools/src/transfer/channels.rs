//! The connections of a wire: one for each channel. The first is channel 0, on which the two ends also talk.

use super::progress::say;
use crate::host::Trouble;
use crate::signals;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a connection may take, and how long a destination waits for those behind the first.
const CONNECT: Duration = Duration::from_secs(20);

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

/// Where a destination waits.
pub struct Door {
    listener: TcpListener,
    listen: String,
}

impl Door {
    /// Listens, and writes a line that says where.
    pub fn open(listen: &str) -> Result<Door, Trouble> {
        // A port alone is reached from this host only: the wire is neither encrypted nor does it know who sends.
        let address = if listen.contains(':') { listen.to_string() } else { format!("127.0.0.1:{listen}") };
        let trouble = |error| no_door("listening on", listen, &error);
        let listener = TcpListener::bind(&address).map_err(trouble)?;
        listener.set_nonblocking(true).map_err(trouble)?;
        if let Ok(address) = listener.local_addr() {
            say(&format!("listening on {address}"));
        }
        Ok(Door { listener, listen: listen.to_string() })
    }

    /// Waits for the first connection, however long that takes.
    pub fn first(&self) -> Result<(TcpStream, String), Trouble> {
        self.next(None)
    }

    /// Takes `count` more connections, which the source makes at once.
    pub fn more(&self, count: u16) -> Result<Vec<TcpStream>, Trouble> {
        (0..count).map(|_| self.next(Some(Instant::now())).map(|(stream, _)| stream)).collect()
    }

    fn next(&self, since: Option<Instant>) -> Result<(TcpStream, String), Trouble> {
        let trouble = |error| no_door("accepting on", &self.listen, &error);
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(false).map_err(trouble)?;
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, peer.to_string()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(trouble(error)),
            }
            if signals::interrupted() {
                return Err(Trouble::new("interrupted before a source connected", "begin again"));
            }
            if since.is_some_and(|since| since.elapsed() >= CONNECT) {
                let what = format!("not all channels of the wire came within {CONNECT:?}");
                return Err(Trouble::new(what, "look at the source, and at firewalls"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn no_door(what: &str, listen: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(format!("{what} {listen} failed: {error}"), "name an address of this host with a port that is free")
}
