//! Buffers of two requests with typed access, aligned as C callers of the `ops` table expect.

use crate::uapi::feature as u;
use std::ops::{Deref, DerefMut};

/// Largest argument the library sends: DMA_LOGGING_REPORT, header + 32 bytes.
const CAPACITY: usize = 40;

/// `struct vfio_device_feature` with its payload.
#[repr(C, align(8))]
pub struct Feature {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Feature {
    /// A zeroed request: `flags` is the feature's index with GET, SET or PROBE; `payload` its size in bytes.
    pub(crate) fn new(flags: u32, payload: usize) -> Self {
        let len = CAPACITY.min(u::HEADER_SIZE.saturating_add(payload));
        let mut feature = Feature { bytes: [0; CAPACITY], len };
        feature.put_u32(u::ARGSZ, u32::try_from(len).unwrap_or(u32::MAX));
        feature.put_u32(u::FLAGS, flags);
        feature
    }

    /// The whole argument, `argsz` bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The whole argument, for the one who answers.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or(&mut [])
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
#[repr(C, align(8))]
pub struct PrecopyInfo {
    bytes: [u8; u::PRECOPY_INFO_SIZE],
}

impl PrecopyInfo {
    /// All zero but argsz: drivers assign only one of the two counts and echo the other (C7, K12).
    pub(crate) fn new() -> Self {
        let mut info = PrecopyInfo { bytes: [0; u::PRECOPY_INFO_SIZE] };
        put(&mut info.bytes, 0, &(u::PRECOPY_INFO_SIZE as u32).to_ne_bytes());
        info
    }

    /// The whole argument.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
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
    use super::AlignedVec;

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
