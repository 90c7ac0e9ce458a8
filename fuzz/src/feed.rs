//! The input, read as decisions. Once it is used up every decision is 0: the honest one.

#[derive(Debug)]
pub struct Feed {
    data: Vec<u8>,
    at: usize,
}

pub const ERRNOS: [i32; 24] = [
    libc::EIO,
    libc::ENOTTY,
    libc::EINVAL,
    libc::EAGAIN,
    libc::EINTR,
    libc::ENOMSG,
    libc::EMFILE,
    libc::ENODEV,
    libc::EPROTO,
    libc::EBUSY,
    libc::EOPNOTSUPP,
    libc::E2BIG,
    libc::ENOMEM,
    libc::EOVERFLOW,
    libc::ECANCELED,
    libc::ESTALE,
    libc::EDEADLK,
    libc::EMSGSIZE,
    libc::ENODATA,
    libc::EBADF,
    libc::EFAULT,
    libc::EPERM,
    libc::ENOTRECOVERABLE,
    libc::EPIPE,
];

impl Feed {
    pub fn new(data: &[u8]) -> Feed {
        Feed { data: data.to_vec(), at: 0 }
    }
    pub fn done(&self) -> bool {
        self.at >= self.data.len()
    }
    pub fn u8(&mut self) -> u8 {
        let byte = self.data.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }
    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }
    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }
    /// 0 to n - 1.
    pub fn below(&mut self, n: usize) -> usize {
        if n <= 256 { self.u8() as usize % n.max(1) } else { self.u16() as usize % n }
    }
    /// Whether something goes wrong now: seldom, and never once the input is used up.
    pub fn lies(&mut self) -> bool {
        self.u8() >= 0xd0
    }
    /// A number at which arithmetic goes wrong.
    pub fn size(&mut self) -> u64 {
        match self.u8() % 16 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => 1 << 63,
            4 => (1 << 63) - 1,
            5 => self.u64(),
            6 | 7 => u64::from(self.u8()),
            8 | 9 => u64::from(self.u16()),
            10 => 1u64 << (self.u8() % 64),
            11 => (1u64 << (self.u8() % 64)).wrapping_sub(1),
            12 => (1u64 << (self.u8() % 64)).wrapping_add(u64::from(self.u8())),
            13 => u64::MAX - u64::from(self.u8()),
            14 => u64::from(self.u8()) << 12,
            _ => u64::from(self.u32()),
        }
    }
    /// Positive.
    pub fn errno(&mut self) -> i32 {
        let pick = self.u8() as usize;
        if pick == 255 { self.u32() as i32 } else { ERRNOS[pick % ERRNOS.len()] }
    }
    /// What a function returns that fails: -errno, of which the lowest number has no errno.
    pub fn refusal(&mut self) -> i32 {
        self.errno().wrapping_neg()
    }
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.u8()).collect()
    }
}
