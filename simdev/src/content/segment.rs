//! The form of a segment: a header that lets the destination see a byte that was read late, moved, split or left out.
//! The same form is used for the records of a v2 stream, where their ends mean nothing to a client (F1).

use std::sync::OnceLock;

pub(crate) const HEADER: usize = 32;
const MAGIC: u32 = 0x5347_4d56;
const LAST: u32 = 1;

/// {u32 magic, u32 flags (bit 0: last, 8..: bytes of padding), u64 sequence, u32 length, u32 crc, u64 offset}, then the
/// payload and the padding. The sum covers everything but itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub last: bool,
    pub pad: usize,
    pub seq: u64,
    pub len: usize,
    pub crc: u32,
    pub offset: u64,
}

impl Header {
    pub fn total(&self) -> usize {
        HEADER + self.len + self.pad
    }

    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let flags = (self.pad as u32) << 8 | if self.last { LAST } else { 0 };
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&flags.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..20].copy_from_slice(&(self.len as u32).to_le_bytes());
        out[20..24].copy_from_slice(&self.crc.to_le_bytes());
        out[24..32].copy_from_slice(&self.offset.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Header, String> {
        let Some(h) = bytes.get(..HEADER) else { return Err(format!("{} bytes are less than a header", bytes.len())) };
        let u32_at = |at: usize| u32::from_le_bytes(h[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(h[at..at + 8].try_into().expect("8 bytes"));
        if u32_at(0) != MAGIC {
            return Err(format!("no segment starts with {:#010x}", u32_at(0)));
        }
        let flags = u32_at(4);
        Ok(Header {
            last: flags & LAST != 0,
            pad: (flags >> 8) as usize,
            seq: u64_at(8),
            len: u32_at(16) as usize,
            crc: u32_at(20),
            offset: u64_at(24),
        })
    }
}

/// A whole segment; `sum` says whether its CRC is worked out or left 0.
pub(crate) fn build(mut header: Header, payload: &[u8], sum: bool) -> Vec<u8> {
    header.len = payload.len();
    header.crc = 0;
    let mut out = Vec::with_capacity(header.total());
    out.extend(header.encode());
    out.extend(payload);
    out.extend((0..header.pad).map(|i| (header.seq as usize * 31 + i) as u8));
    if sum {
        let crc = crc32(0, &out);
        out[20..24].copy_from_slice(&crc.to_le_bytes());
    }
    out
}

/// Checks that `bytes` are one whole segment; its header.
pub(crate) fn check(bytes: &[u8], sum: bool) -> Result<Header, String> {
    let header = Header::decode(bytes)?;
    if bytes.len() != header.total() {
        return Err(format!("segment {} has {} bytes, not {}", header.seq, bytes.len(), header.total()));
    }
    if sum {
        let found = crc32(crc32(crc32(0, &bytes[..20]), &[0; 4]), &bytes[24..]);
        if found != header.crc {
            return Err(format!("segment {}: crc {found:#010x}, not {:#010x}", header.seq, header.crc));
        }
    }
    Ok(header)
}

/// CRC-32 (IEEE), eight bytes at a time.
pub(crate) fn crc32(start: u32, bytes: &[u8]) -> u32 {
    static TABLES: OnceLock<Box<[[u32; 256]; 8]>> = OnceLock::new();
    let t = TABLES.get_or_init(|| {
        let mut tables = Box::new([[0u32; 256]; 8]);
        for i in 0..256u32 {
            tables[0][i as usize] = (0..8).fold(i, |c, _| if c & 1 != 0 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 });
        }
        for k in 1..8 {
            for i in 0..256 {
                let below = tables[k - 1][i];
                tables[k][i] = tables[0][(below & 0xff) as usize] ^ (below >> 8);
            }
        }
        tables
    });
    let mut crc = !start;
    let mut words = bytes.chunks_exact(8);
    for w in &mut words {
        let low = u32::from_le_bytes([w[0], w[1], w[2], w[3]]) ^ crc;
        crc = t[7][(low & 0xff) as usize]
            ^ t[6][(low >> 8 & 0xff) as usize]
            ^ t[5][(low >> 16 & 0xff) as usize]
            ^ t[4][(low >> 24) as usize]
            ^ t[3][w[4] as usize]
            ^ t[2][w[5] as usize]
            ^ t[1][w[6] as usize]
            ^ t[0][w[7] as usize];
    }
    for &b in words.remainder() {
        crc = t[0][((crc ^ u32::from(b)) & 0xff) as usize] ^ (crc >> 8);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234567"), b"89"), 0xcbf4_3926);
    }

    #[test]
    fn a_segment_differs_from_a_bad_one() {
        let header = Header { last: false, pad: 5, seq: 7, len: 0, crc: 0, offset: 64 };
        let good = build(header, &[9; 100], true);
        assert_eq!(check(&good, true).unwrap().total(), good.len());
        assert!(check(&good[..good.len() - 1], true).is_err());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(check(&bad, true).is_err(), "byte {at}");
        }
    }
}
