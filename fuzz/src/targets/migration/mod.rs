//! Groups and migrations of devices that fail at any call.

mod beside;
mod drains;
mod members;
mod phases;

use crate::clock::call;
use crate::errors::{check_error, note};
use crate::feed::Feed;
use members::{Fake, Member};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use vfiomig::device::Device;
use vfiomig::dialect::{Direction, State};
use vfiomig::group::{self, Group};
use vfiomig::migration::{EstimateInput, Migration, Phase};
use vfiomig::tracker::{self, Tracker};

/// How often one call may ask a device, and how long it may wait, in seconds.
const MOST: u64 = 4_000_000;
const LONGEST: u64 = 40;

pub fn run(data: &[u8]) {
    let feed = Arc::new(Mutex::new(Feed::new(data)));
    let Some(mut course) = Course::new(feed) else { return };
    for _ in 0..80 {
        if course.feed.lock().done() {
            break;
        }
        course.step();
    }
    course.close();
}

struct Course {
    feed: Arc<Mutex<Feed>>,
    direction: Direction,
    group: Arc<Group>,
    tracker: Arc<Tracker>,
    migration: Migration,
    members: Vec<Member>,
    devices: Vec<Arc<Device>>,
    canceled: bool,
    /// Since STOP_COPY was entered.
    harvested: bool,
    /// Starts of the tracker that are not the migration's.
    own_starts: u32,
    /// By device, as the last call has left it.
    resets: Vec<u64>,
}

impl Course {
    fn new(feed: Arc<Mutex<Feed>>) -> Option<Course> {
        let mut f = feed.lock();
        let (count, how, direction) = (1 + f.u8() as usize % 3, f.u8(), f.u8());
        drop(f);
        let direction = if direction & 1 == 0 { Direction::Save } else { Direction::Load };
        // Threads, at times: they cost most of the time.
        let max_workers = if how & 0xf0 == 0xf0 { 0 } else { 1 };
        let group = Arc::new(Group::new(group::GroupOptions { max_workers, ..group::GroupOptions::default() }));
        let mut members = Vec::new();
        for i in 0..count {
            members.push(Member::new(&feed, i, how >> i & 1 == 1, direction == Direction::Load)?);
        }
        let devices: Vec<Arc<Device>> = members.iter().map(|member| Arc::clone(&member.device)).collect();
        for device in &devices {
            group.add_device(Arc::clone(device)).unwrap();
        }
        let options = tracker::TrackerOptions {
            name: "ram".into(),
            devices: devices.clone(),
            max_workers: 1,
            ..Default::default()
        };
        let tracker = Arc::new(Tracker::new(options).unwrap());
        tracker.map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size: 64 * 4096 }, cookie: 7 }]).unwrap();
        group.add_tracker(Arc::clone(&tracker)).unwrap();
        let migration = Migration::new(Arc::clone(&group), direction);
        note(&migration);
        Some(Course {
            feed,
            direction,
            group,
            tracker,
            migration: migration.ok()?,
            resets: members.iter().map(Member::resets).collect(),
            members,
            devices,
            canceled: false,
            harvested: false,
            own_starts: 0,
        })
    }

    fn step(&mut self) {
        let mut f = self.feed.lock();
        let (op, a, b) = (f.u8() % 22, f.u8(), f.u8());
        drop(f);
        let phase = self.migration.phase();
        crate::trace!("op {op} {a} {b} in {phase}: {:?}", self.devices.iter().map(|d| d.state()).collect::<Vec<_>>());
        match op {
            0..=5 => self.advance(a, b, op == 5),
            6 => self.advance_device(a, b),
            7 | 8 => self.abort(a),
            9 => {
                self.migration.cancel();
                self.canceled = !matches!(phase, Phase::SaveHalted | Phase::LoadRunning);
            }
            10 | 11 => self.pause(a),
            12..=14 => self.save(a, b, op == 12),
            15 | 16 => self.load(a, b),
            17 => self.sizes(a, b),
            18 => self.harvest(a),
            19 => {
                let which = a as usize % self.members.len();
                self.members[which].inject(&mut self.feed.lock(), b);
            }
            20 => self.beside(a, b),
            _ => {
                let report = self.migration.report().unwrap();
                assert!(report.phases.iter().all(|phase| phase.devices.len() == self.devices.len()));
                let _ =
                    (self.group.abilities().unwrap(), self.group.results().unwrap(), self.migration.error().unwrap());
            }
        }
        self.check(op == 20);
    }

    /// What holds after each call. `own`: the caller has used a device itself.
    fn check(&mut self, own: bool) {
        let resets: Vec<u64> = self.members.iter().map(Member::resets).collect();
        assert!(own || self.direction == Direction::Load || resets == self.resets, "a source was reset");
        self.resets = resets;
        for member in &self.members {
            let info = member.device.info();
            assert!(!info.session_open || info.state.session().is_some() || info.state == State::Error);
            // A hostile device knows of finish by what the library says.
            if let Fake::Hostile(shared) = &member.fake {
                shared.st.lock().finished |= info.complete && info.state == State::Resuming;
            }
        }
    }

    fn pause(&mut self, a: u8) {
        let outcome = call("pause", LONGEST, MOST, || match a % 4 {
            0 => self.group.pause(),
            1 => self.group.resume(),
            2 => self.group.pause_begin(),
            _ => self.group.resume_begin(),
        });
        note(&outcome);
        if outcome.is_err() {
            return;
        }
        // One that is gone, or has no migration states, takes no part.
        for device in self.devices.iter().filter(|device| !device.is_closed() && device.info().dialect.is_some()) {
            let state = device.state();
            match a % 4 {
                // One that was loaded and leaves RESUMING only to run stands still in it.
                0 => assert!(matches!(state, State::Stop | State::StopCopy | State::Resuming), "{state} after pause"),
                // Drafts save again in SAVE_TRACKING, for their log.
                1 if device.info().dialect == Some(vfiomig::dialect::DialectKind::Draft) => {
                    assert!(matches!(state, State::Running | State::PreCopy), "{state} after resume");
                }
                1 => assert_eq!(state, State::Running, "after resume"),
                _ => {}
            }
        }
    }

    fn sizes(&mut self, a: u8, b: u8) {
        let pending = self.migration.pending();
        for size in [pending.initial_bytes, pending.dirty_bytes, pending.stop_copy_bytes] {
            assert!(size != Some(u64::MAX) || self.devices.len() > 1);
        }
        if a & 1 == 1 {
            note(&call("pending", LONGEST, MOST, || self.migration.pending_exact()));
        }
        let given = EstimateInput {
            bytes_per_second: Some(u64::from(b)).filter(|_| a & 2 != 0),
            transition: Some(Duration::from_nanos(u64::MAX)).filter(|_| a & 4 != 0),
            other_bytes: if a & 8 != 0 { u64::MAX } else { 0 },
        };
        note(&self.migration.estimate(given));
    }

    fn harvest(&mut self, a: u8) {
        let mut run = |_: u64, _: tracker::IovaRange| true;
        let mut request = tracker::Request { run: Some(&mut run), ..tracker::Request::default() };
        let outcome = call("harvest", LONGEST, MOST, || {
            if a & 7 == 7 { self.group.harvest_without_dma(&mut request) } else { self.group.harvest(&mut request) }
        });
        match outcome {
            Ok(_) => self.harvested = true,
            Err(error) => check_error(&error),
        }
    }

    fn close(self) {
        call("free", LONGEST, MOST, || self.migration.close()).unwrap();
        assert!(self.migration.advance(Phase::SaveTracking).is_err());
        self.group.close().unwrap();
        self.tracker.close().unwrap();
        self.members.iter().for_each(Member::close);
    }
}
