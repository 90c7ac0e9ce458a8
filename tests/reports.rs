//! Reports have drains, harvests, failures and counters, so that a downtime has no gap.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::Rig;
use serde_json::Value;
use simdev::{Access, Config, Effect, Fault};
use std::time::{Duration, Instant};
use vfiomig::dialect::Caps;
use vfiomig::error::{Error, ErrorKind};
use vfiomig::migration::{AbortTo, Budget, EntryKind, Fed, Phase, Report};

const PLENTY: Budget = Budget { bytes: u64::MAX, time: Duration::from_secs(60) };

fn both() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(10_000)
}

/// All accesses of this kind take so long from now on.
fn slow(rig: &Rig, access: Access, time: Duration) {
    for fake in &rig.fakes {
        fake.inject(Fault::from(access, fake.count(access), Effect::Delay(time)));
    }
}

/// What phases and entries that were begun in the downtime took.
fn sum_from(report: &Report, phase: Phase) -> Duration {
    let begun = report.phases.iter().find(|entry| entry.phase == phase).unwrap().begun;
    let phases = report.phases.iter().filter(|entry| entry.begun >= begun).map(|entry| entry.duration);
    phases.chain(report.entries.iter().filter(|entry| entry.begun >= begun).map(|entry| entry.duration)).sum()
}

#[test]
fn a_downtime_has_no_gap() {
    let rig = Rig::source(&[both(), both()], 0);
    let save = rig.save();
    save.advance(Phase::SavePreCopy).unwrap();
    for _ in 0..3 {
        save.save_iterate(PLENTY, &[], &mut |_| Ok(())).unwrap();
        rig.log.dirty.lock().push(3);
        rig.harvest();
    }
    slow(&rig, Access::StateWrite, Duration::from_millis(60));
    slow(&rig, Access::DataRead, Duration::from_millis(20));
    let begun = Instant::now();
    save.advance(Phase::SaveP2pGrace).unwrap();
    save.advance(Phase::SaveStopCopy).unwrap();
    rig.log.dirty.lock().push(5);
    rig.harvest();
    let round = save.save_complete(&[], &mut |_| Ok(())).unwrap();
    save.advance(Phase::SaveHalted).unwrap();
    let downtime = begun.elapsed();
    let report = save.report().unwrap();
    let sum = sum_from(&report, Phase::SaveP2pGrace);
    assert!(sum <= downtime && sum + Duration::from_millis(20) >= downtime, "{sum:?} of {downtime:?}\n{report}");

    let of = |work, phase| report.entries.iter().find(|entry| entry.work == work && entry.phase == phase).unwrap();
    let rounds = of(EntryKind::Rounds, Phase::SavePreCopy);
    assert_eq!((rounds.calls, rounds.devices.len()), (3, 2));
    let harvests = of(EntryKind::Harvest, Phase::SavePreCopy);
    assert_eq!((harvests.calls, harvests.pages), (3, 3));
    assert_eq!(of(EntryKind::Harvest, Phase::SaveStopCopy).pages, 1);
    let last = of(EntryKind::SaveComplete, Phase::SaveStopCopy);
    assert_eq!(last.bytes, round.bytes.iter().sum::<u64>());
    for (part, bytes) in last.devices.iter().zip(&round.bytes) {
        assert_eq!(part.bytes, *bytes);
        assert!(part.calls > 0 && part.time >= Duration::from_millis(20), "{part:?}");
    }
    for (part, device) in report.devices.iter().zip(&rig.devices) {
        assert_eq!((&*part.device, part.bytes), (device.name(), device.info().saved_bytes));
    }
    let text = report.to_string();
    for word in ["rounds ", "harvest ", "save_complete "] {
        assert!(text.contains(&format!("\n{word}")), "{text}");
    }
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((json["version"].as_u64(), json["direction"].as_str()), (Some(1), Some("save")));
    let kinds: Vec<&str> = json["entries"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    let phases = ["phase", "phase", "rounds", "harvest", "phase", "phase", "harvest", "save_complete", "phase"];
    assert_eq!(kinds, phases, "{json:#}");
    let total: u64 = json["entries"].as_array().unwrap().iter().map(|e| e["duration_ns"].as_u64().unwrap()).sum();
    assert!(total >= u64::try_from(sum.as_nanos()).unwrap());
    assert_eq!(json["counters"]["degraded"].as_u64(), Some(0));
}

/// A failure that is no device's has its entry, once, and what a device had to be asked for twice is counted.
#[test]
fn failures_and_waits_are_in_it() {
    let rig = Rig::source(&[both()], 0);
    rig.allow_abort();
    let save = rig.save();
    save.advance(Phase::SaveStopCopy).unwrap();
    let nth = rig.fakes[0].count(Access::DataRead);
    rig.fakes[0].inject(Fault { access: Access::DataRead, nth, times: 3, effect: Effect::Errno(libc::EAGAIN) });
    save.save_complete(&[], &mut |_| Err(Error::new(ErrorKind::System, libc::EPIPE, "the wire is cut"))).unwrap_err();
    save.save_complete(&[], &mut |_| Ok(())).unwrap_err();
    let report = save.report().unwrap();
    let failures: Vec<_> = report.entries.iter().filter(|entry| entry.work == EntryKind::Failure).collect();
    assert_eq!((failures.len(), failures[0].failed), (1, true), "{report}");
    assert!(
        failures[0].text.starts_with("save_complete: ") && failures[0].text.contains("the wire is cut"),
        "{report}"
    );
    assert!(report.to_string().contains("the wire is cut"));
    assert!(report.counters.waits >= 3 && report.devices[0].waits == report.counters.waits, "{report}");
    save.abort(AbortTo::Running).unwrap();
    // A new attempt has a new report.
    save.advance(Phase::SavePreCopy).unwrap();
    let report = save.report().unwrap();
    assert!(report.entries.is_empty() && report.counters.waits == 0 && report.devices[0].bytes == 0, "{report}");
    save.abort(AbortTo::Running).unwrap();
}

/// The other side's too.
#[test]
fn a_load_has_its_drain() {
    let (source, target) = (Rig::source(&[both()], 0), Rig::target(&[both()], 0));
    let (save, load) = (source.save(), target.load());
    save.advance(Phase::SaveStopCopy).unwrap();
    let mut stream = Vec::new();
    let round = save
        .save_complete(&[], &mut |piece| {
            stream.extend_from_slice(piece.bytes);
            Ok(())
        })
        .unwrap();
    load.advance(Phase::LoadResuming).unwrap();
    let mut at = 0;
    load.load_complete(&[], &mut |_, buf| {
        let n = buf.len().min(stream.len() - at);
        buf[..n].copy_from_slice(&stream[at..at + n]);
        at += n;
        let total = Some(stream.len() as u64);
        Ok(if n == 0 { Fed::End { total } } else { Fed::Bytes { len: n, segment_end: false } })
    })
    .unwrap();
    let report = load.report().unwrap();
    let entry = report.entries.iter().find(|entry| entry.work == EntryKind::LoadComplete).unwrap();
    assert_eq!((entry.bytes, entry.devices[0].bytes), (round.bytes[0], stream.len() as u64));
    assert!(entry.reads > 0 && report.to_json().contains("\"load_complete\""));
    load.abort(AbortTo::Running).unwrap();
    source.harvest();
    save.advance(Phase::SaveHalted).unwrap();
}
