//! The draft's log of dirty pages: registers of the migration region, behind those that v1 has, too (D8 to D16). A region of type 2
//! has a driver that keeps the cursor: copied_pfns is read again for the rest of a range (D9, D16).

use super::registers::Registers;
use super::subject::Subject;
use super::table::Need::{DraftLog, V1, Writer};
use super::table::{Check, Result, Stop, check, fail, pass, quirk, skip};
use crate::open::LOG_BASE;
use crate::text::count;
use vfiomig::dialect::State;

const START_PFN: u64 = 0x20;
const PAGE_SIZE: u64 = 0x28;
const TOTAL_PFNS: u64 = 0x30;
const COPIED_PFNS: u64 = 0x38;
/// copied_pfns, where all is dirty (D12).
const ALL: u64 = u64::MAX;

const PAGE: u64 = 4096;
/// Pages of the range that is asked for.
const TOTAL: u64 = 512;
/// Pages that a device is made to write.
const WRITTEN: [u64; 3] = [0, 63, 300];

const LOST: &str = "a page that was written is not sent again: the guest's memory is wrong, and no error says so";
const NO_LOG: &str = "the log cannot be used, and all memory is sent again and again";

/// What is checked of the registers of the log.
pub const CHECKS: &[Check] = &[
    check(
        "draft-log-answers",
        "D8",
        "while the device saves, copied_pfns answers, and what it announces is in the region",
        NO_LOG,
        &[V1, DraftLog],
        answers,
    ),
    check(
        "draft-log-clean",
        "D14",
        "what was reported is clean: a device that stands still reports nothing the second time",
        "all memory is sent again and again",
        &[V1, DraftLog],
        clean,
    ),
    check(
        "draft-log-exact",
        "D14",
        "a page that was written is reported, once, and no other",
        LOST,
        &[V1, DraftLog, Writer],
        exact,
    ),
];

/// What the log says of a range.
#[derive(Default)]
struct Asked {
    /// All is dirty, and no page is named.
    all: bool,
    /// Numbers of pages, from the first of the range.
    dirty: Vec<u64>,
    /// The pages of each part.
    parts: Vec<u64>,
}

impl Asked {
    fn nothing(&self) -> bool {
        !self.all && self.dirty.is_empty()
    }
}

fn stop(rule: &'static str, text: String) -> Stop {
    Stop { rule, blame: "the draft's log".into(), text }
}

fn copied(registers: &Registers) -> Result<u64> {
    registers.word(COPIED_PFNS, "copied_pfns").map_err(|failed| stop("D8", failed.text))
}

/// Asks for the whole range, part by part, and that nothing comes behind it (D11).
fn ask(registers: &Registers) -> Result<Asked> {
    let triple =
        [(START_PFN, LOG_BASE / PAGE, "start_pfn"), (PAGE_SIZE, PAGE, "page_size"), (TOTAL_PFNS, TOTAL, "total_pfns")];
    for (at, value, name) in triple {
        registers.set_word(at, value).map_err(|errno| stop("D8", format!("writing {name} failed: {errno}")))?;
    }
    let (mut asked, mut done) = (Asked::default(), 0u64);
    loop {
        let left = TOTAL.saturating_sub(done);
        match copied(registers)? {
            0 => return Ok(asked),
            more if left == 0 => {
                return Err(stop("D11", format!("behind the last page of the range copied_pfns is {more}, not 0")));
            }
            ALL => {
                asked.all = true;
                return Ok(asked);
            }
            more if more > left => {
                return Err(stop("D15", format!("copied_pfns is {more}, and {} are left", count(left, "page"))));
            }
            part => {
                asked.dirty.extend(bits(registers, part)?.into_iter().map(|page| page.saturating_add(done)));
                asked.parts.push(part);
                done = done.saturating_add(part);
            }
        }
    }
}

/// The bits of a part, which data_offset shows (D13).
fn bits(registers: &Registers, part: u64) -> Result<Vec<u64>> {
    let bytes = registers.bitmap(part.div_ceil(64).saturating_mul(8)).map_err(|failed| match failed.rule {
        // A place that leaves the region.
        "V1-13" => stop("D15", failed.text),
        rule => stop(rule, failed.text),
    })?;
    let words = bytes.chunks_exact(8).filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)));
    let pages = words.flat_map(|word| (0..64).map(move |bit| word >> bit & 1 == 1)).zip(0..part);
    Ok(pages.filter(|(set, _)| *set).map(|(_, page)| page).collect())
}

fn answers(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::PreCopy)?;
    let asked = ask(registers)?;
    if asked.all {
        return quirk("it says that all is dirty, and names no page (D12)");
    }
    pass(format!("{} of {TOTAL} dirty", count(asked.dirty.len(), "page")))
}

fn clean(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::StopCopy)?;
    registers.read_segments()?;
    ask(registers)?;
    let again = ask(registers)?;
    match again {
        _ if again.nothing() => pass("nothing"),
        Asked { all: true, .. } => quirk("it says each time that all is dirty (D12)"),
        _ => fail(format!("the second time it reports {:?}", again.dirty)),
    }
}

fn exact(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::PreCopy)?;
    ask(registers)?;
    let Some(writer) = &mut subject.writer else { return skip("it cannot be made to write") };
    let at = |page: &u64| LOG_BASE.saturating_add(page.saturating_mul(PAGE));
    if !WRITTEN.iter().all(|page| writer(at(page))) {
        return skip("it does not write");
    }
    let registers = subject.v1()?;
    let (found, again) = (ask(registers)?, ask(registers)?);
    if found.all {
        return quirk(format!("it wrote the pages {WRITTEN:?}, and says that all is dirty (D12)"));
    }
    if found.dirty != WRITTEN {
        return fail(format!("it wrote the pages {WRITTEN:?}, and reports {:?}", found.dirty));
    }
    if !again.nothing() {
        return fail(format!("the next report says {:?} again, although nothing was written", again.dirty));
    }
    let room = registers.size.saturating_sub(registers.registers_end()).saturating_mul(8);
    match found.parts.first() {
        Some(part) if *part < TOTAL && room >= TOTAL => {
            quirk(format!("{TOTAL} pages come in parts of {part}, and the window has room for {room} (D10)"))
        }
        _ => pass(format!("{WRITTEN:?}, and then nothing")),
    }
}
