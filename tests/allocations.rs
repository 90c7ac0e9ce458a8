//! The hot path allocates nothing: not per call, and with a mapped window not even a buffer, so that there is nothing into
//! which the library could copy. Counted by this program's own allocator.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::Mutex;
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error};
use vfiomig::transport::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};
use vfiomig::window::{Quirks, StreamFlags};

const END: StreamFlags = StreamFlags::END;

thread_local! {
    /// (allocations, bytes) of this thread.
    static COUNT: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

struct Counting;

// SAFETY: everything is the system allocator's; counting touches a thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set((count.get().0 + 1, count.get().1 + layout.size())));
        // SAFETY: the contract of this function.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the contract of this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocated.
fn allocated(work: impl FnOnce()) -> (usize, usize) {
    let before = COUNT.get();
    work();
    let after = COUNT.get();
    (after.0 - before.0, after.1 - before.1)
}

const SEGMENT: u64 = 64 << 10;
const SEGMENTS: u64 = 20;
const DATA: u64 = 4096;

/// A device of v2, or of v1 with a mapped window, that allocates nothing while it is used.
struct Plain {
    v1: bool,
    file: std::fs::File,
    /// device_state or v2 state, and accesses of the segment counter.
    state: Mutex<(u32, u64)>,
}

struct Data(u64);

fn plain(v1: bool) -> Box<dyn Transport> {
    // SAFETY: a C string and no flags.
    let fd = unsafe { libc::memfd_create(c"region".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: just made, it has no other owner.
    let file = unsafe { std::fs::File::from_raw_fd(fd) };
    file.set_len(DATA + SEGMENT).unwrap();
    Box::new(Plain { v1, file, state: Mutex::new((if v1 { 1 } else { 2 }, 0)) })
}

impl Transport for Plain {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        info[8..12].copy_from_slice(&1u32.to_ne_bytes());
        Ok(())
    }

    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        match feature.flags() {
            _ if self.v1 => return Err(Errno::new(libc::ENOTTY)),
            0x1_0001 => feature.put_u64(8, 1),
            0x1_0002 => feature.put_u32(8, state.0),
            0x2_0002 => {
                state.0 = feature.u32_at(8);
                feature.put_u32(12, if state.0 == 3 { 1 } else { u32::MAX });
            }
            _ => return Err(Errno::new(libc::ENOTTY)),
        }
        Ok(())
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        info[0..4].copy_from_slice(&48u32.to_ne_bytes());
        info[4..8].copy_from_slice(&12u32.to_ne_bytes());
        info[16..24].copy_from_slice(&(DATA + SEGMENT).to_ne_bytes());
        if info.len() >= 48 {
            for (at, word) in [(12, 32u32), (32, 2 | 1 << 16), (36, 0), (40, 3), (44, 1)] {
                info[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        Ok(())
    }

    fn region_read(&self, _index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock().unwrap();
        let word = match offset {
            0 => u64::from(state.0),
            8 => {
                // Reading it acknowledges what data_offset staged.
                state.1 += state.1 % 2;
                (SEGMENTS - state.1 / 2) * SEGMENT
            }
            16 => {
                state.1 |= 1;
                DATA
            }
            24 => SEGMENT,
            _ => panic!("data is mapped, but {offset:#x} was read"),
        };
        let len = buf.len();
        buf.copy_from_slice(&word.to_ne_bytes()[..len]);
        Ok(len)
    }

    fn region_write(&self, _index: u32, _offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        *self.state.lock().unwrap() = (u32::from_ne_bytes(buf.try_into().unwrap()), 0);
        Ok(4)
    }

    fn region_map(&self, _index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, self.file.as_raw_fd(), offset as i64)
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
        Ok(Box::new(Data(SEGMENTS * SEGMENT)))
    }
}

impl DataFd for Data {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = buf.len().min(self.0 as usize);
        buf[..n].fill(7);
        self.0 -= n as u64;
        Ok(n)
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        Ok(buf.len())
    }
    fn precopy_info(&mut self, _info: &mut PrecopyInfo) -> Result<(), Errno> {
        Err(Errno::new(libc::ENOTTY))
    }
    fn wait_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

fn stopped(v1: bool, quirks: Quirks) -> Device {
    let options = DeviceOptions { name: "vf0".into(), quirks, buffer_size: Some(64 << 10), ..DeviceOptions::default() };
    let device = Device::new(plain(v1), options).unwrap();
    device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
    device
}

/// Sends the whole stream to a file that swallows it.
fn send_all(device: &Device) -> u64 {
    let sink = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let mut sent = 0;
    loop {
        let (n, flags) = device.send(sink.as_fd(), 0).unwrap();
        if flags == END {
            return sent;
        }
        sent += n as u64;
    }
}

#[test]
fn a_mapped_window_is_sent_without_a_buffer() {
    let device = stopped(true, Quirks::default());
    let mut sent = 0;
    let (_, bytes) = allocated(|| sent = send_all(&device));
    assert_eq!(sent, SEGMENT * SEGMENTS);
    // The name of the file and its like; a copy of 1.3 MB would need room somewhere.
    assert!(bytes < 1024, "{bytes} bytes were allocated to send {sent}");
}

#[test]
fn calls_allocate_nothing_once_the_buffer_is_there() {
    for v1 in [false, true] {
        let device = stopped(v1, Quirks::default());
        let mut buf = vec![0; 70_000];
        // The first call takes the pooled buffer.
        device.peek_raw(100).unwrap();
        device.consume_raw(100).unwrap();
        let chunk = device.peek(100).unwrap();
        device.consume(chunk, 100).unwrap();
        let (count, bytes) = allocated(|| {
            for _ in 0..10 {
                device.peek_raw(1000).unwrap();
                device.consume_raw(900).unwrap();
                let chunk = device.peek(1000).unwrap();
                device.consume(chunk, 900).unwrap();
                device.read(&mut buf[..500]).unwrap();
                device.read(&mut buf).unwrap();
            }
        });
        assert_eq!((count, bytes), (0, 0), "v1={v1}");
    }
}

#[test]
fn the_counter_counts() {
    let (count, bytes) = allocated(|| drop(vec![0u8; 4096]));
    assert_eq!((count, bytes), (1, 4096));
    // Without the mapping the same stream does need the buffer, so the first test can fail.
    let device = stopped(false, Quirks::default());
    let (_, bytes) = allocated(|| assert_eq!(send_all(&device), SEGMENT * SEGMENTS));
    assert!(bytes >= 64 << 10, "{bytes}");
}
