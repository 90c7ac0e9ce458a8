//! Whole migrations: between every pair of kinds that may load each other, and of all peers in one group.

use crate::both_vmms;
use crate::vmm::{Stream, Vmm};
use simdev::{Config, Device, DraftForm, Habits, Peer, Window};
use vfiomig::dialect::{Direction, State};
use vfiomig::migration::Phase;

both_vmms! {
    every_pair
    all_peers_in_one_group
}

pub const SIZE: usize = 3072;

/// Each peer, and the dialects that have none.
pub fn kinds() -> Vec<(String, Config)> {
    let named = |name: &str, config: Config| (name.to_string(), config.state_size(SIZE));
    let draft = Config::draft(DraftForm::Rewrite);
    let follows = Habits { offset_follows: true, ..Habits::PLAIN };
    let strict = Habits { strict_iteration: true, ..Habits::PLAIN };
    let peers = Peer::ALL.into_iter().map(|peer| (peer.name().to_string(), peer.config().state_size(SIZE)));
    peers
        .chain([
            named("v1 with NDMA", Config { habits: strict, ..Config::v1_ndma(Window::Area) }),
            named("draft", Config { habits: follows, ..draft }),
        ])
        .collect()
}

/// From IDLE to HALTED; the streams.
pub fn save<V: Vmm>(vmm: &mut V, devices: &[Device]) -> Vec<Stream> {
    let mut streams = vec![Stream::new(); devices.len()];
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SaveTracking).unwrap();
    vmm.advance(Phase::SavePreCopy).unwrap();
    for round in 0..3 {
        vmm.save(false, &mut streams).unwrap();
        devices.iter().for_each(|device| device.touch(1000, 100, round).unwrap());
    }
    vmm.advance(Phase::SaveP2pGrace).unwrap();
    vmm.advance(Phase::SaveStopCopy).unwrap();
    vmm.save(true, &mut streams).unwrap();
    vmm.harvest().unwrap();
    vmm.advance(Phase::SaveHalted).unwrap();
    streams
}

pub fn load<V: Vmm>(vmm: &mut V, streams: &[Stream]) {
    vmm.begin(Direction::Load).unwrap();
    vmm.advance(Phase::LoadResuming).unwrap();
    vmm.load(streams).unwrap();
    vmm.advance(Phase::LoadRunning).unwrap();
}

fn migrate<V: Vmm>(from: &[Device], to: &[Device], what: &str) {
    let (mut source, mut target) = (V::new(from), V::new(to));
    let streams = save(&mut source, from);
    load(&mut target, &streams);
    for (from, to) in from.iter().zip(to) {
        assert!(to.same_content(from), "{what}");
        assert_eq!((from.state(), to.state()), (State::Stop, State::Running), "{what}");
        from.assert_clean();
        to.assert_clean();
    }
}

fn every_pair<V: Vmm>() {
    for from in Peer::ALL {
        for to in Peer::ALL.into_iter().filter(|to| from.streams_to(*to)) {
            let source = Device::new(from.config().state_size(SIZE).seeded(1));
            let target = Device::new(to.config().state_size(SIZE));
            migrate::<V>(&[source], &[target], &format!("{from:?} to {to:?}"));
        }
    }
}

fn all_peers_in_one_group<V: Vmm>() {
    let from: Vec<Device> =
        kinds().into_iter().enumerate().map(|(i, (_, config))| Device::new(config.seeded(i as u64 + 1))).collect();
    let to: Vec<Device> = kinds().into_iter().map(|(_, config)| Device::new(config)).collect();
    migrate::<V>(&from, &to, "all");
}
