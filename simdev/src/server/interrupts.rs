//! GET_IRQ_INFO and SET_IRQS: which descriptor an interrupt goes to.

use super::registers::VECTORS;
use super::wire::rule;
use crate::base::bytes::u32_at;
use crate::base::judge::Judge;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Flags and count of INTx, MSI, MSI-X, error and request.
const KINDS: [(u32, u32); 5] = [(7, 1), (9, 0), (9, VECTORS), (9, 1), (9, 1)];
const INTX: u32 = 0;
const MSIX: u32 = 2;

const DATA_NONE: u32 = 1;
const DATA_BOOL: u32 = 2;
const DATA_FDS: u32 = 4;
const MASK: u32 = 8;
const UNMASK: u32 = 16;
const TRIGGER: u32 = 32;

/// Bytes of a SET_IRQS without data.
const SET: usize = 20;

#[derive(Default)]
pub(super) struct Interrupts {
    /// (kind, number) → what it goes to.
    wired: BTreeMap<(u32, u32), File>,
}

/// A SET_IRQS.
struct Asked {
    flags: u32,
    kind: u32,
    start: u32,
    count: u32,
}

/// {u32 argsz, flags, index, count}
pub(super) fn info(judge: &mut Judge, payload: &[u8]) -> Result<Vec<u8>, i32> {
    if payload.len() < 16 || u32_at(payload, 0) < 16 {
        return judge.refuse(rule::MESSAGE, format!("GET_IRQ_INFO of {} bytes", payload.len()), libc::EINVAL);
    }
    let kind = u32_at(payload, 8);
    let Some(&(flags, count)) = KINDS.get(kind as usize) else {
        return judge.refuse(rule::MESSAGE, format!("GET_IRQ_INFO of kind {kind}"), libc::EINVAL);
    };
    Ok([16, flags, kind, count].iter().flat_map(|word| word.to_ne_bytes()).collect())
}

impl Interrupts {
    /// {u32 argsz, flags, index, start, count} and data.
    pub fn set(&mut self, judge: &mut Judge, payload: &[u8], fds: Vec<OwnedFd>) -> Result<(), i32> {
        if payload.len() < SET {
            return judge.refuse(rule::MESSAGE, format!("SET_IRQS of {} bytes", payload.len()), libc::EINVAL);
        }
        let word = |at| u32_at(payload, at);
        let asked = Asked { flags: word(4), kind: word(8), start: word(12), count: word(16) };
        let (data, action) = (asked.flags & 7, asked.flags & !7);
        let known = data.count_ones() == 1 && matches!(action, MASK | UNMASK | TRIGGER);
        let Some(&(_, there)) = KINDS.get(asked.kind as usize).filter(|_| known) else {
            return judge.refuse(
                rule::MESSAGE,
                format!("SET_IRQS {:#x} of kind {}", asked.flags, asked.kind),
                libc::EINVAL,
            );
        };
        if asked.start.checked_add(asked.count).is_none_or(|end| end > there) {
            let (start, count) = (asked.start, asked.count);
            return judge.refuse(
                rule::MESSAGE,
                format!("SET_IRQS of {count} from {start} on: there are {there}"),
                libc::EINVAL,
            );
        }
        if data == DATA_BOOL && payload.len() - SET < asked.count as usize {
            return judge.refuse(rule::MESSAGE, "SET_IRQS with fewer bytes than interrupts", libc::EINVAL);
        }
        match (data, action) {
            (DATA_FDS, TRIGGER) => self.wire(judge, &asked, fds),
            (DATA_NONE, TRIGGER) if asked.count == 0 => {
                self.wired.retain(|(kind, _), _| *kind != asked.kind);
                Ok(())
            }
            (_, TRIGGER) => {
                let on = |at: u32| data == DATA_NONE || payload.get(SET + at as usize).is_some_and(|byte| *byte != 0);
                (0..asked.count).filter(|at| on(*at)).for_each(|at| self.raise(asked.kind, asked.start + at));
                Ok(())
            }
            // This device never holds one back, so there is nothing to mask.
            _ => Ok(()),
        }
    }

    fn wire(&mut self, judge: &mut Judge, asked: &Asked, fds: Vec<OwnedFd>) -> Result<(), i32> {
        if !fds.is_empty() && fds.len() != asked.count as usize {
            let text = format!("SET_IRQS of {} interrupts with {} descriptors", asked.count, fds.len());
            return judge.refuse(rule::MESSAGE, text, libc::EINVAL);
        }
        let numbers = asked.start..asked.start + asked.count;
        self.wired.retain(|(kind, number), _| *kind != asked.kind || !numbers.contains(number));
        self.wired.extend(numbers.zip(fds).map(|(number, fd)| ((asked.kind, number), File::from(fd))));
        Ok(())
    }

    fn raise(&mut self, kind: u32, number: u32) {
        if let Some(fd) = self.wired.get_mut(&(kind, number)) {
            // A counter that is full has told its reader already.
            let _ = fd.write(&1u64.to_ne_bytes());
        }
    }

    /// An interrupt of the device, the way that the client has set up.
    pub fn raise_any(&mut self, number: u32) {
        let kind = if self.wired.keys().any(|(kind, _)| *kind == MSIX) { MSIX } else { INTX };
        self.raise(kind, if kind == MSIX { number } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::poll;
    use std::io::Read;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn an_interrupt_goes_to_the_descriptor_of_its_number() {
        let (mut interrupts, mut judge) = (Interrupts::default(), Judge::default());
        let fds: Vec<OwnedFd> = vec![poll::always(), poll::always()];
        let mut second = File::from(fds[1].try_clone().unwrap());
        interrupts.set(&mut judge, &words(&[20, DATA_FDS | TRIGGER, MSIX, 1, 2]), fds).unwrap();
        interrupts.raise_any(2);
        let mut count = [0; 8];
        second.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2, "one from its beginning, one interrupt");
        interrupts.set(&mut judge, &words(&[20, DATA_FDS | TRIGGER, MSIX, 0, 4]), Vec::new()).unwrap();
        assert!(interrupts.wired.is_empty());
        assert_eq!(judge.count, 0);
    }

    #[test]
    fn what_does_not_fit_is_an_offence() {
        let (mut interrupts, mut judge) = (Interrupts::default(), Judge::default());
        for bad in [
            words(&[20, DATA_FDS | TRIGGER, MSIX, 4, 1]),
            words(&[20, DATA_FDS | TRIGGER, 9, 0, 1]),
            words(&[20, 7 | TRIGGER, MSIX, 0, 1]),
            words(&[20, DATA_FDS | TRIGGER, MSIX, 1, u32::MAX]),
            words(&[20, DATA_BOOL | TRIGGER, MSIX, 0, 2]),
            vec![0; 19],
        ] {
            let before = judge.count;
            assert_eq!(interrupts.set(&mut judge, &bad, Vec::new()), Err(libc::EINVAL));
            assert_eq!(judge.count, before + 1);
        }
    }
}
