//! A v1 server whose region can be mapped, and which does not see what happens there: its mapping shows something, and it counts
//! only what is read by trapped access.

use super::server::{DATA, Server};
use super::{Quirks, open_on};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vfiomig::device::Device;
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error, Kind};
use vfiomig::transport::{DataFd, Mapped, Returned, Transport};
use vfiomig::window::END;

const SEGMENT: u64 = 4096;

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
}

impl Unseen {
    fn new(sees: bool, segments: u64, estimate: u64) -> Self {
        let inner = Server::new(3, Vec::new(), 16);
        let (read, state, staged) = (AtomicU64::new(0), AtomicU64::new(1), AtomicU64::new(0));
        Unseen { inner, sees, segments, read, state, staged, estimate }
    }

    fn left(&self) -> u64 {
        self.segments.saturating_sub(self.read.load(Relaxed)) * SEGMENT
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
                DATA
            }
            (0x18, 8) => SEGMENT.min(self.left()),
            (DATA.., _) => {
                self.read.fetch_add(u64::from(!self.sees), Relaxed);
                buf.fill(7);
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
        // SAFETY: a box of so many bytes that nobody else has, until it is unmapped.
        Ok(unsafe { Mapped::new(NonNull::from(Box::leak(words)).cast(), len, unmap) })
    }
    fn reset(&self) -> Result<(), Errno> {
        self.state.store(1, Relaxed);
        Ok(())
    }
    fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Err(Error::new(Kind::Protocol, libc::EPROTO, "there is no data fd"))
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
                assert_eq!(flags, END);
                return (sum, Ok(()));
            }
            Ok((len, _)) => sum += len as u64,
            Err(error) => return (sum, Err(error)),
        }
        assert!(sum < 1 << 30, "it never ends");
    }
}

/// V1-7, V1-8: what was read is not seen, so pending_bytes never falls, and the same is read again and again. That is an error, of
/// which nothing comes but a stream that is void; without the mapping the stream is whole.
#[test]
fn a_server_that_does_not_see_its_mapping_is_found_out() {
    for segments in [1, 10] {
        let device = open(Unseen::new(false, segments, 0), false);
        let (sum, end) = read_all(&device);
        let error = end.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{error}");
        for part in ["vf0", "mapped", "pending_bytes", "VFIOMIG_DEVICE_F_NO_MMAP"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(sum <= 16 << 20, "{sum}");
        assert!(device.info().broken);
        assert_eq!(device.read(&mut [0; 8]).unwrap_err().kind(), Kind::Stale);
        super::set(&device, State::Stop).unwrap();

        let (sum, end) = read_all(&open(Unseen::new(false, segments, 0), true));
        assert_eq!((sum, end.is_ok()), (segments * SEGMENT, true));
    }
}

/// Only zero or not has a meaning (V1-7), and a state may be all zeros: a stream that ends is read to its end.
#[test]
fn an_estimate_that_stays_is_no_proof() {
    for (segments, estimate) in [(2000, 0), (1000, 1000 * SEGMENT), (200, 1)] {
        let (sum, end) = read_all(&open(Unseen::new(true, segments, estimate), false));
        assert_eq!((sum, end.map_err(|error| error.to_string())), (segments * SEGMENT, Ok(())), "{estimate}");
    }
}
