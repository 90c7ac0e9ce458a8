//! Memory whose address a client put into a request. The kernel copies it for us, as it does behind an ioctl: a bad address
//! is EFAULT.

/// Reads `bytes.len()` bytes at `address` of this process.
pub(crate) fn read(address: u64, bytes: &mut [u8]) -> Result<(), i32> {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: `local` is `bytes`; `remote` is checked by the kernel, which only reads it.
    moved(unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) }, bytes.len())
}

/// Writes `bytes` to `address` of this process.
pub(crate) fn write(address: u64, bytes: &[u8]) -> Result<(), i32> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: `local` is `bytes`, which is only read; `remote` is checked by the kernel, and the client gave it to be
    // written, as in the ioctl that this stands for.
    moved(unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) }, bytes.len())
}

fn moved(result: libc::ssize_t, wanted: usize) -> Result<(), i32> {
    if result == wanted as libc::ssize_t { Ok(()) } else { Err(libc::EFAULT) }
}

/// As `read`, for bitmaps.
pub(crate) fn read_words(address: u64, words: &mut [u64]) -> Result<(), i32> {
    let len = size_of_val(words);
    // SAFETY: numbers are as many bytes, of any value, borrowed for as long.
    read(address, unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), len) })
}

/// As `write`, for bitmaps.
pub(crate) fn write_words(address: u64, words: &[u64]) -> Result<(), i32> {
    // SAFETY: numbers are as many bytes, borrowed for as long.
    write(address, unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) })
}
