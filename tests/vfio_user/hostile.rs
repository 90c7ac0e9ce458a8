//! Servers that lie: replies of any length and content are errors or answers, never a panic, and no byte beyond what came.

use super::peer::{Answer, Dma, Kind};
use super::rig::{Direct, content, load, open_with, save, set};
use proptest::prelude::*;
use std::sync::Arc;
use vfiomig::device::Device;
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::VfioUserOptions;

/// Reads that are as long as a page: a peer answers as many bytes as were asked for, and a MiB of zeros for each of thousands of
/// reads would be all that these tests do.
fn options(map_region: bool) -> VfioUserOptions {
    VfioUserOptions { map_region, max_read: 4096, ..VfioUserOptions::default() }
}

fn opened(channel: &Arc<Direct>, map_region: bool) -> Result<Device, vfiomig::Error> {
    vfiomig::internals::set_unseen_limit(1 << 20);
    open_with(channel, options(map_region))
}

/// A field of a reply that is changed: the command, where, and what it becomes.
const LIES: [(u16, usize, u32); 13] = [
    // Another region, another place, more bytes than were asked for.
    (5, 8, 3),
    (9, 0, 1),
    (9, 8, 3),
    (9, 12, u32::MAX),
    (9, 12, 0x10_0000),
    (10, 0, 1),
    (10, 12, u32::MAX),
    (17, 4, u32::MAX),
    (17, 4, 0x20_0000),
    // Another feature, another range, another page size.
    (16, 4, 0),
    (14, 8, 1),
    (14, 24, 1),
    (16, 24, 1),
];

fn lie(command: u16, at: usize, value: u32) -> impl Fn(u16, Answer) -> Answer + Send + Sync {
    move |asked, answer| {
        let (mut bytes, fds) = answer?;
        if asked == command && bytes.len() >= at + 4 {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        Ok((bytes, fds))
    }
}

/// All that a client asks for, until something fails.
fn use_all(channel: &Arc<Direct>, map_region: bool) -> Result<(), vfiomig::Error> {
    let device = Arc::new(opened(channel, map_region)?);
    channel.peer().dma.insert(0, Dma { size: 1 << 20, has_fd: true, written: vec![3] });
    let devices = vec![Arc::clone(&device)];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() })?;
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }])?;
    tracker.start()?;
    tracker.harvest(&mut Request::default())?;
    set(&device, State::StopCopy)?;
    save(&device)?;
    set(&device, State::Running)?;
    set(&device, State::Resuming)?;
    let ends = device.info().dialect == Some(DialectKind::V1);
    load(&device, &[vec![1; 5000]], ends)
}

#[test]
fn a_reply_to_something_else_is_refused() {
    for (command, at, value) in LIES {
        for kind in [Kind::V2, Kind::V1] {
            let channel = Direct::new(kind, &content(9000));
            let device = open_with(&channel, options(false)).unwrap();
            let devices = vec![Arc::new(device)];
            let tracker =
                Tracker::new(TrackerOptions { devices: devices.clone(), ..TrackerOptions::default() }).unwrap();
            tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 0 }]).unwrap();
            channel.peer().dma.insert(0, Dma { size: 1 << 20, has_fd: true, written: Vec::new() });
            tracker.start().unwrap();
            let before = channel.peer().count(command);
            channel.spoil(lie(command, at, value));
            let log_fails = tracker.harvest(&mut Request::default()).unwrap().failed_reads > 0;
            let moves = set(&devices[0], State::StopCopy).and_then(|()| save(&devices[0])).map(|_| ());
            let moves = moves.and_then(|()| set(&devices[0], State::Running));
            let moves = moves.and_then(|()| set(&devices[0], State::Resuming));
            let moves = moves.and_then(|()| load(&devices[0], &[vec![1; 5000]], kind == Kind::V1));
            let was_asked = channel.peer().count(command) > before;
            assert!(log_fails || moves.is_err() || !was_asked || command == 5, "{kind:?} {command} {at}");
            if let Err(error) = &moves {
                assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Device), "{error}");
            }
        }
    }
}

/// Each reply is cut at each length up to 100.
fn each_reply_is_cut(kind: Kind) {
    for command in [4, 5, 9, 10, 14, 16, 17] {
        for len in 0..100 {
            let channel = Direct::new(kind, &content(300));
            channel.spoil(move |asked, answer| {
                let (mut bytes, fds) = answer?;
                if asked == command {
                    bytes.truncate(len);
                }
                Ok((bytes, fds))
            });
            let _ = use_all(&channel, len % 2 == 0);
        }
    }
}

#[test]
fn a_reply_of_v2_that_is_cut_is_an_error() {
    each_reply_is_cut(Kind::V2);
}

#[test]
fn a_reply_of_v1_that_is_cut_is_an_error() {
    each_reply_is_cut(Kind::V1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Some bytes of some replies are others, and some replies are errors.
    #[test]
    fn any_replies_end(
        v1 in any::<bool>(),
        map in any::<bool>(),
        spoils in prop::collection::vec((4u16..19, 0usize..90, any::<u32>(), 0i32..200), 1..6),
    ) {
        let channel = Direct::new(if v1 { Kind::V1 } else { Kind::V2 }, &content(3000));
        channel.spoil(move |asked, answer| {
            let mut answer = answer;
            for (command, at, value, errno) in &spoils {
                match &mut answer {
                    _ if *command != asked => {}
                    Ok(_) if *errno > 150 => answer = Err(*errno - 150),
                    Ok((bytes, _)) if bytes.len() >= at + 4 => {
                        bytes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
                    }
                    _ => {}
                }
            }
            answer
        });
        let _ = use_all(&channel, map);
    }
}
