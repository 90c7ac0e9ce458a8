//! Loading: a whole stream, and streams that no device may accept. One that has accepted such a stream is reset, and never runs
//! with it.

use super::client::number;
use super::subject::Subject;
use super::table::Need::{Danger, Image, PreCopy, Reset, V2};
use super::table::{Check, Need, Result, Run::Do, fail, pass, quirk, skip};
use crate::text::count;
use std::time::Duration;
use vfiomig::dialect::State;
use vfiomig::error::Errno;

const LOADS_NONSENSE: &str = "a guest runs with half a device state, or with a wrong one, and no error says so";
const BAD: &[Need] = &[V2, Image, Reset];

const fn bad(name: &'static str, rule: &'static str, about: &'static str, run: fn(&mut Subject) -> Result) -> Check {
    Check { name, rule, about, cost: LOADS_NONSENSE, needs: BAD, run: Do(run) }
}

/// What is checked of a destination.
pub const CHECKS: &[Check] = &[
    Check {
        name: "load",
        rule: "N4",
        about: "the device loads its own stream, and runs",
        cost: "no guest with this device arrives anywhere",
        needs: &[V2, Image],
        run: Do(load),
    },
    Check {
        name: "load-in-odd-writes",
        rule: "F1",
        about: "it does not matter how the stream is cut into writes",
        cost: "a migration fails with every VMM whose buffers have another size",
        needs: &[V2, Image],
        run: Do(load_odd),
    },
    Check {
        name: "load-by-pre-copy",
        rule: "V2-4",
        about: "a stream that was begun in PRE_COPY is loaded",
        cost: "no guest whose state is saved while it runs arrives anywhere",
        needs: &[V2, Image, PreCopy],
        run: Do(load_by_pre_copy),
    },
    Check {
        name: "load-and-save",
        rule: "N2",
        about: "what was loaded is what is saved again",
        cost: "the guest's device is not the one that it had",
        needs: &[V2, Image],
        run: Do(load_and_save),
    },
    Check {
        name: "load-twice",
        rule: "K21",
        about: "two loads without a reset between succeed",
        cost: "after a migration that failed this destination cannot be used again",
        needs: &[V2, Image],
        run: Do(load_twice),
    },
    Check {
        name: "load-again-after-half",
        rule: "V2-9",
        about: "a load that was given up by a reset leaves nothing behind: the next one succeeds",
        cost: "after a migration that failed this destination cannot be used again",
        needs: BAD,
        run: Do(after_half),
    },
    Check {
        name: "read-while-loading",
        rule: "V2-5",
        about: "the data fd of a load cannot be read",
        cost: "a mistake of the VMM is not seen",
        needs: &[V2, Image],
        run: Do(read_while_loading),
    },
    Check {
        name: "write-while-saving",
        rule: "V2-5",
        about: "the data fd of a save cannot be written",
        cost: "a mistake of the VMM destroys the stream instead of being refused",
        needs: &[V2, Image],
        run: Do(write_while_saving),
    },
    bad("load-nothing", "N11", "RESUMING is not left for STOP with a stream of no bytes", nothing),
    bad("load-beginning", "N11", "a stream that was cut behind its first part is refused", beginning),
    Check {
        name: "load-precopy-part",
        rule: "N11",
        about: "a stream that was cut where PRE_COPY had nothing more is refused",
        cost: LOADS_NONSENSE,
        needs: &[V2, Image, Reset, PreCopy],
        run: Do(precopy_part),
    },
    bad("load-half", "N11", "a stream that was cut in its middle is refused", half),
    bad("load-but-one-byte", "N11", "a stream without its last byte is refused", but_one),
    bad("load-cut-anywhere", "N11", "a short stream is refused wherever it is cut", anywhere),
    bad("load-too-much", "N11", "a stream with more bytes behind its end is refused", too_much),
    bad("load-foreign", "N11", "bytes that are no stream of such a device are refused", foreign),
    bad("load-corrupt-head", "N11", "a stream whose first bytes were changed is refused", corrupt_head),
    bad("load-corrupt-middle", "N11", "a stream that was changed in its middle is refused", corrupt_middle),
    bad("refusal-stays", "F6", "after a write that was refused RESUMING is not left for STOP", refusal_stays),
    Check {
        name: "write-after-refusal",
        rule: "F6",
        about: "after a write that was refused no other is taken",
        cost: LOADS_NONSENSE,
        needs: &[V2, Image, Reset, Danger],
        run: Do(write_after_refusal),
    },
];

/// How a load went.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The device is in STOP.
    Accepted,
    /// A write at this place failed; the device is in RESUMING, or in ERROR.
    Refused(usize, Errno),
    /// Leaving RESUMING failed.
    AtEnd(Errno),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Accepted => write!(f, "it is accepted"),
            Ended::Refused(at, errno) => write!(f, "refused by the write at byte {at}: {errno}"),
            Ended::AtEnd(errno) => write!(f, "refused when RESUMING is left: {errno}"),
        }
    }
}

/// Enters RESUMING, writes, and leaves it for STOP.
pub fn give(subject: &mut Subject, bytes: &[u8], sizes: &[usize]) -> Result<Ended> {
    let can_reset = subject.can_reset;
    subject.v2()?.set(State::Resuming)?;
    subject.tainted = can_reset;
    let client = subject.v2()?;
    let (mut at, mut sizes) = (0usize, sizes.iter().copied().cycle());
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let size = sizes.next().unwrap_or(1 << 20).min(rest.len());
        match client.write(rest.get(..size).unwrap_or(rest)) {
            Ok(len) => at = at.saturating_add(len),
            Err(errno) => return Ok(Ended::Refused(at, errno)),
        }
    }
    // F5, K10: closed before its state is left.
    client.session = None;
    Ok(client.try_set(number(State::Stop)).map_or_else(Ended::AtEnd, |_| Ended::Accepted))
}

/// Loads a stream that is right.
pub fn whole(subject: &mut Subject, bytes: &[u8], sizes: &[usize]) -> Result<std::result::Result<(), String>> {
    match give(subject, bytes, sizes)? {
        Ended::Accepted => {
            subject.tainted = false;
            Ok(Ok(()))
        }
        refused => Ok(Err(refused.to_string())),
    }
}

fn image(subject: &Subject) -> Vec<u8> {
    subject.image.clone().unwrap_or_default()
}

fn load(subject: &mut Subject) -> Result {
    let image = image(subject);
    if let Err(text) = whole(subject, &image, &[1 << 20])? {
        return fail(text);
    }
    subject.v2()?.set(State::Running)?;
    pass(format!("{}, and it runs", count(image.len(), "byte")))
}

fn load_odd(subject: &mut Subject) -> Result {
    let image = image(subject);
    let sizes: &[usize] = if image.len() < 1 << 16 { &[1, 7, 4095, 13] } else { &[4095, 65537, 777] };
    match whole(subject, &image, sizes)? {
        Ok(()) => pass(count(image.len(), "byte")),
        Err(text) => fail(text),
    }
}

/// One stream of two parts, as the source side of a migration sends it.
fn load_by_pre_copy(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::PreCopy)?;
    let (mut bytes, _) = client.read_for_now(Duration::from_secs(2))?;
    let before = bytes.len();
    if before == 0 {
        return skip("PRE_COPY gives no bytes");
    }
    if client.caps.p2p {
        client.set(State::PreCopyP2p)?;
    }
    client.set(State::StopCopy)?;
    bytes.extend(client.read_to_end(&[1 << 20])?);
    client.set(State::Stop)?;
    let text = format!("{before} of {} in PRE_COPY", count(bytes.len(), "byte"));
    if let Err(refused) = whole(subject, &bytes, &[1 << 20])? {
        return fail(format!("{refused}; {text} (U-21)"));
    }
    subject.v2()?.set(State::Running)?;
    pass(text)
}

fn load_and_save(subject: &mut Subject) -> Result {
    let image = image(subject);
    if let Err(text) = whole(subject, &image, &[1 << 20])? {
        return fail(text);
    }
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let again = client.read_to_end(&[1 << 20])?;
    client.set(State::Stop)?;
    same(&image, &again)
}

/// Compares what was loaded with what is saved again; the device did not run between.
pub fn same(image: &[u8], again: &[u8]) -> Result {
    if image == again {
        return pass(format!("the same {}", count(image.len(), "byte")));
    }
    let text = format!("loaded: {}; saved: {}", count(image.len(), "byte"), count(again.len(), "byte"));
    if again.is_empty() && !image.is_empty() {
        return fail(text);
    }
    let differs = image.iter().zip(again).position(|(one, other)| one != other);
    let place =
        differs.map_or("one goes on where the other ends".to_string(), |at| format!("the first difference is at {at}"));
    quirk(format!("{text}, and {place}: it is for the driver's author to say whether that matters"))
}

fn load_twice(subject: &mut Subject) -> Result {
    let image = image(subject);
    for time in ["first", "second"] {
        if let Err(text) = whole(subject, &image, &[1 << 20])? {
            return fail(format!("the {time} time: {text}"));
        }
    }
    pass("both succeed")
}

fn after_half(subject: &mut Subject) -> Result {
    let image = image(subject);
    let cut = image.get(..image.len() / 2).unwrap_or_default();
    let client = subject.v2()?;
    client.set(State::Resuming)?;
    let mut rest = cut;
    while !rest.is_empty() {
        match client.write(rest) {
            Ok(len) => rest = rest.get(len..).unwrap_or_default(),
            Err(errno) => return skip(format!("the first half of its own stream is refused: {errno}")),
        }
    }
    client.session = None;
    subject.tainted = true;
    subject.settle();
    if let Some(lost) = &subject.lost {
        return fail(format!("it cannot be brought back from RESUMING: {lost}"));
    }
    match whole(subject, &image, &[1 << 20])? {
        Ok(()) => pass("the next load succeeds"),
        Err(text) => fail(format!("the next load of the whole stream: {text}")),
    }
}

fn read_while_loading(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::Resuming)?;
    let said = client.session.as_mut().map(|session| session.read(&mut [0; 16]));
    subject.tainted = subject.can_reset;
    match said {
        Some(Ok(0)) => quirk("a read answers 0, as if a stream had ended"),
        Some(Ok(len)) => fail(format!("it brings {}", count(len, "byte"))),
        Some(Err(errno)) => pass(errno.to_string()),
        None => skip("there is no data fd"),
    }
}

fn write_while_saving(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let written = client.write(&[0; 16]);
    match written {
        Ok(len) => fail(format!("{len} of 16 bytes are taken")),
        Err(errno) => {
            client.read_to_end(&[1 << 20])?;
            pass(errno.to_string())
        }
    }
}

/// Loads a stream that has to be refused.
fn refused(subject: &mut Subject, bytes: &[u8], habit: &str) -> Result {
    match give(subject, bytes, &[1 << 20])? {
        Ended::Accepted => fail(format!("it is accepted{habit}")),
        refused => pass(refused.to_string()),
    }
}

fn nothing(subject: &mut Subject) -> Result {
    if subject.image.as_ref().is_some_and(Vec::is_empty) {
        return skip("its whole stream has no bytes");
    }
    refused(subject, &[], " (K5)")
}

fn beginning(subject: &mut Subject) -> Result {
    let image = image(subject);
    // The first part is what the first read brings.
    let client = subject.v2()?;
    let state = if client.caps.pre_copy { State::PreCopy } else { State::StopCopy };
    client.set(state)?;
    let mut buf = vec![0; 1 << 20];
    let len = match client.read(&mut buf)? {
        super::client::Said::Bytes(len) if len < image.len() => len,
        _ => return skip("its first read brings all"),
    };
    subject.settle();
    refused(subject, image.get(..len).unwrap_or_default(), &format!(", {len} of {} (K5)", count(image.len(), "byte")))
}

fn precopy_part(subject: &mut Subject) -> Result {
    let len = subject.image.as_ref().map_or(0, Vec::len);
    let client = subject.v2()?;
    client.set(State::PreCopy)?;
    let (part, _) = client.read_for_now(Duration::from_secs(3))?;
    subject.settle();
    if part.is_empty() || part.len() >= len {
        return skip(format!("PRE_COPY gives {} of {}", part.len(), count(len, "byte")));
    }
    refused(subject, &part, &format!(", {} of {} (K5)", part.len(), count(len, "byte")))
}

fn half(subject: &mut Subject) -> Result {
    let image = image(subject);
    let len = image.len() / 2;
    if len == 0 {
        return skip("the stream is too short");
    }
    refused(subject, image.get(..len).unwrap_or_default(), &format!(", {len} of {} (K5)", count(image.len(), "byte")))
}

fn but_one(subject: &mut Subject) -> Result {
    let mut image = image(subject);
    if image.pop().is_none() || image.is_empty() {
        return skip("the stream is too short");
    }
    refused(subject, &image, " (K5)")
}

/// A stream of so many bytes is cut at each of them.
const SHORT: usize = 512;

fn anywhere(subject: &mut Subject) -> Result {
    let image = image(subject);
    if image.len() > SHORT {
        return skip(format!("the stream has {}: it was cut at some places", count(image.len(), "byte")));
    }
    let mut accepted = Vec::new();
    for len in 1..image.len() {
        if give(subject, image.get(..len).unwrap_or_default(), &[1 << 20])? == Ended::Accepted {
            accepted.push(len);
        }
        subject.settle();
        if let Some(lost) = &subject.lost {
            return fail(format!("after {len} bytes it cannot be brought back: {lost}"));
        }
    }
    match accepted.first() {
        None => pass(format!("refused at each of {}", count(image.len().saturating_sub(1), "place"))),
        Some(first) => fail(format!(
            "{first} of {} are accepted, and it is the same at {} (K5)",
            count(image.len(), "byte"),
            count(accepted.len().saturating_sub(1), "other place")
        )),
    }
}

fn too_much(subject: &mut Subject) -> Result {
    let mut image = image(subject);
    image.extend_from_slice(&[0x5a; 512]);
    refused(subject, &image, ", with 512 bytes behind its end")
}

fn foreign(subject: &mut Subject) -> Result {
    let len = subject.image.as_ref().map_or(0, Vec::len).max(4096);
    // Bytes without a pattern, so that they are no beginning of a format.
    let bytes: Vec<u8> = (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    refused(subject, &bytes, "")
}

fn corrupt_head(subject: &mut Subject) -> Result {
    let mut image = image(subject);
    image.iter_mut().take(8).for_each(|byte| *byte ^= 0xff);
    if image.is_empty() {
        return skip("the stream is empty");
    }
    refused(subject, &image, "")
}

/// A quirk where it is accepted: no rule demands a checksum, and the wire has one (docs/wire.md).
fn corrupt_middle(subject: &mut Subject) -> Result {
    let mut image = image(subject);
    let middle = image.len() / 2;
    match image.get_mut(middle) {
        Some(byte) if middle > 64 => *byte ^= 0x10,
        _ => return skip("the stream is too short"),
    }
    match give(subject, &image, &[1 << 20])? {
        Ended::Accepted => {
            quirk(format!("one bit of byte {middle} is changed, and it is accepted: the stream has no checksum"))
        }
        refused => pass(refused.to_string()),
    }
}

/// Gives a wrong stream. Where a write refuses it: the byte at which that was, and the errno.
fn provoke(subject: &mut Subject) -> Result<Option<(usize, Errno)>> {
    let mut image = image(subject);
    image.iter_mut().take(8).for_each(|byte| *byte ^= 0xff);
    match give(subject, &image, &[1 << 20])? {
        Ended::Refused(at, errno) => Ok(Some((at, errno))),
        _ => Ok(None),
    }
}

fn refusal_stays(subject: &mut Subject) -> Result {
    let Some((at, errno)) = provoke(subject)? else { return skip("no write of a wrong stream is refused") };
    let client = subject.v2()?;
    client.session = None;
    if client.state()? == State::Error {
        return pass("the device is in ERROR then");
    }
    match client.try_set(number(State::Stop)) {
        Ok(_) => fail(format!("the write at byte {at} was refused ({errno}), and the step to STOP succeeds (K4)")),
        Err(errno) => pass(errno.to_string()),
    }
}

fn write_after_refusal(subject: &mut Subject) -> Result {
    let Some((at, errno)) = provoke(subject)? else { return skip("no write of a wrong stream is refused") };
    let client = subject.v2()?;
    if client.session.is_none() {
        return pass("the session has ended");
    }
    match client.write(&[0; 64]) {
        Ok(len) => fail(format!(
            "the write at byte {at} was refused ({errno}), and {} more are taken (K4)",
            count(len, "byte")
        )),
        Err(errno) => pass(errno.to_string()),
    }
}
