//! VFIO_DEVICE_FEATURE: which feature is meant, what may be asked of it, and its answer.

use super::dma_log;
use super::state::caps;
use crate::base::bytes::{put, u32_at, u64_at};
use crate::machine::{Access, Busy, Effect, Machine, lie};
use parking_lot::MutexGuard;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

/// The number of a feature, what may be asked of it, and bytes of its payload that are there at least.
const FEATURES: [(u32, u32, usize); 7] =
    [(1, GET, 8), (2, GET | SET, 8), (6, SET, 0), (7, SET, 0), (8, GET, 0), (9, GET, 8), (12, SET, 0)];

fn classify(index: u32, how: u32) -> Access {
    match (index, how) {
        (1, GET) => Access::GetMigration,
        (2, GET) => Access::StateRead,
        (2, SET) => Access::StateWrite,
        (6, SET) => Access::DmaLogStart,
        (7, SET) => Access::DmaLogStop,
        (8, GET) => Access::DmaLogReport,
        (9, GET) => Access::StopCopySize,
        (12, SET) => Access::OptIn,
        _ => Access::OtherFeature,
    }
}

/// `bytes` are {u32 argsz, u32 flags} and the payload.
pub(crate) fn feature(m: MutexGuard<'_, Machine>, bytes: &mut [u8]) -> Result<(), i32> {
    let flags = u32_at(bytes, 4);
    let (index, how) = (flags & 0xffff, flags & !0xffff);
    let access = classify(index, how);
    let (mut m, effect) = Busy::begin(m, access)?;
    if bytes.len() < 8 || u32_at(bytes, 0) as usize > bytes.len() {
        return m.refuse("P6", format!("feature with argsz {}", u32_at(bytes, 0)), libc::EINVAL);
    }
    let row = FEATURES.iter().find(|row| row.0 == index && m.has_feature(index));
    let &(_, operations, payload) = row.ok_or(libc::ENOTTY)?;
    if how & PROBE != 0 {
        let ok = how & (GET | SET) & !operations == 0 && (index != 12 || caps(&m).1);
        return if ok { Ok(()) } else { Err(libc::EINVAL) };
    }
    if how.count_ones() != 1 || how & operations == 0 || (bytes.len() < 8 + payload) {
        return m.refuse("P5", format!("feature {flags:#x} of {} bytes", bytes.len()), libc::EINVAL);
    }
    m.answer(access, bytes, effect)
}

impl Machine {
    fn has_feature(&self, index: u32) -> bool {
        let v2 = self.config.is_v2();
        match index {
            1 | 2 => v2,
            6..=8 => self.config.dma_log.is_some(),
            9 => v2 && self.config.has_data_size,
            12 => self.config.opt_in,
            _ => false,
        }
    }

    /// DMA_LOGGING_START and _REPORT.
    fn dma_log(&mut self, access: Access, bytes: &mut [u8], effect: Option<Effect>) -> Result<(), i32> {
        let Some(log) = self.config.dma_log else { return Err(libc::ENOTTY) };
        let Machine { dma, judge, .. } = self;
        if access != Access::DmaLogStart {
            return dma_log::report(dma, judge, &log, &bytes[8..], effect);
        }
        dma_log::start(dma, judge, &log, &mut bytes[8..])?;
        let page_size = u64_at(bytes, 8);
        put(bytes, 8, &lie(effect, page_size).to_ne_bytes());
        Ok(())
    }
}

impl Busy<'_> {
    /// What a good request gets.
    fn answer(&mut self, access: Access, bytes: &mut [u8], effect: Option<Effect>) -> Result<(), i32> {
        let (p2p, pre_copy) = caps(self);
        match access {
            Access::GetMigration => {
                let flags = 1 | if p2p { 2 } else { 0 } | if pre_copy { 4 } else { 0 };
                put(bytes, 8, &lie(effect, flags).to_ne_bytes());
            }
            Access::StateRead => {
                let state = u64::from(self.level.state().number());
                put(bytes, 8, &(lie(effect, state) as u32).to_ne_bytes());
                put(bytes, 12, &(-1i32).to_ne_bytes());
            }
            Access::StateWrite => {
                if u32_at(bytes, 12) != u32::MAX {
                    self.judge.record("V2-5", "data_fd is not preset to -1");
                }
                let fd = self.set_state(u32_at(bytes, 8), effect)?;
                put(bytes, 12, &fd.to_ne_bytes());
            }
            Access::StopCopySize => {
                let size = self.stop_copy_size();
                put(bytes, 8, &lie(effect, size).to_ne_bytes());
            }
            Access::OptIn if !pre_copy => return Err(libc::EINVAL),
            Access::OptIn => self.sessions.opted_in = true,
            Access::DmaLogStop => (self.dma.tracker, self.dma.stopped_itself) = (None, false),
            _ => return self.dma_log(access, bytes, effect),
        }
        Ok(())
    }
}
