//! What is lent to callers: guards for safe code, which own their memory, and plain pointers for C, whose callers keep the rules
//! themselves.

use parking_lot::Mutex;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

bitflags::bitflags! {
    /// What is said of a stream besides its bytes.
    ///
    /// ```
    /// use vfiomig::device::{Device, DeviceOptions, OnFailure};
    /// use vfiomig::dialect::State;
    /// use vfiomig::window::StreamFlags;
    ///
    /// let hardware = simdev::Device::new(simdev::Config::v1(simdev::Window::Area));
    /// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
    /// device.set_state(State::StopCopy, OnFailure::Keep, false)?;
    /// let (mut segments, mut part) = (0, vec![0; 1 << 16]);
    /// loop {
    ///     let (_, flags) = device.read(&mut part)?;
    ///     if flags.contains(StreamFlags::END) {
    ///         break;
    ///     }
    ///     segments += u32::from(flags.contains(StreamFlags::SEGMENT_END));
    /// }
    /// assert!(segments > 1);
    /// # Ok::<(), vfiomig::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct StreamFlags: u32 {
        /// There is nothing now, and more may come; only in PRE_COPY states, and without bytes.
        const EMPTY = 0x1;
        /// The stream is whole; only in STOP_COPY, and without bytes.
        const END = 0x2;
        /// The last byte ends a segment (v1, draft); the caller's format must carry this.
        const SEGMENT_END = 0x4;
        /// Of a round of a migration: the device has no open stream in this phase; its bytes come later.
        const NO_STREAM = 0x10;
    }
}

/// The length of a segment where the dialect has none (v2).
pub(crate) const NO_SEGMENT: u64 = u64::MAX;

/// What a session remembers of what it has lent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loan {
    pub len: usize,
    /// Which guard has it. `None`: it was lent by pointer, and only the caller knows whether it is still looked at.
    pub guard: Option<u64>,
}

/// What can be lent of a stream that is saved.
pub(crate) trait Lend {
    fn nothing(flags: StreamFlags) -> Self;
    fn loan(&self) -> Loan;
}

/// A number for a guard, unlike those of all other guards of the process.
fn new_guard() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// A run of a stream's bytes, lent by [`Device::peek`](crate::Device::peek).
///
/// It goes back with [`Device::consume`](crate::Device::consume), which says how many of its bytes are the caller's; the rest
/// is lent again. One that is dropped was not consumed. Its bytes stay as they are for as long as it lives, whatever becomes of
/// the session, of the device and of its handle.
///
/// ```
/// use simdev::{Config, Level};
/// use vfiomig::device::{Device, OnFailure, DeviceOptions};
/// use vfiomig::dialect::State;
/// use vfiomig::window::StreamFlags;
///
/// # fn main() -> vfiomig::Result<()> {
/// let hardware = simdev::Device::new(Config::v1(simdev::Window::Area));
/// let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
/// device.set_state(State::StopCopy, OnFailure::Keep, false)?;
/// let mut stream = Vec::new();
/// loop {
///     let chunk = device.peek(0)?;
///     if chunk.flags().contains(StreamFlags::END) {
///         break;
///     }
///     stream.extend_from_slice(&chunk);
///     let len = chunk.len();
///     device.consume(chunk, len)?;
/// }
/// assert_eq!(stream.len() as u64, device.info().saved_bytes);
/// # Ok(())
/// # }
/// ```
#[must_use = "the bytes are the caller's only when the chunk was consumed"]
pub struct Chunk {
    memory: Option<Arc<Vec<u8>>>,
    range: Range<usize>,
    segment_left: u64,
    flags: StreamFlags,
    guard: u64,
}

impl Chunk {
    /// Bytes of `memory`, which is not written to while this lives.
    pub(super) fn new(memory: &Arc<Vec<u8>>, range: Range<usize>, segment_left: u64, flags: StreamFlags) -> Self {
        Chunk { memory: Some(Arc::clone(memory)), range, segment_left, flags, guard: new_guard() }
    }

    /// [`EMPTY`](StreamFlags::EMPTY) or [`END`](StreamFlags::END) without bytes, or [`SEGMENT_END`](StreamFlags::SEGMENT_END).
    pub fn flags(&self) -> StreamFlags {
        self.flags
    }

    /// Bytes from the first one to the end of its segment, which [`Device::reserve`](crate::Device::reserve) needs at the
    /// destination; `None` on v2, which has no segments.
    pub fn segment_left(&self) -> Option<u64> {
        (self.segment_left != NO_SEGMENT).then_some(self.segment_left)
    }

    pub(crate) fn guard(&self) -> u64 {
        self.guard
    }
}

impl Lend for Chunk {
    fn nothing(flags: StreamFlags) -> Self {
        Chunk { memory: None, range: 0..0, segment_left: NO_SEGMENT, flags, guard: new_guard() }
    }

    fn loan(&self) -> Loan {
        Loan { len: self.len(), guard: Some(self.guard) }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.memory.as_ref().and_then(|memory| memory.get(self.range.clone())).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk")
            .field("len", &self.len())
            .field("segment_left", &self.segment_left())
            .field("flags", &self.flags)
            .finish()
    }
}

/// Where the buffer of a [`Room`] goes when that is given back or dropped. Only rooms refer to it besides the window.
pub(crate) type Home = Mutex<Vec<u8>>;

/// A lent buffer for the next bytes of a stream, by [`Device::reserve`](crate::Device::reserve).
///
/// [`Device::commit`](crate::Device::commit) hands what was put there to the device. One that is dropped commits nothing. After a
/// commit that succeeded it is empty.
///
/// ```
/// use simdev::Config;
/// use vfiomig::device::{Device, OnFailure, DeviceOptions};
/// use vfiomig::dialect::State;
///
/// # fn load(device: &Device, stream: &[u8]) -> vfiomig::Result<()> {
/// device.set_state(State::Resuming, OnFailure::Keep, false)?;
/// let mut rest = stream;
/// while !rest.is_empty() {
///     // v2 has no segments; for v1 and the draft: the chunk's segment_left.
///     let mut room = device.reserve(None)?;
///     let len = room.len().min(rest.len());
///     let (now, later) = rest.split_at(len);
///     room[..len].copy_from_slice(now);
///     device.commit(&mut room, len, false)?;
///     rest = later;
/// }
/// device.finish(Some(stream.len() as u64))?;
/// device.set_state(State::Running, OnFailure::Keep, false)
/// # }
/// # let caps = vfiomig::dialect::Caps { p2p: true, pre_copy: true };
/// # let open = |hardware: &simdev::Device| Device::new(hardware.transport(), DeviceOptions::default()).unwrap();
/// # let (one, other) = (simdev::Device::new(Config::v2(caps)), simdev::Device::new(Config::v2(caps)));
/// # let from = open(&one);
/// # from.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
/// # let mut stream = Vec::new();
/// # let mut part = vec![0; 1 << 16];
/// # loop {
/// #     let (len, _) = from.read(&mut part).unwrap();
/// #     if len == 0 { break }
/// #     stream.extend_from_slice(&part[..len]);
/// # }
/// # load(&open(&other), &stream).unwrap();
/// # assert!(one.same_content(&other));
/// ```
#[must_use = "the device gets nothing before it is committed"]
pub struct Room {
    bytes: Vec<u8>,
    len: usize,
    /// Until it was given back.
    home: Option<Arc<Home>>,
    guard: u64,
}

impl Room {
    pub(crate) fn new(bytes: Vec<u8>, len: usize, home: &Arc<Home>) -> Self {
        Room { len: len.min(bytes.len()), bytes, home: Some(Arc::clone(home)), guard: new_guard() }
    }

    pub(crate) fn loan(&self) -> Loan {
        Loan { len: self.len, guard: Some(self.guard) }
    }

    pub(crate) fn guard(&self) -> u64 {
        self.guard
    }

    /// The memory is the library's; the buffer is empty from now on.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        self.len = 0;
        self.home = None;
        std::mem::take(&mut self.bytes)
    }

    /// The memory goes back; the buffer is empty from now on.
    pub(crate) fn give_back(&mut self) {
        self.len = 0;
        if let Some(home) = self.home.take() {
            *home.lock() = std::mem::take(&mut self.bytes);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Deref for Room {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("len", &self.len).finish()
    }
}
