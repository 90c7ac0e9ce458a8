//! Reports have drains, harvests, failures and counters, so that a downtime has no gap.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::Rig;
use serde_json::Value;
use simdev::{Access, Config, Effect, Fault};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, Direction, State};
use vfiomig::error::{Action, DeviceResult, Error, ErrorKind};
use vfiomig::migration::{AbortTo, Budget, Counters, DevicePart, Entry, EntryKind, Fed, Phase, PhaseReport, Report};

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

const MS: Duration = Duration::from_millis(1);

/// A device's result of a step that took 1 ms.
fn result(device: &str, steps: [State; 3], (errno, action): (i32, Action), message: &str) -> DeviceResult {
    let [from, to, found] = steps.map(State::number);
    let message = message.into();
    DeviceResult { device: device.into(), errno, from, to, found, action, again: false, duration: MS, message }
}

fn phase(phase: Phase, begun: u32, failed: bool, devices: Vec<DeviceResult>, notes: &[&str]) -> PhaseReport {
    let notes = notes.iter().map(|note| (*note).to_string()).collect();
    PhaseReport { phase, failed, begun: MS * begun, duration: MS, devices, notes }
}

/// 1000 bytes by two calls, and of an idle device nothing.
fn entry(work: EntryKind, begun: u32, (calls, failed): (u64, bool), text: &str) -> Entry {
    let part = |device: &str, calls: u64, waits| {
        let device = device.to_string();
        DevicePart { device, bytes: calls * 500, calls, time: MS * calls as u32, waits, retries: 0 }
    };
    Entry {
        work,
        phase: Phase::SavePreCopy,
        begun: MS * begun,
        duration: MS,
        calls,
        bytes: 1000,
        pages: 3,
        reads: 2,
        failed,
        devices: vec![part("nic0", 2, 0), part("idle", 0, 0), part("gpu0", 1, 4)],
        text: text.into(),
    }
}

/// People read it: all that it can say, to the letter.
#[test]
fn the_text_is_a_table_of_what_happened() {
    use State::{Error, PreCopy, Running, StopCopy};
    let none = (0, Action::None);
    let mut report = Report {
        direction: Direction::Save,
        phases: vec![
            phase(
                Phase::SavePreCopy,
                0,
                false,
                vec![
                    result("nic0", [Running, PreCopy, PreCopy], none, ""),
                    result("old0", [Running, Running, Running], none, "old0: it has no pre-copy"),
                ],
                &["the guest runs"],
            ),
            phase(
                Phase::SaveStopCopy,
                10,
                true,
                vec![
                    result("nic0", [PreCopy, StopCopy, PreCopy], (16, Action::Recovered), "nic0: busy"),
                    result("gpu0", [PreCopy, StopCopy, Running], (5, Action::Reset), ""),
                    result("old0", [Running, Running, Error], (19, Action::Dead), "old0: gone"),
                ],
                &[],
            ),
            phase(Phase::Idle, 20, false, vec![], &[]),
        ],
        entries: vec![
            entry(EntryKind::Rounds, 2, (3, false), ""),
            entry(EntryKind::Harvest, 3, (1, false), ""),
            entry(EntryKind::Loaded, 4, (1, false), ""),
            entry(EntryKind::Loaded, 5, (1, true), ""),
            entry(EntryKind::Failure, 11, (2, true), "save_complete: the wire is cut"),
            entry(EntryKind::Failure, 12, (1, true), "the sink is full"),
            entry(EntryKind::SaveComplete, 30, (1, true), ""),
        ],
        devices: vec![],
        counters: Counters { retries: 1, waits: 2, degraded: 3, failed_reads: 4, log_restarts: 5 },
    };
    report.devices = report.entries[0].devices.clone();
    let expected = "\
SAVE_PRE_COPY      at      0.000ns  took      1.000ms
    nic0             RUNNING -> PRE_COPY in 1.000ms
    old0             stays in RUNNING: old0: it has no pre-copy
    the guest runs
rounds             at      2.000ms  took      1.000ms in 3 calls: 1000 bytes, 2 reads or writes
    nic0             1000 bytes in 2 reads or writes of 2.000ms in all
    gpu0             500 bytes in 1 reads or writes of 1.000ms in all, 4 waits
harvest            at      3.000ms  took      1.000ms: 3 pages, 2 reads of logs
    nic0             1000 bytes in 2 reads or writes of 2.000ms in all
    gpu0             500 bytes in 1 reads or writes of 1.000ms in all, 4 waits
loaded             at      4.000ms  took      1.000ms: nic0, beside the others
loaded             at      5.000ms  took      1.000ms: nic0, beside the others  FAILED
SAVE_STOP_COPY     at     10.000ms  took      1.000ms  FAILED
    nic0             PRE_COPY -> STOP_COPY in 1.000ms, errno 16, found in PRE_COPY, recovered: nic0: busy
    gpu0             PRE_COPY -> STOP_COPY in 1.000ms, errno 5, found in RUNNING, reset
    old0             RUNNING -> RUNNING in 1.000ms, errno 19, found in ERROR, its state cannot be read: old0: gone
failure            at     11.000ms  save_complete: the wire is cut (2 times)
failure            at     12.000ms  the sink is full
ABORT              at     20.000ms  took      1.000ms
save_complete      at     30.000ms  took      1.000ms: 1000 bytes, 2 reads or writes  FAILED
    nic0             1000 bytes in 2 reads or writes of 2.000ms in all
    gpu0             500 bytes in 1 reads or writes of 1.000ms in all, 4 waits
retries 1, waits 2, degraded harvests 3, failed reads of logs 4, restarts of logs 5
";
    assert_eq!(report.to_string(), expected);

    // Who drains by itself has its data calls in it.
    report.phases.clear();
    report.entries.clear();
    report.counters = Counters::default();
    let expected = "\
data calls
    nic0             1000 bytes in 2 reads or writes of 2.000ms in all
    idle             0 bytes in 0 reads or writes of 0.000ns in all
    gpu0             500 bytes in 1 reads or writes of 1.000ms in all, 4 waits
";
    assert_eq!(report.to_string(), expected);
    report.devices.iter_mut().for_each(|part| part.calls = 0);
    assert_eq!(report.to_string(), "");
}
