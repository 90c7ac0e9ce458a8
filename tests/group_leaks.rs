//! Many migrations in a row, with faults and aborts anywhere: no descriptor, thread or mapping is left, and every state that
//! arrives is the one that left. Alone in its program, for it counts what the process has.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Rig, Stream};
use simdev::{Access, Config, DataPath, DraftForm, Effect, Fault, Window};
use vfiomig::dialect::{Caps, State};
use vfiomig::migration::{AbortTo, Phase};

/// xorshift: the same sequence each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn configs() -> Vec<Config> {
    let both = Config::v2(Caps { p2p: true, pre_copy: true });
    vec![
        Config { data: DataPath::RealFd, ..both.clone() },
        both,
        Config::v1_ndma(Window::Area),
        Config::draft(DraftForm::Rewrite),
    ]
}

fn entries(path: &str) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Mappings of the data window; memory of the allocator comes and goes.
fn shared_mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("rw-s")).count()
}

fn counts() -> (usize, usize, usize) {
    (entries("/proc/self/fd"), entries("/proc/self/task"), shared_mappings())
}

/// One migration of a group that has lived through many; whether it went through.
fn one(source: &Rig, random: &mut Random) -> bool {
    let save = source.save();
    let device = random.below(4) as usize;
    let fake = &source.fakes[device];
    if random.below(3) > 0 {
        let effect = match random.below(3) {
            0 => Effect::ToError(libc::EIO),
            1 => Effect::ErrnoMoved(libc::EMFILE),
            _ => Effect::Errno(libc::EIO),
        };
        fake.inject(Fault::at(Access::Any, fake.count(Access::Any) + random.below(60), effect));
    }
    for device in &source.devices {
        device.restart_stream().unwrap();
    }
    let saved = if random.below(4) == 0 {
        // The VMM changes its mind somewhere.
        let phases = [Phase::SaveTracking, Phase::SavePreCopy, Phase::SaveP2pGrace, Phase::SaveStopCopy];
        let _ = save.advance(phases[random.below(4) as usize]);
        None
    } else {
        source.save_all(&save).ok()
    };
    fake.clear_faults();
    let arrived = saved.is_some_and(|streams| arrives(source, &streams, random));
    for _ in 0..3 {
        if save.abort_without_second_guest(AbortTo::Running).is_ok() {
            break;
        }
        if source.fakes[device].state() == State::Error {
            source.devices[device].reset().unwrap();
        }
    }
    assert!(source.states().iter().all(|&s| s == State::Running), "{:?}", source.states());
    arrived
}

fn arrives(source: &Rig, streams: &[Stream], random: &mut Random) -> bool {
    let target = Rig::target(&configs(), random.below(2) as usize);
    let load = target.load();
    let device = random.below(4) as usize;
    let fake = &target.fakes[device];
    if random.below(3) == 0 {
        fake.inject(Fault::at(Access::Any, fake.count(Access::Any) + random.below(40), Effect::Errno(libc::EIO)));
    }
    if target.load_all(&load, streams).is_err() {
        load.abort(AbortTo::Running).or_else(|_| load.abort(AbortTo::Running)).unwrap();
        target.load_all(&load, streams).unwrap();
    }
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
    target.devices.iter().for_each(|device| device.close().unwrap());
    assert!(target.fakes.iter().all(|fake| fake.mappings() == 0));
    true
}

#[test]
fn two_hundred_migrations_leave_nothing_behind() {
    let mut random = Random(0x5eed);
    let source = Rig::source(&configs(), 0);
    source.allow_abort();
    let (mut arrived, mut steady) = (0, None);
    for round in 0..200 {
        arrived += u32::from(one(&source, &mut random));
        for (i, fake) in source.fakes.iter().enumerate() {
            fake.redirty(round * 10 + i as u64).unwrap();
        }
        // The first rounds open what stays open for the life of the group: windows are mapped once.
        if round == 20 {
            steady = Some(counts());
        }
    }
    assert_eq!(Some(counts()), steady, "descriptors, threads, mappings");
    assert!((40..180).contains(&arrived), "{arrived} of 200 arrived");
    source.devices.iter().for_each(|device| device.close().unwrap());
    assert!(source.fakes.iter().all(|fake| fake.mappings() == 0));
}
