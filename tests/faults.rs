//! A fault at call k, for every k, in probe, save, load and reset: the outcome is named, the state reported is the device's own,
//! and a VMM that follows the report brings the device back. Each fault is shown to have been reached.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod common;

use common::doors::{Door, END, Failure, Outcome};
use common::fake::{Call, Fake, Fault, pattern};
use std::time::{Duration, Instant};
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;

const LEN: usize = 3000;

const FAULTS: [Fault; 8] = [
    Fault::Errno(libc::EIO),
    Fault::Errno(libc::EINVAL),
    Fault::Errno(libc::ENODEV),
    Fault::Errno(libc::EBUSY),
    Fault::Errno(libc::ENOTTY),
    Fault::Moved(libc::EMFILE),
    Fault::ToError(libc::EIO),
    Fault::NoFd,
];

both_doors! { probe save load reset save_with_policies }

/// Runs `scenario` with each fault at each call, until a run has fewer calls than k.
fn for_every_call<D: Door>(name: &str, caps: Caps, scenario: impl Fn(&Fake) -> Outcome<()>) {
    let mut reached = 0;
    for fault in FAULTS {
        for k in 0.. {
            let fake = Fake::new(caps, pattern(LEN, 1));
            fake.model().max_io = 800;
            fake.model().fault = Some((k, fault));
            let begun = Instant::now();
            let outcome = scenario(&fake);
            let what = format!("{name} {caps:?} {fault:?} at call {k}");
            assert!(begun.elapsed() < Duration::from_secs(7), "{what}: took {:?}", begun.elapsed());
            fake.assert_sessions_closed(&what);
            let model = fake.model();
            assert_eq!(model.violations, Vec::<String>::new(), "{what}: {:?}", model.calls);
            if !model.fault_reached {
                assert_eq!(outcome, Ok(()), "{what}: the run without a fault");
                assert!(k >= model.calls.len(), "{what}");
                break;
            }
            reached += 1;
            if let Err(failure) = &outcome {
                assert!(
                    failure.errno > 0 && failure.code > 0 && failure.message.contains("vf0"),
                    "{what}: {failure:?}"
                );
                assert!(!failure.is(ErrorKind::Panic), "{what}: {failure:?}");
                if !matches!(model.calls[k], Call::Read | Call::Write | Call::PrecopyInfo | Call::SetState(_)) {
                    continue;
                }
                // A device's own errno comes unchanged.
                if failure.is(ErrorKind::Device) {
                    let (Fault::Errno(errno) | Fault::Moved(errno) | Fault::ToError(errno)) = fault else { continue };
                    assert_eq!(failure.errno, errno, "{what}: {failure:?}");
                }
            }
        }
    }
    assert!(reached > 20, "{name}: only {reached} faults were reached");
}

/// What the error says of the device is true.
fn check<D: Door>(door: &D, fake: &Fake, failure: Failure) -> Failure {
    if let [result] = failure.results[..] {
        const DEAD: u32 = 3;
        let found = if result.3 == DEAD { State::Error } else { fake.model().state };
        assert_eq!((result.2, door.state()), (found.number(), found), "{failure:?}");
    }
    failure
}

/// What a VMM does after a failed save: the guest goes on on the source.
fn back_to_running<D: Door>(door: &D, fake: &Fake) {
    // A second fault does not come; what is left is to follow the states.
    for _ in 0..3 {
        let tried = match door.state() {
            State::Error | State::Resuming => door.reset(),
            _ => door.set_state(State::Running),
        };
        if tried.is_ok() {
            break;
        }
    }
    assert_eq!((door.state(), fake.model().state), (State::Running, State::Running));
}

fn probe<D: Door>() {
    for caps in [Caps { p2p: true, pre_copy: true }, Caps::default()] {
        for_every_call::<D>("probe", caps, |fake| {
            let door = D::open_with(fake, "vf0", 4096)?;
            door.pending(true).or_else(|failure| {
                if failure.is(ErrorKind::Unsupported) { Ok(door.pending(false)?) } else { Err(failure) }
            })?;
            door.reprobe()?;
            // A probe that got "absent" made a device that says so.
            let (dialect, _, _, _, _, _, reason) = door.info();
            assert_eq!(dialect == 0, !reason.is_empty());
            Ok(())
        });
    }
}

fn save_once<D: Door>(door: &D, caps: Caps, policy: OnFailure) -> Outcome<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = vec![0; 500];
    door.restart_stream()?;
    let steps = [State::PreCopy, State::PreCopyP2p, State::StopCopy];
    for step in steps.into_iter().filter(|&s| caps.has(s)) {
        door.set_state_with(step, policy, false)?;
        door.pending(true)?;
        loop {
            let (n, flags) = door.read(&mut buf)?;
            all.extend(&buf[..n]);
            if flags != 0 {
                assert_eq!(flags == END, step == State::StopCopy);
                break;
            }
        }
    }
    door.set_state_with(State::Stop, policy, false)?;
    Ok(all)
}

fn save_with<D: Door>(policy: OnFailure) {
    for caps in Caps::ALL {
        for_every_call::<D>("save", caps, |fake| {
            let door = D::open_with(fake, "vf0", 4096)?;
            if door.info().0 == 0 || door.info().1 & 3 != u32::from(caps.pre_copy) + 2 * u32::from(caps.p2p) {
                return Ok(()); // The fault took the probe's answer; there is nothing to save.
            }
            let first = save_once(&door, caps, policy).map_err(|failure| check(&door, fake, failure));
            if let Ok(all) = &first {
                assert_eq!(*all, pattern(LEN, 1), "a stream that was called complete is whole");
            }
            back_to_running(&door, fake);
            // The next migration of the same device is whole.
            assert_eq!(save_once(&door, caps, policy)?, pattern(LEN, 1));
            back_to_running(&door, fake);
            first.map(|_| ())
        });
    }
}

fn save<D: Door>() {
    save_with::<D>(OnFailure::Keep);
}

fn save_with_policies<D: Door>() {
    save_with::<D>(OnFailure::ReturnTo(State::Running));
    save_with::<D>(OnFailure::Reset);
}

fn load_once<D: Door>(door: &D, data: &[u8]) -> Outcome<()> {
    door.set_state_with(State::Resuming, OnFailure::Reset, false)?;
    for part in data.chunks(700) {
        let fits = door.reserve(part)?;
        door.commit(fits)?;
        door.write(&part[fits..])?;
    }
    door.finish(Some(data.len() as u64))?;
    door.set_state_with(State::Stop, OnFailure::Reset, false)?;
    door.set_state_with(State::Running, OnFailure::Keep, false)
}

fn load<D: Door>() {
    for caps in Caps::ALL {
        for_every_call::<D>("load", caps, |fake| {
            let door = D::open_with(fake, "vf0", 4096)?;
            if door.info().0 == 0 || door.info().1 & 3 != u32::from(caps.pre_copy) + 2 * u32::from(caps.p2p) {
                return Ok(());
            }
            let data = pattern(LEN, 7);
            let first = load_once(&door, &data).map_err(|failure| check(&door, fake, failure));
            if first.is_ok() {
                assert_eq!(fake.model().content, data, "a load that was called good is whole");
            }
            back_to_running(&door, fake);
            load_once(&door, &data)?;
            assert_eq!(fake.model().content, data);
            first
        });
    }
}

fn reset<D: Door>() {
    for_every_call::<D>("reset", Caps { p2p: true, pre_copy: true }, |fake| {
        let door = D::open_with(fake, "vf0", 4096)?;
        if door.info().0 == 0 {
            return Ok(());
        }
        let run = || {
            for state in [State::PreCopy, State::StopCopy, State::Resuming] {
                door.set_state(State::Running)?;
                door.set_state(state)?;
                door.reset()?;
            }
            Ok(())
        };
        let first = run().map_err(|failure| check(&door, fake, failure));
        back_to_running(&door, fake);
        run()?;
        first
    });
}
