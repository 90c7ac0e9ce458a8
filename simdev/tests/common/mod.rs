//! Clients written from the rules of docs/rules.md alone, without the library.
#![allow(dead_code, reason = "each test file uses a part")]

use simdev::{Device, MIGRATION_REGION as R};
use std::ptr::NonNull;

pub const RUNNING: u32 = 1;
pub const SAVING: u32 = 2;
pub const RESUMING: u32 = 4;
pub const NDMA: u32 = 8;

/// The region as `GET_REGION_INFO` tells it, with the areas mapped.
pub struct Client {
    pub d: Device,
    pub size: u64,
    pub region_type: (u32, u32),
    pub areas: Vec<(u64, u64)>,
    pub maps: Vec<(u64, u64, NonNull<u8>)>,
    /// Longest trapped access; 8: naturally aligned powers of two.
    pub most: usize,
    pub ndma: bool,
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(b[at..at + 4].try_into().unwrap())
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(b[at..at + 8].try_into().unwrap())
}

impl Client {
    pub fn open(d: &Device, map: bool, most: usize) -> Client {
        let mut info = [0u8; 24];
        info[0] = 24;
        d.device_info(&mut info).unwrap();
        assert_eq!(u32_at(&info, 8), 10);
        let mut info = vec![0u8; 32];
        info[0] = 32;
        info[8] = 9;
        d.region_info(&mut info).unwrap();
        let needed = u32_at(&info, 0) as usize;
        assert!(needed > 32 && u32_at(&info, 12) == 0, "P6, P7: no room for the capabilities yet");
        info = vec![0; needed];
        info[..4].copy_from_slice(&(needed as u32).to_ne_bytes());
        info[8] = 9;
        d.region_info(&mut info).unwrap();
        let (flags, size) = (u32_at(&info, 4), u64_at(&info, 16));
        let mut client =
            Client { d: d.clone(), size, region_type: (0, 0), areas: Vec::new(), maps: Vec::new(), most, ndma: false };
        let (mut at, mut sparse) = (u32_at(&info, 12) as usize, false);
        while at != 0 {
            match u16::from_ne_bytes([info[at], info[at + 1]]) {
                1 => {
                    sparse = true;
                    for i in 0..u32_at(&info, at + 8) as usize {
                        client.areas.push((u64_at(&info, at + 16 + i * 16), u64_at(&info, at + 24 + i * 16)));
                    }
                }
                2 => client.region_type = (u32_at(&info, at + 8), u32_at(&info, at + 12)),
                6 => client.ndma = true,
                id => panic!("capability {id}"),
            }
            at = u32_at(&info, at + 4) as usize;
        }
        if flags & 4 != 0 && !sparse {
            client.areas.push((0, size));
        }
        if map {
            for &(at, len) in &client.areas {
                if let Ok(memory) = d.region_map(R, at, len as usize) {
                    client.maps.push((at, len, memory));
                }
            }
        }
        client
    }

    pub fn get(&self, at: u64) -> u64 {
        let mut b = [0; 8];
        let len = if at == 0 { 4 } else { 8 };
        assert_eq!(self.d.region_read(R, at, &mut b[..len]).unwrap(), len);
        if len == 4 { u64::from(u32_at(&b, 0)) } else { u64_at(&b, 0) }
    }

    pub fn put(&self, at: u64, value: u64) -> Result<(), i32> {
        let b = value.to_ne_bytes();
        let len = if at == 0 { 4 } else { 8 };
        self.d.region_write(R, at, if at == 0 { &b[..4] } else { &b }).map(|n| assert_eq!(n, len))
    }

    /// V1-1: read, modify, write.
    pub fn state(&self, to: u32) -> Result<(), i32> {
        let mask = if self.ndma { 15 } else { 7 };
        let kept = self.get(0) as u32 & !mask;
        let mut b = [0; 4];
        b.copy_from_slice(&(kept | to).to_ne_bytes());
        self.d.region_write(R, 0, &b).map(drop)
    }

    pub fn pending(&self) -> u64 {
        self.get(8)
    }
    pub fn offset(&self) -> u64 {
        self.get(0x10)
    }
    pub fn size(&self) -> u64 {
        self.get(0x18)
    }

    /// Length of the next piece at `at`, and the mapping it lies in.
    fn piece(&self, at: u64, len: u64) -> (u64, Option<NonNull<u8>>) {
        let mut n = len;
        for &(from, size, memory) in &self.maps {
            if at >= from && at < from + size {
                // SAFETY: `at` is inside the mapping, which lives until this client is dropped.
                let inside = unsafe { memory.add((at - from) as usize) };
                return (len.min(from + size - at), Some(inside));
            }
            if from > at {
                n = n.min(from - at);
            }
        }
        n = n.min(self.most as u64);
        if self.most == 8 {
            while n & (n - 1) != 0 || at % n != 0 {
                n = 1 << (63 - (n - 1).leading_zeros());
            }
        }
        (n, None)
    }

    pub fn read_data(&self, at: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let (n, memory) = self.piece(at + done as u64, (buf.len() - done) as u64);
            let part = &mut buf[done..done + n as usize];
            done += match memory {
                // SAFETY: `piece` found `part.len()` bytes of a mapping at `memory`; `part` is memory of its own.
                Some(memory) => unsafe {
                    std::ptr::copy_nonoverlapping(memory.as_ptr(), part.as_mut_ptr(), part.len());
                    part.len()
                },
                None => self.d.region_read(R, at + done as u64, part).unwrap(),
            };
        }
    }

    pub fn write_data(&self, at: u64, buf: &[u8]) -> Result<(), i32> {
        let mut done = 0;
        while done < buf.len() {
            let (n, memory) = self.piece(at + done as u64, (buf.len() - done) as u64);
            let part = &buf[done..done + n as usize];
            done += match memory {
                // SAFETY: `piece` found `part.len()` bytes of a mapping at `memory`; `part` is memory of its own.
                Some(memory) => unsafe {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), memory.as_ptr(), part.len());
                    part.len()
                },
                None => self.d.region_write(R, at + done as u64, part)?,
            };
        }
        Ok(())
    }

    /// V1-6 b to d; the caller's next pending() is f.
    pub fn segment(&self) -> Vec<u8> {
        let (at, len) = (self.offset(), self.size());
        let mut segment = vec![0; len as usize];
        self.read_data(at, &mut segment);
        segment
    }

    /// V1-6 until pending_bytes is 0, or D3, which is the same to a client that reads pending_bytes each time.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while self.pending() > 0 {
            out.push(self.segment());
        }
        out
    }

    /// V1-9, D6.
    pub fn load_segment(&self, segment: &[u8]) -> Result<(), i32> {
        let at = self.offset();
        self.write_data(at, segment)?;
        self.put(0x18, segment.len() as u64)
    }

    pub fn load(&self, segments: &[Vec<u8>]) -> Result<(), i32> {
        self.state(RESUMING)?;
        segments.iter().try_for_each(|s| self.load_segment(s))
    }

    /// Start, size, total; then copied_pfns until 0 (D8 to D16): the dirty pages.
    pub fn dirty(&self, start: u64, page: u64, total: u64, rewrite: bool) -> Vec<u64> {
        let (mut pages, mut count, mut first) = (Vec::new(), 0, true);
        loop {
            if first || rewrite {
                self.put(0x20, start + count).unwrap();
                self.put(0x28, page).unwrap();
                self.put(0x30, total - count).unwrap();
            }
            first = false;
            let copied = self.get(0x38);
            if copied == 0 {
                return pages;
            }
            assert!(copied <= total - count, "D15");
            let mut bitmap = vec![0u8; copied.div_ceil(64) as usize * 8];
            let at = self.offset();
            self.read_data(at, &mut bitmap);
            let word = |i: u64| u64::from_ne_bytes(bitmap[i as usize / 64 * 8..][..8].try_into().unwrap());
            pages.extend((0..copied).filter(|&i| word(i) >> (i % 64) & 1 != 0).map(|i| start + count + i));
            count += copied;
            if count == total {
                return pages;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for &(_, len, memory) in &self.maps {
            self.d.region_unmap(R, memory, len as usize);
        }
    }
}

/// v2, from the families V2, F and C.
pub mod v2 {
    use simdev::Device;

    pub const GET: u32 = 1 << 16;
    pub const SET: u32 = 1 << 17;
    pub const PROBE: u32 = 1 << 18;
    pub const STOP: u32 = 1;
    pub const RUNNING: u32 = 2;
    pub const STOP_COPY: u32 = 3;
    pub const RESUMING: u32 = 4;
    pub const RUNNING_P2P: u32 = 5;
    pub const PRE_COPY: u32 = 6;
    pub const PRE_COPY_P2P: u32 = 7;

    pub fn feature(d: &Device, flags: u32, payload: &mut [u8]) -> Result<(), i32> {
        let mut b = vec![0u8; 8 + payload.len()];
        let argsz = b.len() as u32;
        b[..4].copy_from_slice(&argsz.to_ne_bytes());
        b[4..8].copy_from_slice(&flags.to_ne_bytes());
        b[8..].copy_from_slice(payload);
        let result = d.feature(&mut b);
        payload.copy_from_slice(&b[8..]);
        result
    }

    pub fn flags(d: &Device) -> Result<u64, i32> {
        let mut p = [0; 8];
        feature(d, 1 | GET, &mut p).map(|()| u64::from_ne_bytes(p))
    }

    pub fn size(d: &Device) -> Result<u64, i32> {
        let mut p = [0; 8];
        feature(d, 9 | GET, &mut p).map(|()| u64::from_ne_bytes(p))
    }

    pub fn state(d: &Device) -> u32 {
        let mut p = [0; 8];
        feature(d, 2 | GET, &mut p).unwrap();
        assert_eq!(p[4..], [0xff; 4]);
        u32::from_ne_bytes(p[..4].try_into().unwrap())
    }

    pub fn set(d: &Device, to: u32) -> Result<i32, i32> {
        let mut p = [0xff; 8];
        p[..4].copy_from_slice(&to.to_ne_bytes());
        feature(d, 2 | SET, &mut p).map(|()| i32::from_ne_bytes(p[4..].try_into().unwrap()))
    }

    /// (flags, initial, dirty); zeroed before (C7).
    pub fn info(d: &Device) -> Result<(u32, u64, u64), i32> {
        let mut b = [0u8; 24];
        b[0] = 24;
        d.precopy_info(&mut b)?;
        let u64_at = |at: usize| u64::from_ne_bytes(b[at..at + 8].try_into().unwrap());
        Ok((u32::from_ne_bytes(b[4..8].try_into().unwrap()), u64_at(8), u64_at(16)))
    }

    /// Reads until an end; whether it was ENOMSG.
    pub fn drain(d: &Device, chunk: usize, out: &mut Vec<u8>) -> bool {
        let mut buf = vec![0; chunk];
        loop {
            match d.data_read(&mut buf) {
                Ok(0) => return false,
                Ok(n) => out.extend(&buf[..n]),
                Err(libc::ENOMSG) => return true,
                Err(errno) => panic!("read: {errno}"),
            }
        }
    }

    pub fn write_all(d: &Device, mut bytes: &[u8], chunk: usize) -> Result<(), i32> {
        while !bytes.is_empty() {
            let n = d.data_write(&bytes[..bytes.len().min(chunk)])?;
            assert!(n > 0);
            bytes = &bytes[n..];
        }
        Ok(())
    }
}

/// Two whole pages of zeroes, for bitmaps (I6).
#[repr(C, align(4096))]
pub struct Words(pub [u64; 1024]);

impl Words {
    pub fn new() -> Box<Words> {
        Box::new(Words([0; 1024]))
    }

    pub fn address(&mut self) -> u64 {
        self.0.as_mut_ptr() as u64
    }

    /// Bits that are set.
    pub fn bits(&self) -> Vec<u64> {
        (0..1024 * 64).filter(|bit| self.0[bit / 64] >> (bit % 64) & 1 != 0).map(|bit| bit as u64).collect()
    }
}
