//! What a device says of itself: how many regions it has, and its migration region with a chain of capabilities.

use super::{Answer, Shared, put, u32_at};
use crate::clock::asked;
use crate::feed::Feed;
use vfiomig::dialect::DialectKind;

const CAP_SPARSE: u16 = 1;
const CAP_TYPE: u16 = 2;
const CAP_NDMA: u16 = 6;

/// The answer to VFIO_DEVICE_GET_REGION_INFO for the migration region, and the region's size.
pub fn describe(feed: &mut Feed, index: u32, v1_type: bool, ndma: bool) -> (Vec<u8>, u64) {
    let size = match feed.u8() % 8 {
        0..=3 => 4096 * (1 + u64::from(feed.u8() % 8)),
        4 => 0x20 + u64::from(feed.u16()),
        5 => 0x40 + u64::from(feed.u8()),
        6 => feed.size(),
        _ => 65536,
    };
    let mut info = vec![0u8; 32];
    let flags = 0b0011 | if feed.bool() { 0b0100 } else { 0 } | 0b1000;
    put(&mut info, 4, &(flags as u32).to_ne_bytes());
    put(&mut info, 8, &index.to_ne_bytes());
    put(&mut info, 16, &size.to_ne_bytes());
    put(&mut info, 24, &(u64::from(index) << 40).to_ne_bytes());
    let kind = [(if v1_type { 3u32 } else { 2 }).to_ne_bytes(), 1u32.to_ne_bytes()].concat();
    let mut caps: Vec<(u16, Vec<u8>)> = vec![(CAP_TYPE, kind)];
    if ndma {
        caps.push((CAP_NDMA, Vec::new()));
    }
    if feed.bool() {
        caps.push((CAP_SPARSE, areas(feed)));
    }
    if feed.bool() {
        caps.reverse();
    }
    let first = chain(&mut info, &caps);
    put(&mut info, 12, &first.to_ne_bytes());
    let len = info.len() as u32;
    put(&mut info, 0, &len.to_ne_bytes());
    (info, size)
}

/// Areas that can be mapped: most of them in order and whole pages, some anywhere; and how many there are said to be.
fn areas(feed: &mut Feed) -> Vec<u8> {
    let n = feed.below(4);
    let mut sparse = Vec::new();
    sparse.extend((n as u32).to_ne_bytes());
    sparse.extend(0u32.to_ne_bytes());
    let mut at = if feed.bool() { 0 } else { 4096 };
    for _ in 0..n {
        let (offset, len) = match feed.u8() % 6 {
            0 => (feed.size(), feed.size()),
            1 => (at, u64::from(feed.u16())),
            2 => (at, 0),
            _ => (at, 4096 * (1 + u64::from(feed.u8() % 3))),
        };
        sparse.extend(offset.to_ne_bytes());
        sparse.extend(len.to_ne_bytes());
        at = offset.wrapping_add(len).wrapping_add(if feed.bool() { 4096 } else { 0 });
    }
    if feed.lies() {
        put(&mut sparse, 0, &feed.u32().to_ne_bytes());
    }
    sparse
}

/// Appends capabilities, each with a link to the next one. Returns where the first one is, 0 for none.
fn chain(info: &mut Vec<u8>, caps: &[(u16, Vec<u8>)]) -> u32 {
    let mut first = 0u32;
    let mut link: Option<usize> = None;
    for (id, payload) in caps {
        while info.len() % 8 != 0 {
            info.push(0);
        }
        let at = info.len();
        match link {
            None => first = at as u32,
            Some(before) => put(info, before + 4, &(at as u32).to_ne_bytes()),
        }
        info.extend(id.to_ne_bytes());
        info.extend(1u16.to_ne_bytes());
        info.extend(0u32.to_ne_bytes());
        info.extend(payload);
        link = Some(at);
    }
    first
}

impl Shared {
    pub(super) fn device_info(&self, info: &mut [u8]) -> Answer<()> {
        asked();
        let mut f = self.feed.lock();
        let st = self.st.lock();
        let (mut flags, mut regions) = (3u32, st.index + 1);
        if f.lies() {
            match f.u8() % 4 {
                0 => return Err(f.errno()),
                1 => regions = f.u32(),
                2 => flags = f.u32(),
                _ => {
                    let n = info.len();
                    info.copy_from_slice(&f.bytes(n));
                    return Ok(());
                }
            }
        }
        put(info, 4, &flags.to_ne_bytes());
        put(info, 8, &regions.to_ne_bytes());
        Ok(())
    }

    pub(super) fn region_info(&self, info: &mut [u8]) -> Answer<()> {
        asked();
        let mut f = self.feed.lock();
        let mut st = self.st.lock();
        let index = u32_at(info, 8);
        assert_eq!(u32_at(info, 0) as usize, info.len(), "argsz");
        let region_dialect = matches!(st.kind, Some(DialectKind::V1 | DialectKind::Draft));
        let mut answer = if index == st.index && region_dialect {
            if f.lies() {
                // Another device behind the same number.
                let (v1_type, ndma) = (f.bool(), st.ndma);
                let (blob, size) = describe(&mut f, index, v1_type, ndma);
                st.info = blob;
                st.sizes.push(size);
                (st.confused, st.lied) = (true, true);
            }
            st.info.clone()
        } else {
            let mut plain = vec![0u8; 32];
            put(&mut plain, 0, &32u32.to_ne_bytes());
            put(&mut plain, 8, &index.to_ne_bytes());
            plain
        };
        if f.lies() {
            (st.confused, st.lied) = (true, true);
            match f.u8() % 5 {
                0 => return Err(f.errno()),
                1 => {
                    let size = f.size();
                    put(&mut answer, 16, &size.to_ne_bytes());
                    st.sizes.push(size);
                }
                2 => put(&mut answer, 0, &f.u32().to_ne_bytes()),
                3 => {
                    let at = f.u8() as usize % answer.len().max(1);
                    let byte = f.u8();
                    if !(16..24).contains(&at) {
                        answer[at] = byte;
                    }
                }
                _ => {
                    let offset = f.u8();
                    put(&mut answer, 12, &u32::from(offset).to_ne_bytes());
                }
            }
        }
        let n = info.len().min(answer.len());
        info[..n].copy_from_slice(&answer[..n]);
        Ok(())
    }
}
