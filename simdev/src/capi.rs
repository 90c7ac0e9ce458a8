//! The C API: `include/simdev.h`. Handles are `struct simdev *`; NULL answers -EINVAL, or 0 where a count is returned.

use crate::config::{BadLoad, Config, DataPath, Dialect, DmaLog, DraftForm, Precopy, PrecopyEnd, Trapped, Window};
use crate::device::Device;
use crate::machine::{Access, Effect, Fault, FaultId};
use crate::peers::Peer;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::Duration;
use vfiomig::transport::ops::Ops;

/// `struct simdev`.
pub struct Simdev {
    device: Device,
    /// Texts that were handed out; they live as long as the handle.
    texts: parking_lot::Mutex<Vec<CString>>,
}

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

fn config(o: &Options) -> Result<Config, String> {
    if o.flags & !ALL_FLAGS != 0 {
        return Err(format!("flags: {:#x} has unknown bits", o.flags));
    }
    let has = |flag| o.flags & flag != 0;
    let dialect = match o.dialect {
        0 => Dialect::V2 { p2p: has(P2P), pre_copy: has(PRE_COPY) },
        1 => Dialect::V1 { ndma: false },
        2 => Dialect::V1 { ndma: true },
        3 => Dialect::Draft { form: DraftForm::Sticky, region_type: 2 },
        4 => Dialect::Draft { form: DraftForm::Rewrite, region_type: 3 },
        other => return Err(format!("dialect: {other} is none of SIMDEV_V2 to SIMDEV_DRAFT_REWRITE")),
    };
    let window = match o.window {
        0 => Window::Trapped,
        1 => Window::Whole,
        2 => Window::Area,
        3 => Window::Gap,
        other => return Err(format!("window: {other} is none of SIMDEV_TRAPPED to SIMDEV_GAP")),
    };
    let size = |name: &str, value: u64, default: usize| match value {
        0 => Ok(default),
        _ => usize::try_from(value).map_err(|_| format!("{name}: {value} does not fit into memory")),
    };
    let base = Config::default();
    let segment = size("segment_size", o.segment_size, base.segment_size)?;
    let known = if o.dialect == 2 { 15 } else { 7 };
    let pages = o.dma_log_page_size;
    let wrong = [
        (!(256..=1 << 30).contains(&segment), format!("segment_size: {segment} is not from 256 to 2^30")),
        (o.skew > 1 << 30, format!("skew: {} is more than 2^30", o.skew)),
        (
            o.reserved_bits & known != 0,
            format!("reserved_bits: {:#x} has bits of the protocol, {known:#x}", o.reserved_bits),
        ),
        (pages != 0 && !pages.is_power_of_two(), format!("dma_log_page_size: {pages} is no power of two")),
    ];
    if let Some((_, text)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(text);
    }
    let report = !has(NO_REPORT);
    let config = Config {
        dialect,
        window,
        seed: has(SEEDED).then_some(o.seed),
        precopy: if has(PRECOPY_BYTES) {
            Precopy::Bytes(size("precopy_bytes", o.precopy_bytes, 0)?)
        } else {
            Precopy::Half
        },
        vary_segments: has(VARY),
        judge_content: !has(NO_JUDGE_CONTENT),
        bad_load: if has(KEEP_BAD_LOAD) { BadLoad::Keep } else { BadLoad::Error },
        abort_allowed: has(ABORT_ALLOWED),
        can_reset: !has(NO_RESET),
        skew: o.skew,
        trapped: match o.trapped {
            0 => Trapped::Any,
            WORD => Trapped::Word,
            most => Trapped::AtMost(most as usize),
        },
        map_fails: has(MAP_FAILS),
        reserved_bits: o.reserved_bits,
        data: if has(REAL_FD) { DataPath::RealFd } else { DataPath::Functions },
        precopy_end: if has(ZERO_END) { PrecopyEnd::Zero } else { PrecopyEnd::NoMessage },
        needs_info: has(NEEDS_INFO),
        opt_in: has(OPT_IN),
        accept_truncated: has(ACCEPT_TRUNCATED),
        max_io: size("max_io", o.max_io, usize::MAX)?,
        dma_log: (pages != 0).then_some(DmaLog { page_size: pages, report, ..DmaLog::default() }),
        ..base
    };
    Ok(config.state_size(size("state_size", o.state_size, 64 << 10)?).segments(segment))
}

/// # Safety
/// `d` is NULL or a handle that lives.
unsafe fn handle<'a>(d: *const Simdev) -> Option<&'a Simdev> {
    // SAFETY: the function's contract.
    unsafe { d.as_ref() }
}

fn status(result: Result<(), i32>) -> c_int {
    result.map_or_else(|errno| -errno, |()| 0)
}

thread_local! {
    /// Why this thread's last attempt made no device.
    static WHY_NOT: RefCell<CString> = RefCell::default();
}

/// A handle, or NULL and the reason.
fn give(config: Result<Config, String>) -> *mut Simdev {
    let (handle, text) = match config {
        Ok(config) => {
            let simdev = Simdev { device: Device::new(config), texts: Default::default() };
            (Box::into_raw(Box::new(simdev)), String::new())
        }
        Err(text) => (std::ptr::null_mut(), text),
    };
    WHY_NOT.set(CString::new(text).unwrap_or_default());
    handle
}

/// Why the calling thread's last `simdev_new()` or `simdev_new_peer()` returned NULL; "" if it did not.
#[unsafe(no_mangle)]
pub extern "C" fn simdev_why_not() -> *const c_char {
    WHY_NOT.with_borrow(|text| text.as_ptr())
}

/// A device, or NULL if the options make none.
///
/// # Safety
/// `o` is NULL or `struct simdev_options` of `argsz` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_new(o: *const Options) -> *mut Simdev {
    let mut options = Options::default();
    if !o.is_null() {
        // SAFETY: the function's contract: argsz, the first field, is there at least.
        let argsz = unsafe { o.cast::<u32>().read() } as usize;
        if argsz < 4 || argsz > size_of::<Options>() {
            return give(Err(format!("argsz: {argsz} is not from 4 to {}", size_of::<Options>())));
        }
        // SAFETY: `argsz` bytes are readable at `o`, and fit into `options`, for which every bit pattern is legal.
        unsafe { std::ptr::copy_nonoverlapping(o.cast::<u8>(), (&raw mut options).cast::<u8>(), argsz) };
    }
    give(config(&options))
}

/// A device that behaves as the driver or server of that name, or NULL if there is none.
///
/// # Safety
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_new_peer(name: *const c_char, seed: u64) -> *mut Simdev {
    if name.is_null() {
        return give(Err("name is NULL".to_string()));
    }
    // SAFETY: the function's contract; it is not NULL.
    let name = unsafe { CStr::from_ptr(name) };
    let peer = name.to_str().ok().and_then(Peer::from_name);
    let config = peer.map(|peer| Config { seed: (seed != 0).then_some(seed), ..peer.config() });
    give(config.ok_or_else(|| format!("name: {} is no peer", name.to_string_lossy())))
}

/// The VMM has closed the device fd (1), or opened it again (0).
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_close_fd(d: *const Simdev, closed: c_int) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.close_fd(closed != 0);
    }
}

/// Whether its state says that it runs although it stands still.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_stands_still(d: *const Simdev) -> c_int {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| c_int::from(d.device.stands_still()))
}

/// Frees the handle. No client may use its table any more; texts that it gave are gone.
///
/// # Safety
/// `d` is NULL or a handle that lives; it does not afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_free(d: *mut Simdev) {
    if !d.is_null() {
        // SAFETY: `simdev_new` made it, and by contract this is its end.
        drop(unsafe { Box::from_raw(d) });
    }
}

/// Fills the table and what its functions are called with.
///
/// # Safety
/// `d` is a handle that lives, `ops` and `opaque` are room for what they point at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_get_ops(d: *const Simdev, ops: *mut Ops, opaque: *mut *mut c_void) -> c_int {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return -libc::EINVAL };
    if ops.is_null() || opaque.is_null() {
        return -libc::EINVAL;
    }
    let (table, pointer) = d.device.ops();
    // SAFETY: the function's contract; neither is NULL.
    unsafe { ops.write(table) };
    // SAFETY: as above.
    unsafe { opaque.write(pointer) };
    0
}

/// The abstract state, in the numbers of the library and of v2.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_state(d: *const Simdev) -> u32 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.state().number())
}

/// A sum over the internal state.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_checksum(d: *const Simdev) -> u64 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.checksum())
}

/// Changes `len` bytes of the state at `offset`.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_redirty(d: *const Simdev, offset: u64, len: u64, value: u64) -> c_int {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return -libc::EINVAL };
    let cut = |v: u64| usize::try_from(v).unwrap_or(usize::MAX);
    status(d.device.touch(cut(offset), cut(len), value))
}

/// Writes a page of guest RAM.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_dma_write(d: *const Simdev, page: u64) -> c_int {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(-libc::EINVAL, |d| status(d.device.dma_write(page)))
}

/// The pages written since the last call: how many; the lowest `max` of them in `pages`. They are in the log no more.
///
/// # Safety
/// `d` is NULL or a handle that lives; `pages` is room for `max` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_take_dma_log(d: *const Simdev, pages: *mut u64, max: usize) -> usize {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return 0 };
    let log = d.device.take_dma_log();
    if !pages.is_null() {
        for (i, &page) in log.iter().take(max).enumerate() {
            // SAFETY: `i` is below `max`.
            unsafe { pages.add(i).write(page) };
        }
    }
    log.len()
}

/// How often a client went wrong.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_violations(d: *const Simdev) -> u64 {
    // SAFETY: the function's contract.
    unsafe { handle(d) }.map_or(0, |d| d.device.violation_count())
}

/// The text of a violation, or NULL. It lives until `simdev_free`.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_violation_text(d: *const Simdev, index: u64) -> *const c_char {
    // SAFETY: the function's contract.
    let Some(d) = (unsafe { handle(d) }) else { return std::ptr::null() };
    let list = d.device.violations();
    let Some(violation) = usize::try_from(index).ok().and_then(|i| list.get(i)) else { return std::ptr::null() };
    let text = CString::new(violation.to_string()).unwrap_or_default();
    let pointer = text.as_ptr();
    d.texts.lock().push(text);
    pointer
}

/// How many accesses of a kind.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_count(d: *const Simdev, kind: u32) -> u64 {
    // SAFETY: the function's contract.
    let d = unsafe { handle(d) };
    d.zip(access(kind)).map_or(0, |(d, access)| d.device.count(access))
}

/// Whether SAVING may be left with data unread.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_allow_abort(d: *const Simdev, allowed: c_int) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.allow_abort(allowed != 0);
    }
}

/// `enum simdev_access`.
fn access(kind: u32) -> Option<Access> {
    const KINDS: [Access; 22] = [
        Access::Any,
        Access::DeviceInfo,
        Access::RegionInfo,
        Access::RegionMap,
        Access::Reset,
        Access::StateRead,
        Access::StateWrite,
        Access::PendingRead,
        Access::DataOffsetRead,
        Access::DataSizeRead,
        Access::DataSizeWrite,
        Access::DataRead,
        Access::DataWrite,
        Access::PfnWrite,
        Access::CopiedPfnsRead,
        Access::GetMigration,
        Access::StopCopySize,
        Access::OptIn,
        Access::PrecopyInfo,
        Access::DmaLogStart,
        Access::DmaLogStop,
        Access::DmaLogReport,
    ];
    let enter = kind.checked_sub(0x100).and_then(vfiomig::dialect::State::from_number).map(Access::Enter);
    enter.or(KINDS.get(kind as usize).copied())
}

/// Something goes wrong at the `nth` access of a kind and the `times - 1` that follow; a number for
/// `simdev_fault_reached`, or -EINVAL.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_inject(
    d: *const Simdev,
    kind: u32,
    nth: u64,
    times: u64,
    effect: u32,
    value: u64,
) -> c_int {
    // SAFETY: the function's contract.
    let (Some(d), Some(access)) = (unsafe { handle(d) }, access(kind)) else { return -libc::EINVAL };
    let errno = i32::try_from(value).ok().filter(|&e| e > 0 && e < 4096);
    let effect = match (effect, errno) {
        (0, Some(errno)) => Effect::Errno(errno),
        (1, Some(errno)) => Effect::ErrnoMoved(errno),
        (2, Some(errno)) => Effect::ToError(errno),
        (3, _) => Effect::Lie(value),
        (4, _) => Effect::NoFd,
        (5, _) => Effect::UnexpectedFd,
        (6, _) => Effect::Short(usize::try_from(value).unwrap_or(usize::MAX)),
        (7, _) => Effect::MoveWindow,
        (8, _) => Effect::Delay(Duration::from_micros(value)),
        (9, _) => Effect::ResetBehind,
        _ => return -libc::EINVAL,
    };
    let id = d.device.inject(Fault { access, nth, times, effect });
    c_int::try_from(id.0).unwrap_or(c_int::MAX)
}

/// How often the fault was met.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_fault_reached(d: *const Simdev, id: c_int) -> u64 {
    // SAFETY: the function's contract.
    let d = unsafe { handle(d) };
    d.zip(usize::try_from(id).ok()).map_or(0, |(d, id)| d.device.fault_reached(FaultId(id)))
}

/// No fault goes on.
///
/// # Safety
/// `d` is NULL or a handle that lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simdev_clear_faults(d: *const Simdev) {
    // SAFETY: the function's contract.
    if let Some(d) = unsafe { handle(d) } {
        d.device.clear_faults();
    }
}
