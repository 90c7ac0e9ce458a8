//! Two devices: the second loads what the first has saved, and the first loads it back.

use super::subject::{Speaks, Subject};
use super::table::Need::{Image, Second};
use super::table::{Check, Result, Run::Do, Stop, fail, pass, quirk, skip};
use super::{load, v1_load};
use vfiomig::dialect::State;

/// What is checked with a second device.
pub const CHECKS: &[Check] = &[
    Check {
        name: "pair-alike",
        rule: "P22",
        about: "both devices speak one dialect and have the same abilities",
        cost: "a guest cannot go from one to the other",
        needs: &[Second],
        run: Do(alike),
    },
    Check {
        name: "pair-there",
        rule: "N2",
        about: "the second device loads what the first has saved, and has the same state then",
        cost: "the guest's device does not arrive, or is another one",
        needs: &[Second, Image],
        run: Do(there),
    },
    Check {
        name: "pair-back",
        rule: "N2",
        about: "the first device loads it back from the second",
        cost: "a guest that was moved cannot be moved back",
        needs: &[Second, Image],
        run: Do(back),
    },
];

fn dialect(subject: &Subject) -> &'static str {
    match &subject.speaks {
        Speaks::V2(_) => "v2",
        Speaks::V1(registers) if registers.draft => "the draft",
        Speaks::V1(_) => "v1",
    }
}

fn alike(subject: &mut Subject) -> Result {
    let Some(second) = &subject.second else { return skip("there is no second device") };
    let (one, other) = (dialect(subject), dialect(second));
    if one != other {
        return fail(format!("the first speaks {one}, the second {other}"));
    }
    let (one, other) = (subject.caps(), second.caps());
    if one == other { pass("they do") } else { quirk(format!("the first has {one:?}, the second {other:?}")) }
}

/// What one device has saved: its bytes, and of v1 where its segments end.
struct Saved {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Saves the state of one device, which stands still afterwards where its dialect loads from STOP (v2).
fn save(subject: &mut Subject) -> Result<Saved> {
    match &mut subject.speaks {
        Speaks::V2(client) => {
            client.set(State::StopCopy)?;
            let bytes = client.read_to_end(&[1 << 20])?;
            client.set(State::Stop)?;
            Ok(Saved { bytes, ends: Vec::new() })
        }
        Speaks::V1(registers) => {
            let (bytes, ends) = v1_load::save(registers)?;
            Ok(Saved { bytes, ends })
        }
    }
}

/// Loads it into a device, and saves it there again. Between the two a device of v1 runs: RESUMING leads nowhere else (V1-3).
fn through(subject: &mut Subject, saved: &Saved) -> Result<std::result::Result<Saved, String>> {
    let loaded = match &subject.speaks {
        Speaks::V2(_) => load::whole(subject, &saved.bytes, &[1 << 20])?,
        Speaks::V1(_) => v1_load::whole(subject, &saved.bytes, &saved.ends)?,
    };
    match loaded {
        Err(text) => Ok(Err(text)),
        Ok(()) => save(subject).map(Ok),
    }
}

/// What fails of the second device is no fault of the first.
fn of_second<T>(result: Result<T>) -> Result<T> {
    result.map_err(|stop| Stop {
        blame: format!("of the second device: {}", stop.blame),
        text: format!("the second device: {}", stop.text),
        ..stop
    })
}

/// The second device, where it speaks what the first one speaks.
fn take_second<'a>(subject: &mut Subject<'a>) -> std::result::Result<Box<Subject<'a>>, &'static str> {
    match subject.second.take() {
        None => Err("there is no second device"),
        Some(second) if dialect(&second) != dialect(subject) => {
            subject.second = Some(second);
            Err("the two speak different dialects: see pair-alike")
        }
        Some(second) => Ok(second),
    }
}

fn there(subject: &mut Subject) -> Result {
    let mut second = match take_second(subject) {
        Ok(second) => second,
        Err(why) => return skip(why),
    };
    let verdict = there_and_again(subject, &mut second);
    second.settle();
    let lost = second.lost.clone();
    subject.second = Some(second);
    match (verdict, lost) {
        (Ok(_), Some(lost)) => fail(format!("the second device does not run again: {lost}")),
        (verdict, _) => verdict,
    }
}

fn there_and_again(subject: &mut Subject, second: &mut Subject) -> Result {
    // It is given back at the end what it has now.
    second.settle();
    let own = of_second(save(second))?;
    (second.image, second.segments) = (Some(own.bytes), own.ends);
    let saved = save(subject)?;
    match of_second(through(second, &saved))? {
        Err(text) => fail(format!("the second device: {text}")),
        Ok(again) => load::same(&saved.bytes, &again.bytes),
    }
}

fn back(subject: &mut Subject) -> Result {
    let mut second = match take_second(subject) {
        Ok(second) => second,
        Err(why) => return skip(why),
    };
    let saved = of_second(save(&mut second));
    second.settle();
    subject.second = Some(second);
    let saved = saved?;
    match through(subject, &saved)? {
        Err(text) => fail(format!("the first device: {text}")),
        Ok(again) => load::same(&saved.bytes, &again.bytes),
    }
}
