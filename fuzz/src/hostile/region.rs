//! The migration region: its registers, and the window through which data go.

use super::features::BITS;
use super::{Answer, Inner, Shared, pattern, u32_at, u64_at};
use crate::clock::asked;
use crate::guarded::Guarded;
use vfiomig::dialect::{DialectKind, Direction, State};

impl Shared {
    pub(super) fn check_bounds(&self, st: &Inner, offset: u64, len: usize, what: &str) {
        let end = offset.checked_add(len as u64);
        assert!(
            offset >= st.begin && end.is_some_and(|end| end <= st.most()),
            "{what} of the region at {offset:#x} + {len:#x}, which is not within {:#x} to {:#x}",
            st.begin,
            st.most()
        );
    }

    pub(super) fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Answer<usize> {
        let result = self.read_at(index, offset, buf);
        crate::trace!("  region_read {offset:#x}+{}: {result:?} {:x?}", buf.len(), &buf[..buf.len().min(8)]);
        result
    }

    pub(super) fn read_at(&self, index: u32, offset: u64, buf: &mut [u8]) -> Answer<usize> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        assert_eq!(index, st.index, "another region");
        let value = match (offset, buf.len()) {
            (0, 4) => {
                let value = self.shown_state(&mut f, &mut st)?;
                st.raw = value;
                buf.copy_from_slice(&value.to_ne_bytes());
                if f.lies() {
                    return Ok(f.u8() as usize % 6);
                }
                return Ok(4);
            }
            (8, 8) => {
                if let Some((_, size)) = st.staged.take() {
                    st.out_pos += size;
                }
                let avail = if st.state == State::StopCopy { st.out_len } else { st.precopy_len };
                avail.saturating_sub(st.out_pos)
            }
            (16, 8) => {
                if st.open == Some(Direction::Load) {
                    let room = st.size().saturating_sub(st.begin).min(st.mem.len() as u64);
                    st.load_at = st.begin + if room == 0 { 0 } else { u64::from(f.u16()) % (room / 2 + 1) };
                    st.load_at
                } else {
                    st.stage(&mut f).0
                }
            }
            (24, 8) => st.staged.map_or(0, |(_, size)| size),
            (0x38, 8) if st.kind == Some(DialectKind::Draft) => match f.u8() % 8 {
                0..=2 => 0,
                3 => u64::MAX,
                4 => 1.min(st.pfn_total),
                5 => st.pfn_total,
                6 => st.pfn_total / 2,
                _ => f.size(),
            },
            (at, len) => {
                self.check_bounds(&st, at, len, "read");
                let mut n = len;
                if f.lies() {
                    match f.u8() % 4 {
                        0 => return Err(f.errno()),
                        1 => n = 0,
                        2 => n = 1.min(len),
                        _ => {
                            st.lied = true;
                            return Ok(len + 1 + f.u8() as usize);
                        }
                    }
                } else if f.u8() & 7 == 7 {
                    n = 1 + f.u16() as usize % len;
                }
                for (i, place) in buf.iter_mut().enumerate().take(n) {
                    *place = st.peek(at + i as u64).unwrap_or(0);
                }
                return Ok(n);
            }
        };
        let mut value = value;
        if f.lies() {
            st.lied = true;
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => return Ok(f.u8() as usize % 12),
                _ => value = f.size(),
            }
        }
        buf.copy_from_slice(&value.to_ne_bytes());
        Ok(8)
    }

    pub(super) fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Answer<usize> {
        let result = self.write_at(index, offset, buf);
        crate::trace!("  region_write {offset:#x}+{}: {result:?} {:x?}", buf.len(), &buf[..buf.len().min(8)]);
        result
    }

    pub(super) fn write_at(&self, index: u32, offset: u64, buf: &[u8]) -> Answer<usize> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        assert_eq!(index, st.index, "another region");
        match (offset, buf.len()) {
            (0, 4) => {
                let value = u32_at(buf, 0);
                let mask = if st.ndma { 15 } else { 7 };
                assert_eq!(value & !mask & !8, st.raw & !mask & !8, "reserved bits were changed");
                let known = |mask: u32| BITS.iter().position(|bits| *bits == value & mask);
                // After a lie about its kind the library may not know of NDMA.
                let to = known(mask).or_else(|| known(7)).and_then(|n| State::from_number(n as u32));
                let to = to.expect("bits that are no state were written");
                self.take_state(&mut f, &mut st, to)?;
                if f.lies() { Ok(f.u8() as usize % 6) } else { Ok(4) }
            }
            (24, 8) => {
                let size = u64_at(buf, 0);
                assert!(!st.refused, "F6: a segment was handed over after a refusal");
                assert!(!st.emptied, "a segment was handed over behind the reset that has ended its session");
                if !st.lied && st.open == Some(Direction::Load) {
                    for i in 0..size.min(65536) {
                        let want = pattern(st.session ^ 0x55, st.in_pos + i);
                        let got = st.peek(st.load_at + i);
                        assert!(got.is_none_or(|got| got == want), "byte {} of a segment at {:#x}", i, st.load_at);
                    }
                }
                if f.lies() {
                    match f.u8() % 3 {
                        0 => {
                            st.refused = true;
                            return Err(f.errno());
                        }
                        1 => {
                            let n = f.u8() as usize % 12;
                            if n == 8 {
                                st.in_pos += size;
                            }
                            st.refused = n != 8;
                            return Ok(n);
                        }
                        _ => {}
                    }
                }
                st.in_pos += size;
                Ok(8)
            }
            (0x20 | 0x28 | 0x30, 8) if st.kind == Some(DialectKind::Draft) => {
                if offset == 0x30 {
                    st.pfn_total = u64_at(buf, 0);
                }
                if f.lies() {
                    return if f.bool() { Err(f.errno()) } else { Ok(f.u8() as usize % 12) };
                }
                Ok(8)
            }
            (at, len) => {
                self.check_bounds(&st, at, len, "write");
                let mut n = len;
                if f.lies() {
                    match f.u8() % 4 {
                        0 => return Err(f.errno()),
                        1 => return Ok(0),
                        2 => n = 1.min(len),
                        _ => {
                            st.lied = true;
                            return Ok(len + 1);
                        }
                    }
                } else if f.u8() & 7 == 7 {
                    n = 1 + f.u16() as usize % len;
                }
                for (i, &byte) in buf.iter().enumerate().take(n) {
                    st.poke(at + i as u64, byte);
                }
                Ok(n)
            }
        }
    }

    pub(super) fn region_map(&self, index: u32, offset: u64, len: usize) -> Answer<*mut u8> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        assert_eq!(index, st.index, "another region");
        assert!(len > 0, "a map of nothing");
        assert!(offset.checked_add(len as u64).is_some_and(|end| end <= st.most()), "a map beyond the region");
        // Memory that was lent outlives its window until the next one is lent, so an area may be mapped once more; no other may.
        let overlaps =
            |(begin, map): &&(u64, Guarded)| offset < begin + map.len() as u64 && offset + len as u64 > *begin;
        let twice = st.maps.iter().filter(overlaps).count();
        assert!(twice <= usize::from(st.lent), "mapped {twice} times, lent: {}", st.lent);
        if f.lies() {
            return Err(f.errno());
        }
        if len > 1 << 20 {
            return Err(libc::ENOMEM);
        }
        let map = Guarded::new(len, f.bool());
        let ptr = map.ptr();
        st.maps.push((offset, map));
        Ok(ptr)
    }

    pub(super) fn region_unmap(&self, index: u32, ptr: *mut u8, len: usize) {
        asked();
        let mut st = self.st.lock();
        assert_eq!(index, st.index, "another region");
        let place = st.maps.iter().position(|(_, map)| map.ptr() == ptr && map.len() == len);
        let place = place.expect("unmapped what was not mapped");
        st.maps.remove(place);
    }
}
