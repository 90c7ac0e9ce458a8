//! The migration protocols. A dialect speaks states and features through a [`Transport`]; it knows no fd and no ioctl.
//!
//! May import: transport, uapi, error, log. Start reading at the trait `Dialect` here, `state` (the words of all dialects) and
//! `arcs` (which request is allowed where, a table); then at `v2`, or at `registers`, `v1` and `draft` with `bits`. `probe`
//! finds out which one a device speaks.
//!
//! Above this room only [`State`] and [`Caps`] exist: bits and numbers of the protocols stay here and in uapi.
//!
//! Example: [`Answer`].

pub(crate) mod arcs;
mod bits;
mod draft;
pub(crate) mod probe;
pub(crate) mod registers;
mod results;
mod state;
mod v1;
mod v2;

use crate::error::{Errno, Error};
use crate::transport::{DataFd, DataNumber, Transport};
pub use arcs::{Answer, answer, path};
pub use draft::Cursor;
pub use probe::Reason;
use registers::{Fault, Registers};
pub use state::{Caps, Direction, State};

/// Which protocol a device speaks.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::DialectKind;
///
/// let hardware = simdev::Device::new(simdev::Config::v1(simdev::Window::Area));
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// assert_eq!(device.info().dialect, Some(DialectKind::V1));
/// assert_eq!(DialectKind::from_number(2).map(DialectKind::name), Some("v1"));
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum DialectKind {
    /// The 2019 proposal of the migration region.
    Draft = 1,
    /// Migration region, Linux 5.8.
    V1 = 2,
    /// Device feature + data fd, Linux 5.18.
    V2 = 3,
}

impl DialectKind {
    /// The name for messages.
    pub fn name(self) -> &'static str {
        match self {
            DialectKind::Draft => "draft",
            DialectKind::V1 => "v1",
            DialectKind::V2 => "v2",
        }
    }

    /// From the number in the C API.
    pub fn from_number(number: u32) -> Option<DialectKind> {
        [DialectKind::Draft, DialectKind::V1, DialectKind::V2].into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Estimates from here on are an error code cast to an unsigned number (V2-13, P19).
const NONSENSE: u64 = 1 << 63;

/// A size that a device reports, if it can be one.
pub(crate) fn known(size: u64) -> Option<u64> {
    (size < NONSENSE).then_some(size)
}

/// What pre-copy info said; `None` is unknown, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrecopyFigures {
    pub initial_bytes: Option<u64>,
    pub dirty_bytes: Option<u64>,
    /// The device began again with initial data (C9).
    pub reinit: bool,
}

impl PrecopyFigures {
    pub const UNKNOWN: Self = PrecopyFigures { initial_bytes: None, dirty_bytes: None, reinit: false };

    /// The device says that a read would bring nothing now (C5).
    pub fn says_empty(&self) -> bool {
        self.initial_bytes == Some(0) && self.dirty_bytes == Some(0)
    }
}

/// A range of pages, in units of `page_size` bytes.
///
/// Example: [`Pfns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PfnRange {
    /// First page.
    pub start: u64,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages.
    pub total: u64,
}

/// What a device says of the pages it wrote.
///
/// ```
/// use vfiomig::device::{Device, DeviceOptions, OnFailure};
/// use vfiomig::dialect::{PfnRange, Pfns, State};
///
/// // The draft's own log. A tracker reads it, and converts it, by itself.
/// let hardware = simdev::Device::new(simdev::Config::draft(simdev::DraftForm::Sticky));
/// let device = Device::new(hardware.transport(), DeviceOptions::default())?;
/// device.set_state(State::PreCopy, OnFailure::Keep, false)?;
/// hardware.dma_write(3).unwrap();
/// let mut dirty = Vec::new();
/// device.dirty_pfns(PfnRange { start: 0, page_size: 4096, total: 64 }, &mut |pfns| match pfns {
///     Pfns::All { first, count } => dirty.extend(first..first + count),
///     Pfns::Bits { first, count, bitmap } => {
///         let word = |n: u64| u64::from_ne_bytes(bitmap[n as usize / 64 * 8..][..8].try_into().unwrap());
///         dirty.extend((0..count).filter(|n| word(*n) >> (n % 64) & 1 == 1).map(|n| first + n));
///     }
/// })?;
/// assert_eq!(dirty, [3]);
/// # device.set_state(State::Running, OnFailure::Keep, false)?;
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pfns<'a> {
    /// Bit n of `bitmap`, in words of the host, is page `first + n`; set means written.
    Bits {
        /// First page.
        first: u64,
        /// Pages of which it speaks.
        count: u64,
        /// Whole words.
        bitmap: &'a [u8],
    },
    /// All of these are dirty, or the device could not say which.
    All {
        /// First page.
        first: u64,
        /// Pages.
        count: u64,
    },
}

/// How a state request ended.
#[derive(Debug)]
pub(crate) struct Requested {
    /// The descriptor that came back; `None` is the kernel's -1, "same fd as before" (V2-4).
    pub data_fd: Option<DataNumber>,
}

/// One protocol with one device. Callers have checked every request against the arc table (V2-1).
pub(crate) trait Dialect: Send + Sync {
    fn kind(&self) -> DialectKind;
    fn caps(&self) -> Caps;
    /// Whether REINIT is reported (C8).
    fn reports_reinit(&self) -> bool {
        false
    }
    fn read_state(&self, transport: &dyn Transport) -> Result<State, Error>;
    /// `from` is where the device was seen; where the protocol makes the request look again, it has to be there still.
    fn request_state(&self, transport: &dyn Transport, from: State, to: State) -> Result<Requested, Fault>;
    /// Estimated bytes of STOP_COPY, in any state.
    fn stop_copy_bytes(&self, transport: &dyn Transport) -> Result<Option<u64>, Errno> {
        let _ = transport;
        Ok(None)
    }
    /// Pre-copy info; on some devices it makes the next data (F4, C10).
    fn precopy_figures(&self, data: &mut dyn DataFd) -> Result<PrecopyFigures, Errno> {
        let _ = data;
        Ok(PrecopyFigures::UNKNOWN)
    }
    /// Reads and clears the device's own log of the pages it wrote (draft). `go_on` hears after each part but the last how many
    /// pages it had, and may end the reading.
    fn dirty_pfns(
        &self,
        transport: &dyn Transport,
        range: PfnRange,
        go_on: &mut dyn FnMut(u64) -> Result<(), Fault>,
        sink: &mut dyn FnMut(Pfns<'_>),
    ) -> Result<(), Fault> {
        let _ = (transport, range, go_on, sink);
        Err(Fault::Errno(Errno::new(libc::EOPNOTSUPP)))
    }
    /// Where state bytes appear, for dialects that have a migration region.
    fn registers(&self) -> Option<&Registers> {
        None
    }
}
