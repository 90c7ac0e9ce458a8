//! What C passes, as what Rust takes: texts and descriptors.

use crate::error::{Error, ErrorKind, Result};
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, RawFd};

/// A name. Bytes that are no UTF-8 become a character of one byte, so that its length stays what C counts.
pub(super) fn text_of(text: &CStr) -> String {
    text.to_string_lossy().replace(char::REPLACEMENT_CHARACTER, "?")
}

/// A descriptor of the caller. `BorrowedFd` must not hold -1, so that is refused here.
///
/// # Safety
/// If `fd` is not negative it stays open as long as the result is used.
pub(super) unsafe fn borrow_fd(what: &str, fd: RawFd) -> Result<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(Error::new(ErrorKind::Argument, libc::EBADF, format!("{what}: {fd} is not a descriptor")));
    }
    // SAFETY: not -1; open by the contract of this function.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A C array; NULL is legal where it is empty.
///
/// # Safety
/// `first` is NULL or readable for `count` elements, for as long as the result is used.
pub(super) unsafe fn slice<'a, T>(what: &str, first: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Error::argument(format!("{what} is NULL, but {count} are to be there")));
    }
    if !first.is_aligned() || count.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(Error::argument(format!("{what}: {count} elements at {first:p} are no array")));
    }
    // SAFETY: not NULL, aligned, of a legal size; readable by the contract of this function.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}
