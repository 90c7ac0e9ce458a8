//! A server that is silent costs a call one deadline, however many requests the call would have made, and requests that are
//! answered late do not add up.

use super::peer::{Kind, Peer};
use super::rig::{content, set};
use super::served::{Ends, PLAIN, connect, message, receive, send};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::{ConnectOptions, VfioUser, VfioUserConnection, VfioUserOptions};
use vfiomig::window::StreamFlags;

const TIMEOUT: Duration = Duration::from_millis(1000);
/// Less than two of them, and time for a busy machine.
const ONCE: Duration = Duration::from_millis(1900);

const DIRTY_PAGES: u16 = 14;
const FEATURE: u16 = 16;
const REGION_INFO: u16 = 5;
const RESET: u16 = 13;
const SET_STATE: u32 = 2 | 1 << 17;
const GET_STATE: u32 = 2 | 1 << 16;
const REPORT: u32 = 8 | 1 << 16;

/// What a server does with a request: the command, and the flags of a feature.
type Habit = fn(u16, u32) -> Answers;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    AtOnce,
    Late(Duration),
    /// Neither this request nor a later one.
    NeverAgain,
}

fn silent_at(command: u16, flags: u32, asked: (u16, u32)) -> Answers {
    if asked.0 == command && (flags == 0 || asked.1 == flags) { Answers::NeverAgain } else { Answers::AtOnce }
}

/// A server with a habit, which it takes up when the test says so.
fn served(kind: Kind, habit: Habit) -> (Arc<VfioUserConnection>, Arc<AtomicBool>) {
    let options = ConnectOptions { timeout: TIMEOUT, ..ConnectOptions::default() };
    let (connection, Ends { mut main, .. }) = connect(PLAIN, options);
    let begins = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&begins);
    spawn(move || {
        let mut peer = Peer::new(kind, &content(9000));
        let mut silent = false;
        while let Some((head, fds)) = receive(&mut main) {
            let flags = head.payload.get(4..8).map_or(0, |flags| u32::from_ne_bytes(flags.try_into().unwrap()));
            match habit(head.command, flags) {
                _ if !begun.load(Ordering::SeqCst) => {}
                Answers::AtOnce => {}
                Answers::Late(time) => sleep(time),
                Answers::NeverAgain => silent = true,
            }
            if silent {
                continue;
            }
            let reply = match peer.answer(head.command, &head.payload, &fds) {
                Ok((payload, _)) => message(head.id, head.command, 1, 0, &payload),
                Err(errno) => message(head.id, head.command, 0x21, errno as u32, &[]),
            };
            send(&main, &reply, &[]);
        }
    });
    (connection, begins)
}

fn device(connection: &Arc<VfioUserConnection>) -> Result<Device, vfiomig::Error> {
    Device::new(Box::new(connection.transport().unwrap()), DeviceOptions::default())
}

/// What `call` says, which must come after one deadline.
fn once<T>(what: &str, call: impl FnOnce() -> Result<T, vfiomig::Error>) -> Option<i32> {
    let begun = Instant::now();
    let outcome = call();
    let took = begun.elapsed();
    assert!(took < ONCE, "{what}: {took:?}");
    assert!(took > TIMEOUT / 2, "{what}: it did not wait: {took:?}");
    outcome.err().map(|error| error.errno())
}

#[test]
fn a_change_of_state() {
    for on_failure in [OnFailure::Keep, OnFailure::ReturnTo(State::Running), OnFailure::Reset] {
        let (connection, begins) = served(Kind::V2, |command, flags| silent_at(FEATURE, SET_STATE, (command, flags)));
        let device = device(&connection).unwrap();
        begins.store(true, Ordering::SeqCst);
        let found = once("set_state", || device.set_state(State::StopCopy, on_failure, false));
        assert_eq!(found, Some(libc::ETIMEDOUT));
        // The connection is in step, and the next call has its own time.
        assert_eq!(once("the next", || device.observe()), Some(libc::ETIMEDOUT));
    }
}

#[test]
fn a_reset_whose_state_is_not_told() {
    let (connection, begins) = served(Kind::V2, |command, flags| silent_at(FEATURE, GET_STATE, (command, flags)));
    let device = device(&connection).unwrap();
    begins.store(true, Ordering::SeqCst);
    assert_eq!(once("reset", || device.reset()), Some(libc::ETIMEDOUT));
    let (connection, begins) = served(Kind::V2, |command, flags| silent_at(RESET, 0, (command, flags)));
    let device = self::device(&connection).unwrap();
    begins.store(true, Ordering::SeqCst);
    assert_eq!(once("reset", || device.reset()), Some(libc::ETIMEDOUT));
}

/// Each region would be asked for by itself.
#[test]
fn a_probe_of_regions() {
    let (connection, begins) = served(Kind::V1, |command, flags| silent_at(REGION_INFO, 0, (command, flags)));
    begins.store(true, Ordering::SeqCst);
    once("probe", || device(&connection));
}

/// A log that cannot be read is started anew, which is more requests.
#[test]
fn a_harvest() {
    for (kind, habit) in [
        (Kind::V2, (|command, flags| silent_at(FEATURE, REPORT, (command, flags))) as Habit),
        (Kind::V1, |command, flags| silent_at(DIRTY_PAGES, 4, (command, flags))),
    ] {
        let (connection, begins) = served(kind, habit);
        let devices = vec![Arc::new(device(&connection).unwrap())];
        let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
        let mapped = |iova| Mapping { range: IovaRange { iova, size: 1 << 20 }, cookie: 0 };
        tracker.map(&[mapped(0), mapped(1 << 30), mapped(2 << 30)]).unwrap();
        tracker.start().unwrap();
        begins.store(true, Ordering::SeqCst);
        once("harvest", || tracker.harvest(&mut Request::default()));
    }
}

/// Each answer comes within the time of a request, and all of them would take much longer.
#[test]
fn answers_that_are_late_do_not_add_up() {
    let (connection, begins) = served(Kind::V2, |_, _| Answers::Late(TIMEOUT * 6 / 10));
    let device = device(&connection).unwrap();
    begins.store(true, Ordering::SeqCst);
    assert_eq!(once("set_state", || set(&device, State::StopCopy)), Some(libc::ETIMEDOUT));
}

/// Data has no end in time: each message may take as long as any.
#[test]
fn data_may_take_as_long_as_it_takes() {
    let (connection, begins) = served(Kind::V2, |command, _| match command {
        17 => Answers::Late(TIMEOUT * 4 / 10),
        _ => Answers::AtOnce,
    });
    let options = VfioUserOptions { max_read: 2000, ..VfioUserOptions::default() };
    let transport = VfioUser::new(connection.clone(), options).unwrap();
    let device = Device::new(Box::new(transport), DeviceOptions::default()).unwrap();
    set(&device, State::StopCopy).unwrap();
    begins.store(true, Ordering::SeqCst);
    let (mut buf, mut len) = (vec![0; 10_000], 0);
    let begun = Instant::now();
    loop {
        let (n, flags) = device.read(&mut buf[len..]).unwrap();
        len += n;
        if flags.contains(StreamFlags::END) {
            break;
        }
    }
    assert!(len == 9000 && begun.elapsed() > TIMEOUT * 12 / 10, "{len} {:?}", begun.elapsed());
}
