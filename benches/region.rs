//! The window of the migration region: trapped in large calls beside a loop of 8-byte calls (QEMU 7.2's way), and mapped to a
//! socket and to a file beside write() of plain memory. In turns within one run; all ways must deliver the same bytes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/mod.rs"]
mod common;

use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Mapped, Returned, Transport};
use vfiomig::window::{Quirks, StreamFlags};

const END: StreamFlags = StreamFlags::END;

const SEGMENT: usize = 1 << 20;
const DATA: u64 = 4096;
const ROUNDS: usize = 9;

/// Registers in memory, data in a memfd that is read by pread or mapped: every data access is a real system call.
struct Region {
    file: std::fs::File,
    mapped: bool,
    segments: u64,
    state: Mutex<(u32, u64)>,
    calls: AtomicU64,
}

struct Shared(std::sync::Arc<Region>);

fn region(segments: u64, mapped: bool) -> std::sync::Arc<Region> {
    // SAFETY: a C string and no flags.
    let fd = unsafe { libc::memfd_create(c"region".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: just made, it has no other owner.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.write_all(&vec![0; DATA as usize]).unwrap();
    file.write_all(&(0..SEGMENT).map(|i| (i * 131 + (i >> 11)) as u8).collect::<Vec<_>>()).unwrap();
    std::sync::Arc::new(Region { file, mapped, segments, state: Mutex::new((1, 0)), calls: AtomicU64::new(0) })
}

impl Transport for Shared {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        info[8..12].copy_from_slice(&1u32.to_ne_bytes());
        Ok(())
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        info[0..4].copy_from_slice(&48u32.to_ne_bytes());
        let flags = 8 | if self.0.mapped { 4u32 } else { 0 };
        info[4..8].copy_from_slice(&flags.to_ne_bytes());
        info[16..24].copy_from_slice(&(DATA + SEGMENT as u64).to_ne_bytes());
        if info.len() >= 48 {
            for (at, word) in [(12, 32u32), (32, 2 | 1 << 16), (36, 0), (40, 3), (44, 1)] {
                info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        Ok(())
    }

    fn region_read(&self, _index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mut state = self.0.state.lock().unwrap();
        let saving = state.0 & 2 != 0;
        let word = match offset {
            0 => u64::from(state.0),
            8 => {
                // Reading it acknowledges the segment that was staged.
                if state.1 % 2 == 1 {
                    state.1 += 1;
                }
                let left = self.0.segments - state.1 / 2;
                if saving { left * SEGMENT as u64 } else { 0 }
            }
            16 => {
                state.1 |= 1;
                DATA
            }
            24 => SEGMENT as u64,
            _ => {
                // SAFETY: `buf` is writable for its length.
                let n = unsafe {
                    libc::pread64(self.0.file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), offset as i64)
                };
                return usize::try_from(n).map_err(|_| Errno::last());
            }
        };
        let len = buf.len();
        buf.copy_from_slice(&word.to_ne_bytes()[..len]);
        Ok(len)
    }

    fn region_write(&self, _index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        assert_eq!((offset, buf.len()), (0, 4), "only device_state is written while saving");
        *self.0.state.lock().unwrap() = (u32::from_ne_bytes(buf.try_into().unwrap()), 0);
        Ok(4)
    }

    fn region_map(&self, _index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, self.0.file.as_raw_fd(), offset as i64)
        };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let unmap = |memory: NonNull<u8>, len| {
            // SAFETY: the mapping made above.
            unsafe { libc::munmap(memory.as_ptr().cast(), len) };
        };
        // SAFETY: just mapped, it has no other owner.
        Ok(unsafe { Mapped::new(NonNull::new(at.cast()).unwrap(), len, unmap) })
    }

    fn open_data(&self, _data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        unreachable!("v1 has no data fd")
    }
}

fn device(region: &std::sync::Arc<Region>, aligned_access: bool) -> Device {
    let quirks = Quirks { aligned_access, ..Quirks::default() };
    let options = DeviceOptions { name: "bench".into(), quirks, ..DeviceOptions::default() };
    Device::new(Box::new(Shared(region.clone())), options).unwrap()
}

/// Saves everything to `fd`; returns the bytes.
fn save(device: &Device, fd: BorrowedFd<'_>) -> usize {
    device.restart_stream().unwrap();
    device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
    let mut total = 0;
    loop {
        let (n, flags) = device.send(fd, 0).unwrap();
        if flags == END {
            break;
        }
        total += n;
    }
    device.set_state(State::Running, OnFailure::Keep, false).unwrap();
    total
}

/// Something that swallows bytes and can say afterwards that they were right.
trait Sink {
    fn fd(&self) -> BorrowedFd<'_>;
    fn finish(self, expected: usize);
}

struct Socket(UnixStream, std::thread::JoinHandle<usize>);

impl Socket {
    fn new() -> Self {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buf = vec![0; SEGMENT];
            let mut len = 0;
            loop {
                match theirs.read(&mut buf).unwrap() {
                    0 => return len,
                    n => {
                        let i = len % SEGMENT;
                        assert_eq!(buf[0], (i * 131 + (i >> 11)) as u8, "a byte is wrong");
                        len += n;
                    }
                }
            }
        });
        Socket(ours, reader)
    }
}

impl Sink for Socket {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn finish(self, expected: usize) {
        drop(self.0);
        assert_eq!(self.1.join().unwrap(), expected);
    }
}

/// A file in memory that is written over and over.
struct Memory(std::fs::File);

impl Memory {
    fn new() -> Self {
        // SAFETY: a C string and no flags.
        let fd = unsafe { libc::memfd_create(c"sink".as_ptr(), 0) };
        assert!(fd >= 0);
        // SAFETY: just made, it has no other owner.
        Memory(unsafe { std::fs::File::from_raw_fd(fd) })
    }
}

impl Sink for Memory {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn finish(mut self, expected: usize) {
        assert_eq!(self.0.stream_position().unwrap(), expected as u64);
    }
}

fn timed<S: Sink>(sink: S, expected: usize, work: impl FnOnce(BorrowedFd<'_>)) -> Duration {
    let begun = Instant::now();
    work(sink.fd());
    let before_end = begun.elapsed();
    sink.finish(expected);
    // A file is written when write() returns; a socket when the reader has it.
    if std::any::type_name::<S>().ends_with("Socket") { begun.elapsed() } else { before_end }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// `segments` writes of equal plain memory.
fn plain(fd: BorrowedFd<'_>, memory: &[u8], segments: u64) {
    for _ in 0..segments {
        let mut rest = memory;
        while !rest.is_empty() {
            // SAFETY: `rest` is readable for its length.
            let n = unsafe { libc::write(fd.as_raw_fd(), rest.as_ptr().cast(), rest.len()) };
            rest = &rest[usize::try_from(n).unwrap()..];
        }
    }
}

fn mapped<S: Sink>(name: &str, segments: u64, rounds: usize, new: impl Fn() -> S) {
    let region = region(segments, true);
    let device = device(&region, false);
    let memory: Vec<u8> = (0..SEGMENT).map(|i| (i * 131 + (i >> 11)) as u8).collect();
    let total = segments as usize * SEGMENT;
    let (mut first, mut ours, mut second) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        first.push(timed(new(), total, |fd| plain(fd, &memory, segments)));
        ours.push(timed(new(), total, |fd| assert_eq!(save(&device, fd), total)));
        second.push(timed(new(), total, |fd| plain(fd, &memory, segments)));
    }
    let (a, b, o) = (median(first), median(second), median(ours));
    println!(
        "mapped to {name:<8} {:>8.0} MiB/s, write() of plain memory {:>8.0} MiB/s: ratio {:.3} (noise {:.3})",
        segments as f64 / o,
        segments as f64 / a.min(b),
        (a + b) / 2.0 / o,
        a / b
    );
}

fn trapped(segments: u64, segments_8: u64, rounds: usize) {
    let (large, small) = (region(segments, false), region(segments_8, false));
    let (device_large, device_small) = (device(&large, false), device(&small, true));
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    large.calls.store(0, Ordering::Relaxed);
    for _ in 0..rounds {
        let total = segments as usize * SEGMENT;
        fast.push(timed(Memory::new(), total, |fd| assert_eq!(save(&device_large, fd), total)));
        let total = segments_8 as usize * SEGMENT;
        slow.push(timed(Memory::new(), total, |fd| assert_eq!(save(&device_small, fd), total)));
    }
    // Of each save, 5 accesses are not a segment's: state read and compared, pending_bytes of the first segment, the end.
    let calls = large.calls.load(Ordering::Relaxed) as f64 / rounds as f64;
    println!("trapped: {:.2} accesses per 1 MiB segment (with those of the state changes)", calls / segments as f64);
    println!(
        "trapped to file   {:>8.0} MiB/s in large calls, {:>8.1} MiB/s in 8-byte calls: {:.0} times",
        segments as f64 / median(fast.clone()),
        segments_8 as f64 / median(slow.clone()),
        (segments as f64 / median(fast)) / (segments_8 as f64 / median(slow))
    );
}

fn main() {
    if !common::is_wanted("region") {
        return;
    }
    // `make check` runs benches with --test: two small rounds show that they work, for the second session of a device begins
    // where the first one ended.
    let quick = std::env::args().any(|arg| arg == "--test");
    let (rounds, segments) = if quick { (2, 4) } else { (ROUNDS, 256) };
    println!("the migration region, segments of 1 MiB, median of {rounds} rounds");
    mapped("socket", segments, rounds, Socket::new);
    mapped("file", segments, rounds, Memory::new);
    trapped(segments, 4, rounds);
}
