//! The capability chain after an info struct (P6): bounded, and never backwards, so a chain cannot loop.

use super::feature::field;
use crate::uapi::region as u;

/// One capability: its id, version, and the bytes from its header to the end of the struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability<'a> {
    pub id: u16,
    pub version: u16,
    pub bytes: &'a [u8],
}

impl Capability<'_> {
    /// A field at `offset` from the capability's own header.
    pub fn u32_at(&self, offset: usize) -> Option<u32> {
        field(self.bytes, offset).map(u32::from_ne_bytes)
    }
}

/// The chain broke a rule: a header outside the struct, or `next` not beyond its own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadChain {
    pub offset: usize,
}

/// All capabilities of `info`; `first` is `cap_offset`, 0 for none (P7: also with FLAG_CAPS set).
pub(crate) fn walk(info: &[u8], first: u32) -> Result<Vec<Capability<'_>>, BadChain> {
    let mut found = Vec::new();
    let mut at = first as usize;
    let mut lowest = 1;
    while at != 0 {
        let bad = BadChain { offset: at };
        if at < lowest {
            return Err(bad);
        }
        let bytes = info.get(at..).ok_or(bad)?;
        let id = field(bytes, 0).map(u16::from_ne_bytes).ok_or(bad)?;
        let version = field(bytes, u::CAP_VERSION).map(u16::from_ne_bytes).ok_or(bad)?;
        let next = field(bytes, u::CAP_NEXT).map(u32::from_ne_bytes).ok_or(bad)?;
        found.push(Capability { id, version, bytes });
        lowest = at.checked_add(u::CAP_HEADER_SIZE).ok_or(bad)?;
        at = next as usize;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A well-formed struct: 32 bytes, then the capabilities with `gaps` between them.
    fn build(caps: &[(u16, u16, u8)]) -> (Vec<u8>, u32) {
        let mut info = vec![0u8; u::INFO_SIZE];
        let first = if caps.is_empty() { 0 } else { info.len() as u32 };
        for (i, (id, version, payload)) in caps.iter().enumerate() {
            let end = info.len() + u::CAP_HEADER_SIZE + *payload as usize;
            let next = if i + 1 == caps.len() { 0 } else { end as u32 };
            info.extend(id.to_ne_bytes());
            info.extend(version.to_ne_bytes());
            info.extend(next.to_ne_bytes());
            info.resize(end, 0xaa);
        }
        (info, first)
    }

    proptest! {
        #[test]
        fn well_formed_chains_come_back_in_order(caps in prop::collection::vec((any::<u16>(), any::<u16>(), 0u8..40), 0..20)) {
            let (info, first) = build(&caps);
            let found = walk(&info, first).unwrap();
            prop_assert_eq!(found.iter().map(|c| (c.id, c.version)).collect::<Vec<_>>(),
                            caps.iter().map(|c| (c.0, c.1)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_end_and_stay_inside(info in prop::collection::vec(any::<u8>(), 0..300), first in any::<u32>()) {
            if let Ok(found) = walk(&info, first) {
                prop_assert!(found.len() <= info.len() / u::CAP_HEADER_SIZE + 1);
            }
        }

        #[test]
        fn small_offsets_too(mut info in prop::collection::vec(0u8..64, 32..300), first in 0u32..64) {
            // Small bytes make many `next` values that point inside: loops and backward steps must end in BadChain.
            for byte in info.iter_mut().skip(2).step_by(4) { *byte = 0; }
            let _ = walk(&info, first);
        }
    }

    #[test]
    fn a_loop_is_refused() {
        let (mut info, first) = build(&[(1, 1, 8), (2, 1, 8)]);
        let second = first as usize + 16;
        info[second + 4..second + 8].copy_from_slice(&first.to_ne_bytes());
        assert_eq!(walk(&info, first), Err(BadChain { offset: first as usize }));
    }

    #[test]
    fn a_capability_may_not_point_into_its_own_header() {
        let (mut info, first) = build(&[(1, 1, 8)]);
        let at = first as usize;
        info[at + 4..at + 8].copy_from_slice(&(first + 4).to_ne_bytes());
        assert_eq!(walk(&info, first), Err(BadChain { offset: at + 4 }));
    }

    #[test]
    fn a_header_that_is_cut_is_refused() {
        assert_eq!(walk(&[0; 36], 32), Err(BadChain { offset: 32 }));
        assert_eq!(walk(&[0; 32], 32), Err(BadChain { offset: 32 }));
        assert_eq!(walk(&[0; 32], u32::MAX), Err(BadChain { offset: u32::MAX as usize }));
    }
}
