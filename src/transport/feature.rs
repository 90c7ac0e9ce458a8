//! Buffers of two requests with typed access, aligned as the C functions of an `ops` table expect.

use super::returned::DataNumber;
use crate::error::Errno;
use crate::uapi::feature as u;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Largest argument the library sends: DMA_LOGGING_REPORT, header + 32 bytes.
const CAPACITY: usize = 40;

/// `struct vfio_device_feature` with its payload, which may name memory that lives for `'m`.
///
/// A transport that answers it may write to it as to any bytes. One that hands it on takes [`request_mut`](Self::request_mut),
/// which is the request as the library made it: sizes and addresses in it are right, whatever was written before. No other code
/// can make one, and the lifetime keeps two of them from being exchanged:
///
/// ```compile_fail
/// # use vfiomig::transport::Feature;
/// fn exchange(a: &mut Feature<'_>, b: &mut Feature<'_>) {
///     std::mem::swap(a, b);
/// }
/// ```
///
/// Example: [`Transport`](super::Transport) answers some.
#[repr(C, align(8))]
pub struct Feature<'m> {
    bytes: [u8; CAPACITY],
    len: usize,
    /// As the library asked.
    asked: [u8; CAPACITY],
    /// The number of the descriptor that was returned.
    data_fd: Option<DataNumber>,
    named: NamedMemory,
    memory: PhantomData<&'m mut [u64]>,
}

/// Memory whose address is in the request: first element and count, as they were borrowed for `'m`.
#[derive(Clone, Copy)]
enum NamedMemory {
    Nothing,
    Ranges(NonNull<[u64; 2]>, usize),
    Bitmap(NonNull<u64>, usize),
}

// SAFETY: it stands for a borrow of plain numbers, shared or exclusive, that lives for `'m`: such borrows may go to other
// threads.
unsafe impl Send for NamedMemory {}
// SAFETY: by a shared reference only ranges are read, which nobody writes.
unsafe impl Sync for NamedMemory {}

impl<'m> Feature<'m> {
    /// A zeroed request: `flags` is the feature's index with GET, SET or PROBE; `payload` its size in bytes.
    pub(crate) fn new(flags: u32, payload: usize) -> Self {
        let len = CAPACITY.min(u::HEADER_SIZE.saturating_add(payload));
        let bytes = [0; CAPACITY];
        let named = NamedMemory::Nothing;
        let mut feature = Feature { bytes, len, asked: bytes, data_fd: None, named, memory: PhantomData };
        feature.ask_u32(u::ARGSZ, u32::try_from(len).unwrap_or(u32::MAX));
        feature.ask_u32(u::FLAGS, flags);
        feature
    }

    /// A field of the request.
    pub(crate) fn ask_u32(&mut self, offset: usize, value: u32) {
        self.ask(offset, &value.to_ne_bytes());
    }

    /// A field of the request.
    pub(crate) fn ask_u64(&mut self, offset: usize, value: u64) {
        self.ask(offset, &value.to_ne_bytes());
    }

    /// A field that holds the address of ranges to read.
    pub(crate) fn ask_from(&mut self, offset: usize, ranges: &'m [[u64; 2]]) {
        self.ask_u64(offset, address(ranges.as_ptr()));
        let first = NonNull::from(ranges).cast();
        self.named = NamedMemory::Ranges(first, ranges.len());
    }

    /// A field that holds the address of a bitmap to write to.
    pub(crate) fn ask_into(&mut self, offset: usize, bitmap: &'m mut [u64]) {
        let (first, words) = (NonNull::from(&mut *bitmap).cast::<u64>(), bitmap.len());
        self.ask_u64(offset, address(first.as_ptr().cast_const()));
        self.named = NamedMemory::Bitmap(first, words);
    }

    /// The ranges, {iova, length} each, of a request that starts a log of written pages: what its pointer leads to, for those who
    /// do not pass on an address. Empty in other requests.
    pub fn ranges(&self) -> &[[u64; 2]] {
        match self.named {
            // SAFETY: `ask_from` borrowed so many for 'm, which outlives this feature.
            NamedMemory::Ranges(first, count) => unsafe { std::slice::from_raw_parts(first.as_ptr(), count) },
            _ => &[],
        }
    }

    /// The bitmap of a request for a log's report, likewise: bit n is word n / 64, bit n % 64. Empty in other requests.
    pub fn bitmap_mut(&mut self) -> &mut [u64] {
        match self.named {
            // SAFETY: `ask_into` borrowed so many words for 'm, which outlives this feature, and for nobody else.
            NamedMemory::Bitmap(first, words) => unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), words) },
            _ => &mut [],
        }
    }

    fn ask(&mut self, offset: usize, value: &[u8]) {
        put(self.asked.get_mut(..self.len).unwrap_or(&mut []), offset, value);
        put(self.bytes_mut(), offset, value);
    }

    /// The whole argument, `argsz` bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The whole argument, for the one who answers.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or(&mut [])
    }

    /// The whole argument as the library asked, for a kernel or a function that reads and writes where it says; the answer goes
    /// to the same place. What was written to it before is gone.
    pub fn request_mut(&mut self) -> &mut [u8] {
        self.bytes = self.asked;
        self.bytes_mut()
    }

    /// Says that the number in the answer to a state change is a descriptor: the session that begins will own it, and without one
    /// it is closed. In the answer to another request nothing is taken. Without this call it is a number and no more.
    ///
    /// ```compile_fail,E0133
    /// # use vfiomig::transport::Feature;
    /// fn adopt(feature: &mut Feature<'_>) {
    ///     feature.put_u32(12, 0);
    ///     feature.returns_fd();
    /// }
    /// ```
    ///
    /// # Safety
    /// The number is that of no open descriptor, or of one that has no owner from here on, or of the one that the device's open
    /// session has: that one only if the state change has kept the session.
    pub unsafe fn returns_fd(&mut self) {
        let flags = field(&self.asked, u::FLAGS).map_or(0, u32::from_ne_bytes);
        if flags == u::MIG_DEVICE_STATE | u::SET {
            // SAFETY: the contract of this function.
            self.data_fd = Some(unsafe { DataNumber::of_descriptor(self.data_fd_field()) });
        }
    }

    /// The data fd in the answer to a state change; `None` is -1.
    pub(crate) fn into_data_fd(mut self) -> Option<DataNumber> {
        let number = self.data_fd.take().unwrap_or_else(|| DataNumber::of_software(self.data_fd_field()));
        (number.number() >= 0).then_some(number)
    }

    fn data_fd_field(&self) -> i32 {
        i32::from_ne_bytes(self.u32_at(u::MIG_DATA_FD).to_ne_bytes())
    }

    /// Index with GET, SET or PROBE.
    pub fn flags(&self) -> u32 {
        self.u32_at(u::FLAGS)
    }

    /// A field of the argument; 0 beyond its end.
    pub fn u32_at(&self, offset: usize) -> u32 {
        field(self.bytes(), offset).map_or(0, u32::from_ne_bytes)
    }

    /// A field of the argument; 0 beyond its end.
    pub fn u64_at(&self, offset: usize) -> u64 {
        field(self.bytes(), offset).map_or(0, u64::from_ne_bytes)
    }

    /// Sets a field; one beyond the end is left out.
    pub fn put_u32(&mut self, offset: usize, value: u32) {
        put(self.bytes_mut(), offset, &value.to_ne_bytes());
    }

    /// Sets a field; one beyond the end is left out.
    pub fn put_u64(&mut self, offset: usize, value: u64) {
        put(self.bytes_mut(), offset, &value.to_ne_bytes());
    }
}

/// Bytes on which a C function may lay a struct of the uAPI.
#[repr(C, align(8))]
pub(super) struct Aligned<const N: usize>(pub [u8; N]);

/// The same of a length that is known only at run time; zeroed.
pub(super) struct AlignedVec {
    words: Vec<u64>,
    len: usize,
}

impl AlignedVec {
    pub fn new(len: usize) -> Self {
        AlignedVec { words: vec![0; len.div_ceil(size_of::<u64>())], len }
    }
}

impl Deref for AlignedVec {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the words are at least `len` initialised bytes, and any byte is a u8.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; any bytes are a u64, and the borrow of `self` is the only way to them.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.len) }
    }
}

/// `struct vfio_precopy_info`.
///
/// ```
/// use std::os::fd::BorrowedFd;
/// use vfiomig::error::Errno;
/// use vfiomig::transport::{DataFd, PrecopyInfo};
///
/// /// A session of a device that has `.0` bytes of initial data left.
/// struct Data(u64);
///
/// impl DataFd for Data {
///     fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
///         info.answer(0, self.0, 0);
///         Ok(())
///     }
///     # fn read(&mut self, _: &mut [u8]) -> Result<usize, Errno> { Ok(0) }
///     # fn write(&mut self, _: &[u8]) -> Result<usize, Errno> { Ok(0) }
///     # fn wait_fd(&self) -> Option<BorrowedFd<'_>> { None }
/// }
/// ```
#[repr(C, align(8))]
pub struct PrecopyInfo {
    bytes: [u8; u::PRECOPY_INFO_SIZE],
}

impl PrecopyInfo {
    /// All zero but argsz: drivers assign only one of the two counts and echo the other (C7, K12).
    pub(crate) fn new() -> Self {
        let mut info = PrecopyInfo { bytes: [0; u::PRECOPY_INFO_SIZE] };
        info.put_argsz();
        info
    }

    /// The whole argument, for the one who answers.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The same for a kernel or a function that writes as far as argsz says: its argsz is right, whatever was written before.
    pub fn request_mut(&mut self) -> &mut [u8] {
        self.put_argsz();
        &mut self.bytes
    }

    fn put_argsz(&mut self) {
        put(&mut self.bytes, 0, &(u::PRECOPY_INFO_SIZE as u32).to_ne_bytes());
    }

    /// Fills in an answer.
    pub fn answer(&mut self, flags: u32, initial_bytes: u64, dirty_bytes: u64) {
        put(&mut self.bytes, u::PRECOPY_FLAGS, &flags.to_ne_bytes());
        put(&mut self.bytes, u::PRECOPY_INITIAL_BYTES, &initial_bytes.to_ne_bytes());
        put(&mut self.bytes, u::PRECOPY_DIRTY_BYTES, &dirty_bytes.to_ne_bytes());
    }

    pub(crate) fn flags(&self) -> u32 {
        field(&self.bytes, u::PRECOPY_FLAGS).map_or(0, u32::from_ne_bytes)
    }

    pub(crate) fn initial_bytes(&self) -> u64 {
        field(&self.bytes, u::PRECOPY_INITIAL_BYTES).map_or(0, u64::from_ne_bytes)
    }

    pub(crate) fn dirty_bytes(&self) -> u64 {
        field(&self.bytes, u::PRECOPY_DIRTY_BYTES).map_or(0, u64::from_ne_bytes)
    }
}

/// The address that a request carries. The kernel reads or writes there while the request lasts, and never afterwards.
pub(super) fn address<T>(memory: *const T) -> u64 {
    memory.expose_provenance() as u64
}

/// EINVAL unless `argument` is as long as its first field says, which is at least `least`, the size of the request's struct: who
/// answers writes as far as that field allows.
pub(super) fn check_argsz(argument: &[u8], least: usize) -> Result<(), Errno> {
    let argsz = field(argument, 0).map_or(0, u32::from_ne_bytes) as usize;
    if argsz >= least && argsz <= argument.len() { Ok(()) } else { Err(Errno::new(libc::EINVAL)) }
}

/// `N` bytes at `offset`, or nothing if they are not all there.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// Writes `value` at `offset` if it fits.
pub(super) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let Some(end) = offset.checked_add(value.len()) else { return };
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::{AlignedVec, Feature, PrecopyInfo, check_argsz};
    use crate::transport::Returned;
    use crate::uapi::dma_log as u;
    use crate::uapi::feature::{GET, MIG_DATA_FD, MIG_DEVICE_STATE, MIG_DEVICE_STATE_SIZE, SET};

    #[test]
    fn what_is_handed_on_is_what_was_asked() {
        let mut bitmap = [0u64; 2];
        let there = bitmap.as_ptr().addr() as u64;
        let mut feature = Feature::new(u::REPORT | GET, u::REPORT_SIZE);
        feature.ask_u64(u::REPORT_LENGTH, 0x1000);
        feature.ask_into(u::REPORT_BITMAP, &mut bitmap);
        let asked = feature.bytes().to_vec();
        feature.bytes_mut().fill(0xff);
        feature.put_u64(u::REPORT_BITMAP, 0x1000);
        assert_eq!(feature.request_mut(), asked);
        assert_eq!((feature.u64_at(u::REPORT_BITMAP), feature.u32_at(0) as usize), (there, asked.len()));
    }

    /// Who answers in safe code reaches the memory, whatever it wrote over the address.
    #[test]
    fn memory_that_a_request_names_is_reached_without_its_address() {
        let (mut bitmap, ranges) = ([0u64; 2], [[0x1000, 0x2000]]);
        let mut report = Feature::new(u::REPORT | GET, u::REPORT_SIZE);
        assert!(report.bitmap_mut().is_empty() && report.ranges().is_empty());
        report.ask_into(u::REPORT_BITMAP, &mut bitmap);
        report.bytes_mut().fill(0xff);
        report.bitmap_mut()[1] = 5;
        assert!(report.ranges().is_empty());
        assert_eq!(bitmap, [0, 5]);
        let mut start = Feature::new(u::START | SET, u::START_SIZE);
        start.ask_from(u::START_RANGES, &ranges);
        start.bytes_mut().fill(0xff);
        assert!(start.ranges() == ranges && start.bitmap_mut().is_empty());
    }

    #[test]
    fn only_a_state_change_that_says_so_returns_a_descriptor() {
        let answer = |flags, says: bool, number: i32| {
            let mut feature = Feature::new(flags, MIG_DEVICE_STATE_SIZE);
            feature.put_u32(MIG_DATA_FD, number as u32);
            if says {
                // SAFETY: no descriptor has so high a number, and none is opened below.
                unsafe { feature.returns_fd() };
            }
            // Afterwards the field is only bytes.
            feature.put_u32(MIG_DATA_FD, 1);
            feature.into_data_fd()
        };
        let set = MIG_DEVICE_STATE | SET;
        assert!(answer(set, true, -1).is_none());
        let answered = answer(set, true, i32::MAX).unwrap();
        assert_eq!(answered.number(), i32::MAX);
        assert!(answered.discard(), "it was said to be a descriptor");
        for (flags, says) in [(set, false), (MIG_DEVICE_STATE | GET, true)] {
            assert!(matches!(answer(flags, says, i32::MAX).unwrap().take(), Some(Returned::Number(1))));
        }
    }

    #[test]
    fn precopy_info_is_handed_on_with_its_own_size() {
        let mut info = PrecopyInfo::new();
        info.bytes_mut()[..4].copy_from_slice(&4096u32.to_ne_bytes());
        assert_eq!(info.request_mut()[..4], 24u32.to_ne_bytes());
    }

    #[test]
    fn a_size_beyond_the_buffer_or_below_the_struct_is_refused() {
        let of = |argsz: u32, len: usize| {
            let mut argument = vec![0; len];
            let there = len.min(4);
            argument[..there].copy_from_slice(&argsz.to_ne_bytes()[..there]);
            check_argsz(&argument, 16).map_err(|errno| errno.get())
        };
        for (argsz, len) in [(16, 16), (16, 40), (40, 40)] {
            assert_eq!(of(argsz, len), Ok(()), "{argsz} {len}");
        }
        for (argsz, len) in [(17, 16), (u32::MAX, 64), (15, 64), (0, 64), (16, 3), (16, 0)] {
            assert_eq!(of(argsz, len), Err(libc::EINVAL), "{argsz} {len}");
        }
    }

    #[test]
    fn bytes_of_any_length_are_aligned_and_zero() {
        for len in [0, 1, 7, 8, 9, 32, 48, 65_535] {
            let mut bytes = AlignedVec::new(len);
            assert_eq!((bytes.len(), bytes.as_ptr().align_offset(align_of::<u64>())), (len, 0));
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(0xff);
            assert!(bytes.iter().all(|byte| *byte == 0xff));
        }
    }
}
