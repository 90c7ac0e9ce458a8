//! The PCI function: its configuration space.

use super::registers::{MSIX_PENDING, MSIX_TABLE, VECTORS};
use crate::base::bytes::put;

/// Region of the configuration space.
pub(super) const CONFIG: u32 = 7;
/// BAR with a window onto the device's state.
pub(super) const STATE_BAR: u32 = 2;

const SIZE: usize = 256;
const COMMAND: usize = 0x04;
const BARS: usize = 0x10;
const INTERRUPT_LINE: usize = 0x3c;
const MSIX: usize = 0x40;

/// Offset, and what a client may write there.
const WRITABLE: [(usize, u16); 4] = [
    // I/O, memory, bus master, parity, SERR#, no INTx.
    (COMMAND, 0x0547),
    (INTERRUPT_LINE, 0x00ff),
    // Enable, mask all.
    (MSIX + 2, 0xc000),
    // Cache line.
    (0x0c, 0x00ff),
];

/// Values at offsets, of 2 bytes each; all else is 0.
const VALUES: [(usize, u16); 9] = [
    // Status: there are capabilities.
    (0x06, 0x0010),
    (0x08, 0x0001),
    // Class: none of those that there are.
    (0x0a, 0xff00),
    (0x34, MSIX as u16),
    // INTA#.
    (0x3c, 0x0100),
    // MSI-X, the last capability; vectors less one; table and pending bits are in BAR 0.
    (MSIX, 0x0011),
    (MSIX + 2, VECTORS as u16 - 1),
    (MSIX + 4, MSIX_TABLE as u16),
    (MSIX + 8, MSIX_PENDING as u16),
];

pub(super) struct Function {
    id: (u16, u16),
    /// Sizes of BARs, powers of two; 0: there is none.
    bars: [u32; 6],
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
}

impl Function {
    pub fn new(id: (u16, u16), bars: [u32; 6]) -> Self {
        let mut function = Function { id, bars, bytes: [0; SIZE], writable: [0; SIZE] };
        function.reset();
        for (offset, bits) in WRITABLE {
            put(&mut function.writable, offset, &bits.to_le_bytes());
        }
        for (at, size) in bars.into_iter().enumerate().filter(|(_, size)| *size > 0) {
            put(&mut function.writable, BARS + 4 * at, &(!(size - 1)).to_le_bytes());
        }
        function
    }

    pub fn reset(&mut self) {
        self.bytes = [0; SIZE];
        for (offset, value) in [(0, self.id.0), (2, self.id.1)].into_iter().chain(VALUES) {
            put(&mut self.bytes, offset, &value.to_le_bytes());
        }
    }

    pub fn size(&self, region: u32) -> u64 {
        match region {
            CONFIG => SIZE as u64,
            _ => self.bars.get(region as usize).copied().map_or(0, u64::from),
        }
    }

    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), i32> {
        let from = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..at.checked_add(bytes.len())?));
        bytes.copy_from_slice(from.ok_or(libc::EINVAL)?);
        Ok(())
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        let at = usize::try_from(offset).map_err(|_| libc::EINVAL)?;
        let end = at.checked_add(bytes.len()).filter(|end| *end <= SIZE).ok_or(libc::EINVAL)?;
        let place = self.bytes[at..end].iter_mut().zip(&self.writable[at..end]);
        for ((byte, mask), new) in place.zip(bytes) {
            *byte = (*byte & !mask) | (new & mask);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_the_size_of_a_bar_and_cannot_change_what_is_fixed() {
        let mut function = Function::new((0x1af4, 0x10f0), [4096, 0, 1 << 20, 0, 0, 0]);
        let mut word = [0; 4];
        for (offset, reads) in [(0x10u64, 0xffff_f000u32), (0x14, 0), (0x18, 0xfff0_0000), (0, 0x10f0_1af4)] {
            function.write(offset, &[0xff; 4]).unwrap();
            function.read(offset, &mut word).unwrap();
            assert_eq!(u32::from_le_bytes(word), reads, "{offset:#x}");
        }
        assert_eq!(function.read(253, &mut word), Err(libc::EINVAL));
        assert_eq!(function.write(u64::MAX, &word), Err(libc::EINVAL));
        function.reset();
        function.read(0x10, &mut word).unwrap();
        assert_eq!(word, [0; 4]);
    }
}
