//! Reports: what a call did to each device, for operators and for code.

use super::error_object::{c_text, results_of, vfiomig_device_result};
use super::guard::guard_value;
use crate::error::DeviceResult;
use crate::migration::Report;
use std::ffi::{CString, c_char};

/// One phase of a report. Fixed layout, never grows. It lives as long as the report.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_phase_report {
    /// One per device of the group, in the order in which they were added; NULL if there is none.
    pub results: *const vfiomig_device_result,
    /// Number of `results`.
    pub result_count: usize,
    /// When the phase was begun, in nanoseconds from the beginning of the report.
    pub begun_ns: u64,
    /// How long the phase took: the slowest device.
    pub duration_ns: u64,
    /// VFIOMIG_PHASE_*; VFIOMIG_PHASE_IDLE is an abort, or a call on a group.
    pub phase: u32,
    /// 0 or VFIOMIG_PHASE_REPORT_FAILED.
    pub flags: u32,
    /// 0.
    pub reserved: [u64; 2],
}

/// In vfiomig_phase_report.flags: the phase was not entered.
pub const VFIOMIG_PHASE_REPORT_FAILED: u32 = 0x1;

const _: () = assert!(size_of::<vfiomig_phase_report>() == 2 * size_of::<usize>() + 40);

/// A report. Made by the library, freed by vfiomig_report_free().
pub struct vfiomig_report {
    text: CString,
    phases: Vec<vfiomig_phase_report>,
    /// What the pointers in `phases` point to.
    _results: Vec<Vec<vfiomig_device_result>>,
    /// What the pointers in the results point to.
    _texts: Vec<CString>,
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(super::library::VFIOMIG_UNKNOWN)
}

impl vfiomig_report {
    /// A text without phases.
    pub(super) fn of_text(text: &str) -> Self {
        vfiomig_report { text: c_text(text), phases: Vec::new(), _results: Vec::new(), _texts: Vec::new() }
    }

    pub(super) fn of_migration(report: &Report) -> Self {
        let mut made = Self::of_text(report.to_string().trim_end());
        for phase in &report.phases {
            made.push(phase.phase.number(), phase.failed, nanos(phase.begun), nanos(phase.duration), &phase.devices);
        }
        made
    }

    /// The last step of a group, as one phase.
    pub(super) fn of_results(results: &[DeviceResult]) -> Self {
        let lines: Vec<&str> =
            results.iter().map(|result| result.message.as_str()).filter(|text| !text.is_empty()).collect();
        let mut made = Self::of_text(&lines.join("\n"));
        let slowest = results.iter().map(|result| result.duration).max().unwrap_or_default();
        let failed = results.iter().any(|result| result.errno != 0);
        if !results.is_empty() {
            made.push(0, failed, 0, nanos(slowest), results);
        }
        made
    }

    fn push(&mut self, phase: u32, failed: bool, begun_ns: u64, duration_ns: u64, results: &[DeviceResult]) {
        let results = results_of(results, &mut self._texts);
        let first = if results.is_empty() { std::ptr::null() } else { results.as_ptr() };
        self.phases.push(vfiomig_phase_report {
            results: first,
            result_count: results.len(),
            begun_ns,
            duration_ns,
            phase,
            flags: if failed { VFIOMIG_PHASE_REPORT_FAILED } else { 0 },
            reserved: [0; 2],
        });
        // The heap memory of a vector stays where it is when the vector moves.
        self._results.push(results);
    }
}

/// # Safety
/// `r` is NULL or a live report.
unsafe fn read<T>(
    name: &'static str,
    r: *const vfiomig_report,
    none: T,
    body: impl FnOnce(&'static vfiomig_report) -> T,
) -> T {
    // SAFETY: NULL or live by the contract of this function; what `body` returns is documented to live until _free.
    match unsafe { r.as_ref() } {
        Some(report) => guard_value(name, none, || body(report)),
        None => none,
    }
}

/// The report for people: a line for each phase and each device; the last line has no line end.
/// UTF-8. Its words may change at any time.
///
/// Returns: a text that lives until vfiomig_report_free(); "" for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_text(r: *const vfiomig_report) -> *const c_char {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_text", r, c"".as_ptr(), |report| report.text.as_ptr()) }
}

/// How many phases the report has. A report of reasons has none.
///
/// Returns: a count; 0 for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_phase_count(r: *const vfiomig_report) -> usize {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_phase_count", r, 0, |report| report.phases.len()) }
}

/// One phase of a report, in the order in which they were begun. `index` counts from 0.
///
/// Returns: a struct that lives until vfiomig_report_free(); NULL if there is no such phase.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_phase(r: *const vfiomig_report, index: usize) -> *const vfiomig_phase_report {
    let phase = |report: &'static vfiomig_report| report.phases.get(index).map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_phase", r, std::ptr::null(), phase) }
}

/// Frees a report with its texts, phases and results. NULL is legal.
///
/// Threads: any, once. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_free(r: *mut vfiomig_report) {
    if !r.is_null() {
        guard_value("vfiomig_report_free", (), || {
            // SAFETY: made by Box::into_raw in `give`, and freed only here, once, by the contract of this function.
            drop(unsafe { Box::from_raw(r) });
        });
    }
}

/// Hands a report to C.
///
/// # Safety
/// `out` points to memory for one pointer.
pub(super) unsafe fn give(out: *mut *mut vfiomig_report, report: vfiomig_report) {
    // SAFETY: the contract of this function. What was there is never read.
    unsafe { out.write(Box::into_raw(Box::new(report))) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Direction;
    use crate::migration::{Phase, PhaseReport};
    use std::time::Duration;

    /// A text of more lines than one ends as one of one line does.
    #[test]
    fn texts_end_without_a_line_end() {
        let phase = PhaseReport {
            phase: Phase::Idle,
            failed: true,
            begun: Duration::ZERO,
            duration: Duration::ZERO,
            devices: Vec::new(),
            notes: vec!["a note".to_string()],
        };
        let report = Report { direction: Direction::Save, phases: vec![phase.clone(), phase] };
        let text = vfiomig_report::of_migration(&report).text.into_string().unwrap();
        assert!(text.starts_with("ABORT") && text.ends_with("a note"), "{text}");
        assert_eq!(vfiomig_report::of_text("one\ntwo").text.to_str(), Ok("one\ntwo"));
    }
}
