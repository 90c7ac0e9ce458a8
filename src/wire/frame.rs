//! Preamble and record header as bytes, and their checksums: docs/wire.md, "Preamble" and "Record header". Pure.

/// Bytes of a preamble without feature names.
///
/// Example: [`Reader`](super::Reader).
pub const PREAMBLE_LEN: usize = 48;
/// Bytes of a record's header.
///
/// Example: [`Reader`](super::Reader).
pub const HEADER_LEN: usize = 36;
/// Most bytes of a record's payload.
///
/// Example: [`Reader`](super::Reader).
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Most channels of a wire.
///
/// Example: [`Reader`](super::Reader).
pub const MAX_CHANNELS: u16 = 64;
/// Most bytes of feature names.
pub(super) const MAX_NAMES: usize = 4096;
/// Most bytes of the text of a FAIL.
pub(super) const MAX_TEXT: usize = 1024;

pub(super) const MAGIC: [u8; 8] = [0x89, b'V', b'F', b'I', b'O', b'W', b'\r', b'\n'];
pub(super) const VERSION: u16 = 1;
/// Bits of the required features that this version knows.
pub(super) const KNOWN_FEATURES: u64 = 0;
/// A reader that does not know a type with this bit skips the record.
pub(super) const OPTIONAL: u16 = 0x8000;
/// The payloads of types from this one on begin with the type's name.
pub(super) const FIRST_NAMED: u16 = 64;
/// The device of a record that belongs to none.
pub(super) const NO_DEVICE: u32 = u32::MAX;
/// Flags that a reader has to know; the others it ignores.
const REQUIRED_FLAGS: u16 = 0xff;
pub(super) const SEGMENT_END: u16 = 0x1;

/// The types of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table = 1,
    Data = 2,
    End = 3,
    Void = 4,
    Vmm = 5,
    Finish = 6,
    Fail = 7,
}

/// What a type allows.
pub(super) struct KindRow {
    pub kind: Kind,
    pub name: &'static str,
    /// Whether a record names a device; `None`: it may, and need not.
    pub device: Option<bool>,
    pub flags: u16,
    /// Least and most bytes of a payload.
    pub payload: (usize, usize),
}

const fn row(kind: Kind, name: &'static str, device: Option<bool>, flags: u16, payload: (usize, usize)) -> KindRow {
    KindRow { kind, name, device, flags, payload }
}

/// docs/wire.md, "Record header".
const KINDS: [KindRow; 7] = [
    row(Kind::Table, "TABLE", Some(false), 0, (4, MAX_PAYLOAD)),
    row(Kind::Data, "DATA", Some(true), SEGMENT_END, (1, MAX_PAYLOAD)),
    row(Kind::End, "END", Some(true), 0, (0, 0)),
    row(Kind::Void, "VOID", Some(true), 0, (0, 0)),
    row(Kind::Vmm, "VMM", None, 0, (0, MAX_PAYLOAD)),
    row(Kind::Finish, "FINISH", Some(false), 0, (0, 0)),
    row(Kind::Fail, "FAIL", Some(false), 0, (0, MAX_TEXT)),
];

impl Kind {
    /// The row of a type; `None`: it is one of a later version.
    pub fn row_of(number: u16) -> Option<&'static KindRow> {
        KINDS.iter().find(|row| row.kind as u16 == number)
    }
}

/// The first `N` bytes from `at`; zeros where there are too few, which no caller has.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end));
    found.and_then(|found| found.try_into().ok()).unwrap_or([0; N])
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// What a preamble says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preamble {
    pub channels: u16,
    pub channel: u16,
    pub names_len: u16,
    pub required: u64,
    pub wire: u64,
    pub names_crc: u32,
}

impl Preamble {
    /// The bytes of a preamble without features, as version 1 writes it.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREAMBLE_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.channels.to_le_bytes());
        bytes.extend(self.channel.to_le_bytes());
        bytes.extend(self.names_len.to_le_bytes());
        bytes.extend(self.required.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(self.wire.to_le_bytes());
        bytes.extend(crc(b"").to_le_bytes());
        bytes.extend(crc(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a preamble from [`PREAMBLE_LEN`] bytes.
    pub fn decode(bytes: &[u8]) -> Self {
        Preamble {
            channels: u16_at(bytes, 10),
            channel: u16_at(bytes, 12),
            names_len: u16_at(bytes, 14),
            required: u64_at(bytes, 16),
            wire: u64_at(bytes, 32),
            names_crc: u32_at(bytes, 40),
        }
    }

    /// The checksum that is written, and the one that the bytes have.
    pub fn checksums(bytes: &[u8]) -> (u32, u32) {
        (u32_at(bytes, 44), crc(bytes.get(..44).unwrap_or_default()))
    }
}

/// The feature of the lowest bit of `missing`, with its name, in words.
pub(super) fn feature_name(names: &[u8], missing: u64) -> String {
    let wanted = missing.trailing_zeros();
    let mut rest = names;
    while let [bit, len, after @ ..] = rest {
        let Some((name, next)) = after.split_at_checked(usize::from(*len)) else { break };
        if u32::from(*bit) == wanted {
            return format!("feature {wanted} (\"{}\")", String::from_utf8_lossy(name));
        }
        rest = next;
    }
    format!("feature {wanted} (without a name)")
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: u16,
    pub flags: u16,
    pub device: u32,
    pub len: u32,
    pub payload_crc: u32,
    pub number: u64,
    pub position: u64,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut rest = &mut bytes[..];
        let fields: [&[u8]; 7] = [
            &self.kind.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.device.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.payload_crc.to_le_bytes(),
            &self.number.to_le_bytes(),
            &self.position.to_le_bytes(),
        ];
        for field in fields {
            let Some((place, after)) = rest.split_at_mut_checked(field.len()) else { break };
            place.copy_from_slice(field);
            rest = after;
        }
        let sum = crc(bytes.get(..32).unwrap_or_default());
        bytes.last_chunk_mut().into_iter().for_each(|place| *place = sum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Self {
        Header {
            kind: u16_at(bytes, 0),
            flags: u16_at(bytes, 2),
            device: u32_at(bytes, 4),
            len: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            position: u64_at(bytes, 24),
        }
    }

    /// The checksum that is written, and the one that the bytes have.
    pub fn checksums(bytes: &[u8]) -> (u32, u32) {
        (u32_at(bytes, 32), crc(bytes.get(..32).unwrap_or_default()))
    }

    /// Flags that a reader has to know, and that this type does not have.
    pub fn unknown_flags(self, known: u16) -> u16 {
        self.flags & REQUIRED_FLAGS & !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let wire = 0x1122_3344_5566_7788;
        let preamble = Preamble { channels: 3, channel: 2, names_len: 0, required: 0, wire, names_crc: 0 };
        let bytes = preamble.encode();
        assert_eq!((bytes.len(), Preamble::decode(&bytes)), (PREAMBLE_LEN, preamble));
        let header = Header { kind: 2, flags: 1, device: 7, len: 9, payload_crc: 11, number: 13, position: u64::MAX };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), header);
        let (written, found) = Header::checksums(&bytes);
        assert_eq!(written, found);
    }

    #[test]
    fn a_feature_has_its_name_or_none() {
        let names = [3, 2, b'a', b'b', 40, 1, b'c'];
        assert_eq!(feature_name(&names, 1 << 40), "feature 40 (\"c\")");
        assert_eq!(feature_name(&names, 1 << 40 | 1 << 3), "feature 3 (\"ab\")");
        assert_eq!(feature_name(&names[..6], 1 << 40), "feature 40 (without a name)");
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!((crc(b"123456789"), crc(b"")), (0xe306_9283, 0));
    }
}
