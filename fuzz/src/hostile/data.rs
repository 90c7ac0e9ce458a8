//! The data fd of v2.

use super::{Answer, Shared, pattern, put};
use crate::clock::asked;
use vfiomig::dialect::{Direction, State};

impl Shared {
    pub(super) fn data_read(&self, buf: &mut [u8]) -> Answer<usize> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        assert!(!buf.is_empty(), "a read of nothing");
        let avail = if st.state == State::StopCopy { st.out_len } else { st.precopy_len };
        let mut n = usize::try_from(avail.saturating_sub(st.out_pos)).unwrap().min(buf.len());
        let mut over = false;
        if f.lies() {
            match f.u8() % 8 {
                0 => return Err(f.errno()),
                7 => {
                    // It has taken the bytes out of the stream, and gives them to nobody.
                    let errno = f.errno();
                    let nothing = matches!(errno, libc::EAGAIN | libc::EINTR | libc::ENOMSG);
                    st.out_pos += if nothing { 0 } else { n as u64 };
                    return Err(errno);
                }
                1 => return Err(libc::EAGAIN),
                2 => return Err(libc::EINTR),
                3 => return Ok(0),
                4 => {
                    over = true;
                    n = buf.len();
                }
                5 => n = n.min(1),
                _ => return Err(libc::ENOMSG),
            }
        } else if n > 0 && f.u8() & 3 == 3 {
            n = 1 + f.u16() as usize % n;
        }
        if st.open != Some(Direction::Save) {
            return Ok(0);
        }
        if n == 0 && st.state != State::StopCopy && f.bool() {
            return Err(libc::ENOMSG);
        }
        for (i, place) in buf.iter_mut().enumerate().take(n) {
            *place = pattern(st.session, st.out_pos + i as u64);
        }
        st.out_pos += n as u64;
        if over {
            st.lied = true;
            return Ok(n + 1 + f.u8() as usize);
        }
        Ok(n)
    }

    pub(super) fn data_write(&self, buf: &[u8]) -> Answer<usize> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        assert!(!buf.is_empty(), "a write of nothing");
        assert!(!st.refused, "F6: bytes were written after a refusal");
        assert!(!st.emptied, "bytes were written behind the reset that has ended their session");
        let mut n = buf.len();
        let mut over = 0;
        if f.lies() {
            match f.u8() % 6 {
                0 => {
                    let errno = f.errno();
                    st.refused = errno != libc::EAGAIN;
                    return Err(errno);
                }
                1 => return Err(libc::EAGAIN),
                2 => {
                    st.refused = true;
                    return Err(libc::EINTR);
                }
                3 => {
                    st.refused = true;
                    return Ok(0);
                }
                4 => {
                    st.lied = true;
                    over = 1 + f.u8() as usize;
                }
                _ => n = 1,
            }
        } else if f.u8() & 3 == 3 {
            n = 1 + f.u16() as usize % n;
        }
        if st.open == Some(Direction::Load) && !st.lied {
            for (i, &byte) in buf.iter().enumerate().take(n) {
                let want = pattern(st.session ^ 0x55, st.in_pos + i as u64);
                assert_eq!(byte, want, "byte {} of the stream", st.in_pos + i as u64);
            }
        }
        st.in_pos += n as u64;
        Ok(n + over)
    }

    pub(super) fn precopy_info(&self, info: &mut [u8]) -> Answer<()> {
        asked();
        let mut f = self.feed.lock();
        let st = self.st.lock();
        let left = st.precopy_len.saturating_sub(st.out_pos);
        let (mut flags, mut initial, mut dirty) = (0u32, left, 0u64);
        if f.lies() {
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => initial = f.size(),
                2 => dirty = f.size(),
                _ => flags = f.u32(),
            }
        }
        put(info, 4, &flags.to_ne_bytes());
        put(info, 8, &initial.to_ne_bytes());
        put(info, 16, &dirty.to_ne_bytes());
        Ok(())
    }

    pub(super) fn data_close(&self) {
        asked();
        self.st.lock().data_objects -= 1;
    }
}
