//! What a device is like, and the shortest ways to say so.

use super::dma_log::DmaLog;
use super::habits::Habits;
use super::words::{BadLoad, DataPath, Dialect, DraftForm, Precopy, PrecopyEnd, Trapped, Window};

/// A device. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The protocol.
    pub dialect: Dialect,
    /// Internal state.
    pub state_size: usize,
    /// Fills the state; `None` leaves it zero, as a fresh destination's.
    pub seed: Option<u64>,
    /// How much is offered while the device runs.
    pub precopy: Precopy,
    /// Longest segment with its header; at least 256.
    pub segment_size: usize,
    /// Segments of changing and odd lengths.
    pub vary_segments: bool,
    /// CRC in each segment, and 0xdb over the window after each acknowledge. Benchmarks switch it off.
    pub judge_content: bool,
    /// What a bad stream leads to.
    pub bad_load: BadLoad,
    /// Whether SAVING may be left while stopped with data unread (abort); else that is a violation.
    pub abort_allowed: bool,
    /// DEVICE_RESET exists.
    pub can_reset: bool,
    /// VFIO_DEVICE_FLAGS_CCW: region type 2 means something else there.
    pub ccw: bool,

    /// v1, draft: the data section's access.
    pub window: Window,
    /// v1, draft: length of the data section; at least `segment_size + 3 * skew`.
    pub window_size: u64,
    /// v1, draft: where the data section starts; whole pages if it is mapped.
    pub data_start: u64,
    /// v1, draft: data_offset moves by so many bytes from segment to segment, four places in turn.
    pub skew: u64,
    /// v1, draft: what trapped access is taken.
    pub trapped: Trapped,
    /// v1, draft: mmap is advertised but fails.
    pub map_fails: bool,
    /// v1, draft: reserved bits of device_state that read 1 and must be written back.
    pub reserved_bits: u32,
    /// Draft: pfns that one chunk of the bitmap holds.
    pub pfn_buffer: u64,

    /// v2: how data flow.
    pub data: DataPath,
    /// v2: how an end is reported in PRE_COPY.
    pub precopy_end: PrecopyEnd,
    /// v2: new data in PRE_COPY only after pre-copy info (F4).
    pub needs_info: bool,
    /// v2: pre-copy info assigns only one count and echoes the other (C7).
    pub echo_info: bool,
    /// v2: pre-copy info exists.
    pub has_precopy_info: bool,
    /// v2: feature 12 exists (C8).
    pub opt_in: bool,
    /// v2: MIG_DATA_SIZE exists.
    pub has_data_size: bool,
    /// v2: a truncated stream loads without a word (F7).
    pub accept_truncated: bool,
    /// v2: most bytes of one read or write.
    pub max_io: usize,
    /// v2: DMA logging.
    pub dma_log: Option<DmaLog>,

    /// What else the driver does.
    pub habits: Habits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dialect: Dialect::V2 { p2p: true, pre_copy: true },
            state_size: 64 << 10,
            seed: None,
            precopy: Precopy::Half,
            segment_size: 4096,
            vary_segments: false,
            judge_content: true,
            bad_load: BadLoad::Error,
            abort_allowed: false,
            can_reset: true,
            ccw: false,
            window: Window::Trapped,
            window_size: 16 << 10,
            data_start: 4096,
            skew: 0,
            trapped: Trapped::Any,
            map_fails: false,
            reserved_bits: 0,
            pfn_buffer: 512,
            data: DataPath::Functions,
            precopy_end: PrecopyEnd::NoMessage,
            needs_info: false,
            echo_info: true,
            has_precopy_info: true,
            opt_in: false,
            has_data_size: true,
            accept_truncated: false,
            max_io: usize::MAX,
            dma_log: None,
            habits: Habits::PLAIN,
        }
    }
}

impl Config {
    /// A v2 device with a capability set.
    pub fn v2(caps: vfiomig::dialect::Caps) -> Self {
        Config { dialect: Dialect::V2 { p2p: caps.p2p, pre_copy: caps.pre_copy }, ..Config::default() }
    }

    /// A v1 device without NDMA.
    pub fn v1(window: Window) -> Self {
        Config { dialect: Dialect::V1 { ndma: false }, window, ..Config::default() }
    }

    /// A v1 device with NDMA.
    pub fn v1_ndma(window: Window) -> Self {
        Config { dialect: Dialect::V1 { ndma: true }, window, ..Config::default() }
    }

    /// A draft device with the region type that goes with the form (D16).
    pub fn draft(form: DraftForm) -> Self {
        let region_type = if form == DraftForm::Sticky { 2 } else { 3 };
        Config { dialect: Dialect::Draft { form, region_type }, ..Config::default() }
    }

    /// The same device with a state made from `seed`.
    pub fn seeded(self, seed: u64) -> Self {
        Config { seed: Some(seed), ..self }
    }

    /// The same device with a state of `bytes`.
    pub fn state_size(self, bytes: usize) -> Self {
        Config { state_size: bytes, ..self }
    }

    /// The same device with segments of up to `segment` bytes in a data section that holds them at every skew.
    pub fn segments(self, segment: usize) -> Self {
        let window_size = (segment as u64 + 3 * self.skew).next_multiple_of(4096).max(16 << 10);
        Config { segment_size: segment, window_size, ..self }
    }

    /// The same device with a data_offset that moves by `skew`.
    pub fn skewed(self, skew: u64) -> Self {
        let segment = self.segment_size;
        Config { skew, ..self }.segments(segment)
    }

    /// The same device as a server of vfio-user has it: the protocol has no sizes and no pre-copy info, and no word for a pause
    /// in the stream but 0 bytes.
    pub fn served(self) -> Self {
        Config {
            data: DataPath::Functions,
            precopy_end: PrecopyEnd::Zero,
            needs_info: false,
            has_precopy_info: false,
            opt_in: false,
            has_data_size: false,
            ..self
        }
    }

    pub(crate) fn ndma(&self) -> bool {
        matches!(self.dialect, Dialect::V1 { ndma: true })
    }

    pub(crate) fn is_v2(&self) -> bool {
        matches!(self.dialect, Dialect::V2 { .. })
    }

    pub(crate) fn is_draft(&self) -> bool {
        matches!(self.dialect, Dialect::Draft { .. })
    }

    pub(crate) fn precopy_len(&self) -> usize {
        match self.precopy {
            Precopy::Nothing => 0,
            Precopy::Half => self.state_size / 2,
            Precopy::Everything => self.state_size,
            Precopy::Bytes(n) => n.min(self.state_size),
        }
    }

    /// End of the data section, and of the region.
    pub(crate) fn region_size(&self) -> u64 {
        (self.data_start + self.window_size).next_multiple_of(4096)
    }

    /// # Panics
    /// If the parts do not fit together: that is a bug of the test.
    pub(crate) fn check(&self) {
        assert!(self.segment_size >= 256, "segment_size {} is below 256", self.segment_size);
        if !self.is_v2() {
            let needed = self.segment_size as u64 + 3 * self.skew;
            assert!(self.window_size >= needed, "window_size {} is below {needed}", self.window_size);
            let first = if self.is_draft() { 0x40 } else { 0x20 };
            assert!(self.data_start >= first, "data_start {:#x} is inside the registers", self.data_start);
            assert!(self.pfn_buffer > 0 && self.pfn_buffer.div_ceil(64) * 8 <= self.window_size);
            let known = if self.ndma() { 15 } else { 7 };
            assert!(self.reserved_bits & known == 0, "reserved_bits {:#x} are not reserved", self.reserved_bits);
            assert!(self.window != Window::Gap || self.window_size >= 3 * 4096, "two areas and a gap need three pages");
            let whole_pages = self.data_start % 4096 == 0 && self.window_size % 4096 == 0;
            assert!(whole_pages || matches!(self.window, Window::Trapped), "mapped sections are whole pages");
        }
    }
}
