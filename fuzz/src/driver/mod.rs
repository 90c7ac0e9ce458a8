//! Calls on one device as the input says, and what must hold after each.

mod load;
mod save;

use crate::clock::call;
use crate::errors::{check_error, check_pending, note};
use crate::feed::Feed;
use crate::hostile::Shared;
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::device::{Device, OnFailure};
use vfiomig::dialect::{Direction, PfnRange, Pfns, State};
use vfiomig::error::ErrorKind;
use vfiomig::window::raw::{DEVICE_MEM, RawChunk, RawRoom};

/// How often one call may ask the device.
const MOST: u64 = 3_000_000;
/// How long one call may wait, in seconds: a reset has 5, each EAGAIN of a small write has 10 ms.
const LONGEST: u64 = 30;

/// A chunk that is out: what its memory was, and the session it is of.
struct Lent {
    chunk: RawChunk,
    content: Vec<u8>,
    session: u64,
}

pub struct Driver {
    shared: Arc<Shared>,
    device: Arc<Device>,
    feed: Arc<Mutex<Feed>>,
    /// Where the caller is in its stream out, and in: the device's session, and the position.
    taken: (u64, u64),
    given: (u64, u64),
    chunk: Option<Lent>,
    /// What the memory of the last chunk must still be.
    readable: Option<(RawChunk, Vec<u8>)>,
    room: Option<RawRoom>,
    end_seen: bool,
    /// The handle's session.
    session: u64,
    /// Segments may be handed over in parts.
    split: bool,
}

/// The caller's place in the device's session.
fn at(place: &mut (u64, u64), session: u64) -> u64 {
    if place.0 != session {
        *place = (session, 0);
    }
    place.1
}

impl Driver {
    pub fn new(shared: Arc<Shared>, device: Arc<Device>, split: bool) -> Driver {
        let feed = Arc::clone(&shared.feed);
        Driver {
            shared,
            device,
            feed,
            taken: (0, 0),
            given: (0, 0),
            chunk: None,
            readable: None,
            room: None,
            end_seen: false,
            session: 0,
            split,
        }
    }

    /// At most 120 calls, then the end.
    pub fn run(mut self) {
        for _ in 0..120 {
            if self.feed.lock().done() {
                break;
            }
            self.step();
        }
        self.close();
    }

    fn step(&mut self) {
        let mut f = self.feed.lock();
        let op = f.u8() % 24;
        let (a, b, c) = (f.u8(), f.u16(), f.u8());
        drop(f);
        crate::trace!("op {op} {a} {b} {c}; {:?}, {:?}", self.device.info().state, self.shared.st.lock().state);
        // Whether the memory of a chunk may be used anew afterwards.
        let forgets = match op {
            0..=4 => self.set_state(a, b, c),
            5 => self.reset(),
            6 => self.reprobe(),
            7 => self.pending(),
            8 => self.restart_stream(),
            9 | 10 => self.peek(if a & 1 == 0 { 0 } else { b as usize }),
            11 | 12 => self.consume(a, b),
            13 | 14 => self.read(if a == 255 { 70000 } else { b as usize % 5000 }),
            15 => self.send(if a & 1 == 0 { 0 } else { b as usize }),
            16 => self.reserve(a, b, c),
            17 | 18 => self.commit(a, b, c & 1 == 1),
            19 | 20 => self.write(b as usize % 4500, c & 1 == 1),
            21 => self.receive(a, b, c & 1 == 1),
            22 => self.finish(a, b),
            _ => self.dirty_pfns(a, b),
        };
        if forgets {
            self.readable = None;
        }
        self.check();
    }

    /// What holds after each call.
    fn check(&mut self) {
        if let Some((chunk, content)) = &self.readable {
            // SAFETY: until a call that may use it anew, the memory of a chunk stays.
            let now = unsafe { std::slice::from_raw_parts(chunk.data, chunk.len) };
            assert!(chunk.flags & DEVICE_MEM != 0 || now == &content[..], "the memory of a chunk has changed");
            std::hint::black_box(now.iter().fold(0u8, |a, b| a ^ b));
        }
        let info = self.device.info();
        assert_eq!(info.state, self.device.state());
        assert!(info.session >= self.session);
        self.end_seen &= info.session == self.session;
        self.session = info.session;
        // A state that cannot be read is ERROR, and ends no session.
        let open = info.state.session().is_some() || info.state == State::Error;
        assert!(!info.session_open || open, "a session is open in {}", info.state);
        check_pending(&self.device.pending());
    }

    fn set_state(&mut self, a: u8, b: u16, c: u8) -> bool {
        let to = State::ALL[a as usize % 8];
        let on_failure = match c % 4 {
            0 | 1 => OnFailure::Keep,
            2 => OnFailure::Reset,
            _ => OnFailure::ReturnTo(State::ALL[c as usize / 4 % 8]),
        };
        let raw = b & 3 == 3;
        let sets = self.shared.st.lock().sets;
        match call("set_state", LONGEST, MOST, || self.device.set_state(to, on_failure, raw)) {
            Ok(()) => {
                assert_eq!(self.device.state(), to);
                assert!(to != State::Error);
            }
            Err(error) => {
                check_error(&error);
                if matches!(error.kind(), ErrorKind::Argument | ErrorKind::Order | ErrorKind::Stale) {
                    assert_eq!(sets, self.shared.st.lock().sets, "{error}");
                }
                if let [result] = error.results() {
                    assert_eq!(result.found, self.device.state().number(), "{error:?}");
                }
            }
        }
        false
    }

    fn reset(&mut self) -> bool {
        match call("reset", LONGEST, MOST, || self.device.reset()) {
            Ok(()) => {
                assert!(self.device.info().dialect.is_none() || self.device.state() == State::Running);
                assert!(!self.device.info().session_open);
            }
            Err(error) => check_error(&error),
        }
        false
    }

    /// The caller says by it that others have reset the device, which may have kept its state, but nothing of a load.
    fn reprobe(&mut self) -> bool {
        self.shared.st.lock().forget_load();
        note(&call("reprobe", LONGEST, MOST, || self.device.reprobe()));
        false
    }

    fn pending(&mut self) -> bool {
        match call("pending", LONGEST, MOST, || self.device.pending_exact()) {
            Ok(pending) => check_pending(&pending),
            Err(error) => check_error(&error),
        }
        false
    }

    fn restart_stream(&mut self) -> bool {
        note(&call("restart_stream", 0, MOST, || self.device.restart_stream()));
        false
    }

    fn dirty_pfns(&mut self, a: u8, b: u16) -> bool {
        let start = self.feed.lock().size() >> 12;
        let range = PfnRange { start, page_size: 4096 << (a % 4), total: u64::from(b) };
        let inside = |first: u64, count: u64| first >= range.start && first - range.start + count <= range.total;
        let outcome = call("dirty_pfns", LONGEST, MOST, || {
            self.device.dirty_pfns(range, &mut |pfns| match pfns {
                Pfns::All { first, count } => assert!(inside(first, count), "{pfns:?}"),
                Pfns::Bits { first, count, bitmap } => {
                    assert!(inside(first, count));
                    assert!(bitmap.len() as u64 * 8 >= count && bitmap.len() % 8 == 0);
                }
            })
        });
        note(&outcome);
        false
    }

    fn is_loading(&self) -> bool {
        self.device.state().session() == Some(Direction::Load) || self.shared.st.lock().open == Some(Direction::Load)
    }

    /// The end: nothing is left behind.
    fn close(self) {
        call("close", 30, 1_000_000, || self.device.close()).unwrap();
        let st = self.shared.st.lock();
        assert_eq!(st.data_objects, 0, "data fds that were not closed");
        assert!(st.maps.is_empty(), "mappings that were not given back");
    }
}
