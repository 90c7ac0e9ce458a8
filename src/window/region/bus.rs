//! Trapped access to the data section: in one large call (V1-12), or in the words of a bus for drivers that take nothing else.

use crate::error::{Errno, Error};
use crate::transport::Transport;
use crate::window::{Access, Cause, Trouble, WindowResult};

/// Widths of the quirk: 8, 4, 2 or 1 bytes, naturally aligned, the longest that fits.
const WIDTHS: [u8; 4] = [8, 4, 2, 1];

/// How many bytes the next access takes of `len` at `at`.
fn step(at: u64, len: usize, words: bool) -> usize {
    let fits = |width: &&u8| at.trailing_zeros() >= width.trailing_zeros() && usize::from(**width) <= len;
    if words { WIDTHS.iter().find(fits).map_or(1, |width| usize::from(*width)).min(len) } else { len }
}

/// The transport and the number of the region.
fn region<'a>(access: &'a Access<'_>) -> WindowResult<(&'a dyn Transport, u32)> {
    Ok((access.transport, access.registers()?.region.index))
}

/// A server that wants its data mapped says so with this errno (SPDK, K25), and nothing has moved.
fn mapping_wanted(errno: Errno) -> Option<Trouble> {
    (errno.get() == libc::EOPNOTSUPP).then(|| {
        let text = format!(
            "the device's data can be reached by a mapping only ({errno}), and it is not mapped: VFIOMIG_DEVICE_F_NO_MMAP is set, or \
             mapping it failed"
        );
        Trouble::before(Error::device(errno, text))
    })
}

/// Fills `buf`. What is read of a segment can be read again until it is acknowledged, so nothing has moved if it fails.
pub(super) fn read(access: &Access<'_>, words: bool, at: u64, buf: &mut [u8]) -> WindowResult<()> {
    let (transport, index) = region(access)?;
    let mut done: usize = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let from = at.saturating_add(done as u64);
        let len = step(from, rest.len(), words);
        let part = rest.get_mut(..len).unwrap_or_default();
        match transport.region_read(index, from, part) {
            Err(errno) => return Err(mapping_wanted(errno).unwrap_or_else(|| Trouble::before(Cause::Device(errno)))),
            Ok(0) => {
                let text = format!("reading the region at {from:#x} brought nothing");
                return Err(Trouble::before(Cause::Nonsense(text)));
            }
            Ok(n) => done = done.saturating_add(n.min(len)),
        }
    }
    Ok(())
}

/// Writes all of `bytes`.
pub(super) fn write(access: &Access<'_>, words: bool, at: u64, bytes: &[u8]) -> WindowResult<()> {
    let (transport, index) = region(access)?;
    let mut done: usize = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let to = at.saturating_add(done as u64);
        let len = step(to, rest.len(), words);
        let part = rest.get(..len).unwrap_or(rest);
        match transport.region_write(index, to, part) {
            Err(errno) => return Err(mapping_wanted(errno).unwrap_or_else(|| Trouble::of_write(errno, done))),
            Ok(0) => {
                let text = format!("writing the region at {to:#x} took nothing");
                return Err(Trouble::after(Cause::Nonsense(text), done));
            }
            Ok(n) => done = done.saturating_add(n.min(len)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn words_are_naturally_aligned_and_fit() {
        for at in 0..32 {
            for len in 1..32 {
                let n = step(at, len, true);
                assert!([1, 2, 4, 8].contains(&n) && n <= len && at % n as u64 == 0, "{at} {len}: {n}");
                assert_eq!(step(at, len, false), len);
            }
        }
        assert_eq!((step(0, 100, true), step(4, 100, true), step(6, 100, true), step(8, 3, true)), (8, 4, 2, 2));
    }
}
