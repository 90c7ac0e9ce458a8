//! The registers in BAR 0, by which a client makes the device reach for its memory and raise interrupts. They are of this
//! process and do not migrate; what migrates is behind BAR 2.

use crate::base::bytes::{put, u32_at, u64_at};

/// Reads so: what it is, and the version of this table.
const MAGIC: u64 = 0x0000_0001_6d69_6776;

pub(super) const VECTORS: u32 = 4;
pub(super) const MSIX_TABLE: u32 = 0x800;
pub(super) const MSIX_PENDING: u32 = 0xc00;

const ID: u64 = 0x00;
/// Written: the address of a page, and how many follow it in the low 12 bits. The device writes them all.
const WRITE_PAGES: u64 = 0x08;
/// The same; the device reads them all.
const READ_PAGES: u64 = 0x10;
/// Pages that were written, since the server began.
const WRITTEN: u64 = 0x18;
/// A sum over what was read last.
const SUM: u64 = 0x20;
/// What came of the last of these: 0, or an errno.
const RESULT: u64 = 0x28;
/// Written: the number of an interrupt that is raised.
const INTERRUPT: u64 = 0x30;

/// What a write makes the device do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bell {
    WritePages { page: u64, count: u64 },
    ReadPages { page: u64, count: u64 },
    Interrupt(u32),
}

#[derive(Default)]
pub(super) struct Registers {
    /// The lower half of an address that comes in two halves.
    low: u32,
    pub written: u64,
    pub sum: u64,
    pub result: i32,
}

fn pages(address: u64) -> (u64, u64) {
    (address >> 12, (address & 0xfff) + 1)
}

impl Registers {
    /// Of the device's first 64 bytes; beyond them there is nothing.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let mut all = [0; 64];
        let values =
            [(ID, MAGIC), (WRITTEN, self.written), (SUM, self.sum), (RESULT, self.result.unsigned_abs().into())];
        for (at, value) in values {
            put(&mut all, at as usize, &value.to_le_bytes());
        }
        let from = usize::try_from(offset).ok().and_then(|at| all.get(at..)).unwrap_or(&[]);
        bytes.fill(0);
        bytes.iter_mut().zip(from).for_each(|(byte, value)| *byte = *value);
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Option<Bell> {
        let address = match (offset % 8, bytes.len()) {
            (0, 8) => u64_at(bytes, 0),
            (0, 4) => {
                self.low = u32_at(bytes, 0);
                return (offset == INTERRUPT).then_some(Bell::Interrupt(self.low));
            }
            (4, 4) => u64::from(u32_at(bytes, 0)) << 32 | u64::from(std::mem::take(&mut self.low)),
            _ => return None,
        };
        let (page, count) = pages(address);
        match offset & !7 {
            WRITE_PAGES => Some(Bell::WritePages { page, count }),
            READ_PAGES => Some(Bell::ReadPages { page, count }),
            INTERRUPT => Some(Bell::Interrupt(address as u32)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_whole_or_in_halves() {
        let mut registers = Registers::default();
        let bell = Some(Bell::WritePages { page: 0x1_2345_6789, count: 3 });
        assert_eq!(registers.write(8, &0x1234_5678_9002u64.to_ne_bytes()), bell);
        assert_eq!(registers.write(8, &0x5678_9002u32.to_ne_bytes()), None);
        assert_eq!(registers.write(12, &0x1234u32.to_ne_bytes()), bell);
        assert_eq!(registers.write(0x30, &2u32.to_ne_bytes()), Some(Bell::Interrupt(2)));
        assert_eq!(registers.write(9, &[0; 8]), None);
    }

    #[test]
    fn beyond_the_registers_is_nothing() {
        let (registers, mut bytes) = (Registers { written: 7, ..Registers::default() }, [1; 16]);
        registers.read(0x18, &mut bytes);
        assert_eq!(u64_at(&bytes, 0), 7);
        registers.read(u64::MAX, &mut bytes);
        assert_eq!(bytes, [0; 16]);
    }
}
