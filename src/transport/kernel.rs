//! A VFIO device fd that the VMM opened, by group or by cdev. The library neither opens groups nor maps memory.
//!
//! Example: [`Kernel`].

use super::feature::{check_argsz, field};
use super::returned::kind_of;
use super::signals::NoSigpipe;
use super::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};
use crate::error::{Errno, Error};
use crate::uapi::{device as ud, feature as uf, ioctl as io, region as ur};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ptr};

/// Longest single read or write: the kernel's MAX_RW_COUNT (P20).
const MAX_RW: usize = 0x7fff_f000;
const WAIT_MS: libc::c_int = 100;

/// The kernel transport over `fd`, which is borrowed for the transport's whole life and never closed by it.
///
/// ```
/// use std::fs::File;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::transport::kernel::Kernel;
///
/// // A VMM has the fd of a VFIO device. This one is of another kind, and knows none of the requests.
/// let no_device = Kernel::new(File::open("/dev/null")?);
/// let error = Device::new(Box::new(no_device), DeviceOptions::default()).unwrap_err();
/// assert!(error.to_string().contains("VFIO_DEVICE_GET_INFO"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Kernel<F> {
    fd: F,
    /// Where each region lies on the fd, as the last description said; it never changes while the fd is open. Without it each
    /// access would cost a second system call.
    places: RwLock<BTreeMap<u32, RegionExtent>>,
}

#[derive(Clone, Copy)]
struct RegionExtent {
    size: u64,
    offset: u64,
}

impl<F: AsFd + Send + Sync> Kernel<F> {
    /// `fd` is a VFIO device fd; a cdev must be bound already. A descriptor of another kind knows none of the requests
    /// (ENOTTY), and is neither read, written nor mapped, because that needs an answer to one of them.
    pub fn new(fd: F) -> Self {
        Kernel { fd, places: RwLock::default() }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }

    /// EINVAL, and the kernel is not asked, if the argument's own argsz is beyond its end or less than `least`.
    ///
    /// # Safety
    /// `number` takes a struct of at least `least` bytes, and pointers in `argument` are valid for the request.
    unsafe fn request(&self, number: libc::c_ulong, argument: &mut [u8], least: usize) -> Result<(), Errno> {
        check_argsz(argument, least)?;
        // SAFETY: `argument` is writable for its whole length, and the first field, argsz, is no more than that: the kernel
        // writes no further. The rest is the contract of this function.
        check(unsafe { ioctl_with_mut_ptr(&self.raw(), number, argument.as_mut_ptr()) })
    }
}

impl<F: AsFd + Send + Sync> Transport for Kernel<F> {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the struct holds no pointer.
        unsafe { self.request(io::VFIO_DEVICE_GET_INFO, info, ud::INFO_SIZE) }
    }

    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        // SAFETY: what was asked is the library's own, and memory that it names outlives the feature.
        unsafe { self.request(io::VFIO_DEVICE_FEATURE, feature.request_mut(), uf::HEADER_SIZE) }?;
        // SAFETY: the kernel gives the new descriptor to the caller, and no other code has its number (V2-5).
        unsafe { feature.returns_fd() };
        Ok(())
    }

    fn report_adds_bits(&self) -> bool {
        true
    }

    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the struct holds no pointer.
        unsafe { self.request(io::VFIO_DEVICE_GET_REGION_INFO, info, ur::INFO_SIZE) }?;
        let number = |at| field(info, at).map(u64::from_ne_bytes);
        let index = field(info, ur::INFO_INDEX).map(u32::from_ne_bytes);
        if let (Some(index), Some(size), Some(offset)) =
            (index, number(ur::INFO_REGION_SIZE), number(ur::INFO_REGION_OFFSET))
        {
            self.places.write().insert(index, RegionExtent { size, offset });
        }
        Ok(())
    }

    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let at = self.position(index, offset, buf.len())?;
        // SAFETY: `buf` is writable for the length given.
        retry(|| unsafe { libc::pread64(self.raw(), buf.as_mut_ptr().cast(), buf.len().min(MAX_RW), at) })
    }

    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        let at = self.position(index, offset, buf.len())?;
        // SAFETY: `buf` is readable for the length given.
        // Never twice: a driver that cuts a state change short may have made a part of it.
        moved(unsafe { libc::pwrite64(self.raw(), buf.as_ptr().cast(), buf.len().min(MAX_RW), at) })
    }

    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        let at = self.position(index, offset, len)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory of the program.
        let memory = unsafe { libc::mmap64(std::ptr::null_mut(), len, access, libc::MAP_SHARED, self.raw(), at) };
        if memory == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let memory = NonNull::new(memory.cast()).ok_or(Errno::new(libc::ENOMEM))?;
        let unmap = |memory: NonNull<u8>, len| {
            // SAFETY: the mapping that was made above, to which no pointer is left.
            unsafe { libc::munmap(memory.as_ptr().cast(), len) };
        };
        // SAFETY: the mapping was just made and is of that length; it stays until it is unmapped, and has no other owner.
        Ok(unsafe { Mapped::new(memory, len, unmap) })
    }

    fn reset(&self) -> Result<(), Errno> {
        // SAFETY: the request takes no argument.
        check(unsafe { ioctl(&self.raw(), io::VFIO_DEVICE_RESET) })
    }

    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        KernelData::open(data_fd)
    }
}

impl<F: AsFd + Send + Sync> Kernel<F> {
    /// The place on the device fd, checked against the region as the kernel described it.
    fn position(&self, index: u32, offset: u64, len: usize) -> Result<libc::off64_t, Errno> {
        let known = self.places.read().get(&index).copied();
        let place = match known {
            Some(place) => place,
            None => {
                let region = super::region_info(self, index).map_err(|error| Errno::new(error.errno()))?;
                RegionExtent { size: region.size, offset: region.offset }
            }
        };
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= place.size);
        let at = place.offset.checked_add(offset).and_then(|at| i64::try_from(at).ok());
        at.filter(|_| inside).ok_or(Errno::new(libc::EINVAL))
    }
}

/// A data fd that the kernel, or an `ops` function, handed out; closed when dropped.
pub(super) struct KernelData {
    fd: OwnedFd,
}

impl KernelData {
    pub(super) fn open(data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        let Some(Returned::Owned(fd)) = data_fd else {
            return Err(Error::protocol("the state change opened a session but returned no data fd"));
        };
        // SAFETY: `fd` is open. The kernel sets CLOEXEC itself; a VMM's function may have forgotten to. A failure (EBADF)
        // shows at the first read.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        // A driver that would sleep until its firmware has data says EAGAIN instead (mlx5): cancel and abort reach the device.
        // The others neither sleep nor look at the mode, but xe, whose reads stay a request inside the kernel. Polling first
        // would do too, but for pre-copy, where mlx5's poll never wakes up.
        // SAFETY: asks for and sets flags of a descriptor of our own.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, mode(fd.as_fd()) | libc::O_NONBLOCK) };
        Ok(Box::new(KernelData { fd }))
    }
}

impl DataFd for KernelData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: `buf` is writable for the length given.
        moved(unsafe { libc::read(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len().min(MAX_RW)) })
    }

    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        // A VMM's function may hand out a pipe or a socket: EPIPE, and no signal after the call that ends the VMM.
        let _no_sigpipe = NoSigpipe::new();
        // SAFETY: `buf` is readable for the length given.
        moved(unsafe { libc::write(self.fd.as_raw_fd(), buf.as_ptr().cast(), buf.len().min(MAX_RW)) })
    }

    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        let argument = info.request_mut().as_mut_ptr();
        // SAFETY: `info` is a whole vfio_precopy_info whose argsz is its size.
        check(unsafe { ioctl_with_mut_ptr(&self.fd, io::VFIO_MIG_GET_PRECOPY_INFO, argument) })
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

pub(super) fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

fn moved(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// EINTR is tried again so often: nothing was moved, and signals are blocked, so it is rare (P1).
const MAX_INTERRUPTS: usize = 16;

fn retry(mut call: impl FnMut() -> libc::ssize_t) -> Result<usize, Errno> {
    let interrupted = |result: &Result<usize, Errno>| matches!(result, Err(errno) if errno.get() == libc::EINTR);
    let mut result = moved(call());
    for _ in 0..MAX_INTERRUPTS {
        if !interrupted(&result) {
            break;
        }
        result = moved(call());
    }
    result
}

/// # Safety
/// `memory` is readable for `len` bytes.
pub(super) unsafe fn write_from(fd: BorrowedFd<'_>, memory: *const u8, len: usize) -> Result<usize, Errno> {
    let len = len.min(MAX_RW);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the contract of this function.
    let sent = retry(|| unsafe { libc::send(fd.as_raw_fd(), memory.cast(), len, flags) });
    match sent {
        Err(errno) if errno.get() == libc::ENOTSOCK => {
            let len = if may_block(fd) { len.min(SURE_ROOM) } else { len };
            ready_now(fd, true)?;
            let _no_sigpipe = NoSigpipe::new();
            // SAFETY: as above.
            retry(|| unsafe { libc::write(fd.as_raw_fd(), memory.cast(), len) })
        }
        other => other,
    }
}

/// # Safety
/// `memory` is writable for `len` bytes.
pub(super) unsafe fn read_into(fd: BorrowedFd<'_>, memory: *mut u8, len: usize) -> Result<usize, Errno> {
    let len = len.min(MAX_RW);
    // SAFETY: the contract of this function.
    match retry(|| unsafe { libc::recv(fd.as_raw_fd(), memory.cast(), len, libc::MSG_DONTWAIT) }) {
        Err(errno) if errno.get() == libc::ENOTSOCK => {
            ready_now(fd, false)?;
            // SAFETY: the contract of this function.
            retry(|| unsafe { libc::read(fd.as_raw_fd(), memory.cast(), len) })
        }
        other => other,
    }
}

/// What a pipe in blocking mode takes for certain once it is ready; a larger write waits for its reader.
const SURE_ROOM: usize = libc::PIPE_BUF;

/// How the descriptor was opened; 0 if it is none.
fn mode(fd: BorrowedFd<'_>) -> libc::c_int {
    // SAFETY: asks for flags; takes no memory.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }.max(0)
}

/// Whether the caller wants to hear EAGAIN rather than to wait.
pub(super) fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    mode(fd) & libc::O_NONBLOCK != 0
}

/// Whether a large write could wait although the descriptor is ready: a pipe takes what fits and then waits for its reader.
fn may_block(fd: BorrowedFd<'_>) -> bool {
    kind_of(fd.as_raw_fd()) == Some(libc::S_IFIFO) && !is_nonblocking(fd)
}

/// EAGAIN unless an access would return at once. One that is broken, or open for the other direction only, is never ready: its
/// access says what is wrong.
fn ready_now(fd: BorrowedFd<'_>, for_write: bool) -> Result<(), Errno> {
    let events = if for_write { libc::POLLOUT } else { libc::POLLIN };
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let ready = loop {
        // SAFETY: one entry, which lives through the call.
        match unsafe { libc::poll(&mut entry, 1, 0) } {
            // A signal says nothing of it; any other failure shows in the access.
            ..0 if Errno::last().get() == libc::EINTR => {}
            count => break count != 0,
        }
    };
    let other = if for_write { libc::O_RDONLY } else { libc::O_WRONLY };
    if ready || mode(fd) & libc::O_ACCMODE == other { Ok(()) } else { Err(Errno::new(libc::EAGAIN)) }
}

/// Waits until one of them is ready, or `limit` has gone by.
pub(super) fn wait_any(fds: &[(BorrowedFd<'_>, bool)], limit: Duration) -> Vec<bool> {
    let entry = |(fd, for_write): &(BorrowedFd<'_>, bool)| {
        let events = if *for_write { libc::POLLOUT } else { libc::POLLIN };
        libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
    };
    let mut entries: Vec<libc::pollfd> = fds.iter().map(entry).collect();
    let millis = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: so many entries, which live through the call.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    // A signal says nothing of the descriptors. Any other failure is taken for "all": their access says what is wrong.
    let failed = ready < 0 && Errno::last().get() != libc::EINTR;
    entries.iter().map(|entry| failed || entry.revents != 0).collect()
}

pub(super) fn wait_ready(fd: Option<BorrowedFd<'_>>, for_write: bool) {
    let Some(fd) = fd else {
        std::thread::sleep(Duration::from_millis(1));
        return;
    };
    let events = if for_write { libc::POLLOUT } else { libc::POLLIN };
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    let ready = unsafe { libc::poll(&mut entry, 1, WAIT_MS) };
    if ready > 0 && entry.revents & events == 0 {
        // POLLERR and the like: do not spin.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, FromRawFd};
    use std::time::Instant;

    extern "C" fn nothing(_: libc::c_int) {}

    /// A handler that runs while a full pipe is looked at does not make it ready: the write would wait for its reader.
    #[test]
    fn a_signal_makes_no_descriptor_ready() {
        use std::os::unix::thread::JoinHandleExt;
        let mut ends = [-1; 2];
        // SAFETY: holds two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: zeros are an action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing, and nothing else here uses the signal.
        assert_eq!(unsafe { libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut()) }, 0);
        // SAFETY: each was just opened, and has no other owner.
        let [_reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let bytes = [0; 4096];
        let write = move || {
            // SAFETY: `bytes` is readable for its length.
            unsafe { write_from(writer.as_fd(), bytes.as_ptr(), bytes.len()) }
        };
        let caller = std::thread::spawn(move || {
            while write().is_ok() {}
            let until = Instant::now() + Duration::from_millis(400);
            let mut answers = std::iter::repeat_with(write).take_while(|_| Instant::now() < until);
            answers.find(|answer| *answer != Err(Errno::new(libc::EAGAIN)))
        });
        let begun = Instant::now();
        while !caller.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it waits in write()");
            // SAFETY: a thread that was not joined yet.
            unsafe { libc::pthread_kill(caller.as_pthread_t(), libc::SIGURG) };
        }
        assert_eq!(caller.join().unwrap(), None);
    }

    /// A mutant: poll says at once that such a descriptor is in error, and never that it is ready.
    #[test]
    fn a_descriptor_in_error_is_not_spun_on() {
        let mut ends = [-1; 2];
        // SAFETY: holds two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: each was just opened, and has no other owner.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        drop(reader);
        let begun = Instant::now();
        (0..20).for_each(|_| wait_ready(Some(writer.as_fd()), false));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(20), "{took:?}");
    }
}
