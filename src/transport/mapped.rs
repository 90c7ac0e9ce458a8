//! Memory of a device as a transport hands it out.

use std::ptr::NonNull;

type Release = Box<dyn FnOnce(NonNull<u8>, usize) + Send>;

/// A part of a region that is mapped until this is dropped.
///
/// The library reads and writes the memory, so safe code cannot make one: a pointer alone is no mapping.
///
/// ```compile_fail,E0308
/// # use std::ptr::NonNull;
/// # use vfiomig::error::{Errno, Error};
/// # use vfiomig::transport::{DataFd, Mapped, Returned, Transport};
/// struct Forger;
/// impl Transport for Forger {
///     fn region_map(&self, _: u32, _: u64, _: usize) -> Result<Mapped, Errno> {
///         Ok(NonNull::dangling())
///     }
///     # fn open_data(&self, _: Option<Returned>) -> Result<Box<dyn DataFd>, Error> { unreachable!() }
/// }
/// ```
///
/// ```compile_fail,E0133
/// # use std::ptr::NonNull;
/// # use vfiomig::transport::Mapped;
/// let forged = Mapped::new(NonNull::dangling(), 4096, |_, _| ());
/// ```
///
/// Code that can answer for the memory makes one:
///
/// ```
/// use std::ptr::NonNull;
/// use vfiomig::transport::Mapped;
///
/// // Memory of the heap, that only the mapping refers to.
/// let memory = NonNull::from(Box::leak(Box::new([0u64; 512]))).cast::<u8>();
/// // SAFETY: the box is taken back only when the mapping is dropped; 4096 bytes are its length.
/// let mapped = unsafe {
///     Mapped::new(memory, 4096, |memory, _| drop(Box::from_raw(memory.cast::<[u64; 512]>().as_ptr())))
/// };
/// assert_eq!((mapped.as_ptr(), mapped.len()), (memory, 4096));
/// ```
pub struct Mapped {
    memory: NonNull<u8>,
    len: usize,
    unmap: Option<Release>,
}

// SAFETY: by the contract of `new` the memory may be used, and given back, on any thread; `unmap` is Send itself.
unsafe impl Send for Mapped {}

impl Mapped {
    /// `len` bytes from `memory` on; `unmap` gives them back, and is called with both when this is dropped.
    ///
    /// # Safety
    /// Until `unmap` is called, on whichever thread, the bytes can be read and written by pointer, and no reference of this
    /// process points to them. They may change at any time, and access may raise SIGBUS when the device goes away (P26).
    pub unsafe fn new(
        memory: NonNull<u8>,
        len: usize,
        unmap: impl FnOnce(NonNull<u8>, usize) + Send + 'static,
    ) -> Self {
        Mapped { memory, len, unmap: Some(Box::new(unmap)) }
    }

    /// The first byte.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.memory
    }

    /// Bytes that are mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(unmap) = self.unmap.take() {
            unmap(self.memory, self.len);
        }
    }
}
