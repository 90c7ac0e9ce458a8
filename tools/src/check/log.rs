//! The device's own log of the pages that it writes.

use super::subject::Subject;
use super::table::Need::{Kernel, Log, Reset, V2, Writer};
use super::table::{Check, Result, Stop, check, fail, pass, quirk, skip};
use crate::bitmap::Bitmap;
use crate::open::{LOG_BASE, LOG_SPAN};
use crate::text::count;
use vfiomig::dialect::State;
use vfiomig::error::Errno;
use vfiomig::transport::requests;

const LOST: &str = "a page that was written is not sent again: the guest's memory is wrong, and no error says so";
const NO_LOG: &str = "the log cannot be used, and all memory is sent again and again";
const WRONG: &str = "nothing with a VMM that is right; the mistake of a wrong one is not seen";

const SPAN: u64 = LOG_SPAN;
const BASE: u64 = LOG_BASE;
/// Lengths of a range that are tried, for some devices have a least one (L3).
const SPANS: [u64; 3] = [SPAN, 1 << 30, 1 << 36];
const PAGE: u64 = 4096;

/// What is checked of START, STOP and REPORT.
pub const CHECKS: &[Check] = &[
    check("log-start", "L1", "a log starts, and says its page size", NO_LOG, &[Log], start_one),
    check("log-report", "K23", "a log that has started can be reported", NO_LOG, &[Log], report_one),
    check(
        "log-page-size",
        "K23",
        "START answers the page size of the device, whatever was asked",
        LOST,
        &[Log, Kernel],
        page_size,
    ),
    check("log-report-adds", "L5", "REPORT sets bits and clears none", LOST, &[Log, Kernel], adds),
    check("log-part", "L7", "a part of a range is reported that begins and ends on whole words", NO_LOG, &[Log], part),
    check("log-many-ranges", "L1", "a log takes several ranges", NO_LOG, &[Log, Kernel], many),
    check("log-stop-twice", "L9", "STOP of a log that does not run succeeds", NO_LOG, &[Log], stop_twice),
    check("log-again", "L1", "a log that was stopped starts again", NO_LOG, &[Log], again),
    check("log-started-twice", "L1", "a log that runs is not started again", LOST, &[Log], started_twice),
    check("log-not-started", "L5", "REPORT is refused where nothing was started", LOST, &[Log], not_started),
    check("log-no-ranges", "L1", "START without a range is refused", WRONG, &[Log, Kernel], no_ranges),
    check(
        "log-unaligned",
        "L2",
        "START of a range that is no whole pages is refused",
        WRONG,
        &[Log, Kernel],
        unaligned,
    ),
    check("log-overlap", "L2", "START of ranges that overlap is refused", WRONG, &[Log, Kernel], overlap),
    check("log-last-page", "L2", "START of a range that reaches 2^64 is refused", WRONG, &[Log, Kernel], last_page),
    check(
        "log-small-pages",
        "L4",
        "REPORT in pages of less than 4096 bytes is refused",
        WRONG,
        &[Log, Kernel],
        small_pages,
    ),
    check("log-in-states", "L8", "the log goes on through STOP_COPY, STOP and RUNNING", LOST, &[Log, V2], in_states),
    check("log-reset", "L9", "a reset does not stop the log", LOST, &[Log, V2, Reset], over_reset),
    check("log-exact", "L5", "a page that was written is reported, once, and no other", LOST, &[Log, Writer], exact),
];

/// A log that runs.
#[derive(Clone, Copy)]
struct Started {
    span: u64,
    page: u64,
}

fn failed(blame: &str, text: String) -> Stop {
    Stop { rule: "L6", blame: blame.into(), text }
}

fn try_start(subject: &Subject, page: u64, ranges: &[[u64; 2]]) -> std::result::Result<u64, Errno> {
    requests::start(subject.transport(), page, ranges)
}

/// Starts a log of the shortest range that the device takes.
fn start(subject: &Subject) -> Result<Started> {
    let mut last = Errno::new(libc::EOPNOTSUPP);
    for span in SPANS {
        match try_start(subject, PAGE, &[[BASE, span]]) {
            Ok(page) => return Ok(Started { span, page }),
            Err(errno) => last = errno,
        }
        // EOPNOTSUPP alone says that the range is too short (L3).
        if last.get() != libc::EOPNOTSUPP {
            break;
        }
    }
    Err(failed("starting the log", format!("START of one range failed: {last}")))
}

fn stop(subject: &Subject) -> Result<()> {
    requests::stop(subject.transport()).map_err(|errno| failed("stopping the log", format!("STOP failed: {errno}")))
}

/// Reports the whole range, in the pages of the log.
fn report(subject: &Subject, started: Started) -> std::result::Result<Bitmap, Errno> {
    let page = if started.page.is_power_of_two() { started.page.max(PAGE) } else { PAGE };
    let mut bitmap = Bitmap::new(started.span.checked_div(page).unwrap_or(0));
    requests::report(subject.transport(), BASE, started.span, page, bitmap.words())?;
    Ok(bitmap)
}

fn must_report(subject: &Subject, started: Started, when: &str) -> Result<Bitmap> {
    report(subject, started).map_err(|errno| {
        // The checks behind this one start logs of their own.
        let _ = requests::stop(subject.transport());
        failed("reporting the log", format!("REPORT of what was started failed{when}: {errno}"))
    })
}

fn start_one(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    stop(subject)?;
    let text = format!("in pages of {} bytes, over {} bytes", started.page, started.span);
    if started.page.is_power_of_two() { pass(text) } else { fail(text) }
}

fn report_one(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    let reported = report(subject, started);
    stop(subject)?;
    match reported {
        Ok(mut bitmap) => pass(format!("dirty: {}", count(bitmap.set().len(), "page"))),
        Err(errno) => {
            Err(Stop { rule: "K23", ..failed("reporting the log", format!("it started, and REPORT failed: {errno}")) })
        }
    }
}

fn page_size(subject: &mut Subject) -> Result {
    const SMALL: u64 = 512;
    let Ok(answer) = try_start(subject, SMALL, &[[BASE, SPAN]]) else {
        return pass("a hint of 512 bytes is refused");
    };
    stop(subject)?;
    if answer == SMALL {
        return quirk("asked for pages of 512 bytes it answers 512: it repeats what it was asked for (K23)");
    }
    if answer.is_power_of_two() {
        pass(format!("asked for 512 it answers {answer}"))
    } else {
        fail(format!("it answers {answer}"))
    }
}

fn adds(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    let mut bitmap = Bitmap::new(started.span / PAGE);
    bitmap.words().fill(u64::MAX);
    let reported = requests::report(subject.transport(), BASE, started.span, started.page.max(PAGE), bitmap.words());
    stop(subject)?;
    reported.map_err(|errno| failed("reporting the log", format!("REPORT failed: {errno}")))?;
    let cleared = bitmap.words().iter().filter(|word| **word != u64::MAX).count();
    if cleared == 0 {
        pass("bits that were on stay on")
    } else {
        fail(format!("bits that were on are lost in {}", count(cleared, "word")))
    }
}

fn part(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    let page = started.page.max(PAGE);
    must_report(subject, started, "")?;
    // Whole words of 64 pages, in the middle.
    let unit = page.saturating_mul(64);
    if started.span < unit.saturating_mul(3) {
        stop(subject)?;
        return skip("its pages are so large that a range has no parts");
    }
    let mut bitmap = Bitmap::new(64);
    let at = BASE.saturating_add(unit);
    let reported = requests::report(subject.transport(), at, unit, page, bitmap.words());
    stop(subject)?;
    match reported {
        Ok(()) => pass("64 pages behind the first 64"),
        Err(errno) if !subject.kernel => quirk(format!("{errno}: mappings are reported as a whole (U-12)")),
        Err(errno) if errno.get() == libc::EOPNOTSUPP => {
            quirk(format!("{errno}: ranges are reported as a whole (U-12)"))
        }
        Err(errno) => fail(format!("it failed: {errno}")),
    }
}

fn many(subject: &mut Subject) -> Result {
    // The ranges have the size that the device takes.
    let span = start(subject)?.span;
    stop(subject)?;
    let ranges = |count: u64| -> Vec<[u64; 2]> {
        (0..count).map(|at| [BASE.saturating_add(at.saturating_mul(span).saturating_mul(2)), span]).collect()
    };
    let mut most = 0;
    for count in [2, 8, 16, 64, 256] {
        if try_start(subject, PAGE, &ranges(count)).is_err() {
            break;
        }
        most = count;
        stop(subject)?;
    }
    if most >= 2 {
        return pass(format!("{most} ranges at least"));
    }
    quirk("it takes one range only: a VMM has to join its memory to one")
}

fn stop_twice(subject: &mut Subject) -> Result {
    start(subject)?;
    stop(subject)?;
    match requests::stop(subject.transport()) {
        Ok(()) => pass("0"),
        Err(errno) => fail(format!("a second STOP: {errno}")),
    }
}

fn again(subject: &mut Subject) -> Result {
    for _ in 0..2 {
        start(subject)?;
        stop(subject)?;
    }
    pass("twice")
}

fn started_twice(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    let second = try_start(subject, PAGE, &[[BASE, started.span]]);
    stop(subject)?;
    match second {
        Err(errno) => pass(errno.to_string()),
        Ok(_) if !subject.kernel => quirk("a second START succeeds, as with libvfio-user (U-11)"),
        Ok(_) => fail("a second START succeeds"),
    }
}

fn not_started(subject: &mut Subject) -> Result {
    stop(subject)?;
    match report(subject, Started { span: SPAN, page: PAGE }) {
        Err(errno) => pass(errno.to_string()),
        Ok(mut bitmap) => fail(format!("it succeeds, and reports {}", count(bitmap.set().len(), "dirty page"))),
    }
}

/// Asks for a START that has to be refused.
fn refused(subject: &mut Subject, ranges: &[[u64; 2]]) -> Result {
    match try_start(subject, PAGE, ranges) {
        Err(errno) => pass(errno.to_string()),
        Ok(_) => {
            stop(subject)?;
            fail("it succeeds")
        }
    }
}

fn no_ranges(subject: &mut Subject) -> Result {
    refused(subject, &[])
}

fn unaligned(subject: &mut Subject) -> Result {
    refused(subject, &[[BASE + 512, SPAN]])
}

fn overlap(subject: &mut Subject) -> Result {
    refused(subject, &[[BASE, SPAN], [BASE + SPAN / 2, SPAN]])
}

fn last_page(subject: &mut Subject) -> Result {
    refused(subject, &[[u64::MAX - SPAN + 1, SPAN]])
}

fn small_pages(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    let mut bitmap = Bitmap::new(started.span / 2048);
    let reported = requests::report(subject.transport(), BASE, started.span, 2048, bitmap.words());
    stop(subject)?;
    match reported {
        Err(errno) => pass(errno.to_string()),
        Ok(()) => fail("it succeeds in pages of 2048 bytes"),
    }
}

fn in_states(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    must_report(subject, started, "")?;
    for state in [State::StopCopy, State::Stop, State::Running] {
        let client = subject.v2()?;
        client.set(state)?;
        if state == State::StopCopy {
            client.read_to_end(&[1 << 20])?;
        }
        if let Err(errno) = report(subject, started) {
            let _ = requests::stop(subject.transport());
            let text = format!("in {state} REPORT says {errno}");
            return if state == State::StopCopy {
                fail(text)
            } else {
                quirk(format!("{text}: the log has stopped itself (K16)"))
            };
        }
    }
    stop(subject)?;
    pass("REPORT answers in each")
}

fn over_reset(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    must_report(subject, started, "")?;
    let done = subject.reset();
    let reported = report(subject, started);
    let _ = requests::stop(subject.transport());
    match (done, reported) {
        (Err(errno), _) => skip(format!("the reset failed: {errno}")),
        (Ok(()), Ok(_)) => pass("REPORT answers after it"),
        (Ok(()), Err(errno)) => fail(format!("REPORT after a reset: {errno}")),
    }
}

/// Pages that a device is made to write.
const PAGES: [u64; 3] = [0, 63, 700];

fn exact(subject: &mut Subject) -> Result {
    let started = start(subject)?;
    must_report(subject, started, "")?;
    let at = |page: u64| BASE.saturating_add(page.saturating_mul(PAGE));
    let Some(writer) = &mut subject.writer else { return skip("it cannot be made to write") };
    if !PAGES.iter().all(|page| writer(at(*page))) {
        stop(subject)?;
        return skip("it does not write");
    }
    let found = must_report(subject, started, "")?.set();
    let again = must_report(subject, started, " the second time")?.set();
    stop(subject)?;
    let scale = (started.page / PAGE).max(1);
    let mut expected: Vec<u64> = PAGES.iter().map(|page| page.checked_div(scale).unwrap_or(*page)).collect();
    expected.dedup();
    if found != expected {
        return fail(format!("it wrote the pages {expected:?}, and REPORT says {found:?}"));
    }
    if !again.is_empty() {
        return fail(format!("the next REPORT says {again:?} again, although nothing was written"));
    }
    pass(format!("{expected:?}, and then nothing"))
}
