//! A server behind the VMM's functions that is as particular as the public ones: its iteration over the window ends with each
//! write of device_state, and data_offset out of sequence is refused, as in libvfio-user's v1; a draft's data_offset shows what
//! was asked for last. It notes what it is asked, and each access outside its region.

use std::sync::{Arc, Mutex, MutexGuard};
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Returned, Transport};

pub const DATA: u64 = 4096;
const BITMAP: u64 = 0x8000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Iteration {
    Initial,
    Started,
    Prepared,
    Finished,
}

pub struct Model {
    pub state: u32,
    pub region_type: u32,
    pub size: u64,
    /// Bytes of a segment of the stream.
    pub segment: usize,
    /// Device data that is still to be given.
    pub left: Vec<u8>,
    /// Added to pending_bytes.
    pub pending_lie: u64,
    /// Draft: how many pages a read of copied_pfns gives.
    pub copied: u64,
    /// The window reads as all ones where a bitmap is.
    pub bits: u8,
    /// Segments that were loaded.
    pub loaded: Vec<Vec<u8>>,
    /// What was read and written, by register; data as "data".
    pub log: Vec<&'static str>,
    pub beyond: Vec<(u64, usize)>,
    /// `next` of the region's only capability; 0 in a chain that is right.
    pub next_capability: u32,
    /// Regions in all; the last one is the migration region, the others are plain.
    pub regions: u32,
    iteration: Iteration,
    staged: Vec<u8>,
    shows_bitmap: bool,
    data: Vec<u8>,
}

/// The server, and the transport to it.
#[derive(Clone)]
pub struct Server(Arc<Mutex<Model>>);

impl Server {
    pub fn new(region_type: u32, stream: Vec<u8>, segment: usize) -> Self {
        Server(Arc::new(Mutex::new(Model {
            state: 1,
            region_type,
            size: 0x1_0000,
            segment,
            left: stream,
            pending_lie: 0,
            copied: 0,
            bits: 0xff,
            loaded: Vec::new(),
            log: Vec::new(),
            beyond: Vec::new(),
            next_capability: 0,
            regions: 1,
            iteration: Iteration::Initial,
            staged: Vec::new(),
            shows_bitmap: false,
            data: vec![0; 0x1_0000],
        })))
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }
}

impl Model {
    fn is_draft(&self) -> bool {
        self.region_type == 2
    }

    fn pending(&mut self) -> u64 {
        self.shows_bitmap = false;
        if self.is_draft() {
            return self.left.len() as u64;
        }
        match self.iteration {
            // Nothing more is latched until device_state is written.
            Iteration::Finished => 0,
            _ => {
                let pending = (self.left.len() as u64).wrapping_add(self.pending_lie);
                self.iteration = if pending == 0 { Iteration::Finished } else { Iteration::Started };
                pending
            }
        }
    }

    fn offset(&mut self) -> Result<u64, Errno> {
        if self.state & 4 != 0 {
            return Ok(DATA);
        }
        if self.shows_bitmap {
            return Ok(BITMAP);
        }
        match self.iteration {
            Iteration::Prepared if !self.is_draft() => {}
            Iteration::Started | Iteration::Initial | Iteration::Prepared if self.is_draft() => self.stage(),
            Iteration::Started => self.stage(),
            _ => return Err(Errno::new(libc::EINVAL)),
        }
        Ok(DATA)
    }

    fn stage(&mut self) {
        let len = self.segment.min(self.left.len());
        self.staged = self.left.drain(..len).collect();
        self.iteration = Iteration::Prepared;
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

impl Transport for Server {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        put(info, 4, &3u32.to_ne_bytes());
        put(info, 8, &self.model().regions.to_ne_bytes());
        Ok(())
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        let model = self.model();
        if info[8..12] != (model.regions - 1).to_ne_bytes() {
            put(info, 0, &32u32.to_ne_bytes());
            // VGA's, on a device that has none.
            return if info[8..12] == 8u32.to_ne_bytes() { Err(Errno::new(libc::EINVAL)) } else { Ok(()) };
        }
        put(info, 0, &48u32.to_ne_bytes());
        if info.len() < 48 {
            return Ok(());
        }
        put(info, 4, &0b1011u32.to_ne_bytes());
        put(info, 12, &32u32.to_ne_bytes());
        put(info, 16, &model.size.to_ne_bytes());
        for (at, half) in [(32, 2u16), (34, 1)] {
            put(info, at, &half.to_ne_bytes());
        }
        for (at, word) in [(36, model.next_capability), (40, model.region_type), (44, 1)] {
            put(info, at, &word.to_ne_bytes());
        }
        Ok(())
    }

    fn region_read(&self, _: u32, at: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut model = self.model();
        if at + buf.len() as u64 > model.size {
            model.beyond.push((at, buf.len()));
        }
        let (name, value) = match (at, buf.len()) {
            (0, 4) => ("device_state", u64::from(model.state)),
            (0x08, 8) => ("pending_bytes", model.pending()),
            (0x10, 8) => ("data_offset", model.offset()?),
            (0x18, 8) => ("data_size", model.staged.len() as u64),
            (0x38, 8) if model.is_draft() => {
                model.shows_bitmap = true;
                ("copied_pfns", model.copied)
            }
            (BITMAP.., _) if model.is_draft() => {
                buf.fill(model.bits);
                ("bitmap", 0)
            }
            _ => {
                let from = (at - DATA) as usize;
                buf.copy_from_slice(&model.staged[from..from + buf.len()]);
                ("data", 0)
            }
        };
        model.log.push(name);
        if !matches!(name, "data" | "bitmap") {
            match buf.len() {
                4 => buf.copy_from_slice(&(value as u32).to_ne_bytes()),
                _ => buf.copy_from_slice(&value.to_ne_bytes()),
            }
        }
        Ok(buf.len())
    }

    fn region_write(&self, _: u32, at: u64, buf: &[u8]) -> Result<usize, Errno> {
        let mut model = self.model();
        if at + buf.len() as u64 > model.size {
            model.beyond.push((at, buf.len()));
            return Err(Errno::new(libc::EINVAL));
        }
        match (at, buf.len()) {
            (0, 4) => {
                model.state = u32::from_ne_bytes(buf.try_into().unwrap());
                model.iteration = Iteration::Initial;
            }
            (0x18, 8) => {
                let len = u64::from_ne_bytes(buf.try_into().unwrap()) as usize;
                let segment = model.data[..len].to_vec();
                model.loaded.push(segment);
            }
            (0x20..0x38, 8) if model.is_draft() => {}
            _ => {
                let from = (at - DATA) as usize;
                model.data[from..from + buf.len()].copy_from_slice(buf);
            }
        }
        Ok(buf.len())
    }

    fn reset(&self) -> Result<(), Errno> {
        let mut model = self.model();
        (model.state, model.iteration) = (1, Iteration::Initial);
        Ok(())
    }

    fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Err(Error::new(vfiomig::error::ErrorKind::Protocol, libc::EPROTO, "there is no data fd"))
    }
}
