//! Pre-copy: what its info says, how it says that there is nothing now, and how it ends.

use super::client::Said;
use super::poll;
use super::subject::Subject;
use super::table::Need::{Image, Kernel, P2p, PreCopy, V2};
use super::table::{Check, Result, Run::Do, fail, pass, quirk, skip};
use crate::text::count;
use std::time::{Duration, Instant};
use vfiomig::dialect::State;

/// How long data is read in PRE_COPY.
const LIMIT: Duration = Duration::from_secs(3);
/// A count that no device says by chance.
const PRESET: u64 = 0x0d15_ea5e_0bad_cafe;
/// Rounds after which "nothing dirty" is given up (C5).
const ROUNDS: usize = 64;

/// What is checked in the PRE_COPY states.
pub const CHECKS: &[Check] = &[
    Check {
        name: "precopy-info",
        rule: "C2",
        about: "pre-copy info answers in PRE_COPY",
        cost: "a VMM cannot know when to switch over: downtime is a matter of luck",
        needs: &[V2, PreCopy, Kernel],
        run: Do(info),
    },
    Check {
        name: "precopy-info-p2p",
        rule: "C2",
        about: "pre-copy info answers in PRE_COPY_P2P",
        cost: "the last estimate before the switch-over is missing",
        needs: &[V2, PreCopy, P2p, Kernel],
        run: Do(info_p2p),
    },
    Check {
        name: "precopy-info-echo",
        rule: "C7",
        about: "pre-copy info assigns both counts",
        cost: "a VMM that does not zero the struct believes what it said itself",
        needs: &[V2, PreCopy, Kernel],
        run: Do(echo),
    },
    Check {
        name: "precopy-info-flags",
        rule: "C7",
        about: "no flag is set but that of REINIT",
        cost: "a VMM takes a flag for a message of the device that means nothing",
        needs: &[V2, PreCopy, Kernel],
        run: Do(flags),
    },
    Check {
        name: "precopy-info-elsewhere",
        rule: "C2",
        about: "pre-copy info is refused in STOP_COPY",
        cost: "a VMM takes figures for estimates that mean nothing",
        needs: &[V2, PreCopy, Kernel],
        run: Do(elsewhere),
    },
    Check {
        name: "precopy-initial",
        rule: "C3",
        about: "initial_bytes is above 0 at first, and falls while data is read",
        cost: "the VMM switches over too early, or waits for ever",
        needs: &[V2, PreCopy, Kernel],
        run: Do(initial),
    },
    Check {
        name: "precopy-dirty",
        rule: "C3",
        about: "dirty_bytes is 0 at first",
        cost: "an estimate that is too large puts the switch-over off",
        needs: &[V2, PreCopy, Kernel],
        run: Do(dirty),
    },
    Check {
        name: "precopy-nothing-now",
        rule: "F3",
        about: "in PRE_COPY \"nothing now\" is ENOMSG, or 0",
        cost: "the VMM takes it for an error, or for the end",
        needs: &[V2, PreCopy],
        run: Do(nothing_now),
    },
    Check {
        name: "precopy-rests",
        rule: "C5",
        about: "of a device at rest both counts come to 0",
        cost: "a VMM that waits for 0 never switches over",
        needs: &[V2, PreCopy, Kernel],
        run: Do(rests),
    },
    Check {
        name: "precopy-poll",
        rule: "K14",
        about: "poll() says that an empty data fd of PRE_COPY can be read, for a read answers",
        cost: "a VMM that polls first waits for ever",
        needs: &[V2, PreCopy, Kernel],
        run: Do(polls),
    },
    Check {
        name: "precopy-given-up",
        rule: "V2-9",
        about: "a pre-copy is given up by RUNNING, and the next save is whole",
        cost: "after a migration that was canceled there can be no other",
        needs: &[V2, PreCopy, Image],
        run: Do(given_up),
    },
];

fn enter(subject: &mut Subject) -> Result<()> {
    subject.v2()?.set(State::PreCopy)
}

fn info(subject: &mut Subject) -> Result {
    enter(subject)?;
    match subject.v2()?.precopy_info(0) {
        Ok(info) => pass(format!("initial_bytes {}, dirty_bytes {}", info.initial_bytes, info.dirty_bytes)),
        Err(errno) if errno.get() == libc::ENOTTY => fail("there is no such ioctl, although it has PRE_COPY"),
        Err(errno) => fail(format!("it failed: {errno}")),
    }
}

fn info_p2p(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    client.set(State::PreCopyP2p)?;
    match client.precopy_info(0) {
        Ok(_) => pass("it does"),
        Err(errno) if errno.means_absent() => skip(errno.to_string()),
        Err(errno) => fail(format!("it failed: {errno}")),
    }
}

/// Pre-copy info in PRE_COPY. Where it fails the check is skipped: `precopy-info` reports that.
macro_rules! answer {
    ($client:expr, $preset:expr) => {
        match $client.precopy_info($preset) {
            Ok(info) => info,
            Err(errno) => return skip(format!("there is no pre-copy info: {errno}")),
        }
    };
}

fn echo(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let info = answer!(client, PRESET);
    let counts = [("initial_bytes", info.initial_bytes), ("dirty_bytes", info.dirty_bytes)];
    let echoed: Vec<&str> = counts.iter().filter(|count| count.1 == PRESET).map(|count| count.0).collect();
    if echoed.is_empty() {
        return pass("both are assigned");
    }
    quirk(format!("{} comes back as it was given (K12)", echoed.join(" and ")))
}

fn flags(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let info = answer!(client, 0);
    // REINIT may be set: the opt-in of an earlier check lasts as long as the device is open.
    match info.flags & !1 {
        0 => pass(format!("flags {:#x}", info.flags)),
        odd => fail(format!("flags {odd:#x}, which no uAPI knows")),
    }
}

fn elsewhere(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let answer = client.precopy_info(0);
    client.read_to_end(&[1 << 20])?;
    match answer {
        Ok(info) => fail(format!("it answers initial_bytes {} in STOP_COPY", info.initial_bytes)),
        Err(errno) => pass(errno.to_string()),
    }
}

fn initial(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let first = answer!(client, 0);
    let (bytes, _) = client.read_for_now(LIMIT)?;
    let then = answer!(client, 0);
    let text = format!("{} at first, {} after {}", first.initial_bytes, then.initial_bytes, count(bytes.len(), "byte"));
    if first.initial_bytes == 0 {
        // C3 says above 0; what gives no data while it runs has nothing to count.
        return if bytes.is_empty() { quirk(format!("{text}: it sends nothing while it runs")) } else { fail(text) };
    }
    let reinit = then.flags & 1 != 0;
    if !bytes.is_empty() && then.initial_bytes >= first.initial_bytes && !reinit {
        return fail(format!("{text}: it does not fall"));
    }
    pass(text)
}

fn dirty(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let info = answer!(client, 0);
    if info.dirty_bytes == 0 { pass("0") } else { quirk(format!("{}, before anything was read", info.dirty_bytes)) }
}

fn nothing_now(subject: &mut Subject) -> Result {
    enter(subject)?;
    let (bytes, said) = subject.v2()?.read_for_now(LIMIT)?;
    let len = bytes.len();
    match said {
        Some(Said::NoMessage) => pass(format!("ENOMSG after {}", count(len, "byte"))),
        Some(_) if !subject.kernel => pass(format!("0 after {}, as vfio-user says it", count(len, "byte"))),
        Some(_) => quirk(format!("0 after {}, and not ENOMSG (K11)", count(len, "byte"))),
        None => skip(format!("it had data for {} s", LIMIT.as_secs())),
    }
}

fn rests(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let begun = Instant::now();
    let mut last = (0, 0);
    for round in 1..=ROUNDS {
        client.read_for_now(LIMIT)?;
        let info = answer!(client, 0);
        last = (info.initial_bytes, info.dirty_bytes);
        if last == (0, 0) {
            // It may offer everything again a little later (K13).
            std::thread::sleep(Duration::from_millis(1100));
            let again = answer!(client, 0);
            if again.dirty_bytes > 0 || again.initial_bytes > 0 {
                let text = format!("0 in round {round}, and {} a second later", again.dirty_bytes);
                return quirk(format!("{text}, of a device at rest (K13): no VMM may wait for 0"));
            }
            return pass(format!("in round {round}"));
        }
        if begun.elapsed() > LIMIT {
            break;
        }
    }
    quirk(format!("initial_bytes {} and dirty_bytes {} remain: no VMM may wait for 0", last.0, last.1))
}

fn polls(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    let (_, said) = client.read_for_now(LIMIT)?;
    if said.is_none() {
        return skip("it always has data");
    }
    match client.session.as_ref().and_then(|session| session.wait_fd().map(poll::readable)) {
        None => skip("there is no descriptor that could be polled"),
        Some(true) => pass("it does"),
        Some(false) => quirk("poll() says nothing, although a read answers (K14)"),
    }
}

fn given_up(subject: &mut Subject) -> Result {
    enter(subject)?;
    let client = subject.v2()?;
    client.read_for_now(LIMIT)?;
    client.set(State::Running)?;
    client.set(State::StopCopy)?;
    let image = client.read_to_end(&[1 << 20])?;
    client.set(State::Stop)?;
    client.set(State::Running)?;
    super::save::compare(subject, &image, "after a pre-copy that was given up")
}
