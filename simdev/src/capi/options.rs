//! `struct simdev_options` as a description of a device.

use crate::config::{BadLoad, Config, DataPath, Dialect, DmaLog, DraftForm, Precopy, PrecopyEnd, Trapped, Window};

/// `struct simdev_options`: zero means the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the header describes the fields")]
pub struct Options {
    pub argsz: u32,
    pub dialect: u32,
    pub flags: u32,
    pub window: u32,
    pub state_size: u64,
    pub seed: u64,
    pub segment_size: u64,
    pub skew: u64,
    pub trapped: u32,
    pub reserved_bits: u32,
    pub precopy_bytes: u64,
    pub max_io: u64,
    pub dma_log_page_size: u64,
}

const _: () = assert!(size_of::<Options>() == 80, "struct simdev_options");

const P2P: u32 = 1;
const PRE_COPY: u32 = 1 << 1;
const SEEDED: u32 = 1 << 2;
const VARY: u32 = 1 << 3;
const PRECOPY_BYTES: u32 = 1 << 4;
const REAL_FD: u32 = 1 << 5;
const ZERO_END: u32 = 1 << 6;
const NEEDS_INFO: u32 = 1 << 7;
const OPT_IN: u32 = 1 << 8;
const ACCEPT_TRUNCATED: u32 = 1 << 9;
const KEEP_BAD_LOAD: u32 = 1 << 10;
const ABORT_ALLOWED: u32 = 1 << 11;
const NO_RESET: u32 = 1 << 12;
const MAP_FAILS: u32 = 1 << 13;
const NO_JUDGE_CONTENT: u32 = 1 << 14;
const NO_REPORT: u32 = 1 << 15;
const ALL_FLAGS: u32 = (1 << 16) - 1;

const WORD: u32 = 8;

impl Options {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn dialect(&self) -> Result<Dialect, String> {
        Ok(match self.dialect {
            0 => Dialect::V2 { p2p: self.has(P2P), pre_copy: self.has(PRE_COPY) },
            1 => Dialect::V1 { ndma: false },
            2 => Dialect::V1 { ndma: true },
            3 => Dialect::Draft { form: DraftForm::Sticky, region_type: 2 },
            4 => Dialect::Draft { form: DraftForm::Rewrite, region_type: 3 },
            other => return Err(format!("dialect: {other} is none of SIMDEV_V2 to SIMDEV_DRAFT_REWRITE")),
        })
    }

    fn window(&self) -> Result<Window, String> {
        Ok(match self.window {
            0 => Window::Trapped,
            1 => Window::Whole,
            2 => Window::Area,
            3 => Window::Gap,
            other => return Err(format!("window: {other} is none of SIMDEV_TRAPPED to SIMDEV_GAP")),
        })
    }

    /// What is wrong with a number, if anything is.
    fn wrong(&self, segment: usize) -> Option<String> {
        let known = if self.dialect == 2 { 15 } else { 7 };
        let pages = self.dma_log_page_size;
        let wrong = [
            (!(256..=1 << 30).contains(&segment), format!("segment_size: {segment} is not from 256 to 2^30")),
            (self.skew > 1 << 30, format!("skew: {} is more than 2^30", self.skew)),
            (
                self.reserved_bits & known != 0,
                format!("reserved_bits: {:#x} has bits of the protocol, {known:#x}", self.reserved_bits),
            ),
            (pages != 0 && !pages.is_power_of_two(), format!("dma_log_page_size: {pages} is no power of two")),
        ];
        wrong.into_iter().find_map(|(is_wrong, text)| is_wrong.then_some(text))
    }

    fn precopy(&self) -> Result<Precopy, String> {
        let bytes = self.has(PRECOPY_BYTES).then(|| size("precopy_bytes", self.precopy_bytes, 0)).transpose()?;
        Ok(bytes.map_or(Precopy::Half, Precopy::Bytes))
    }

    fn trapped(&self) -> Trapped {
        match self.trapped {
            0 => Trapped::Any,
            WORD => Trapped::Word,
            most => Trapped::AtMost(most as usize),
        }
    }
}

/// 0: the default.
fn size(name: &str, value: u64, default: usize) -> Result<usize, String> {
    match value {
        0 => Ok(default),
        _ => usize::try_from(value).map_err(|_| format!("{name}: {value} does not fit into memory")),
    }
}

pub(super) fn config(o: &Options) -> Result<Config, String> {
    if o.flags & !ALL_FLAGS != 0 {
        return Err(format!("flags: {:#x} has unknown bits", o.flags));
    }
    let (dialect, window, base) = (o.dialect()?, o.window()?, Config::default());
    let segment = size("segment_size", o.segment_size, base.segment_size)?;
    if let Some(text) = o.wrong(segment) {
        return Err(text);
    }
    let (pages, report) = (o.dma_log_page_size, !o.has(NO_REPORT));
    let config = Config {
        dialect,
        window,
        seed: o.has(SEEDED).then_some(o.seed),
        precopy: o.precopy()?,
        vary_segments: o.has(VARY),
        judge_content: !o.has(NO_JUDGE_CONTENT),
        bad_load: if o.has(KEEP_BAD_LOAD) { BadLoad::Keep } else { BadLoad::Error },
        abort_allowed: o.has(ABORT_ALLOWED),
        can_reset: !o.has(NO_RESET),
        skew: o.skew,
        trapped: o.trapped(),
        map_fails: o.has(MAP_FAILS),
        reserved_bits: o.reserved_bits,
        data: if o.has(REAL_FD) { DataPath::RealFd } else { DataPath::Functions },
        precopy_end: if o.has(ZERO_END) { PrecopyEnd::Zero } else { PrecopyEnd::NoMessage },
        needs_info: o.has(NEEDS_INFO),
        opt_in: o.has(OPT_IN),
        accept_truncated: o.has(ACCEPT_TRUNCATED),
        max_io: size("max_io", o.max_io, usize::MAX)?,
        dma_log: (pages != 0).then_some(DmaLog { page_size: pages, report, ..DmaLog::default() }),
        ..base
    };
    Ok(config.state_size(size("state_size", o.state_size, 64 << 10)?).segments(segment))
}
