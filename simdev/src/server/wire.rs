//! The messages of vfio-user: a header of 16 bytes, and a payload that has a form of its own for each command. Byte order is
//! that of the host.

use crate::base::bytes::{put, u32_at};

pub(super) const HEADER: usize = 16;

const TYPE: u32 = 15;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// Rules by which offences against the specification of vfio-user itself are recorded, as docs/rules.md has them.
pub(super) mod rule {
    /// What a message is made of, and which of them answers which.
    pub const MESSAGE: &str = "U-1";
    /// What was negotiated, and when.
    pub const AGREED: &str = "U-2";
    /// MIG_DATA_READ and MIG_DATA_WRITE.
    pub const DATA: &str = "U-5";
    /// How a region is asked for.
    pub const REGION_INFO: &str = "U-6";
    /// The log of the first generation.
    pub const DIRTY_PAGES: &str = "U-14";
    /// The client's memory.
    pub const MEMORY: &str = "U-20";
}

/// What begins each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The sender's number; a reply has that of its command.
    pub id: u16,
    pub command: u16,
    /// Of the whole message.
    pub size: u32,
    pub flags: u32,
    pub errno: u32,
}

impl Header {
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        Header {
            id: u16::from_ne_bytes([bytes[0], bytes[1]]),
            command: u16::from_ne_bytes([bytes[2], bytes[3]]),
            size: u32_at(bytes, 4),
            flags: u32_at(bytes, 8),
            errno: u32_at(bytes, 12),
        }
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, &self.id.to_ne_bytes());
        put(&mut bytes, 2, &self.command.to_ne_bytes());
        put(&mut bytes, 4, &self.size.to_ne_bytes());
        put(&mut bytes, 8, &self.flags.to_ne_bytes());
        put(&mut bytes, 12, &self.errno.to_ne_bytes());
        bytes
    }

    /// Of a command of ours.
    pub fn command(id: u16, command: u16, payload: usize) -> Self {
        Header { id, command, size: (HEADER + payload) as u32, flags: 0, errno: 0 }
    }

    /// Of the answer to this message.
    pub fn reply(&self, payload: usize) -> Self {
        Header { size: (HEADER + payload) as u32, flags: REPLY, errno: 0, ..*self }
    }

    /// Of the refusal of this message.
    pub fn refusal(&self, errno: i32) -> Self {
        Header { size: HEADER as u32, flags: REPLY | ERROR, errno: errno.unsigned_abs(), ..*self }
    }

    pub fn is_reply(&self) -> bool {
        self.flags & TYPE == REPLY
    }

    pub fn is_command(&self) -> bool {
        self.flags & TYPE == 0
    }

    pub fn wants_no_reply(&self) -> bool {
        self.flags & NO_REPLY != 0
    }

    pub fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }
}

/// A message, and the descriptors that came with it.
pub(super) struct Message {
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<std::os::fd::OwnedFd>,
}

/// A command of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    Version,
    DmaMap,
    DmaUnmap,
    GetInfo,
    GetRegionInfo,
    GetRegionIoFds,
    GetIrqInfo,
    SetIrqs,
    RegionRead,
    RegionWrite,
    DmaRead,
    DmaWrite,
    Reset,
    DirtyPages,
    WriteMulti,
    Feature,
    DataRead,
    DataWrite,
}

/// In the order of their numbers, from 1 on.
const COMMANDS: [Command; 18] = [
    Command::Version,
    Command::DmaMap,
    Command::DmaUnmap,
    Command::GetInfo,
    Command::GetRegionInfo,
    Command::GetRegionIoFds,
    Command::GetIrqInfo,
    Command::SetIrqs,
    Command::RegionRead,
    Command::RegionWrite,
    Command::DmaRead,
    Command::DmaWrite,
    Command::Reset,
    Command::DirtyPages,
    Command::WriteMulti,
    Command::Feature,
    Command::DataRead,
    Command::DataWrite,
];

impl Command {
    pub fn from_number(number: u16) -> Option<Self> {
        COMMANDS.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub fn number(self) -> u16 {
        COMMANDS.iter().position(|command| *command == self).map_or(0, |at| at as u16 + 1)
    }

    /// Commands with which descriptors may come.
    pub fn takes_fds(self) -> bool {
        matches!(self, Command::DmaMap | Command::SetIrqs)
    }

    /// Commands of migration, which some servers do not know at all.
    pub fn is_of_migration(self) -> bool {
        matches!(self, Command::DirtyPages | Command::Feature | Command::DataRead | Command::DataWrite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_was_encoded() {
        let header = Header { id: 0x1234, command: 17, size: 0x0102_0304, flags: 0x21, errno: 95 };
        assert_eq!(Header::decode(&header.encode()), header);
        assert_eq!(header.encode()[..2], 0x1234u16.to_ne_bytes());
    }

    #[test]
    fn commands_have_the_numbers_of_the_specification() {
        assert_eq!(Command::Version.number(), 1);
        assert_eq!(Command::DataWrite.number(), 18);
        assert_eq!(Command::from_number(16), Some(Command::Feature));
        assert_eq!((Command::from_number(0), Command::from_number(19)), (None, None));
    }
}
