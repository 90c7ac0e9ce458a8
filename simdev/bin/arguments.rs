//! The arguments of the program.

use super::values::{Event, Failure, Pace, parse_pci_id, parse_size};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use simdev::Quirk;
use std::path::PathBuf;
use std::time::Duration;

/// The dialect of migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    /// Device feature and MIG_DATA_READ/WRITE, as the protocol is today
    V2,
    /// Migration region, as servers had it until 2023
    V1,
}

/// A server that is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Imitated {
    /// libvfio-user with the migration region
    LibvfioUserV1,
    /// libvfio-user of today
    LibvfioUserV2,
    /// SPDK's NVMe-oF target, of the time of the migration region
    SpdkV1,
    /// The Rust crate vfio_user, which cannot migrate
    RustVfioUser,
}

const EXAMPLES: &str = "\
Examples:
  A device to be saved, with 64 MiB of state, and one to load it:
    vfiomig-simdev --socket /tmp/a.sock --state-size 64M --seed 1
    vfiomig-simdev --socket /tmp/b.sock --state-size 64M
  Both print the checksum of their state at the end. To attach QEMU (10.1 or later):
    qemu-system-x86_64 -M q35,memory-backend=m -object memory-backend-memfd,id=m,size=64M,share=on \\
      -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"path\":\"/tmp/a.sock\",\"type\":\"unix\"}}'
  A device that fails when it shall stop, and dies at the third read of its state:
    vfiomig-simdev --socket /tmp/a.sock --fail enter-stop-copy=EIO
    vfiomig-simdev --socket /tmp/a.sock --die data-read@2
  A device that never rests: it writes 16 pages of RAM in turns, and changes its state:
    vfiomig-simdev --socket /tmp/a.sock --write 0x100000+64K/10ms --change 0+4K/5ms

WHAT is an access, or a step of a state change into a state:
  device-info region-info state-get state-set data-read data-write migration log-start log-stop log-report
  bar reset dma-map dma-unmap irq-info irq-set pending-read data-offset-read data-size-read data-size-write any
  enter-running enter-pre-copy enter-stop-copy enter-stop enter-resuming enter-running-p2p enter-pre-copy-p2p
N counts from 0. ERRNO is a name or a number; TIME has a unit, us, ms or s; SIZE may end in K, M or G.

Exit status: 0 if nothing was against the protocol, 1 if something was, 2 for bad arguments, 3 if the server failed.
The verdict is printed at SIGINT and SIGTERM, too.";

/// A software device behind a UNIX socket that speaks vfio-user, with live migration. It serves one client, judges what that
/// client does, and prints its verdict when the client has gone.
#[derive(Debug, Parser)]
#[command(name = "vfiomig-simdev", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Path at which it listens; nothing may be there
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The dialect of migration
    #[arg(long, value_enum, default_value_t = Version::V2)]
    pub dialect: Version,
    /// Imitate a server: its dialect, its habits and its quirks
    #[arg(long, value_enum, conflicts_with = "dialect")]
    pub peer: Option<Imitated>,
    /// Bytes of the device's state
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse_size)]
    pub state_size: usize,
    /// Fill the state with what comes of this number; without it the state is zero, as in a destination
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// The device has no pre-copy
    #[arg(long)]
    pub no_pre_copy: bool,
    /// The device has the P2P states, which vfio-user does not use
    #[arg(long)]
    pub p2p: bool,
    /// The device cannot migrate at all
    #[arg(long)]
    pub no_migration: bool,
    /// The data section of the migration region can be mapped
    #[arg(long)]
    pub mapped_window: bool,
    /// Vendor and device, in hex
    #[arg(long, value_name = "VENDOR:DEVICE", default_value = "1af4:10f0", value_parser = parse_pci_id)]
    pub pci_id: (u16, u16),
    /// Differ from the specification as this name says (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = quirks())]
    pub quirk: Vec<Quirk>,
    /// Leave out this quirk of the imitated server (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = quirks(), hide_possible_values = true)]
    pub no_quirk: Vec<Quirk>,
    /// Do not offer a second socket for the server's commands
    #[arg(long)]
    pub no_twin_socket: bool,
    /// Most descriptors in one message
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub max_fds: u32,
    /// Most bytes in one transfer
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse_size)]
    pub max_transfer: usize,
    /// Let a request fail (may be repeated)
    #[arg(long, value_name = "WHAT[@N]=ERRNO")]
    pub fail: Vec<Failure>,
    /// Let a request fail, and take the device to ERROR (may be repeated)
    #[arg(long, value_name = "WHAT[@N]=ERRNO")]
    pub fail_to_error: Vec<Failure>,
    /// Let each such request take this long (may be repeated)
    #[arg(long, value_name = "WHAT=TIME", value_parser = super::values::parse_delay)]
    pub delay: Vec<(simdev::Access, Duration)>,
    /// Die in place of an answer (may be repeated)
    #[arg(long, value_name = "WHAT[@N]")]
    pub die: Vec<Event>,
    /// Do what was asked, and do not answer (may be repeated)
    #[arg(long, value_name = "WHAT[@N]")]
    pub silent: Vec<Event>,
    /// Write pages of this range of the client's memory in turns while the device runs
    #[arg(long, value_name = "ADDRESS+SIZE/TIME")]
    pub write: Option<Pace>,
    /// Change bytes of the state while the device runs
    #[arg(long, value_name = "OFFSET+SIZE/TIME")]
    pub change: Option<Pace>,
    /// Let a client leave the state half read, as one does that gives up a migration
    #[arg(long)]
    pub allow_abort: bool,
    /// Serve so many clients, one after another
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "forever")]
    pub clients: usize,
    /// Serve all clients that come, until SIGTERM
    #[arg(long)]
    pub forever: bool,
    /// Write the verdict as JSON too
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Takes quirks by their names.
fn quirks() -> impl TypedValueParser<Value = Quirk> {
    let named = |quirk: Quirk| PossibleValue::new(quirk.name()).help(quirk.about());
    PossibleValuesParser::new(Quirk::all().map(named))
        .try_map(|name| Quirk::from_name(&name).ok_or("there is no such quirk"))
}
