//! A VMM has the connection, and its client waits in vain for a reply: a call of the library costs it one wait.

use super::peer::{Dma, Kind};
use super::rig::{Direct, content, set};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error};
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::{Exchange, VfioUser, VfioUserChannel, VfioUserLimits, VfioUserOptions};

/// Which request the server does not answer: a command, and the flags of a feature, or 0.
type From = (u16, u32);

const DIRTY_PAGES: u16 = 14;
const FEATURE: u16 = 16;
const DATA_READ: u16 = 17;
const REGION_READ: u16 = 9;
const REGION_INFO: u16 = 5;
const RESET: u16 = 13;
const SET_STATE: u32 = 2 | 1 << 17;
const GET_STATE: u32 = 2 | 1 << 16;
const REPORT: u32 = 8 | 1 << 16;

/// The VMM's client, of a server that answers nothing any more from one request on. It counts the requests that it waits for in vain.
struct Client {
    server: Arc<Direct>,
    from: Mutex<Option<From>>,
    silent: AtomicBool,
    waits: AtomicUsize,
    /// It answers ETIMEDOUT of its own.
    answers: bool,
}

impl Client {
    fn new(kind: Kind, answers: bool) -> Arc<Client> {
        let server = Direct::new(kind, &content(9000));
        let (silent, waits) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Client { server, from: Mutex::new(None), silent, waits, answers })
    }

    fn device(self: &Arc<Self>) -> Result<Device, Error> {
        let transport = VfioUser::new(self.clone(), VfioUserOptions::default())?;
        Device::new(Box::new(transport), DeviceOptions::default())
    }

    fn silent_from(&self, from: From) {
        *self.from.lock().unwrap() = Some(from);
    }

    /// What `call` says, in which the server was waited for once.
    fn once<T>(&self, what: &str, call: impl FnOnce() -> Result<T, Error>) -> Option<i32> {
        self.waits.store(0, Ordering::SeqCst);
        let errno = call().err().map(|error| error.errno());
        assert_eq!(self.waits.load(Ordering::SeqCst), 1, "{what}");
        errno
    }
}

impl VfioUserChannel for Client {
    fn limits(&self) -> VfioUserLimits {
        self.server.limits()
    }

    fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<usize, Errno> {
        let flags = exchange.request().get(4..8).map_or(0, |flags| u32::from_ne_bytes(flags.try_into().unwrap()));
        let hits = |from: From| from.0 == exchange.command() && (from.1 == 0 || from.1 == flags);
        if self.from.lock().unwrap().is_some_and(hits) {
            self.silent.store(true, Ordering::SeqCst);
        }
        if !self.silent.load(Ordering::SeqCst) {
            return self.server.exchange(exchange);
        }
        self.waits.fetch_add(1, Ordering::SeqCst);
        if !self.answers {
            exchange.had_no_reply();
        }
        Err(Errno::new(libc::ETIMEDOUT))
    }
}

#[test]
fn a_change_of_state() {
    for on_failure in [OnFailure::Keep, OnFailure::ReturnTo(State::Running), OnFailure::Reset] {
        let client = Client::new(Kind::V2, false);
        let device = client.device().unwrap();
        client.silent_from((FEATURE, SET_STATE));
        let change = || {
            let failure = device.set_state(State::StopCopy, on_failure, false).unwrap_err();
            assert!(failure.results()[0].again, "{failure}");
            Err::<(), _>(failure)
        };
        assert_eq!(client.once("set_state", change), Some(libc::ETIMEDOUT));
        // The next call waits for itself, and once the server answers again all is as it was.
        assert_eq!(client.once("observe", || device.observe()), Some(libc::ETIMEDOUT));
        *client.from.lock().unwrap() = None;
        client.silent.store(false, Ordering::SeqCst);
        assert_eq!(device.observe().unwrap(), State::Running);
        set(&device, State::StopCopy).unwrap();
    }
}

#[test]
fn a_reset() {
    for from in [(FEATURE, GET_STATE), (RESET, 0)] {
        let client = Client::new(Kind::V2, false);
        let device = client.device().unwrap();
        client.silent_from(from);
        assert_eq!(client.once("reset", || device.reset()), Some(libc::ETIMEDOUT));
    }
}

#[test]
fn a_probe() {
    for (kind, from) in [(Kind::V1, (REGION_INFO, 0)), (Kind::V1, (FEATURE, 0)), (Kind::V2, (FEATURE, 0))] {
        let client = Client::new(kind, false);
        client.silent_from(from);
        client.once("probe", || client.device());
    }
}

#[test]
fn a_read_of_data() {
    for (kind, from) in [(Kind::V2, DATA_READ), (Kind::V1, REGION_READ)] {
        let client = Client::new(kind, false);
        let device = client.device().unwrap();
        set(&device, State::StopCopy).unwrap();
        client.silent_from((from, 0));
        assert_eq!(client.once("read", || device.read(&mut [0; 4096])), Some(libc::ETIMEDOUT));
    }
}

#[test]
fn a_harvest() {
    for (kind, from) in [(Kind::V2, (FEATURE, REPORT)), (Kind::V1, (DIRTY_PAGES, 4))] {
        let client = Client::new(kind, false);
        let devices = vec![Arc::new(client.device().unwrap())];
        let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
        let mapped = |iova| Mapping { range: IovaRange { iova, size: 1 << 20 }, cookie: 0 };
        tracker.map(&[mapped(0), mapped(1 << 30), mapped(2 << 30)]).unwrap();
        let known = || Dma { size: 1 << 20, has_fd: true, written: Vec::new() };
        client.server.peer().dma.extend((0..3).map(|n| (n << 30, known())));
        tracker.start().unwrap();
        client.silent_from(from);
        client.once("harvest", || tracker.harvest(&mut Request::default()));
    }
}

/// A server that answers ETIMEDOUT, for what it has waited for itself, is not silent: it is asked how the device is, and the device is
/// reset.
#[test]
fn a_server_that_says_so_itself_is_asked_on() {
    let client = Client::new(Kind::V2, true);
    let device = client.device().unwrap();
    client.silent_from((FEATURE, SET_STATE));
    let failure = device.set_state(State::StopCopy, OnFailure::Reset, false).unwrap_err();
    assert_eq!(failure.errno(), libc::ETIMEDOUT);
    assert!(client.waits.load(Ordering::SeqCst) > 1);
}
