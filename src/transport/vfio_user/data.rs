//! A session of the second generation: two messages in place of a data fd (U-5).

use super::exchange::{VfioUserChannel, ask_for_data, ask_with_data};
use super::payload::{Payload, ReplyPayload, length};
use super::wire;
use crate::error::Errno;
use crate::transport::{DataFd, PrecopyInfo};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub(super) struct UserData {
    channel: Arc<dyn VfioUserChannel>,
    max_read: usize,
    max_write: usize,
    /// Memory for the whole reply of a read, where the channel wants it in one piece. It is kept, for a session has many reads.
    room: Vec<u8>,
}

impl UserData {
    pub fn new(channel: Arc<dyn VfioUserChannel>, max_read: usize, max_write: usize) -> Self {
        UserData { channel, max_read, max_write, room: Vec::new() }
    }
}

impl DataFd for UserData {
    /// Only 0 is an end; fewer bytes than were asked for are none (U-5). Servers answer as many bytes as were asked for, and say
    /// in `size` how many of them count.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        let asked = buf.len().min(self.max_read);
        let with_data = wire::MIG_DATA_SIZE.saturating_add(asked);
        let request = Payload::default().u32(length(with_data)?).u32(length(asked)?);
        let mut fields = [0; wire::MIG_DATA_SIZE];
        let into = buf.get_mut(..asked).unwrap_or_default();
        let len = ask_for_data(&*self.channel, wire::MIG_DATA_READ, &request, &mut fields, into, &mut self.room)?;
        let size = ReplyPayload(&fields).u32_at(wire::MIG_DATA_COUNT)? as usize;
        let came = len.checked_sub(wire::MIG_DATA_SIZE).is_some_and(|came| size <= came);
        if size <= asked && came { Ok(size) } else { Err(Errno::new(libc::EPROTO)) }
    }

    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        let bytes = buf.get(..self.max_write).unwrap_or(buf);
        let with_data = wire::MIG_DATA_SIZE.saturating_add(bytes.len());
        let fields = Payload::default().u32(length(with_data)?).u32(length(bytes.len())?);
        ask_with_data(&*self.channel, wire::MIG_DATA_WRITE, fields, bytes, &mut []).map(|_| bytes.len())
    }

    /// The protocol has no message for the sizes of pre-copy (U-4).
    fn precopy_info(&mut self, _: &mut PrecopyInfo) -> Result<(), Errno> {
        Err(Errno::new(libc::ENOTTY))
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
