//! The device and the server that the arguments describe.

use super::arguments::{Arguments, Imitated, Version};
use super::values::{Event, Failure};
use simdev::{
    Config, Dialect, DmaLog, Effect, Fault, Happens, Peer, Quirk, Quirks, Restart, ServerOptions, Trigger, Window,
};

/// Segments of a large state: fewer than by default, and each short enough for every server's socket.
const SEGMENT: usize = 16 << 10;

/// The description of the device.
pub fn config(arguments: &Arguments) -> Config {
    let plain = match (arguments.peer, arguments.dialect) {
        (Some(Imitated::LibvfioUserV1), _) => Config { window: Window::Area, ..Peer::LibvfioUserV1.config() },
        (Some(Imitated::LibvfioUserV2), _) => Peer::LibvfioUserV2.config(),
        (Some(Imitated::SpdkV1), _) => Peer::SpdkV1.config(),
        (None, Version::V1) => Config::v1(if arguments.mapped_window { Window::Area } else { Window::Trapped }),
        (Some(Imitated::RustVfioUser), _) | (None, Version::V2) => Config {
            dialect: Dialect::V2 { p2p: arguments.p2p, pre_copy: !arguments.no_pre_copy },
            dma_log: Some(DmaLog { restart: Restart::Taken, ..DmaLog::default() }),
            ..Config::default()
        },
    };
    let plain = plain.served().state_size(arguments.state_size);
    let one_segment = plain.habits.one_segment;
    let mut config = if one_segment { plain } else { plain.segments(SEGMENT) };
    if one_segment {
        // The segment is the state with its headers.
        config.window_size = (arguments.state_size as u64 * 9 / 8 + (64 << 10)).next_multiple_of(4096);
    }
    if arguments.no_pre_copy {
        config.precopy = simdev::Precopy::Nothing;
    }
    Config { seed: arguments.seed, abort_allowed: arguments.allow_abort, ..config }
}

/// What the server is like.
pub fn options(arguments: &Arguments) -> ServerOptions {
    let of_peer = match arguments.peer {
        Some(Imitated::LibvfioUserV1 | Imitated::LibvfioUserV2) => Quirks::of_libvfio_user(&config(arguments)),
        // SPDK is built on libvfio-user, and its window is a real one.
        Some(Imitated::SpdkV1) => Quirks::of_libvfio_user(&config(arguments)).without(Quirk::EmptyWindow),
        Some(Imitated::RustVfioUser) => Quirks::of_rust_crate(),
        None => Quirks::none(),
    };
    let with = arguments.quirk.iter().fold(of_peer, |quirks, quirk| quirks.and(*quirk));
    let trigger = |happens| move |event: &Event| Trigger { access: event.access, nth: event.nth, happens };
    let dies = arguments.die.iter().map(trigger(Happens::Dies));
    ServerOptions {
        quirks: arguments.no_quirk.iter().fold(with, |quirks, quirk| quirks.without(*quirk)),
        migratable: !arguments.no_migration && arguments.peer != Some(Imitated::RustVfioUser),
        twin_socket: !arguments.no_twin_socket && arguments.peer != Some(Imitated::RustVfioUser),
        max_msg_fds: arguments.max_fds,
        max_data_xfer_size: u32::try_from(arguments.max_transfer).unwrap_or(u32::MAX),
        pci_id: arguments.pci_id,
        triggers: dies.chain(arguments.silent.iter().map(trigger(Happens::IsSilent))).collect(),
        writes: arguments.write.map(|pace| pace.0),
        changes: arguments.change.map(|pace| pace.0),
        ..ServerOptions::default()
    }
}

/// What goes wrong in the device.
pub fn faults(arguments: &Arguments) -> Vec<Fault> {
    let failure = |effect: fn(i32) -> Effect| {
        move |failure: &Failure| Fault::at(failure.event.access, failure.event.nth, effect(failure.errno))
    };
    let fails = arguments.fail.iter().map(failure(Effect::Errno));
    let to_error = arguments.fail_to_error.iter().map(failure(Effect::ToError));
    let delays = arguments.delay.iter().map(|(access, time)| Fault::from(*access, 0, Effect::Delay(*time)));
    fails.chain(to_error).chain(delays).collect()
}
