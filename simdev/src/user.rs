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
    let mut bytes = vec![0; words.len() * 8];
    read(address, &mut bytes)?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
    }
    Ok(())
}

/// As `write`, for bitmaps.
pub(crate) fn write_words(address: u64, words: &[u64]) -> Result<(), i32> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    write(address, &bytes)
}
