//! Payloads of requests, built field by field, and replies, read without trust.

use crate::error::Errno;
use crate::transport::feature::{field, put};

/// The payload of a request. The protocol's numbers are the host's (U-1).
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    pub fn with_capacity(len: usize) -> Self {
        Payload(Vec::with_capacity(len))
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// The payload of a reply, as long as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyPayload<'a>(pub &'a [u8]);

impl<'a> ReplyPayload<'a> {
    /// A field of the reply; EPROTO if the reply ends before it does.
    pub fn u32_at(self, offset: usize) -> Result<u32, Errno> {
        field(self.0, offset).map(u32::from_ne_bytes).ok_or(Errno::new(libc::EPROTO))
    }

    pub fn u64_at(self, offset: usize) -> Result<u64, Errno> {
        field(self.0, offset).map(u64::from_ne_bytes).ok_or(Errno::new(libc::EPROTO))
    }

    /// `len` bytes from `offset` on; EPROTO if the reply has fewer.
    pub fn part(self, offset: usize, len: usize) -> Result<&'a [u8], Errno> {
        let end = offset.checked_add(len);
        end.and_then(|end| self.0.get(offset..end)).ok_or(Errno::new(libc::EPROTO))
    }

    /// EPROTO unless the field repeats what was asked for; `wide`: it is a u64.
    pub fn must_echo(self, offset: usize, asked: u64, wide: bool) -> Result<(), Errno> {
        let said = if wide { self.u64_at(offset)? } else { u64::from(self.u32_at(offset)?) };
        if said == asked { Ok(()) } else { Err(Errno::new(libc::EPROTO)) }
    }
}

/// A length as a field of the protocol holds it.
pub(crate) fn length(len: usize) -> Result<u32, Errno> {
    u32::try_from(len).map_err(|_| Errno::new(libc::EMSGSIZE))
}

/// Copies as much of `from` as fits into `to`, and zeroes the rest of `to`.
pub(crate) fn copy_whole(to: &mut [u8], from: &[u8]) {
    to.fill(0);
    let len = to.len().min(from.len());
    put(to, 0, from.get(..len).unwrap_or(from));
}
