//! v1: loading. RESUMING is left for RUNNING only, so a device that accepts a wrong stream runs for a moment, until it is reset.

use super::load::same;
use super::registers::Registers;
use super::subject::Subject;
use super::table::Need::{Image, Library, Reset, V1};
use super::table::{Check, Need, Result, Run::Do, Stop, fail, pass, quirk, skip};
use crate::text::count;
use vfiomig::Error;
use vfiomig::device::{CapFlags, Device, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::Errno;
use vfiomig::transport::requests::Mappable;
use vfiomig::window::{Quirks, StreamFlags};

const LOADS_NONSENSE: &str = "a guest runs with half a device state, or with a wrong one, and no error says so";
const BAD: &[Need] = &[V1, Image, Reset];

/// What is checked of a destination with a migration region.
pub const CHECKS: &[Check] = &[
    Check {
        name: "v1-load",
        rule: "V1-9",
        about: "the device loads its own segments, and runs",
        cost: "no guest with this device arrives anywhere",
        needs: &[V1, Image],
        run: Do(load),
    },
    Check {
        name: "v1-load-by-pre-copy",
        rule: "V1-5",
        about: "a stream that was begun in PRE_COPY is loaded",
        cost: "no guest whose state is saved while it runs arrives anywhere",
        needs: &[V1, Image],
        run: Do(load_by_pre_copy),
    },
    Check {
        name: "v1-mapped-window",
        rule: "V1-14",
        about: "where the window can be mapped, the same stream is saved and loaded by way of it",
        cost: "the guest's device is not the one that it had: VMMs map the window where they can",
        needs: &[V1, Image, Library],
        run: Do(mapped_window),
    },
    Check {
        name: "v1-load-and-save",
        rule: "V1-10",
        about: "what was loaded is what is saved again",
        cost: "the guest's device is not the one that it had",
        needs: &[V1, Image],
        run: Do(load_and_save),
    },
    Check {
        name: "v1-load-half",
        rule: "N11",
        about: "a stream that was cut between two segments is refused",
        cost: LOADS_NONSENSE,
        needs: BAD,
        run: Do(half),
    },
    Check {
        name: "v1-load-nothing",
        rule: "N11",
        about: "RESUMING is not left with a stream of no bytes",
        cost: LOADS_NONSENSE,
        needs: BAD,
        run: Do(nothing),
    },
    Check {
        name: "v1-load-foreign",
        rule: "N11",
        about: "bytes that are no stream of such a device are refused",
        cost: LOADS_NONSENSE,
        needs: BAD,
        run: Do(foreign),
    },
];

/// Enters RESUMING, writes, and leaves it for RUNNING. Returns what refused the stream; `None`: it was accepted.
fn give(subject: &mut Subject, bytes: &[u8], ends: &[usize]) -> Result<Option<String>> {
    let can_reset = subject.can_reset;
    subject.v1()?.set(State::Resuming)?;
    subject.tainted = can_reset;
    let registers = subject.v1()?;
    if let Err((at, errno)) = registers.write_segments(bytes, ends) {
        return Ok(Some(format!("refused by the segment at byte {at}: {errno}")));
    }
    let left: std::result::Result<(), Errno> = registers.try_set(State::Running);
    let now = registers.state()?;
    Ok(match left {
        Err(errno) => Some(format!("refused when RESUMING is left: {errno}")),
        Ok(()) if now == State::Running => None,
        Ok(()) => Some(format!("RESUMING leads to {now}")),
    })
}

/// Saves, and lets the device run.
pub fn save(registers: &Registers) -> Result<(Vec<u8>, Vec<usize>)> {
    registers.set(State::StopCopy)?;
    let saved = registers.read_segments()?;
    leave(registers)?;
    Ok(saved)
}

/// Loads a stream that is right, and lets the device run.
pub fn whole(subject: &mut Subject, bytes: &[u8], ends: &[usize]) -> Result<std::result::Result<(), String>> {
    match give(subject, bytes, ends)? {
        Some(refused) => Ok(Err(refused)),
        None => {
            subject.tainted = false;
            Ok(Ok(()))
        }
    }
}

fn stream(subject: &Subject) -> (Vec<u8>, Vec<usize>) {
    (subject.image.clone().unwrap_or_default(), subject.segments.clone())
}

fn load(subject: &mut Subject) -> Result {
    let (bytes, ends) = stream(subject);
    match whole(subject, &bytes, &ends)? {
        Err(refused) => fail(refused),
        Ok(()) => pass(format!("{} in {}, and it runs", count(bytes.len(), "byte"), count(ends.len(), "segment"))),
    }
}

fn load_by_pre_copy(subject: &mut Subject) -> Result {
    let registers = subject.v1()?;
    registers.set(State::PreCopy)?;
    let (mut bytes, mut ends) = registers.read_segments()?;
    let before = bytes.len();
    if before == 0 {
        return skip("PRE_COPY gives no bytes");
    }
    registers.set(State::StopCopy)?;
    let (after, more) = registers.read_segments()?;
    ends.extend(more.iter().map(|end| end.saturating_add(before)));
    bytes.extend(after);
    leave(registers)?;
    let text = format!("{before} of {} in PRE_COPY", count(bytes.len(), "byte"));
    match whole(subject, &bytes, &ends)? {
        Err(refused) => fail(format!("{refused}; {text}")),
        Ok(()) => pass(text),
    }
}

/// Leaves STOP_COPY for RUNNING, from where alone servers of v1 take a load.
fn leave(registers: &Registers) -> Result<()> {
    registers.set(State::Stop)?;
    registers.set(State::Running)
}

/// Saves and loads through the library, which maps what can be mapped.
fn mapped_window(subject: &mut Subject) -> Result {
    // What the map leaves out is read and written as the device takes it.
    let quirks = Quirks { aligned_access: subject.v1()?.refused.get().is_some(), ..Quirks::default() };
    let opened = subject.library.as_ref().map(|open| open(quirks));
    let device = match opened {
        Some(Ok(device)) => device,
        Some(Err(text)) => return skip(text),
        None => return skip("there is no device of the library"),
    };
    let stop = |what: &str, error: Error| Stop {
        rule: "V1-14",
        blame: "the mapped window".into(),
        text: format!("{what} by way of the mapped window failed: {error}"),
    };
    // Not what was saved first: a reset since then may have changed the state.
    let (bytes, ends) = save(subject.v1()?)?;
    let saved = save_mapped(&device).map_err(|error| stop("saving", error))?;
    let Some(saved) = saved else {
        return match subject.v1()?.mappable {
            Mappable::No => skip("its window cannot be mapped"),
            Mappable::Yes => {
                quirk("it says that its window can be mapped, and mmap() fails: VMMs go on by reads and writes")
            }
            Mappable::Wrong => fail("its mappable areas overlap, lie beyond its end, or are fewer than it says"),
        };
    };
    if saved != bytes {
        if save(subject.v1()?)?.0 != bytes {
            return skip("its state changes from one save to the next, so that two saves cannot be compared");
        }
        let same = saved.iter().zip(&bytes).take_while(|(one, other)| one == other).count();
        return fail(format!(
            "{} by way of the mapped window, {} by reads; they differ from byte {same} on",
            count(saved.len(), "byte"),
            bytes.len()
        ));
    }
    subject.tainted = subject.can_reset;
    load_mapped(&device, &bytes, &ends).map_err(|error| stop("loading", error))?;
    subject.tainted = false;
    let (again, _) = save(subject.v1()?)?;
    same(&bytes, &again)
}

/// The stream by way of the library's device; `None`: its window is not mapped.
fn save_mapped(device: &Device) -> std::result::Result<Option<Vec<u8>>, Error> {
    device.set_state(State::StopCopy, OnFailure::Keep, false)?;
    let mapped = device.info().caps.contains(CapFlags::MAPPED);
    let (mut all, mut buf) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let (len, flags) = device.read(&mut buf)?;
        all.extend_from_slice(buf.get(..len).unwrap_or_default());
        if flags.contains(StreamFlags::END) {
            break;
        }
    }
    for state in [State::Stop, State::Running] {
        device.set_state(state, OnFailure::Keep, false)?;
    }
    Ok(mapped.then_some(all))
}

fn load_mapped(device: &Device, bytes: &[u8], ends: &[usize]) -> std::result::Result<(), Error> {
    device.set_state(State::Resuming, OnFailure::Keep, false)?;
    let mut from = 0;
    for end in ends {
        device.write(bytes.get(from..*end).unwrap_or_default(), true)?;
        from = *end;
    }
    device.finish(Some(bytes.len() as u64))?;
    device.set_state(State::Running, OnFailure::Keep, false)
}

fn load_and_save(subject: &mut Subject) -> Result {
    let (bytes, ends) = stream(subject);
    if let Err(refused) = whole(subject, &bytes, &ends)? {
        return fail(refused);
    }
    let (again, _) = save(subject.v1()?)?;
    same(&bytes, &again)
}

fn half(subject: &mut Subject) -> Result {
    let (bytes, ends) = stream(subject);
    let some = ends.get(..ends.len() / 2).unwrap_or_default();
    let Some(len) = some.last() else { return skip("the stream has one segment") };
    match give(subject, &bytes, some)? {
        Some(refused) => pass(refused),
        None => fail(format!("{len} of {} are accepted", count(bytes.len(), "byte"))),
    }
}

fn nothing(subject: &mut Subject) -> Result {
    match give(subject, &[], &[])? {
        Some(refused) => pass(refused),
        None => fail("it is accepted"),
    }
}

fn foreign(subject: &mut Subject) -> Result {
    let len = subject.segments.first().copied().unwrap_or(256).clamp(1, 4096);
    let bytes: Vec<u8> = (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    match give(subject, &bytes, &[len])? {
        Some(refused) => pass(refused),
        None => fail("it is accepted"),
    }
}
