//! The header of a message (U-1): {u16 id, u16 command, u32 size with the header, u32 flags, u32 errno}.

use crate::error::Errno;
use crate::transport::feature::{field, put};

pub(super) const SIZE: usize = 16;
const TYPE: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub id: u16,
    pub command: u16,
    /// Bytes behind the header.
    pub payload: usize,
    flags: u32,
    errno: u32,
}

impl Frame {
    pub fn request(id: u16, command: u16, payload: usize) -> Self {
        Frame { id, command, payload, flags: 0, errno: 0 }
    }

    /// The reply to `request`.
    pub fn reply_to(request: Frame, payload: usize) -> Self {
        Frame { payload, flags: REPLY, errno: 0, ..request }
    }

    /// The reply to `request` with the error flag and an errno, without a payload.
    pub fn error_to(request: Frame, errno: Errno) -> Self {
        let errno = errno.get().unsigned_abs();
        Frame { payload: 0, flags: REPLY | ERROR, errno, ..request }
    }

    pub fn to_bytes(self) -> Result<[u8; SIZE], Errno> {
        let size = self.payload.checked_add(SIZE).and_then(|size| u32::try_from(size).ok());
        let size = size.ok_or(Errno::new(libc::EMSGSIZE))?;
        let mut bytes = [0; SIZE];
        put(&mut bytes, 0, &self.id.to_ne_bytes());
        put(&mut bytes, 2, &self.command.to_ne_bytes());
        for (at, value) in [(4, size), (8, self.flags), (12, self.errno)] {
            put(&mut bytes, at, &value.to_ne_bytes());
        }
        Ok(bytes)
    }

    /// Reads a header. EPROTO for a size that is less than a header, and for a type that no version knows: the stream is out of
    /// step.
    pub fn from_bytes(bytes: &[u8; SIZE]) -> Result<Self, Errno> {
        let u16_at = |at| field(bytes, at).map_or(0, u16::from_ne_bytes);
        let u32_at = |at| field(bytes, at).map_or(0, u32::from_ne_bytes);
        let payload = (u32_at(4) as usize).checked_sub(SIZE).ok_or(Errno::new(libc::EPROTO))?;
        let flags = u32_at(8);
        if flags & TYPE > REPLY {
            return Err(Errno::new(libc::EPROTO));
        }
        Ok(Frame { id: u16_at(0), command: u16_at(2), payload, flags, errno: u32_at(12) })
    }

    pub fn is_reply(&self) -> bool {
        self.flags & TYPE == REPLY
    }

    pub fn wants_reply(&self) -> bool {
        self.flags & NO_REPLY == 0
    }

    /// The errno of a reply with the error flag, which may be 0; `None` without the flag.
    pub fn error(&self) -> Option<i32> {
        (self.flags & ERROR != 0).then(|| i32::try_from(self.errno).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let request = Frame::request(0xabcd, 16, 24);
        let bytes = request.to_bytes().unwrap();
        assert_eq!(bytes[4..8], 40u32.to_ne_bytes());
        assert_eq!(Frame::from_bytes(&bytes), Ok(request));
        assert!(!request.is_reply() && request.wants_reply() && request.error().is_none());
        let reply = Frame::from_bytes(&Frame::reply_to(request, 8).to_bytes().unwrap()).unwrap();
        assert!(reply.is_reply() && (reply.id, reply.command, reply.payload) == (0xabcd, 16, 8));
        let error = Frame::from_bytes(&Frame::error_to(request, Errno::new(libc::EBUSY)).to_bytes().unwrap()).unwrap();
        assert!(error.is_reply() && error.error() == Some(libc::EBUSY) && error.payload == 0);
    }

    #[test]
    fn a_header_that_no_version_knows_is_refused() {
        for (size, flags) in [(0, 0), (15, 0), (16, 2), (16, 0xf)] {
            let mut bytes = Frame::request(1, 1, 0).to_bytes().unwrap();
            bytes[4..8].copy_from_slice(&u32::to_ne_bytes(size));
            bytes[8..12].copy_from_slice(&u32::to_ne_bytes(flags));
            assert_eq!(Frame::from_bytes(&bytes), Err(Errno::new(libc::EPROTO)), "{size} {flags}");
        }
        assert!(Frame::request(1, 1, u32::MAX as usize).to_bytes().is_err());
    }
}
