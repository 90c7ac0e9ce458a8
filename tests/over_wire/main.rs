//! Whole saves and loads of groups over the library's own wire: every dialect comes back, and what is not whole is nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod broken;
#[path = "../common/rig.rs"]
mod rig;

use rig::{Pinned, Rig, kinds};
use simdev::{Config, Window};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Caps, Direction, State};
use vfiomig::error::{Error, ErrorKind, Result};
use vfiomig::internals::set_caller_patience;
use vfiomig::migration::{
    AbortTo, EndOptions, LoadStep, Migration, MigrationOptions, Phase, SaveNext, SaveOptions, SaveStep,
};
use vfiomig::wire::{DeviceEntry, Input, Output, Table, WireOptions, WireRecord, Word};

const RAM: u64 = 1;

/// Tests with sockets: the patience with descriptors is one for all of the process.
static PATIENCE: Mutex<()> = Mutex::new(());

fn patience(patience: Duration) -> MutexGuard<'static, ()> {
    let guard = PATIENCE.lock().unwrap_or_else(PoisonError::into_inner);
    set_caller_patience(patience);
    guard
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

fn v2() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true })
}

fn configs() -> Vec<Config> {
    kinds().into_iter().enumerate().map(|(i, config)| config.state_size(20_000 + i * 7)).collect()
}

/// The devices in the other order, which makes no difference.
fn backwards(table: &Table) -> Table {
    Table::new(table.devices().iter().rev().cloned().collect()).unwrap()
}

fn outputs(save: &Migration) -> [Output<Vec<u8>>; 1] {
    let table = backwards(&save.wire_table(1).unwrap());
    [Output::new(Vec::new(), WireOptions { wire: 7, ..WireOptions::default() }, table).unwrap()]
}

/// A VMM whose guest has a page of RAM.
fn save_with(source: &Rig, save: &Migration, options: SaveOptions) -> Result<(Vec<u8>, Vec<String>)> {
    let (mut outputs, mut steps) = (outputs(save), Vec::new());
    save.save_to(&mut outputs, options, &mut |step, outputs| {
        match step {
            SaveStep::Progress { .. } => return Ok(SaveNext::Go),
            SaveStep::Round { number: 1, .. } => {
                outputs[0].vmm(None, RAM, b"all")?;
                steps.push("round".to_string());
                return Ok(SaveNext::Again);
            }
            SaveStep::Stopped => {
                source.harvest();
                outputs[0].vmm(None, RAM, b"rest")?;
            }
            SaveStep::Grace => outputs[0].vmm(Some(0), 2, b"configuration")?,
            _ => {}
        }
        steps.push(format!("{step:?}").split(' ').next().unwrap().to_lowercase());
        Ok(SaveNext::Go)
    })?;
    let [output] = outputs;
    Ok((output.into_inner(), steps))
}

/// The VMM's records.
type Records = Vec<(Option<usize>, u64, Vec<u8>)>;

fn load_wire(load: &Migration, wire: &[u8]) -> Result<Records> {
    let mut records = Vec::new();
    load.load_from(&mut [Input::new(wire)], &[], &mut |step| {
        if let LoadStep::Vmm { device, kind, bytes } = step {
            records.push((device, kind, bytes.to_vec()));
        }
        Ok(())
    })?;
    Ok(records)
}

#[test]
fn every_dialect_comes_back_as_it_was() {
    let rounds = SaveOptions::with_rounds();
    // The last one reads ahead and writes behind.
    for (max_workers, options, queue_bytes) in
        [(1, SaveOptions::default(), 0), (0, rounds, 0), (2, rounds, 0), (0, rounds, 1 << 20)]
    {
        let with_queues = |rig: &Rig, direction| {
            let options = MigrationOptions { queue_bytes };
            Migration::with_options(Arc::clone(&rig.group), direction, options).unwrap()
        };
        let source = Rig::source(&configs(), max_workers);
        let save = with_queues(&source, Direction::Save);
        let (wire, steps) = save_with(&source, &save, options).unwrap();
        let rounds: &[&str] = if options.rounds.is_some() { &["round", "round"] } else { &[] };
        assert_eq!(steps, [rounds, &["stopvm", "grace", "stopped", "last"]].concat());
        assert_eq!(save.phase(), Phase::SaveStopCopy);

        let target = Rig::target(&configs(), max_workers);
        let load = with_queues(&target, Direction::Load);
        let records = load_wire(&load, &wire).unwrap();
        let last = configs().len() - 1;
        let mut wanted = vec![(Some(last), 2, b"configuration".to_vec()), (None, RAM, b"rest".to_vec())];
        if options.rounds.is_some() {
            wanted.insert(0, (None, RAM, b"all".to_vec()));
        }
        assert_eq!(records, wanted);
        assert_eq!(load.phase(), Phase::LoadLoaded);
        load.advance(Phase::LoadRunning).unwrap();
        save.end(true, EndOptions::default()).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        source.assert_clean("save_to");
        target.assert_clean("load_from");
    }
}

/// One channel for each two devices, over sockets; some devices belong to the calling thread.
#[test]
fn channels_are_served_side_by_side() {
    let _guard = patience(LONG);
    for (nonblocking, pinned) in [(false, false), (true, false), (true, true)] {
        let home = std::thread::current().id();
        let source = Rig::source(&configs(), 0);
        let target = Rig::new(&configs(), 0, &|device, i| {
            let inner = device.transport();
            if pinned && i == 1 { Box::new(Pinned { inner, home }) } else { inner }
        });
        let (save, load) = (source.save(), target.load());
        let pairs: Vec<(UnixStream, UnixStream)> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        pairs.iter().for_each(|(one, other)| {
            one.set_nonblocking(nonblocking).unwrap();
            other.set_nonblocking(nonblocking).unwrap();
        });
        let table = save.wire_table(3).unwrap();
        std::thread::scope(|scope| {
            let saving = scope.spawn(|| {
                let mut outputs = Vec::new();
                for (channel, (one, _)) in (0..).zip(&pairs) {
                    let options = WireOptions { channel, channels: 3, wire: 9 };
                    outputs.push(Output::new(save.wire_fd(one.as_fd()), options, table.clone()).unwrap());
                }
                save.save_to(&mut outputs, SaveOptions::with_rounds(), &mut |step, _| {
                    if step == SaveStep::Stopped {
                        source.harvest();
                    }
                    Ok(SaveNext::Go)
                })
            });
            let mut inputs: Vec<_> =
                pairs.iter().rev().map(|(_, other)| Input::new(load.wire_fd(other.as_fd()))).collect();
            load.load_from(&mut inputs, &[], &mut |_| Ok(())).unwrap();
            saving.join().unwrap().unwrap();
        });
        load.advance(Phase::LoadRunning).unwrap();
        assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
        target.assert_clean("channels");
    }
}

/// Before a device is asked for anything.
#[test]
fn a_wire_of_other_devices_touches_none() {
    let source = Rig::source(&[v2(), v2()], 1);
    let word = |value: &str| vec![Word { key: "firmware".into(), value: value.into() }];
    let save = source.save();
    let mut devices = save.wire_table(1).unwrap().devices().to_vec();
    devices[1].words = word("2.1");
    let table = Table::new(devices.clone()).unwrap();
    let mut out = [Output::new(Vec::new(), WireOptions::default(), table).unwrap()];
    save.save_to(&mut out, SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go)).unwrap();
    let [out] = out;
    let wire = out.into_inner();

    let load_as = |target: &Rig, demanded: &[DeviceEntry]| {
        let load = target.load();
        let error = load.load_from(&mut [Input::new(&wire[..])], demanded, &mut |_| Ok(())).map(drop);
        assert!(load.phase() == Phase::Idle || error.is_ok(), "{error:?}");
        assert!(target.fakes.iter().all(|fake| fake.transitions().is_empty()) || error.is_ok());
        error.map_err(|error| error.to_string())
    };
    let two = Rig::target(&[v2(), v2()], 1);
    let demanded = |value: &str| [DeviceEntry { words: word(value), ..devices[1].clone() }];
    let error = load_as(&two, &demanded("3.0")).unwrap_err();
    assert!(error.contains("d1: firmware: this side has \"3.0\", the wire has \"2.1\""), "{error}");
    let stranger = [DeviceEntry { name: "d7".into(), ..devices[1].clone() }];
    assert!(load_as(&two, &stranger).unwrap_err().contains("d7: the group has no such device"));
    let error = load_as(&Rig::target(&[v2()], 1), &[]).unwrap_err();
    assert!(error.contains("d1: this side has no such device, it has d0"), "{error}");
    let error = load_as(&Rig::target(&[v2(), v2(), v2()], 1), &[]).unwrap_err();
    assert!(error.contains("d2: the wire has no such device"), "{error}");
    let error = load_as(&Rig::target(&[v2(), Config::v1(Window::Area)], 1), &[]).unwrap_err();
    assert!(error.contains("d1: dialect: this side has v1, the wire has v2"), "{error}");
    // The VMM's own look.
    let load = two.load();
    let refuse = &mut |step: LoadStep<'_>| match step {
        LoadStep::Table(table) => {
            Err(Error::new(ErrorKind::Unsupported, libc::EOPNOTSUPP, table.devices()[1].name.clone()))
        }
        _ => Ok(()),
    };
    assert_eq!(load.load_from(&mut [Input::new(&wire[..])], &[], refuse).unwrap_err().to_string(), "d1");
    assert_eq!(load.phase(), Phase::Idle);
    drop(load);
    load_as(&two, &demanded("2.1")).unwrap();
}

/// The guest was paused and resumed between two rounds: the streams begin anew on both sides, and RAM stays.
#[test]
fn a_resume_begins_the_streams_anew() {
    let configs = [v2().state_size(50_000), Config::v1(Window::Area).state_size(50_000)];
    let source = Rig::source(&configs, 1);
    source.allow_abort();
    let save = source.save();
    let mut out = outputs(&save);
    save.save_to(&mut out, SaveOptions::with_rounds(), &mut |step, _| {
        match step {
            SaveStep::Round { number: 1, .. } => {
                source.group.pause()?;
                source.group.resume()?;
                return Ok(SaveNext::Again);
            }
            SaveStep::Stopped => drop(source.harvest()),
            _ => {}
        }
        Ok(SaveNext::Go)
    })
    .unwrap();
    let [out] = out;
    let wire = out.into_inner();
    let (mut input, mut voids) = (Input::new(&wire[..]), 0);
    loop {
        match input.next().unwrap() {
            WireRecord::Finish => break,
            WireRecord::Void { bytes, .. } => {
                assert!(bytes > 0);
                voids += 1;
            }
            _ => {}
        }
    }
    assert_eq!(voids, 2);
    let target = Rig::target(&configs, 1);
    target.allow_abort();
    let load = target.load();
    load_wire(&load, &wire).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

/// What does not fit is refused before anything is done.
#[test]
fn channels_that_are_no_wire_are_refused() {
    let source = Rig::source(&[v2(), v2()], 1);
    let save = source.save();
    let go = |outputs: &mut [Output<Vec<u8>>]| {
        let error = save.save_to(outputs, SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go)).unwrap_err();
        assert_eq!(save.phase(), Phase::Idle);
        error.to_string()
    };
    let table = save.wire_table(2).unwrap();
    let of =
        |channel, wire| Output::new(Vec::new(), WireOptions { channel, channels: 2, wire }, table.clone()).unwrap();
    assert!(go(&mut []).contains("a wire has at least one"));
    assert!(go(&mut [of(0, 1)]).contains("1 are given, the wire has 2"));
    assert!(go(&mut [of(0, 1), of(0, 1)]).contains("channel 0 is given twice"));
    assert!(go(&mut [of(0, 1), of(1, 2)]).contains("channel 1 is one of 2 of wire 0x2"));
    let other = Output::new(Vec::new(), WireOptions { channel: 1, channels: 2, wire: 1 }, backwards(&table)).unwrap();
    assert!(go(&mut [of(0, 1), other]).contains("their tables differ"));
    assert!(save.wire_table(0).is_err() && save.wire_table(65).is_err());
    let load = Rig::target(&[v2()], 1);
    let load = load.load();
    let error = load.save_to(&mut [of(0, 1)], SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Order);
    let error = save.load_from(&mut [Input::new(&b""[..])], &[], &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Order);
}

/// Channels whose reads block, more than the group has threads, and streams that no socket holds: the source side writes them in its own
/// order, so each has to be read at any time.
#[test]
fn no_channel_waits_for_a_thread() {
    let _guard = patience(Duration::from_secs(5));
    let configs = [v2(), v2(), v2()].map(|config| config.state_size(3 << 20));
    let (source, target) = (Rig::source(&configs, 1), Rig::target(&configs, 2));
    let (save, load) = (source.save(), target.load());
    let pairs: Vec<(UnixStream, UnixStream)> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
    let table = save.wire_table(3).unwrap();
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| {
            let channels = (0..).zip(&pairs).map(|(channel, (one, _))| {
                let options = WireOptions { channel, channels: 3, wire: 9 };
                Output::new(save.wire_fd(one.as_fd()), options, table.clone()).unwrap()
            });
            save.save_to(&mut channels.collect::<Vec<_>>(), SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go))
        });
        let mut inputs: Vec<_> = pairs.iter().rev().map(|(_, other)| Input::new(load.wire_fd(other.as_fd()))).collect();
        load.load_from(&mut inputs, &[], &mut |_| Ok(())).unwrap();
        saving.join().unwrap().unwrap();
    });
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    set_caller_patience(LONG);
}
