//! U-2: what was negotiated holds in every message, and what was not said has its default.

use super::peer::{Kind, Peer};
use super::rig::{content, load, save, set};
use super::served::{Ends, connect, message, receive, send};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::State;
use vfiomig::transport::Transport;
use vfiomig::transport::vfio_user::{
    ConnectOptions, Exchange, VfioUserChannel, VfioUserConnection, VfioUserLimits, VfioUserOptions,
};

const SMALL: &str = r#"{"capabilities":{"max_msg_fds":2,"max_data_xfer_size":4096,"migration":{"pgsize":4096}}}"#;
const NOTHING: &str = "{}";

const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DATA_READ: u16 = 17;
const DATA_WRITE: u16 = 18;

/// How many bytes of data each request asked for or brought, and how many descriptors.
type Seen = Arc<Mutex<Vec<(u16, usize, usize)>>>;

/// A peer that takes messages of any size, and the library allowed to use them.
fn served(text: &'static str, kind: Kind, saved: &[u8]) -> (Arc<VfioUserConnection>, Seen) {
    let server = VfioUserOptions { max_write: 1 << 20, max_read: 1 << 20, map_region: false };
    let (connection, Ends { mut main, .. }) = connect(text, ConnectOptions { server, ..ConnectOptions::default() });
    let (seen, mut peer) = (Seen::default(), Peer::new(kind, saved));
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        while let Some((head, fds)) = receive(&mut main) {
            let word = |at: usize| u32::from_ne_bytes(head.payload[at..at + 4].try_into().unwrap()) as usize;
            let data = match head.command {
                REGION_READ | REGION_WRITE => word(12).max(head.payload.len() - 16),
                DATA_READ | DATA_WRITE => word(4).max(head.payload.len() - 8),
                _ => 0,
            };
            noted.lock().unwrap().push((head.command, data, fds.len()));
            let reply = match peer.answer(head.command, &head.payload, &fds) {
                Ok((payload, _)) => message(head.id, head.command, 1, 0, &payload),
                Err(errno) => message(head.id, head.command, 0x21, errno as u32, &[]),
            };
            send(&main, &reply, &[]);
        }
    });
    (connection, seen)
}

fn device(connection: &Arc<VfioUserConnection>) -> Device {
    Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default()).unwrap()
}

/// The most that one of these requests asked for or brought.
fn largest(seen: &Seen, command: u16) -> Option<usize> {
    seen.lock().unwrap().iter().filter(|asked| asked.0 == command).map(|asked| asked.1).max()
}

#[test]
fn no_message_has_more_data_than_was_negotiated() {
    for (text, most) in [(SMALL, 4096), (NOTHING, 1 << 20)] {
        let state = content((1 << 20) + 20_000);
        let ((from, read), (to, written)) = (served(text, Kind::V2, &state), served(text, Kind::V2, b""));
        let (source, target) = (device(&from), device(&to));
        set(&source, State::StopCopy).unwrap();
        let stream = save(&source).unwrap();
        assert_eq!(stream.concat(), state);
        set(&target, State::Resuming).unwrap();
        load(&target, &[stream.concat()], false).unwrap();
        // A limit is used up to its end.
        assert_eq!((largest(&read, DATA_READ), largest(&written, DATA_WRITE)), (Some(most), Some(most)));
        // Whatever comes of it: the server has no such region.
        let transport = from.transport().unwrap();
        let mut bytes = vec![0; 2 << 20];
        let _ = (transport.region_read(3, 0, &mut bytes), transport.region_write(3, 0, &bytes));
        assert_eq!((largest(&read, REGION_READ), largest(&read, REGION_WRITE)), (Some(most), Some(most)));
    }
}

#[test]
fn no_message_has_more_descriptors_than_were_negotiated() {
    for (text, most) in [(SMALL, 2), (NOTHING, 1)] {
        let (connection, seen) = served(text, Kind::V2, b"");
        assert_eq!(connection.limits().max_fds, most);
        let file = tempfile::tempfile().unwrap();
        for count in [most, most + 1] {
            let fds = vec![file.as_fd(); count];
            let outcome = connection.exchange(&mut Exchange::new(8, &[], &mut []).with_fds(&fds));
            assert_eq!(outcome.err().map(|errno| errno.get()) == Some(libc::E2BIG), count > most, "{count}");
        }
        assert_eq!(seen.lock().unwrap()[..], [(8, 0, most)]);
    }
}

#[test]
fn what_was_not_said_has_its_default() {
    let (connection, _) = served(NOTHING, Kind::V2, b"");
    assert_eq!(connection.limits(), VfioUserLimits { minor: 2, max_data: 1 << 20, max_fds: 1, page_size: 4096 });
    assert!(!connection.migratable());
}
