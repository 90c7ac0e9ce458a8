//! A device that is honest until the input says otherwise. It knows what it said and what it gave, so that it can tell when the
//! library asks for what it must never ask for.

mod data;
mod describe;
mod features;
mod inner;
mod ops;
mod region;
mod transport;

use crate::clock::asked;
use crate::feed::Feed;
use features::lie_state;
use parking_lot::Mutex;
use std::sync::Arc;
use vfiomig::dialect::{DialectKind, State};

pub use describe::describe;
pub use inner::{Inner, pattern};
pub use ops::ops;
pub use transport::HostileTransport;

type Answer<T> = Result<T, i32>;

/// A log of DMA behind features 6 to 8.
pub trait DmaHook: Send {
    fn start(&mut self, feed: &mut Feed, page_size: u64, ranges: &[[u64; 2]]) -> Result<u64, i32>;
    fn report(&mut self, feed: &mut Feed, iova: u64, len: u64, page_size: u64, bitmap: &mut [u64]) -> Result<(), i32>;
    fn stop(&mut self, feed: &mut Feed) -> Result<(), i32>;
}

pub struct Shared {
    pub feed: Arc<Mutex<Feed>>,
    pub st: Mutex<Inner>,
    pub dma: Mutex<Option<Box<dyn DmaHook>>>,
    pub any_thread: bool,
    pub adds: bool,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes(b.try_into().unwrap()))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |b| u64::from_ne_bytes(b.try_into().unwrap()))
}
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

impl Shared {
    pub fn new(feed: &Arc<Mutex<Feed>>, kind: Option<DialectKind>) -> Arc<Shared> {
        let mut f = feed.lock();
        let how = f.u8();
        let ndma = kind == Some(DialectKind::V1) && how & 1 != 0;
        let index = u32::from(f.u8() % 4);
        let v1_type = kind == Some(DialectKind::V1) || how & 2 != 0;
        let (info, size) = describe(&mut f, index, v1_type, ndma);
        let st = Inner {
            kind,
            flags: 1 | u64::from(how >> 2 & 3) << 1,
            ndma,
            state: if how & 0x40 != 0 { State::Stop } else { State::Running },
            shown: None,
            shown_before: None,
            session: 0,
            open: None,
            data_objects: 0,
            out_len: 0,
            precopy_len: 0,
            out_pos: 0,
            in_pos: 0,
            refused: false,
            finished: false,
            emptied: false,
            lied: false,
            confused: false,
            resets: 0,
            sets: 0,
            index,
            info,
            sizes: vec![size],
            begin: if kind == Some(DialectKind::Draft) { 0x40 } else { 0x20 },
            mem: if kind == Some(DialectKind::V2) { Vec::new() } else { vec![0; 65536] },
            maps: Vec::new(),
            lent: false,
            staged: None,
            load_at: 0,
            reserved: if how & 0x80 != 0 { 0xffff_fff0 } else { 0 },
            raw: 0,
            pfn_total: 0,
        };
        drop(f);
        Arc::new(Shared {
            feed: Arc::clone(feed),
            st: Mutex::new(st),
            dma: Mutex::new(None),
            any_thread: how & 0x10 != 0,
            adds: how & 0x20 != 0,
        })
    }

    /// Memory was lent: it may outlive its window.
    pub fn lend(&self) {
        self.st.lock().lent = true;
    }

    fn reset(&self) -> Answer<()> {
        let result = self.answer_reset();
        crate::trace!("  reset: {result:?}, {}", self.st.lock().state);
        result
    }

    fn answer_reset(&self) -> Answer<()> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        st.resets += 1;
        if f.lies() {
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => return Err(libc::EAGAIN),
                2 => {
                    let to = lie_state(&mut f);
                    (st.open, st.staged) = (None, None);
                    st.state = State::Running;
                    st.enter(&mut f, to);
                    st.forget_load();
                    return Ok(());
                }
                _ => {
                    st.forget_load();
                    return Ok(());
                }
            }
        }
        (st.open, st.staged) = (None, None);
        st.state = State::Running;
        Ok(())
    }
}
