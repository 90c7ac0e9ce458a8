//! Reports: what a call did to each device, for operators and for code.

use super::error_object::{c_text, results_of, vfiomig_device_result};
use super::guard::guard_value;
use crate::error::DeviceResult;
use crate::migration::{DevicePart, Entry, EntryKind, Report, lines_to_json, results_to_json};
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

/// vfiomig_entry_report.kind: vfiomig_migration_save_iterate().
pub const VFIOMIG_ENTRY_ROUNDS: u32 = 1;
/// vfiomig_entry_report.kind: vfiomig_migration_save_complete().
pub const VFIOMIG_ENTRY_SAVE_COMPLETE: u32 = 2;
/// vfiomig_entry_report.kind: vfiomig_migration_load_complete().
pub const VFIOMIG_ENTRY_LOAD_COMPLETE: u32 = 3;
/// vfiomig_entry_report.kind: harvests of the trackers that the migration has started.
pub const VFIOMIG_ENTRY_HARVEST: u32 = 4;
/// vfiomig_entry_report.kind: a failure that is not one of a device's state change; `text` says
/// what failed and why.
pub const VFIOMIG_ENTRY_FAILURE: u32 = 5;
/// vfiomig_entry_report.kind: streams that were read ahead of the VMM's calls (queue_bytes of
/// vfiomig_migration_options), from the first read of the first device to the last one of the last.
/// The devices are read side by side, so the sum of the times of `parts` may be more than that. It
/// continues beside the VMM's calls: it is not to be added to what these took.
pub const VFIOMIG_ENTRY_READ_AHEAD: u32 = 7;

/// vfiomig_entry_report.kind: a device that went to LOAD_LOADED by itself, beside the streams of
/// others: one entry for each, whose only part is that device and all that it took before. Its time
/// continues beside calls of the VMM; what these wait for is in the phase.
pub const VFIOMIG_ENTRY_LOADED: u32 = 6;

/// In vfiomig_entry_report.flags: the work failed.
pub const VFIOMIG_ENTRY_F_FAILED: u32 = 0x1;

/// What one device moved. Fixed layout, never grows. It lives as long as the report.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_part_report {
    /// The device's name.
    pub device: *const c_char,
    /// Bytes that it gave (save) or took (load).
    pub bytes: u64,
    /// Reads of its stream (save), or writes to it (load).
    pub reads: u64,
    /// How long these took in all, in nanoseconds. Devices are served side by side, so the sum over
    /// devices may be more than the duration of the entry.
    pub time_ns: u64,
    /// How often a call waited because the device was not ready.
    pub waits: u64,
    /// How often a request was made once more.
    pub retries: u64,
}

/// Work of one kind within one phase. Fixed layout, never grows. It lives as long as the report.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_entry_report {
    /// Of drains and of streams that were read ahead: one per device of the group, in the order in
    /// which they were added. Of VFIOMIG_ENTRY_LOADED that device. Else NULL.
    pub parts: *const vfiomig_part_report,
    /// Number of `parts`.
    pub part_count: usize,
    /// Of a failure: what failed and why; else "".
    pub text: *const c_char,
    /// When the first of it was begun, in nanoseconds from the beginning of the report.
    pub begun_ns: u64,
    /// How long it took in all, in nanoseconds. The time between two calls is not in it.
    pub duration_ns: u64,
    /// Number of calls, or how often the failure was met.
    pub calls: u64,
    /// Bytes that the devices gave or took.
    pub bytes: u64,
    /// Of harvests: pages of 4 KiB that were reported as dirty to destinations.
    pub pages: u64,
    /// Of drains and of streams that were read ahead: reads or writes. Of harvests: requests to logs.
    pub reads: u64,
    /// VFIOMIG_ENTRY_*.
    pub kind: u32,
    /// VFIOMIG_PHASE_*: the phase that was entered last, or was tried last, when the work was done.
    pub phase: u32,
    /// 0 or VFIOMIG_ENTRY_F_FAILED.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// What was done more than once, or was not as it should be, since the report begins. Fixed layout,
/// never grows. It lives as long as the report.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct vfiomig_counters_report {
    /// One per device of the group: all that it moved, also by the caller's own data calls.
    pub parts: *const vfiomig_part_report,
    /// Number of `parts`.
    pub part_count: usize,
    /// Requests to devices that were made once more.
    pub retries: u64,
    /// Waits for devices that were not ready.
    pub waits: u64,
    /// Harvests in which some pages were dirty only because a log could not be read.
    pub degraded: u64,
    /// Requests to logs that failed.
    pub failed_reads: u64,
    /// How often a log was started anew while it should have run.
    pub log_restarts: u64,
    /// 0.
    pub reserved: u64,
}

const _: () = assert!(size_of::<vfiomig_part_report>() == 48 && size_of::<vfiomig_counters_report>() == 64);
const _: () = assert!(size_of::<vfiomig_entry_report>() == 88);

/// A report. Made by the library, freed by vfiomig_report_free().
pub struct vfiomig_report {
    text: CString,
    json: CString,
    phases: Vec<vfiomig_phase_report>,
    entries: Vec<vfiomig_entry_report>,
    counters: Option<vfiomig_counters_report>,
    /// What the pointers in entries and counters point to.
    _parts: Vec<Vec<vfiomig_part_report>>,
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
        vfiomig_report {
            text: c_text(text),
            json: c_text(&lines_to_json(text)),
            phases: Vec::new(),
            entries: Vec::new(),
            counters: None,
            _parts: Vec::new(),
            _results: Vec::new(),
            _texts: Vec::new(),
        }
    }

    pub(super) fn of_migration(report: &Report) -> Self {
        let mut made = Self::of_text(report.to_string().trim_end());
        for phase in &report.phases {
            made.push(phase.phase.number(), phase.failed, nanos(phase.begun), nanos(phase.duration), &phase.devices);
        }
        made.json = c_text(&report.to_json());
        report.entries.iter().for_each(|entry| made.push_entry(entry));
        let (parts, part_count) = made.parts_of(&report.devices);
        let counters = report.counters;
        made.counters = Some(vfiomig_counters_report {
            parts,
            part_count,
            retries: counters.retries,
            waits: counters.waits,
            degraded: counters.degraded,
            failed_reads: counters.failed_reads,
            log_restarts: counters.log_restarts,
            reserved: 0,
        });
        made
    }

    fn push_entry(&mut self, entry: &Entry) {
        let (parts, part_count) = self.parts_of(&entry.devices);
        let text = self.keep(&entry.text);
        self.entries.push(vfiomig_entry_report {
            parts,
            part_count,
            text,
            begun_ns: nanos(entry.begun),
            duration_ns: nanos(entry.duration),
            calls: entry.calls,
            bytes: entry.bytes,
            pages: entry.pages,
            reads: entry.reads,
            kind: match entry.work {
                EntryKind::Rounds => VFIOMIG_ENTRY_ROUNDS,
                EntryKind::SaveComplete => VFIOMIG_ENTRY_SAVE_COMPLETE,
                EntryKind::LoadComplete => VFIOMIG_ENTRY_LOAD_COMPLETE,
                EntryKind::Loaded => VFIOMIG_ENTRY_LOADED,
                EntryKind::Harvest => VFIOMIG_ENTRY_HARVEST,
                EntryKind::Failure => VFIOMIG_ENTRY_FAILURE,
                EntryKind::ReadAhead => VFIOMIG_ENTRY_READ_AHEAD,
            },
            phase: entry.phase.number(),
            flags: if entry.failed { VFIOMIG_ENTRY_F_FAILED } else { 0 },
            reserved: 0,
        });
    }

    /// A text that lives as long as the report.
    fn keep(&mut self, text: &str) -> *const c_char {
        let kept = c_text(text);
        // The heap memory of a CString stays where it is when the CString moves.
        let place = kept.as_ptr();
        self._texts.push(kept);
        place
    }

    fn parts_of(&mut self, devices: &[DevicePart]) -> (*const vfiomig_part_report, usize) {
        let parts: Vec<vfiomig_part_report> = devices
            .iter()
            .map(|part| vfiomig_part_report {
                device: self.keep(&part.device),
                bytes: part.bytes,
                reads: part.calls,
                time_ns: nanos(part.time),
                waits: part.waits,
                retries: part.retries,
            })
            .collect();
        let first = if parts.is_empty() { std::ptr::null() } else { parts.as_ptr() };
        let count = parts.len();
        // The heap memory of a vector stays where it is when the vector moves.
        self._parts.push(parts);
        (first, count)
    }

    /// The last step of a group, as one phase.
    pub(super) fn of_results(results: &[DeviceResult]) -> Self {
        let lines: Vec<&str> =
            results.iter().map(|result| result.message.as_str()).filter(|text| !text.is_empty()).collect();
        let mut made = Self::of_text(&lines.join("\n"));
        let slowest = results.iter().map(|result| result.duration).max().unwrap_or_default();
        let failed = results.iter().any(|result| result.errno != 0);
        made.json = c_text(&results_to_json(results));
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

/// The report as JSON, in one line: docs/reports.md has the schema. Fields may be added to it in
/// later versions; none changes its meaning.
///
/// Returns: a text that lives until vfiomig_report_free(); "" for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_json(r: *const vfiomig_report) -> *const c_char {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_json", r, c"".as_ptr(), |report| report.json.as_ptr()) }
}

/// How many entries besides phases the report has.
///
/// Returns: a count; 0 for NULL.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_entry_count(r: *const vfiomig_report) -> usize {
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_entry_count", r, 0, |report| report.entries.len()) }
}

/// What was done in the phases and between them: drains, harvests, and failures, in the order in
/// which each was begun. Calls of one kind within a phase are one entry. Together with the phases
/// they have all the time that calls of the library took, except data calls on devices, which are by
/// device in vfiomig_report_counters().
///
/// Returns: a struct that lives until vfiomig_report_free(); NULL past the last one.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_entry(r: *const vfiomig_report, index: usize) -> *const vfiomig_entry_report {
    let entry =
        |report: &'static vfiomig_report| report.entries.get(index).map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_entry", r, std::ptr::null(), entry) }
}

/// What each device moved in all, and what was done more than once.
///
/// Returns: a struct that lives until vfiomig_report_free(); NULL for NULL, and for a report that is
/// not one of a migration.
/// Threads: any. Blocks: never. Since: 0.1
// Safety: `r` is NULL or a live report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfiomig_report_counters(r: *const vfiomig_report) -> *const vfiomig_counters_report {
    let place = |report: &'static vfiomig_report| report.counters.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the contract of this function.
    unsafe { read("vfiomig_report_counters", r, std::ptr::null(), place) }
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
    use crate::migration::{Counters, Phase, PhaseReport};
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
        let report = Report {
            direction: Direction::Save,
            phases: vec![phase.clone(), phase],
            entries: Vec::new(),
            devices: Vec::new(),
            counters: Counters::default(),
        };
        let text = vfiomig_report::of_migration(&report).text.into_string().unwrap();
        assert!(text.starts_with("ABORT") && text.ends_with("a note"), "{text}");
        assert_eq!(vfiomig_report::of_text("one\ntwo").text.to_str(), Ok("one\ntwo"));
    }
}
