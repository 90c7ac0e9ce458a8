//! A client of v1 and of the draft: the registers of the migration region, one access at a time. The draft is asked as v1 is: they
//! differ in what an access acknowledges (V1-6, D3), and the order here is right for both.

use super::slow::Slow;
use super::table::{Result, Stop};
use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, State};
use vfiomig::error::Errno;
use vfiomig::transport::Transport;
use vfiomig::transport::requests::{self, Mappable};

const DEVICE_STATE: u64 = 0x00;
const PENDING_BYTES: u64 = 0x08;
const DATA_OFFSET: u64 = 0x10;
const DATA_SIZE: u64 = 0x18;
const REGISTERS_END: u64 = 0x20;
/// The draft has the registers of its log behind them (D18).
const DRAFT_REGISTERS_END: u64 = 0x40;
/// Type and subtype of the region (V1-14, D18). A draft with the type of v1 cannot be told from v1.
const REGION: (u32, u32) = (3, 1);
const DRAFT_REGION: (u32, u32) = (2, 1);
/// The bits that are the state; the others stay as they are (V1-1).
const STATE_BITS: u32 = 0xf;
/// The longest access that every driver takes (V1-12).
const WORD: usize = 8;
/// How long a device may say that something is pending, and give nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a device that runs is read: some always have more.
const RUNNING_LIMIT: Duration = Duration::from_secs(2);
/// Longest stream that is kept.
const LONGEST: usize = 1 << 30;

/// The states, by their bits (V1-15).
const STATES: [(u32, State); 8] = [
    (0, State::Stop),
    (1, State::Running),
    (2, State::StopCopy),
    (3, State::PreCopy),
    (4, State::Resuming),
    (6, State::Error),
    (9, State::RunningP2p),
    (11, State::PreCopyP2p),
];

/// The migration region of a device.
pub struct Registers<'a> {
    transport: &'a dyn Transport,
    index: u32,
    /// The length of the region.
    pub size: u64,
    /// The region is that of the draft.
    pub draft: bool,
    /// Its abilities: PRE_COPY always, the P2P states with NDMA.
    pub caps: Caps,
    /// What it says of mappings.
    pub mappable: Mappable,
    /// Requests that took long.
    pub slow: Slow,
    /// The length of an access to the data section that was refused, and that in words was taken (V1-12); all accesses since then
    /// were words.
    pub refused: Cell<Option<(usize, Errno)>>,
}

/// Why the data section was not read, or not written.
enum Untaken {
    /// An access moved nothing.
    Nothing,
    Refused(Errno),
}

impl<'a> Registers<'a> {
    /// Looks for the migration region.
    pub fn find(transport: &'a dyn Transport) -> Option<Self> {
        let regions = requests::device_info(transport).ok()?.num_regions.min(256);
        (0..regions).find_map(|index| {
            let info = requests::region_info(transport, index).ok()?;
            let caps = Caps { p2p: info.ndma, pre_copy: true };
            let known = [REGION, DRAFT_REGION].into_iter().find(|known| info.region_type == Some(*known))?;
            Some(Registers {
                transport,
                index,
                size: info.size,
                draft: known == DRAFT_REGION,
                caps,
                mappable: info.mappable,
                slow: Slow::default(),
                refused: Cell::new(None),
            })
        })
    }

    fn stop(rule: &'static str, blame: &str, text: String) -> Stop {
        Stop { rule, blame: blame.into(), text }
    }

    fn read<const N: usize>(&self, at: u64, name: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.transport.region_read(self.index, at, &mut bytes) {
            Ok(len) if len == N => Ok(bytes),
            Ok(len) => Err(Self::stop("V1-1", name, format!("a read of {name} ({N} bytes) brings {len}"))),
            Err(errno) => Err(Self::stop("V1-1", name, format!("reading {name} failed: {errno}"))),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> std::result::Result<(), Errno> {
        match self.transport.region_write(self.index, at, bytes)? {
            len if len == bytes.len() => Ok(()),
            _ => Err(Errno::new(libc::EIO)),
        }
    }

    /// A register of 64 bits.
    pub fn word(&self, at: u64, name: &str) -> Result<u64> {
        self.read(at, name).map(u64::from_ne_bytes)
    }

    /// Writes a register of 64 bits.
    pub fn set_word(&self, at: u64, value: u64) -> std::result::Result<(), Errno> {
        self.write(at, &value.to_ne_bytes())
    }

    /// What data_offset shows of the draft's log; the caller knows how long that is (D13).
    pub fn bitmap(&self, len: u64) -> Result<Vec<u8>> {
        let (offset, _) = self.place(Some(len))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.read_data(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Where data can begin.
    pub fn registers_end(&self) -> u64 {
        if self.draft { DRAFT_REGISTERS_END } else { REGISTERS_END }
    }

    /// Reads device_state, with its reserved bits.
    pub fn bits(&self) -> Result<u32> {
        self.read(DEVICE_STATE, "device_state").map(u32::from_ne_bytes)
    }

    /// Reads the state.
    pub fn state(&self) -> Result<State> {
        let bits = self.bits()?;
        let known = STATES.iter().find(|row| row.0 == bits & STATE_BITS);
        known
            .map(|row| row.1)
            .ok_or_else(|| Self::stop("V1-15", "device_state", format!("device_state is {bits:#x}, which is no state")))
    }

    /// Writes the state, and nothing else.
    pub fn try_set(&self, to: State) -> std::result::Result<(), Errno> {
        let bits = STATES.iter().find(|row| row.1 == to).map_or(0, |row| row.0);
        let kept = self.bits().map_err(|_| Errno::new(libc::EIO))? & !STATE_BITS;
        self.slow.timed(&format!("the change to {to}"), || self.write(DEVICE_STATE, &(kept | bits).to_ne_bytes()))
    }

    /// Writes the state, and reads it back (V1-2).
    pub fn set(&self, to: State) -> Result<()> {
        let from = self.state()?;
        if from == to {
            return Ok(());
        }
        let blame = format!("the step {from} to {to}");
        let written = self.try_set(to);
        let now = self.state()?;
        match written {
            Ok(()) if now == to => Ok(()),
            Ok(()) => Err(Self::stop("N6", &blame, format!("{from} to {to} succeeds, and the device is in {now}"))),
            Err(errno) => Err(Self::stop("V1-3", &blame, format!("{from} to {to} failed: {errno}; it is in {now}"))),
        }
    }

    /// pending_bytes, which acknowledges (V1-6).
    fn pending(&self) -> Result<u64> {
        self.read(PENDING_BYTES, "pending_bytes").map(u64::from_ne_bytes)
    }

    /// Where a segment is, which has to be within the region (V1-13), and its size.
    fn place(&self, size: Option<u64>) -> Result<(u64, u64)> {
        let offset = self.read(DATA_OFFSET, "data_offset").map(u64::from_ne_bytes)?;
        let size = match size {
            Some(size) => size,
            None => self.read(DATA_SIZE, "data_size").map(u64::from_ne_bytes)?,
        };
        let end = offset.checked_add(size);
        if size == 0 {
            return Ok((offset, size));
        }
        if offset < self.registers_end() || end.is_none_or(|end| end > self.size) {
            let text =
                format!("data_offset {offset:#x} and data_size {size:#x} leave the region of {:#x} bytes", self.size);
            return Err(Self::stop("V1-13", "the place of the data", text));
        }
        Ok((offset, size))
    }

    /// Reads segments until nothing is pending, or, of a device that runs, for a while. Returns all bytes, and where segments end.
    pub fn read_segments(&self) -> Result<(Vec<u8>, Vec<usize>)> {
        let (mut bytes, mut ends, mut begun) = (Vec::new(), Vec::new(), Instant::now());
        let limit = (self.state()? != State::StopCopy).then_some(RUNNING_LIMIT);
        let first = Instant::now();
        while limit.is_none_or(|limit| first.elapsed() < limit) && self.pending()? > 0 {
            let (offset, size) = self.place(None)?;
            if size == 0 {
                // The protocol leaves this open (V1-8).
                if begun.elapsed() > PATIENCE || self.state()? != State::StopCopy {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            begun = Instant::now();
            let from = bytes.len();
            let len = usize::try_from(size).unwrap_or(LONGEST);
            if from.saturating_add(len) > LONGEST {
                return Err(Self::stop("V1-8", "the stream", "it is too long for this check".into()));
            }
            bytes.resize(from.saturating_add(len), 0);
            self.read_data(offset, bytes.get_mut(from..).unwrap_or_default())?;
            ends.push(bytes.len());
        }
        Ok((bytes, ends))
    }

    fn read_data(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len();
        let read = &mut |at: u64, part: Range<usize>| {
            self.transport.region_read(self.index, at, buf.get_mut(part).unwrap_or_default())
        };
        match self.access(offset, len, read) {
            Ok(()) => Ok(()),
            Err(Untaken::Nothing) => {
                Err(Self::stop("V1-6", "the data", "a read of the data section brings nothing".into()))
            }
            Err(Untaken::Refused(errno)) => {
                Err(Self::stop("V1-12", "the data", format!("a trapped read of the data section failed: {errno}")))
            }
        }
    }

    /// Makes accesses until so many bytes are moved. Where EINVAL refuses a long one it is made again in words, which every driver
    /// takes (V1-12).
    fn access(
        &self,
        offset: u64,
        len: usize,
        one: &mut dyn FnMut(u64, Range<usize>) -> std::result::Result<usize, Errno>,
    ) -> std::result::Result<(), Untaken> {
        let mut done = 0;
        while done < len {
            let (at, rest) = (offset.saturating_add(done as u64), len.saturating_sub(done));
            let size = if self.refused.get().is_some() { word(at, rest) } else { rest };
            let moved = match one(at, done..done.saturating_add(size)) {
                Err(errno) if errno.get() == libc::EINVAL && size > WORD && !self.is_in_error() => {
                    let size = word(at, rest);
                    let moved = one(at, done..done.saturating_add(size)).map_err(|_| Untaken::Refused(errno))?;
                    self.refused.set(Some((rest, errno)));
                    moved
                }
                result => result.map_err(Untaken::Refused)?,
            };
            if moved == 0 || moved > rest {
                return Err(Untaken::Nothing);
            }
            done = done.saturating_add(moved);
        }
        Ok(())
    }

    /// V1-11: an access that failed is followed by a look at the state.
    fn is_in_error(&self) -> bool {
        self.state().is_ok_and(|state| state == State::Error)
    }

    /// Writes segments. Fails with the place of the first one that was refused.
    pub fn write_segments(&self, bytes: &[u8], ends: &[usize]) -> std::result::Result<(), (usize, Errno)> {
        let mut from = 0;
        for end in ends {
            let segment = bytes.get(from..(*end).min(bytes.len())).unwrap_or_default();
            if segment.is_empty() {
                break;
            }
            self.write_segment(segment).map_err(|errno| (from, errno))?;
            from = *end;
        }
        Ok(())
    }

    fn write_segment(&self, segment: &[u8]) -> std::result::Result<(), Errno> {
        let (offset, _) = self.place(Some(segment.len() as u64)).map_err(|_| Errno::new(libc::EPROTO))?;
        let write = &mut |at: u64, part: Range<usize>| {
            self.transport.region_write(self.index, at, segment.get(part).unwrap_or_default())
        };
        self.access(offset, segment.len(), write).map_err(|untaken| match untaken {
            Untaken::Nothing => Errno::new(libc::EIO),
            Untaken::Refused(errno) => errno,
        })?;
        self.write(DATA_SIZE, &(segment.len() as u64).to_ne_bytes())
    }

    /// Writes bits that are no state which a client asks for.
    pub fn write_bits(&self, bits: u32) -> std::result::Result<(), Errno> {
        self.write(DEVICE_STATE, &bits.to_ne_bytes())
    }
}

/// The longest word, naturally aligned, that an access at this address can move.
fn word(at: u64, rest: usize) -> usize {
    [WORD, 4, 2].into_iter().find(|size| at.checked_rem(*size as u64) == Some(0) && *size <= rest).unwrap_or(1)
}
