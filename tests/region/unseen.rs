//! v1 servers whose region can be mapped: some do not see what happens there, show something, and count only what is read by trapped
//! access; others are right, and look like them, for their data is the same over and over.

use super::server::{DATA, Server};
use super::{Quirks, open_on};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use vfiomig::device::Device;
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::internals::set_unseen_limit;
use vfiomig::transport::{DataFd, Mapped, Returned, Transport};
use vfiomig::window::StreamFlags;

const SEGMENT: u64 = 4096;

/// What a trapped access to data that can be mapped brings.
#[derive(Clone, Copy, PartialEq)]
enum Trapped {
    /// Other bytes than the mapping shows.
    Other,
    /// The same.
    Same,
    /// EOPNOTSUPP.
    Refused,
}

/// Its data is as long as `segments` trapped reads of a segment; with `sees` it takes each acknowledgement for one.
struct Unseen {
    inner: Server,
    sees: bool,
    segments: u64,
    read: AtomicU64,
    state: AtomicU64,
    staged: AtomicU64,
    /// What pending_bytes says instead of what is left; 0: what is left.
    estimate: u64,
    size: u64,
    trapped: Trapped,
    /// The last byte of each segment is another one.
    tail: bool,
    mapped: AtomicUsize,
}

impl Unseen {
    fn new(sees: bool, segments: u64, estimate: u64) -> Self {
        let inner = Server::new(3, Vec::new(), 16);
        let (read, state, staged) = (AtomicU64::new(0), AtomicU64::new(1), AtomicU64::new(0));
        let trapped = if sees { Trapped::Same } else { Trapped::Other };
        let mapped = AtomicUsize::new(0);
        Unseen { inner, sees, segments, read, state, staged, estimate, size: SEGMENT, trapped, tail: false, mapped }
    }

    fn left(&self) -> u64 {
        self.segments.saturating_sub(self.read.load(Relaxed)) * self.size
    }

    fn write_tail(&self) {
        let memory = self.mapped.load(Relaxed) as *mut u8;
        if self.tail && !memory.is_null() {
            let at = (DATA + self.size - 1) as usize;
            // SAFETY: the mapping is as long as the region, and nothing else looks at it meanwhile.
            unsafe { memory.add(at).write(self.read.load(Relaxed) as u8) };
        }
    }
}

impl Transport for Unseen {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.device_info(info)
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.region_info(info)?;
        // It can be read, written and mapped, and has capabilities.
        if info.len() >= 48 {
            info[4..8].copy_from_slice(&0b1111u32.to_ne_bytes());
        }
        Ok(())
    }
    fn region_read(&self, _: u32, at: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let value = match (at, buf.len()) {
            (0, 4) => self.state.load(Relaxed),
            (8, 8) => {
                if self.sees && self.staged.swap(0, Relaxed) == 1 {
                    self.read.fetch_add(1, Relaxed);
                }
                if self.left() > 0 && self.estimate > 0 { self.estimate } else { self.left() }
            }
            (0x10, 8) => {
                self.staged.store(1, Relaxed);
                self.write_tail();
                DATA
            }
            (0x18, 8) => self.size.min(self.left()),
            (DATA.., _) if self.trapped == Trapped::Refused => return Err(Errno::new(libc::EOPNOTSUPP)),
            (DATA.., _) => {
                self.read.fetch_add(u64::from(!self.sees), Relaxed);
                buf.fill(if self.trapped == Trapped::Other { 7 } else { 0 });
                return Ok(buf.len());
            }
            _ => return Err(Errno::new(libc::EINVAL)),
        };
        let len = buf.len();
        buf.copy_from_slice(&value.to_ne_bytes()[..len]);
        Ok(len)
    }
    fn region_write(&self, _: u32, at: u64, buf: &[u8]) -> Result<usize, Errno> {
        assert_eq!((at, buf.len()), (0, 4));
        self.state.store(u64::from(u32::from_ne_bytes(buf.try_into().unwrap())), Relaxed);
        Ok(4)
    }
    fn region_map(&self, _: u32, _: u64, len: usize) -> Result<Mapped, Errno> {
        let words = vec![0u64; len.div_ceil(8)].into_boxed_slice();
        let unmap = |memory: NonNull<u8>, len: usize| {
            let words = std::ptr::slice_from_raw_parts_mut(memory.as_ptr().cast::<u64>(), len.div_ceil(8));
            // SAFETY: a box of so many words, which was leaked below.
            drop(unsafe { Box::from_raw(words) });
        };
        let memory: NonNull<u8> = NonNull::from(Box::leak(words)).cast();
        self.mapped.store(memory.as_ptr() as usize, Relaxed);
        // SAFETY: a box of so many bytes that has no other owner, until it is unmapped.
        Ok(unsafe { Mapped::new(memory, len, unmap) })
    }
    fn reset(&self) -> Result<(), Errno> {
        self.state.store(1, Relaxed);
        Ok(())
    }
    fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Err(Error::new(ErrorKind::Protocol, libc::EPROTO, "there is no data fd"))
    }
}

fn open(server: Unseen, no_mmap: bool) -> Device {
    let device = open_on(Box::new(server), Quirks { no_mmap, ..Quirks::default() });
    super::set(&device, State::StopCopy).unwrap();
    device
}

/// So many bytes came before END, or the error.
fn read_all(device: &Device) -> (u64, Result<(), Error>) {
    let (mut sum, mut buf) = (0, vec![0; 8192]);
    loop {
        match device.read(&mut buf) {
            Ok((0, flags)) => {
                assert_eq!(flags, StreamFlags::END);
                return (sum, Ok(()));
            }
            Ok((len, _)) => sum += len as u64,
            Err(error) => return (sum, Err(error)),
        }
        assert!(sum < 1 << 30, "it never ends");
    }
}

/// It is found out, by an error of which nothing comes but a stream that is void.
fn is_found_out(server: Unseen, most: u64) {
    let device = open(server, false);
    let (sum, end) = read_all(&device);
    let error = end.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    for part in ["vf0", "mapped", "pending_bytes", "VFIOMIG_DEVICE_F_NO_MMAP"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(sum <= most, "{sum}");
    assert!(device.info().broken);
    assert_eq!(device.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::Stale);
    super::set(&device, State::Stop).unwrap();
}

/// The stream of `server` is whole.
fn is_whole(server: Unseen, no_mmap: bool) {
    let what = (server.segments, server.size, server.estimate);
    let (sum, end) = read_all(&open(server, no_mmap));
    assert_eq!((sum, end.map_err(|error| error.to_string())), (what.0 * what.1, Ok(())), "{what:?}");
}

/// V1-7, V1-8: what was read is not seen, so pending_bytes never falls, and the same is read again and again. A trapped access moves
/// the device on; without the mapping the stream is whole.
#[test]
fn a_server_that_does_not_see_its_mapping_is_found_out() {
    for segments in [1, 10] {
        is_found_out(Unseen::new(false, segments, 0), 2 << 20);
        is_whole(Unseen::new(false, segments, 0), true);
    }
}

/// The trapped access proves nothing where the device shows the same there, or moves on without a change to be seen: its stream has
/// no end, but the call has.
#[test]
fn what_stands_still_for_ever_is_found_out() {
    set_unseen_limit(16 << 20);
    // Once it is moved on by the trapped access.
    is_found_out(Unseen { trapped: Trapped::Same, ..Unseen::new(false, 10, 0) }, 19 << 20);
    is_found_out(Unseen::new(false, 10, 1), 17 << 20);
    is_found_out(Unseen { trapped: Trapped::Refused, ..Unseen::new(false, 10, 0) }, 17 << 20);
    // Tiny segments have an end, too.
    is_found_out(Unseen { size: 16, ..Unseen::new(false, 10, 1) }, 16 * 4097);
}

/// Only zero or not has a meaning (V1-7), and a state may be all zeros: a stream that ends is read to its end.
#[test]
fn an_estimate_that_stays_is_no_proof() {
    for segments in [200, 300, 307, 308, 309, 2000, 9000] {
        for estimate in [0, 1, SEGMENT, 100 * SEGMENT, 1000 * SEGMENT] {
            for trapped in [Trapped::Same, Trapped::Refused] {
                is_whole(Unseen { trapped, ..Unseen::new(true, segments, estimate) }, false);
            }
        }
    }
}

/// A trapped access that shows something else proves nothing alone, either.
#[test]
fn other_bytes_by_trapped_access_are_no_proof() {
    for segments in [300, 2000] {
        is_whole(Unseen { trapped: Trapped::Other, ..Unseen::new(true, segments, 1) }, false);
    }
}

/// Segments are compared whole.
#[test]
fn segments_that_begin_alike_are_not_the_same() {
    set_unseen_limit(4 << 20);
    for (size, trapped) in [(8192, Trapped::Same), (4097, Trapped::Refused), (0xf000, Trapped::Other)] {
        is_whole(Unseen { size, trapped, tail: true, ..Unseen::new(true, 2000, 1) }, false);
    }
}
