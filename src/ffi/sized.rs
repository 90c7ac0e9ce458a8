//! Structs that grow: `argsz` and `flags` come first, as in VFIO's own (docs/design.md, "The C contract").

use crate::error::{Error, Result};
use std::mem::size_of;

/// The two fields every such struct begins with.
const HEADER: usize = 8;
/// Every such struct is made of units of this size, each of them one field of 8 bytes or two of 4; a size in between would cut
/// a field, and half a pointer is worse than none.
const UNIT: usize = 8;
/// Beyond it argsz is garbage, not a newer caller.
const MAX_ARGSZ: usize = 4096;

/// A struct of the C API that grows at its end.
///
/// # Safety
/// The type is `repr(C)`, begins with `argsz: u32` and `flags: u32`, has no padding, and all zero bytes are a value of it.
pub(super) unsafe trait ExtensibleStruct: Copy {
    /// For messages.
    const NAME: &'static str;
    /// Flags that this version knows.
    const FLAGS: u32;
}

fn argsz<T: ExtensibleStruct>(size: u32) -> Result<usize> {
    let size = size as usize;
    if size < HEADER {
        return Err(Error::argument(format!(
            "struct {}: argsz {size} is less than {HEADER}: use VFIOMIG_INIT",
            T::NAME
        )));
    }
    if size > MAX_ARGSZ {
        return Err(Error::new(
            crate::error::ErrorKind::Argument,
            libc::E2BIG,
            format!("struct {}: argsz {size} is more than {MAX_ARGSZ}: use VFIOMIG_INIT", T::NAME),
        ));
    }
    const { assert!(size_of::<T>() % UNIT == 0) };
    if size % UNIT != 0 {
        return Err(Error::argument(format!(
            "struct {}: argsz {size} cuts a field, for it is no multiple of {UNIT}: use VFIOMIG_INIT",
            T::NAME
        )));
    }
    Ok(size)
}

/// Copies a struct in: one that is shorter than ours is extended with zeros, one that is longer must end in zeros.
///
/// # Safety
/// `from` is NULL or readable for as many bytes as its argsz says.
pub(super) unsafe fn copy_in<T: ExtensibleStruct>(from: *const T) -> Result<Option<T>> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: readable for its argsz, which is at least a u32 itself; it may be unaligned.
    let size = argsz::<T>(unsafe { from.cast::<u32>().read_unaligned() })?;
    // SAFETY: all zero bytes are a value by `ExtensibleStruct`'s contract.
    let mut ours: T = unsafe { std::mem::zeroed() };
    // SAFETY: both sides are valid for the smaller of the two sizes and do not overlap, `ours` being a local.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut ours).cast::<u8>(), size.min(size_of::<T>()));
    }
    for offset in size_of::<T>()..size {
        // SAFETY: within argsz, which the caller's struct is readable for.
        if unsafe { from.cast::<u8>().wrapping_add(offset).read() } != 0 {
            return Err(Error::new(
                crate::error::ErrorKind::Argument,
                libc::E2BIG,
                format!(
                    "struct {}: byte {offset} is set, which this version ({} bytes) does not know",
                    T::NAME,
                    size_of::<T>()
                ),
            ));
        }
    }
    // SAFETY: `flags` follows `argsz` by `ExtensibleStruct`'s contract.
    let flags = unsafe { (&raw const ours).cast::<u32>().wrapping_add(1).read() };
    if flags & !T::FLAGS != 0 {
        return Err(Error::argument(format!("struct {}: unknown flags {:#x}", T::NAME, flags & !T::FLAGS)));
    }
    Ok(Some(ours))
}

/// Checks an output struct before work is done for it, and returns its argsz.
///
/// # Safety
/// `to` is NULL or readable for its first 4 bytes.
pub(super) unsafe fn check_out<T: ExtensibleStruct>(to: *const T) -> Result<usize> {
    if to.is_null() {
        return Err(Error::argument(format!("struct {}: NULL", T::NAME)));
    }
    // SAFETY: the contract of this function.
    argsz::<T>(unsafe { to.cast::<u32>().read_unaligned() })
}

/// Takes the answers of an earlier call out of the flags of a struct that is used again: they are no flags of a request.
///
/// # Safety
/// `of` is a struct that [`check_out`] has found to be one, and writable.
pub(super) unsafe fn clear_answers<T: ExtensibleStruct>(of: *mut T, answers: u32) {
    let flags = of.cast::<u32>().wrapping_add(1);
    // SAFETY: the contract of this function: it has argsz and flags.
    let asked = unsafe { flags.read_unaligned() } & !answers;
    // SAFETY: the same.
    unsafe { flags.write_unaligned(asked) };
}

/// Copies a struct out: what both sides know; the rest of the caller's is zeroed, its argsz stays.
///
/// # Safety
/// `to` is writable for `size` bytes, the argsz that [`check_out`] returned.
pub(super) unsafe fn copy_out<T: ExtensibleStruct>(to: *mut T, size: usize, ours: &T) {
    let known = size.min(size_of::<T>());
    let argsz = size_of::<u32>();
    // SAFETY: both are valid for `known` bytes, and `argsz` is within them; `ours` is not the caller's memory.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(ours).cast::<u8>().wrapping_add(argsz),
            to.cast::<u8>().wrapping_add(argsz),
            known.saturating_sub(argsz),
        );
    }
    // SAFETY: `known` to `size` is the tail of the caller's struct.
    unsafe { std::ptr::write_bytes(to.cast::<u8>().wrapping_add(known), 0, size.saturating_sub(known)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Sample {
        argsz: u32,
        flags: u32,
        a: u64,
        b: u32,
        c: u32,
    }

    // SAFETY: repr(C), begins with argsz and flags, 24 bytes without padding, zeros are a value.
    unsafe impl ExtensibleStruct for Sample {
        const NAME: &'static str = "sample";
        const FLAGS: u32 = 0x3;
    }

    fn bytes_of(argsz: u32, flags: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(argsz.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(rest);
        // What the caller does not own must not be looked at: the vector is exactly as long as argsz says.
        bytes.resize((argsz as usize).clamp(4, MAX_ARGSZ), 0);
        bytes.shrink_to_fit();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<Sample>> {
        // SAFETY: `bytes_of` made it as long as its argsz.
        unsafe { copy_in(bytes.as_ptr().cast()) }
    }

    proptest! {
        #[test]
        fn input_follows_the_rules(argsz in 0u32..100, flags in 0u32..8, rest in prop::collection::vec(0u8..3, 0..92)) {
            let bytes = bytes_of(argsz, flags, &rest);
            let tail_set = bytes.iter().skip(24).any(|&b| b != 0);
            let flags = if argsz < 8 { 0 } else { flags };
            let result = read(&bytes);
            if argsz < 8 || argsz % 8 != 0 || flags > 3 || tail_set {
                prop_assert!(result.is_err());
            } else {
                let sample = result.unwrap().unwrap();
                let mut padded = bytes.clone();
                padded.resize(padded.len().max(24), 0);
                let word = |at: usize| u32::from_ne_bytes(padded[at..at + 4].try_into().unwrap());
                prop_assert_eq!((sample.argsz, sample.flags, sample.b, sample.c), (argsz, flags, word(16), word(20)));
                prop_assert_eq!(sample.a, u64::from_ne_bytes(padded[8..16].try_into().unwrap()));
            }
        }

        #[test]
        fn output_fills_what_both_know(argsz in (1u32..13).prop_map(|units| units * 8)) {
            let mut bytes = vec![0xffu8; argsz as usize];
            bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
            let ours = Sample { argsz: 24, flags: 1, a: 2, b: 3, c: 4 };
            // SAFETY: as long as its argsz.
            let size = unsafe { check_out::<Sample>(bytes.as_ptr().cast()) }.unwrap();
            // SAFETY: as long as its argsz.
            unsafe { copy_out(bytes.as_mut_ptr().cast::<Sample>(), size, &ours) };
            let mut whole = [argsz.to_ne_bytes(), 1u32.to_ne_bytes()].concat();
            whole.extend(2u64.to_ne_bytes());
            for word in [3u32, 4] { whole.extend(word.to_ne_bytes()); }
            whole.resize(bytes.len().max(24), 0);
            whole.truncate(bytes.len());
            prop_assert_eq!(bytes, whole);
        }
    }

    #[test]
    fn null_is_no_struct_and_garbage_is_too_big() {
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { copy_in::<Sample>(std::ptr::null()) }.unwrap(), None);
        let error = read(&bytes_of(u32::MAX, 0, &[])).unwrap_err();
        assert_eq!(error.errno(), libc::E2BIG);
    }

    /// Half a function pointer is called, half a name is read.
    #[test]
    fn a_size_that_cuts_a_field_is_refused_both_ways() {
        for argsz in 8..=40 {
            let bytes = bytes_of(argsz, 0, &[]);
            // SAFETY: as long as its argsz.
            let out = unsafe { check_out::<Sample>(bytes.as_ptr().cast()) };
            assert_eq!((read(&bytes).is_ok(), out.is_ok()), (argsz % 8 == 0, argsz % 8 == 0), "{argsz}");
        }
        let error = read(&bytes_of(20, 0, &[])).unwrap_err();
        assert!(error.to_string().contains("struct sample: argsz 20 cuts a field"), "{error}");
    }
}
