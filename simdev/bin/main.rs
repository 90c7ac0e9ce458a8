//! `vfiomig-simdev`: a software device behind a UNIX socket, in vfio-user. For authors of clients, who need no kernel for it.

mod arguments;
mod device;
mod signals;
mod values;
mod verdict;

use arguments::Arguments;
use clap::Parser;
use simdev::{Device, Server};
use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

/// The client did what the protocol forbids.
const OFFENCES: u8 = 1;
/// The server itself could not go on.
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => OFFENCES.into(),
        Err(error) => {
            say(&error.to_string());
            FAILED.into()
        }
    }
}

/// Whether nothing was against the protocol.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let device = Device::new(device::config(arguments));
    for fault in device::faults(arguments) {
        device.inject(fault);
    }
    let server = Server::new(&device, device::options(arguments))
        .on_violation(|violation| say(&format!("against the protocol: {violation}")))
        .stopped_by(signals::stop_on_signals());
    let path = &arguments.socket;
    let listener = bind(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    say(&format!("waiting at {}", path.display()));
    let ends = server.listen(&listener, (!arguments.forever).then_some(arguments.clients));
    // A script may have removed it.
    let _ = std::fs::remove_file(path);
    let ends = ends?;
    verdict::lines(&device, &server, &ends).iter().for_each(|line| say(line));
    if let Some(file) = &arguments.report {
        std::fs::write(file, verdict::json(&device, &server, &ends))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    }
    Ok(device.violation_count() == 0)
}

/// Writes a line to standard error. Not by eprintln!(), which panics where that is gone: a server has a client to serve.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "vfiomig-simdev: {line}");
}

/// A socket that takes connections from the moment that it is in its place, so that a script can wait for it.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!("~{}", std::process::id()));
    let listener = UnixListener::bind(&aside)?;
    let placed = std::fs::hard_link(&aside, path);
    std::fs::remove_file(&aside)?;
    placed.map(|()| listener)
}
