//! What can be asked: the arguments, from which the man pages and the completions are made.

use crate::name::{DeviceName, NamedDevice};
use crate::output::Color;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddrV6;
use std::path::PathBuf;
use std::time::Duration;

const ABOUT_DEVICES: &str = "\
DEVICE is one of
  0000:3b:00.1                            a PCI function that has a VFIO driver
  83b8f4f2-509f-382f-3c1e-e6bfe0fa1001    a mediated device
  /dev/vfio/devices/vfio0                 a cdev
  unix:/run/nvme0.sock                    the socket of a vfio-user server

Exit status: 0 all is well; 1 it is not (a device cannot be migrated, a check failed); 2 wrong arguments; 3 it could not be found \
out or done; 130 interrupted, 129 by SIGHUP. Of SIGINT, SIGTERM and SIGHUP the first two let the command bring its devices back, the \
third ends it.";

const PROBE_EXAMPLES: &str = "\
Examples:
  Every VFIO device of this host:
    vfiomig probe
  One device, for a script:
    vfiomig probe --json 0000:3b:00.1 | jq -r '.devices[0].reason'
  A server of vfio-user:
    vfiomig probe unix:/run/nvme0.sock

A device is opened to ask it, and closed again; the kernel may reset it then. One that another program has open is not touched.
Exit status: 0 all can be migrated; 1 one cannot, or not in the state that it is in; 3 one could not be asked, or there is none.";

const INFO_EXAMPLES: &str = "\
Examples:
  What a device says of itself:
    vfiomig info 0000:3b:00.1
  With the times of its transitions and its data rate, for which it is stopped and let run again:
    vfiomig info --measure unix:/run/nvme0.sock";

const CHECK_EXAMPLES: &str = "\
Examples:
  A driver, by a device that no guest has:
    vfiomig check 0000:3b:00.1
  A server of vfio-user, and whether another one loads what it has saved:
    vfiomig check unix:/tmp/a.sock unix:/tmp/b.sock
  For a test suite:
    vfiomig check --format tap unix:/tmp/a.sock | prove -e cat /dev/stdin

The device is stopped, saved, loaded, reset and given streams that it has to refuse. At the end it has the state that it \
had, if it could be saved and loaded; no guest and no other program may use it while this runs. docs/driver-authors.md \
says what each check means.
Exit status: 0 no check failed; 1 one did; 3 the device could not be asked.";

const SAVE_EXAMPLES: &str = "\
Examples:
  Two devices into a file, under names that they shall have in it:
    vfiomig save nic0=0000:3b:00.1 gpu0=0000:41:00.0 -o vm.state
  The device of a server, which stands still afterwards:
    vfiomig save --halt unix:/run/nvme0.sock -o nvme0.state

The file has its name only when it is whole; an older one of that name stays until then. The devices run again \
afterwards, and after every failure. The memory of a guest is not saved.";

const LOAD_EXAMPLES: &str = "\
Examples:
  Into the devices that have the same names, in any order:
    vfiomig load gpu0=0000:81:00.0 nic0=0000:5e:00.1 vm.state
  What is in the file:
    vfiomig show vm.state

The file is checked before a device is opened, and names, dialects and PCI ids are compared before one is touched. A \
server keeps what was loaded; a device of the kernel is reset when the command ends and closes it, so that there this is \
a test.";

const SEND_EXAMPLES: &str = "\
Examples:
  There:
    vfiomig receive nic0=0000:5e:00.1 --listen 192.0.2.2:7070
  Here:
    vfiomig send nic0=0000:3b:00.1 --to 192.0.2.2:7070
  Four devices side by side, and where the time went, for a program:
    vfiomig send a=3b:00.1 b=3b:00.2 c=3b:00.3 d=3b:00.4 --to 192.0.2.2:7070 --channels 4 --json

Both sides compare names, dialects and PCI ids before a device is touched. The devices here stand still for good before \
those there run; if a step before that fails they run on here. The connection is neither encrypted nor authenticated: use a \
tunnel that is, such as one of ssh. The memory of a guest is not sent.";

const SHOW_EXAMPLES: &str = "\
Examples:
    vfiomig show vm.state
    vfiomig show --json vm.state | jq '.devices[].bytes'

Exit status: 0 the file is whole; 1 it is damaged; 3 it cannot be read.";

const BENCH_EXAMPLES: &str = "\
Examples:
  Ten times there and back:
    vfiomig bench --runs 10 unix:/tmp/a.sock
  For a comparison of two drivers:
    vfiomig bench --json 0000:3b:00.1 | jq '.rows[] | [.what, .median_us]'

The device is stopped, saved, loaded with its own state, and runs again; no guest and no other program may use it while \
this runs.";

/// Asks which VFIO devices can be migrated, measures them, and checks whether their drivers and servers follow the protocol.
#[derive(Debug, Parser)]
#[command(name = "vfiomig", version, after_help = ABOUT_DEVICES, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    /// A tree that stands for the host's root directory: for tests
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// What is to be done
    #[command(subcommand)]
    pub command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask devices whether they can be migrated; if not, why not and what to do
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(Probe),
    /// Show all that can be known of a device
    #[command(after_help = INFO_EXAMPLES)]
    Info(Info),
    /// Check whether a driver or a device server follows the protocol
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Measure transitions, data rates and the log of a device
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Bench),
    /// Save devices into a file
    #[command(after_help = SAVE_EXAMPLES)]
    Save(Save),
    /// Load devices from a file
    #[command(after_help = LOAD_EXAMPLES)]
    Load(Load),
    /// Move devices to another host, where `receive` waits
    #[command(after_help = SEND_EXAMPLES)]
    Send(Send),
    /// Take devices from `send`
    #[command(after_help = SEND_EXAMPLES)]
    Receive(Receive),
    /// Show what a file of `save` holds, and check it
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Write man pages and completions
    #[command(hide = true)]
    Generate {
        /// The folder that they are written to
        folder: PathBuf,
    },
}

/// A host and its port. An address with colons of its own has brackets around it.
fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = !host.is_empty() && !host.contains([':', '[', ']']);
    let port = port.parse().ok().filter(|_| bare || text.parse::<SocketAddrV6>().is_ok())?;
    Some((host, port))
}

/// Where a destination is.
fn host_and_port(text: &str) -> Result<String, String> {
    let port = split(text).map(|(_, port)| port);
    match port {
        Some(port) if port > 0 => Ok(text.into()),
        _ => Err("name a host and its port, as 192.0.2.2:7070 or [2001:db8::2]:7070".into()),
    }
}

/// Where to listen. Port 0 is any that is free.
fn address_or_port(text: &str) -> Result<String, String> {
    if split(text).is_some() || text.parse::<u16>().is_ok() {
        return Ok(text.into());
    }
    Err("name an address of this host and a port, as 192.0.2.2:7070 or [2001:db8::2]:7070, or a port alone".into())
}

/// A file that can be written and take its name when it is whole.
fn file_to_write() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|name| {
        let bytes = name.as_encoded_bytes();
        if bytes == b"-" {
            return Err(
                "standard output cannot be written anew when all is whole; a file of this name is ./-".to_string()
            );
        }
        if bytes.ends_with(b"/") {
            return Err("a name that ends with / is a directory's: name a file in it".into());
        }
        let path = PathBuf::from(name);
        if path.file_name().is_some() { Ok(path) } else { Err("this is the name of no file: name a file".into()) }
    })
}

/// Patience with servers.
#[derive(Clone, Debug, Args)]
pub struct Patience {
    /// How many seconds a vfio-user server may take for an answer, and the other end of a connection for its next bytes, at
    /// least 60
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl Patience {
    /// The patience as a time.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// Devices; without any, every VFIO device of the host
    #[arg(value_name = "DEVICE")]
    pub devices: Vec<DeviceName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// The device
    #[arg(value_name = "DEVICE")]
    pub device: DeviceName,
    /// Stop the device and let it run again, and measure
    #[arg(long)]
    pub measure: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each check, and a summary
    #[default]
    Text,
    /// The Test Anything Protocol, version 13, which every reader of it knows
    Tap,
    /// JSON
    Json,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The device
    #[arg(value_name = "DEVICE", required_unless_present = "list")]
    pub device: Option<DeviceName>,
    /// A second device, which loads what the first one has saved
    #[arg(value_name = "SECOND")]
    pub second: Option<DeviceName>,
    /// Also make the requests that hang some kernels and crash some hosts
    #[arg(long)]
    pub dangerous: bool,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
    /// List the checks, and ask no device
    #[arg(long, conflicts_with_all = ["device", "second", "dangerous"])]
    pub list: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `save`.
#[derive(Debug, Args)]
pub struct Save {
    /// Devices, each with the name that it has for the other side; without one it is device0, device1 and so on
    #[arg(value_name = "[NAME=]DEVICE", required = true, num_args = 1..)]
    pub devices: Vec<NamedDevice>,
    /// The file
    #[arg(long, short, value_name = "FILE", value_parser = file_to_write())]
    pub output: PathBuf,
    /// Leave the devices standing still afterwards
    #[arg(long)]
    pub halt: bool,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct Load {
    /// Devices, each with the name that it has for the other side; without one it is device0, device1 and so on
    #[arg(value_name = "[NAME=]DEVICE", required = true, num_args = 1..)]
    pub devices: Vec<NamedDevice>,
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Devices, each with the name that it has for the other side; without one it is device0, device1 and so on
    #[arg(value_name = "[NAME=]DEVICE", required = true, num_args = 1..)]
    pub devices: Vec<NamedDevice>,
    /// Where `receive` listens
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub to: String,
    /// How many connections to use, at most one for each device
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub channels: u16,
    /// Show no progress, and one line at the end
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the report at the end as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `receive`.
#[derive(Debug, Args)]
pub struct Receive {
    /// Devices, each with the name that it has for the other side; without one it is device0, device1 and so on
    #[arg(value_name = "[NAME=]DEVICE", required = true, num_args = 1..)]
    pub devices: Vec<NamedDevice>,
    /// Where to listen; a port alone is that of 127.0.0.1
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address_or_port)]
    pub listen: String,
    /// Show no progress, and one line at the end
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the report at the end as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The device
    #[arg(value_name = "DEVICE")]
    pub device: DeviceName,
    /// How often each measurement is made
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation would become the command's")]
    pub patience: Patience,
}
