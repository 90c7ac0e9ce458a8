//! device_state in every dialect, and the device features of v2.

use super::{Answer, Inner, Shared, put, u32_at, u64_at};
use crate::clock::asked;
use crate::feed::Feed;
use vfiomig::dialect::{DialectKind, State};

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

/// Bits of device_state by the number of the state.
pub(super) const BITS: [u32; 8] = [6, 0, 1, 2, 4, 9, 3, 11];

pub(super) fn from_bits(value: u32, ndma: bool) -> Option<State> {
    let mut bits = value & if ndma { 15 } else { 7 };
    if bits & 5 == 0 {
        bits &= !8;
    }
    BITS.iter().position(|b| *b == bits).and_then(|n| State::from_number(n as u32))
}

pub(super) fn lie_state(feed: &mut Feed) -> State {
    State::ALL[feed.below(8)]
}

impl Shared {
    pub(super) fn shown_state(&self, f: &mut Feed, st: &mut Inner) -> Answer<u32> {
        let kernel = st.kind == Some(DialectKind::V2);
        st.shown_before = st.shown;
        if f.lies() {
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => {
                    let garbage = f.u8();
                    let number = if garbage < 12 { u32::from(garbage) } else { f.u32() };
                    // Whatever it means to the library, it is what was told.
                    let state = if kernel {
                        State::from_number(number).filter(|_| number < 8)
                    } else {
                        from_bits(number, st.ndma)
                    };
                    match state {
                        Some(state) => st.enter(f, state),
                        None => st.shown = None,
                    }
                    st.shown = state;
                    st.lied = true;
                    return Ok(number);
                }
                _ => {
                    let to = lie_state(f);
                    st.enter(f, to);
                    st.lied = true;
                }
            }
        }
        st.shown = Some(st.state);
        let number = st.state.number();
        Ok(if kernel { number } else { BITS[number as usize] | st.reserved })
    }

    /// The data fd of the answer.
    pub(super) fn take_state(&self, f: &mut Feed, st: &mut Inner, to: State) -> Answer<i32> {
        st.sets += 1;
        st.check_set(to);
        (st.shown, st.shown_before) = (None, None);
        let opens = to.session().is_some() && to.session() != st.state.session();
        let mut fd = if opens { 1000 + (st.session as i32 & 0xff) } else { -1 };
        if f.lies() {
            match f.u8() % 6 {
                0 => return Err(f.errno()),
                1 => {
                    st.enter(f, to);
                    st.lied = true;
                    return Err(f.errno());
                }
                2 => {
                    let other = lie_state(f);
                    st.enter(f, other);
                    st.lied = true;
                    return Err(f.errno());
                }
                3 => fd = -1,
                4 => fd = f.u32() as i32,
                _ => {
                    st.enter(f, State::Error);
                    return Err(libc::EIO);
                }
            }
        }
        st.enter(f, to);
        // A request that succeeded says where the device is, as a read does.
        (st.shown, st.shown_before) = (Some(to), Some(to));
        Ok(fd)
    }

    pub(super) fn feature(&self, bytes: &mut [u8]) -> Answer<()> {
        let asked_for = bytes[8.min(bytes.len())..].to_vec();
        let result = self.answer_feature(bytes);
        let flags = u32_at(bytes, 4);
        crate::trace!("  feature {:#x} {asked_for:x?}: {result:?} {:x?}", flags, &bytes[8.min(bytes.len())..]);
        result
    }

    pub(super) fn answer_feature(&self, bytes: &mut [u8]) -> Answer<()> {
        asked();
        let flags = u32_at(bytes, 4);
        assert_eq!(u32_at(bytes, 0) as usize, bytes.len(), "argsz");
        let mut f = self.feed.lock();
        if matches!(flags & 0xffff, 6..=8) {
            let mut dma = self.dma.lock();
            let Some(dma) = dma.as_mut() else { return Err(libc::ENOTTY) };
            return match flags & 0xffff {
                _ if flags & PROBE != 0 => {
                    if f.lies() {
                        Err(f.errno())
                    } else {
                        Ok(())
                    }
                }
                6 => {
                    let count = u32_at(bytes, 16) as usize;
                    let at = u64_at(bytes, 24) as usize as *const [u64; 2];
                    assert!(count > 0 && count <= 256, "{count} ranges");
                    let ranges = unsafe { std::slice::from_raw_parts(at, count) };
                    let page = dma.start(&mut f, u64_at(bytes, 8), ranges)?;
                    put(bytes, 8, &page.to_ne_bytes());
                    Ok(())
                }
                7 => dma.stop(&mut f),
                _ => {
                    let (iova, len, page) = (u64_at(bytes, 8), u64_at(bytes, 16), u64_at(bytes, 24));
                    let words = (len / page).div_ceil(64).max(1).next_multiple_of(512) as usize;
                    let at = u64_at(bytes, 32) as usize as *mut u64;
                    let bitmap = unsafe { std::slice::from_raw_parts_mut(at, words) };
                    dma.report(&mut f, iova, len, page, bitmap)
                }
            };
        }
        let mut st = self.st.lock();
        if st.kind != Some(DialectKind::V2) {
            return Err(libc::ENOTTY);
        }
        match (flags & 0xffff, flags & GET != 0, flags & SET != 0) {
            (1, true, _) => {
                let mut value = st.flags;
                if f.lies() {
                    match f.u8() % 4 {
                        0 => return Err(f.errno()),
                        1 => value = f.size(),
                        2 => value = u64::from(f.u8() % 8),
                        _ => {
                            st.flags = 1 | u64::from(f.u8() % 4) << 1;
                            value = st.flags;
                        }
                    }
                }
                put(bytes, 8, &value.to_ne_bytes());
                Ok(())
            }
            (2, true, _) => {
                let number = self.shown_state(&mut f, &mut st)?;
                put(bytes, 8, &number.to_ne_bytes());
                put(bytes, 12, &(-1i32).to_ne_bytes());
                Ok(())
            }
            (2, _, true) => {
                let number = u32_at(bytes, 8);
                let to = State::from_number(number).expect("a state that no uAPI knows was asked for");
                let fd = self.take_state(&mut f, &mut st, to)?;
                put(bytes, 12, &fd.to_ne_bytes());
                Ok(())
            }
            (9, true, _) => {
                let mut value = st.out_len;
                if f.lies() {
                    if f.bool() {
                        return Err(f.errno());
                    }
                    value = f.size();
                }
                put(bytes, 8, &value.to_ne_bytes());
                Ok(())
            }
            (12, _, true) => {
                if f.bool() {
                    Ok(())
                } else {
                    Err(libc::ENOTTY)
                }
            }
            _ => Err(libc::ENOTTY),
        }
    }
}
