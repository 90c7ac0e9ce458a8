//! The server as a test or a program holds it: one device, and the clients that come to it one after another.

use super::connection::Connection;
use super::host::Host;
use super::options::ServerOptions;
use super::serve::End;
use crate::base::judge::Violation;
use crate::device::Device;
use std::io::{self, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a server without a client looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);

/// A device behind a socket.
pub struct Server(Host);

impl Server {
    /// A server of a device, which the test can go on to look at.
    pub fn new(device: &Device, options: ServerOptions) -> Self {
        Server(Host::new(device, options))
    }

    /// Reports each offence when it happens.
    #[must_use]
    pub fn on_violation(mut self, report: impl Fn(&Violation) + Send + Sync + 'static) -> Self {
        self.0.report = Some(Box::new(report));
        self
    }

    /// Sets the flag that makes it stop, within a fraction of a second.
    #[must_use]
    pub fn stopped_by(mut self, stop: Arc<AtomicBool>) -> Self {
        self.0.stop = stop;
        self
    }

    /// Serves one client, until it has gone.
    pub fn serve(&self, stream: UnixStream) -> End {
        self.0.device.opened();
        let end = Connection::new(&self.0, stream).run();
        self.0.device.closed();
        self.0.report_offences();
        end
    }

    /// Serves so many clients, one after another; `None`: all that come. What became of each.
    pub fn listen(&self, listener: &UnixListener, most: Option<usize>) -> io::Result<Vec<End>> {
        listener.set_nonblocking(true)?;
        let mut ends = Vec::new();
        while most.is_none_or(|most| ends.len() < most) && !self.0.is_stopped() {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    let end = self.serve(stream);
                    let died = end == End::Died;
                    ends.push(end);
                    if died {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ends)
    }

    /// A thread that serves one client: its socket.
    pub fn connect(self) -> io::Result<(UnixStream, ServerThread)> {
        let (ours, theirs) = UnixStream::pair()?;
        let stop = Arc::clone(&self.0.stop);
        let thread = std::thread::spawn(move || vec![self.serve(ours)]);
        Ok((theirs, ServerThread { stop, thread: Some(thread) }))
    }

    /// A thread that serves all clients that come to this path, which must not exist.
    pub fn bind(self, path: &Path) -> io::Result<ServerThread> {
        let listener = UnixListener::bind(path)?;
        let stop = Arc::clone(&self.0.stop);
        let thread = std::thread::spawn(move || self.listen(&listener, None).unwrap_or_default());
        Ok(ServerThread { stop, thread: Some(thread) })
    }

    /// The longest message that came, in bytes.
    pub fn longest_message(&self) -> u32 {
        self.0.longest_message()
    }
}

/// A server in a thread; dropping it stops the server.
pub struct ServerThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<End>>>,
}

impl ServerThread {
    /// What became of its clients; returns when they have gone.
    pub fn join(mut self) -> Vec<End> {
        self.end()
    }

    /// Stops it; what became of its clients.
    pub fn stop(mut self) -> Vec<End> {
        self.stop.store(true, Ordering::Relaxed);
        self.end()
    }

    fn end(&mut self) -> Vec<End> {
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.end();
    }
}
