//! A cancel ends what the library waits for by itself: a descriptor that is not ready, a reset that the kernel puts off, a
//! segment of another thread. What the VMM asks for to get out (abort, reset) is waited for all the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig, Stream};
use simdev::{Access, Config, DraftForm, Effect, Fault};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, State};
use vfiomig::error::{Action, ErrorKind};
use vfiomig::migration::{AbortTo, Fed, Migration, Phase};

/// A migration that is canceled by the first device when it has met `access` so often.
struct Canceled {
    rig: Rig,
    migration: Arc<Migration>,
}

impl Canceled {
    fn new(load: bool, max_workers: usize, access: Access, times: u64) -> Canceled {
        let slot: Arc<OnceLock<Weak<Migration>>> = Arc::default();
        let config = Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000);
        let config = if load { config } else { config.seeded(3) };
        let rig = Rig::new(&[config.clone(), config], max_workers, &|fake, i| {
            let (inner, fake, slot) = (fake.transport(), fake.clone(), Arc::clone(&slot));
            let before = move || {
                let migration = slot.get().and_then(Weak::upgrade);
                if let Some(migration) = migration.filter(|_| i == 0 && fake.count(access) == times) {
                    migration.cancel();
                }
            };
            Box::new(Hooked { inner, before: Arc::new(before) })
        });
        rig.allow_abort();
        let migration = Arc::new(if load { rig.load() } else { rig.save() });
        slot.set(Arc::downgrade(&migration)).unwrap();
        Canceled { rig, migration }
    }

    /// The first device has no time, always or so often.
    fn busy(&self, access: Access, times: u64) {
        self.rig.fakes[0].inject(Fault { access, nth: 0, times, effect: Effect::Errno(libc::EAGAIN) });
    }
}

fn stream() -> Vec<Stream> {
    let config = Config::v2(Caps { p2p: true, pre_copy: true }).state_size(3000).seeded(3);
    let source = Rig::new(&[config.clone(), config], 1, &|fake, _| fake.transport());
    source.save_all(&source.save()).unwrap()
}

#[test]
fn a_read_that_is_not_ready() {
    for max_workers in [1, 0] {
        let Canceled { rig, migration } = &Canceled::new(false, max_workers, Access::DataRead, 3);
        migration.advance(Phase::SaveStopCopy).unwrap();
        rig.fakes[0].inject(Fault::from(Access::DataRead, 0, Effect::Errno(libc::EAGAIN)));
        let failure = migration.save_complete(&[], &mut |_| Ok(())).unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Canceled, libc::ECANCELED), "{failure}");
        assert!(failure.to_string().contains("d0: "), "{failure}");
        assert_eq!(rig.fakes[0].count(Access::DataRead), 4, "the wait ended with the first answer after the cancel");
        assert_eq!(migration.phase(), Phase::SaveStopCopy);
        // A VMM with a loop of its own gets the same, until it aborts.
        let failure = rig.devices[0].read(&mut [0; 100]).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Canceled, "{failure}");
        assert!(rig.devices[0].peek(0).is_err_and(|failure| failure.kind() == ErrorKind::Canceled));
        migration.abort(AbortTo::RunState).unwrap();
        rig.fakes[0].clear_faults();
        let read = rig.fakes[0].count(Access::DataRead);
        rig.fakes[0].inject(Fault {
            access: Access::DataRead,
            nth: read,
            times: 5,
            effect: Effect::Errno(libc::EAGAIN),
        });
        rig.devices.iter().for_each(|device| device.restart_stream().unwrap());
        migration.advance(Phase::SaveStopCopy).unwrap();
        migration.save_complete(&[], &mut |_| Ok(())).unwrap();
        assert!(rig.fakes[0].count(Access::DataRead) > read + 5);
        migration.abort(AbortTo::Running).unwrap();
        rig.assert_clean("a read");
    }
}

/// A migration that is over has nothing to cancel.
#[test]
fn a_cancel_does_not_outlive_its_migration() {
    let canceled = Canceled::new(false, 1, Access::DataRead, 3);
    canceled.migration.advance(Phase::SaveStopCopy).unwrap();
    canceled.busy(Access::DataRead, u64::MAX);
    canceled.migration.cancel();
    let read = || canceled.rig.devices[0].read(&mut [0; 100]).unwrap_err().kind();
    assert_eq!(read(), ErrorKind::Canceled);
    canceled.migration.close().unwrap();
    assert_eq!(read(), ErrorKind::Device);
}

#[test]
fn a_write_that_is_not_ready() {
    let streams = stream();
    for max_workers in [1, 0] {
        let Canceled { rig, migration } = &Canceled::new(true, max_workers, Access::DataWrite, 3);
        migration.advance(Phase::LoadResuming).unwrap();
        rig.fakes[0].inject(Fault::from(Access::DataWrite, 1, Effect::Errno(libc::EAGAIN)));
        let mut next = [0; 2];
        let failure = migration
            .load_complete(&[], &mut |device, buf| {
                let Some((bytes, segment_end)) = streams[device].parts.get(next[device]) else {
                    return Ok(Fed::End { total: None });
                };
                next[device] += 1;
                buf[..bytes.len()].copy_from_slice(bytes);
                Ok(Fed::Bytes { len: bytes.len(), segment_end: *segment_end })
            })
            .unwrap_err();
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Canceled, libc::ECANCELED), "{failure}");
        assert_eq!(rig.fakes[0].count(Access::DataWrite), 4);
        assert_ne!(migration.phase(), Phase::Failed);
        assert_eq!(
            rig.devices[0].write(&[0; 10], false).unwrap_err().kind(),
            ErrorKind::Stale,
            "F6: who knows what it took"
        );
        migration.abort(AbortTo::Running).unwrap();
        rig.fakes[0].clear_faults();
        rig.load_all(migration, &streams).unwrap();
        rig.assert_clean("a write");
    }
}

/// A destination that fails is reset at once; that the reset has to wait too is no reason to hold up a cancel.
#[test]
fn a_reset_within_a_phase() {
    let streams = stream();
    for max_workers in [1, 0] {
        let canceled = Canceled::new(true, max_workers, Access::Reset, 3);
        let Canceled { rig, migration } = &canceled;
        migration.advance(Phase::LoadResuming).unwrap();
        rig.write_all(&streams).unwrap();
        let writes = rig.fakes[0].count(Access::StateWrite);
        rig.fakes[0].inject(Fault::at(Access::StateWrite, writes, Effect::Errno(libc::EIO)));
        canceled.busy(Access::Reset, 12);
        let begun = Instant::now();
        let failure = migration.advance(Phase::LoadLoaded).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::Device, libc::EIO), "what failed first: {failure}");
        assert_eq!(failure.results()[0].action, Action::None);
        assert!(failure.results()[0].message.contains("canceled"), "{failure}");
        assert_eq!((rig.fakes[0].count(Access::Reset), migration.phase()), (4, Phase::Failed));
        // The way out is waited for, also if it is canceled again meanwhile.
        std::thread::scope(|scope| {
            let abort = scope.spawn(|| migration.abort(AbortTo::Running));
            while rig.fakes[0].count(Access::Reset) < 6 {
                std::thread::yield_now();
            }
            migration.cancel();
            abort.join().unwrap().unwrap();
        });
        assert_eq!((rig.fakes[0].count(Access::Reset), rig.fakes[0].resets()), (13, 1));
        assert_eq!(rig.states(), [State::Running; 2]);
        rig.assert_clean("a reset");
    }
}

/// The VMM's own reset is a way out as well.
#[test]
fn the_way_out_is_not_cut() {
    let canceled = Canceled::new(true, 1, Access::Reset, 2);
    let Canceled { rig, migration } = &canceled;
    migration.advance(Phase::LoadResuming).unwrap();
    canceled.busy(Access::Reset, 5);
    migration.cancel();
    rig.devices[0].reset().unwrap();
    assert_eq!((rig.fakes[0].count(Access::Reset), rig.fakes[0].resets()), (6, 1));
    // Asked for as a policy it is no way out: what comes of it is in the error.
    let reads = rig.fakes[0].count(Access::StateWrite);
    rig.fakes[0].inject(Fault::at(Access::StateWrite, reads, Effect::Errno(libc::EIO)));
    let resets = rig.fakes[0].count(Access::Reset);
    rig.fakes[0].inject(Fault::from(Access::Reset, resets, Effect::Errno(libc::EAGAIN)));
    let failure = rig.devices[0].set_state(State::Stop, OnFailure::Reset, false).unwrap_err();
    assert!(failure.to_string().contains("the reset failed too"), "{failure}");
    assert_eq!(rig.fakes[0].count(Access::Reset), resets + 1);
    rig.fakes[0].clear_faults();
    migration.abort(AbortTo::Running).unwrap();
    rig.assert_clean("the way out");
}

/// D5: the draft's log is behind the segment that another thread has begun.
#[test]
fn a_harvest_behind_a_segment() {
    let config = Config::draft(DraftForm::Sticky).state_size(3000).seeded(1);
    let group = Rig::new(&[config], 1, &|fake, _| fake.transport());
    group.allow_abort();
    let tracker = vfiomig::tracker::Tracker::new(vfiomig::tracker::TrackerOptions {
        name: "own".into(),
        devices: group.devices.clone(),
        ..Default::default()
    });
    let tracker = tracker.unwrap();
    let range = vfiomig::tracker::IovaRange { iova: 0, size: 64 * 4096 };
    tracker.map(&[vfiomig::tracker::Mapping { range, cookie: 0 }]).unwrap();
    let save = group.save();
    tracker.start().unwrap();
    save.advance(Phase::SavePreCopy).unwrap();
    let device = Arc::clone(&group.devices[0]);
    std::thread::spawn(move || device.read(&mut [0; 10]).unwrap()).join().unwrap();
    let harvest = || {
        let begun = Instant::now();
        let reported = tracker.harvest(&mut vfiomig::tracker::Request::default()).unwrap();
        assert_eq!(reported.first_errno.map(|errno| errno.get()), Some(libc::EBUSY));
        begun.elapsed()
    };
    let patient = harvest();
    save.cancel();
    let canceled = harvest();
    assert!(patient > Duration::from_millis(900) && canceled < patient / 2, "{patient:?} {canceled:?}");
    save.abort(AbortTo::Running).unwrap();
    tracker.close().unwrap();
}
