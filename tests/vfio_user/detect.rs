//! Which generation a server speaks, found out without a message that some server does not survive (U-3), and what is never
//! asked.

use super::peer::{Kind, PRE_COPY, RESUMING, RUNNING, STOP_COPY};
use super::rig::{Direct, open, open_with, set};
use std::sync::Arc;
use vfiomig::device::{CapFlags, DeviceOptions};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{LogKind, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::{VfioUser, VfioUserOptions};

#[test]
fn each_generation_is_found() {
    for (kind, dialect) in [
        (Kind::V2, Some(DialectKind::V2)),
        (Kind::V1, Some(DialectKind::V1)),
        (Kind::Plain, None),
        (Kind::Ancient, None),
    ] {
        let channel = Direct::new(kind, b"state");
        let device = open(&channel);
        let info = device.info();
        assert_eq!(info.dialect, dialect, "{kind:?}");
        let reason = info.reason.map(|reason| reason.to_string()).unwrap_or_default();
        let expected = match kind {
            Kind::Plain => "neither the feature MIGRATION (v2) nor a migration region (v1)",
            Kind::Ancient => "does not know device features (v2), and has no migration region (v1)",
            _ => "",
        };
        assert!(reason.contains(expected) && reason.is_empty() == dialect.is_some(), "{reason}");
        // There is no kernel and no driver behind a socket, and what can be done is said.
        assert!(!reason.contains("kernel") && !reason.contains("driver") && reason.len() < 256, "{reason}");
        assert!(dialect.is_some() || reason.contains("vfio-user server") && reason.contains("unplug"), "{reason}");
        assert_eq!((info.caps.contains(CapFlags::RESET), info.caps.contains(CapFlags::P2P)), (true, false));
        // The probe has 16 bytes, which is what an ancient server takes for a message of its own.
        let features: Vec<_> = channel.peer().asked.iter().filter(|(command, _)| *command == 16).copied().collect();
        assert_eq!(features[0], (16, 16), "{kind:?}");
        channel.judge();
    }
}

/// U-3: one that does not know features is asked once in the life of its connection, whoever wants to know.
#[test]
fn an_unknown_command_is_not_sent_twice() {
    let channel = Direct::new(Kind::Ancient, b"");
    let device = Arc::new(open(&channel));
    device.reprobe().unwrap();
    let devices = vec![Arc::clone(&device)];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
    assert_eq!(tracker.info().kind, LogKind::Everything);
    assert_eq!(channel.peer().count(16), 1);
    channel.judge();
    // Nor is it by those who look for the first generation only, and then for a log.
    for kind in [Kind::Ancient, Kind::Plain] {
        let channel = Direct::new(kind, b"");
        let transport = VfioUser::new(channel.clone(), VfioUserOptions::default()).unwrap();
        let options = DeviceOptions { dialect: Some(DialectKind::V1), ..DeviceOptions::default() };
        let devices = vec![Arc::new(vfiomig::Device::new(Box::new(transport), options).unwrap())];
        drop(Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap());
        assert!(channel.peer().asked.iter().all(|asked| asked.0 != 16 || *asked == (16, 16)), "{kind:?}");
        channel.judge();
    }
}

/// U-9: what the next client finds in STOP and STOP_COPY refuses its description, and is a device all the same.
#[test]
fn a_server_is_found_in_any_state() {
    let states =
        [(1, State::Stop), (RUNNING, State::Running), (STOP_COPY, State::StopCopy), (RESUMING, State::Resuming)];
    for (number, state) in states.into_iter().chain([(PRE_COPY, State::PreCopy)]) {
        let channel = Direct::new(Kind::V2, b"state");
        channel.peer().state = number;
        assert_eq!(open(&channel).info().state, state);
        channel.judge();
    }
}

/// U-10: servers differ in what a reset does to the migration state, so it is read after each.
#[test]
fn the_state_is_read_after_a_reset() {
    for keeps in [false, true] {
        let channel = Direct::new(Kind::V2, b"state");
        channel.peer().reset_keeps = keeps;
        let device = open(&channel);
        set(&device, State::PreCopy).unwrap();
        channel.peer().asked.clear();
        let outcome = device.reset();
        let asked: Vec<u16> = channel.peer().asked.iter().map(|(command, _)| *command).collect();
        assert!(asked.starts_with(&[13, 16]), "{asked:?}");
        assert_eq!(device.info().state, if keeps { State::PreCopy } else { State::Running });
        match outcome {
            Ok(()) => assert!(!keeps),
            Err(error) => assert!(keeps && error.kind() == ErrorKind::Protocol, "{error}"),
        }
    }
}

/// An error without an errno is EIO, and a connection that has failed is its own errno, never "not migratable" (U-3).
#[test]
fn a_failure_is_no_answer() {
    for (errno, shown) in [(0, libc::EIO), (libc::ECONNRESET, libc::ECONNRESET), (libc::EBUSY, libc::EBUSY)] {
        let channel = Direct::new(Kind::V2, b"");
        channel.spoil(move |command, answer| if command == 16 { Err(errno) } else { answer });
        match open_with(&channel, VfioUserOptions::default()) {
            Err(error) => assert_eq!(error.errno(), shown),
            Ok(device) => assert!(errno == 0 && device.info().dialect.is_none()),
        }
        // Later, when it is known to speak features.
        let channel = Direct::new(Kind::V2, b"");
        let device = open(&channel);
        channel.spoil(move |command, answer| if command == 16 { Err(errno) } else { answer });
        assert_eq!(set(&device, State::Stop).unwrap_err().errno(), shown);
    }
}
