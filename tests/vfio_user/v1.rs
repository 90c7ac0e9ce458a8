//! The migration region of a first-generation server, with a window that it hands out and never looks at (U-16).

use super::peer::{Answer, copy_of};
use std::fs::File;

pub const WINDOW: u64 = 0x1000;
const SIZE: u64 = 0x9000;

/// Where an iteration of a save stands.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Begin,
    Pending,
    /// So many bytes are in the window.
    Prepared(usize),
    Read(usize),
}

pub struct Region {
    pub state: u32,
    content: Vec<u8>,
    done: usize,
    step: Step,
    staged: Vec<u8>,
    pub loaded: Vec<u8>,
    /// Zeros, which no access of the server's changes.
    memory: File,
    /// Bytes of a segment.
    pub segment: usize,
    pub described: usize,
    pub offences: Vec<String>,
}

impl Region {
    pub fn new(content: &[u8]) -> Self {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(SIZE).unwrap();
        Region {
            state: 1,
            content: content.to_vec(),
            done: 0,
            step: Step::Begin,
            staged: Vec::new(),
            loaded: Vec::new(),
            memory,
            segment: 5000,
            described: 0,
            offences: Vec::new(),
        }
    }

    /// The capabilities, and the descriptor, come only where all of it has room (U-6).
    pub fn describe(&mut self, argsz: u32) -> Answer {
        self.described += 1;
        let full = 32 + 16 + 32;
        let (flags, caps) = if argsz >= full { (0xf, 32) } else { (0x7 | 8, 0) };
        let mut info: Vec<u8> = [full, flags, 9, caps].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        info.extend(SIZE.to_ne_bytes());
        info.extend(0u64.to_ne_bytes());
        if argsz < full {
            return Ok((info, Vec::new()));
        }
        info.extend([2u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
        info.extend([48u32, 3, 1].iter().flat_map(|n| n.to_ne_bytes()));
        info.extend([1u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
        info.extend([0u32, 1, 0].iter().flat_map(|n| n.to_ne_bytes()));
        info.extend([WINDOW, SIZE - WINDOW].iter().flat_map(|n| n.to_ne_bytes()));
        Ok((info, vec![copy_of(&self.memory)]))
    }

    fn left(&self) -> usize {
        self.content.len() - self.done
    }

    pub fn read(&mut self, offset: u64, count: usize) -> Result<Vec<u8>, i32> {
        match (offset, count) {
            (0, 4) => Ok(self.state.to_ne_bytes().to_vec()),
            (8, 8) => {
                if let Step::Read(n) = self.step {
                    self.done += n;
                }
                self.step = Step::Pending;
                Ok((self.left() as u64).to_ne_bytes().to_vec())
            }
            (16, 8) => {
                if self.state & 2 != 0 && self.step == Step::Pending {
                    self.step = Step::Prepared(self.left().min(self.segment));
                }
                Ok(WINDOW.to_ne_bytes().to_vec())
            }
            (24, 8) => {
                let (Step::Prepared(n) | Step::Read(n)) = self.step else {
                    self.offences.push("data_size was read before data_offset".into());
                    return Ok(vec![0; 8]);
                };
                Ok((n as u64).to_ne_bytes().to_vec())
            }
            (0..32, _) => {
                self.offences.push(format!("{count} bytes at {offset} are no register"));
                Err(libc::EINVAL)
            }
            // A segment is read at once.
            (WINDOW, _) => match self.step {
                Step::Prepared(n) | Step::Read(n) if n == count => {
                    self.step = Step::Read(n);
                    Ok(self.content[self.done..self.done + n].to_vec())
                }
                _ => Err(libc::EINVAL),
            },
            _ => Err(libc::EINVAL),
        }
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        match (offset, bytes.len()) {
            (0, 4) => self.move_to(u32::from_ne_bytes(bytes.try_into().unwrap())),
            (24, 8) if self.state == 4 => {
                let size = u64::from_ne_bytes(bytes.try_into().unwrap());
                if size != self.staged.len() as u64 {
                    return Err(libc::EINVAL);
                }
                self.loaded.append(&mut self.staged);
                Ok(())
            }
            (WINDOW, _) if self.state == 4 => {
                self.staged = bytes.to_vec();
                Ok(())
            }
            _ => Err(libc::EINVAL),
        }
    }

    fn move_to(&mut self, to: u32) -> Result<(), i32> {
        const ARCS: [(u32, u32); 9] = [(0, 1), (1, 0), (1, 2), (1, 3), (1, 4), (2, 0), (2, 1), (3, 2), (4, 1)];
        if self.state != to && !ARCS.contains(&(self.state, to)) {
            return Err(libc::EINVAL);
        }
        if self.state == 1 {
            (self.done, self.step) = (0, Step::Begin);
            self.loaded.clear();
        }
        self.state = to;
        Ok(())
    }
}
