//! Mappings come and go while devices write without a pause, some of it into what was just unmapped.

use crate::rig::{Log, P, Rig, range};
use simdev::{DmaLog, DraftForm, Kernel, Ram, Type1Config, Writers};
use std::collections::BTreeSet;
use vfiomig::error::Errno;
use vfiomig::tracker::{Mapping, Request, Unmap};

/// A place is a range of IOVA that is mapped as a whole or not at all: 16 of them, 40 pages each, some side by side.
const PLACES: u64 = 16;
const PAGES: u64 = 40;

fn first(place: u64) -> u64 {
    place * PAGES + place / 5 * 1000
}

/// Numbers for which a test need not be random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

fn churn(rig: &Rig, steps: usize, seed: u64, unmap: impl Fn(&Rig, u64)) {
    let mut dice = Dice(seed);
    // At which place of RAM.
    let mut mapped: Vec<Option<u64>> = vec![None; PLACES as usize];
    let map = |mapped: &mut Vec<Option<u64>>, place: u64, ram: u64| {
        rig.map(first(place), PAGES, ram * PAGES);
        mapped[place as usize] = Some(ram);
    };
    for place in [0, 1, 2, 7] {
        map(&mut mapped, place, place);
    }
    let ranges: Vec<_> = (0..PLACES).map(|place| first(place)..first(place) + PAGES).collect();
    let writers: Writers = rig.writers(&ranges, seed);
    writers.wait(50);
    rig.start();
    for _ in 0..steps {
        let place = dice.roll(PLACES);
        match (dice.roll(3), mapped[place as usize]) {
            (0, _) => {
                writers.wait(20);
                rig.harvest();
            }
            (_, Some(_)) => {
                writers.wait(10);
                unmap(rig, place);
                mapped[place as usize] = None;
            }
            (_, None) => {
                let ram = dice.roll(PLACES);
                map(&mut mapped, place, ram);
            }
        }
    }
    writers.wait(20);
    rig.finish();
    writers.stop();
    assert!(rig.space.refused() > 0, "nobody wrote to what is not mapped");
    rig.tracker.stop().unwrap();
    rig.assert_clean();
}

#[test]
fn every_kind_in_the_library_s_order() {
    let mut logs = Log::all();
    logs.extend([
        Log::Dma(DmaLog { page_size: 16 * P, max_ranges: 3, ..DmaLog::default() }),
        Log::Mixed([DmaLog::default(), DmaLog { page_size: 16 * P, ..DmaLog::default() }]),
        Log::Hwpt(32, Kernel::V7_3),
        Log::Type1(Type1Config { max_bitmap: 16, ..Type1Config::default() }),
        Log::Type1(Type1Config { perpetual: true, ..Type1Config::default() }),
    ]);
    for (seed, log) in logs.into_iter().enumerate() {
        let devices = if matches!(log, Log::Functions(_)) { 1 } else { 2 };
        let rig = Rig::new(log, devices);
        churn(&rig, 40, seed as u64, |rig, place| drop(rig.unmap(first(place), PAGES)));
    }
}

/// What a VMM that unmaps by itself gets: more is dirty, nothing is lost.
#[test]
fn functions_of_the_vmm_and_what_was_unmapped_already() {
    for log in [Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12), Log::Dma(DmaLog::default())] {
        for done in [false, true] {
            let rig = Rig::new(log, 1);
            let seed = 100 + u64::from(done);
            churn(&rig, 25, seed, |rig, place| {
                let by_hand = |range: vfiomig::tracker::IovaRange| {
                    rig.space.unmap(range.iova, range.size).map(drop).map_err(Errno::new)
                };
                rig.unmap_as(first(place), PAGES, |range, request| {
                    if done {
                        by_hand(range).unwrap();
                        return rig.tracker.unmap(range, Unmap::Done, false, request);
                    }
                    rig.tracker.unmap(range, Unmap::By(&mut { by_hand }), false, request)
                });
            });
        }
    }
}

/// I9: a VMM that knows that no device writes there gets the exact bits of a page table.
#[test]
fn quiet_ranges_of_page_tables_are_exact() {
    let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 1);
    rig.map_all(&[(0, 40), (40, 40), (100, 40)]);
    rig.start();
    let writers = rig.writers(&[100..120, 120..140], 1);
    rig.write(&[3, 39, 40]);
    writers.wait(50);
    let reported = rig.unmap_as(0, 40, |range, request| rig.tracker.unmap(range, Unmap::Library, true, request));
    assert_eq!(reported.pages.range(..40).copied().collect::<Vec<_>>(), [3, 39]);
    assert!(rig.harvest().pages.contains(&40), "the neighbour keeps its own");
    rig.finish();
    writers.stop();
    rig.assert_clean();
}

/// L: a range that lies within a started one needs no restart, and any other makes all of it dirty once. Ranges are rounded out
/// to a GiB.
#[test]
fn only_what_a_log_does_not_hold_restarts_it() {
    const GIB: u64 = (1 << 30) / P;
    let restarts = |rig: &Rig| rig.devices[0].count(simdev::Access::DmaLogStop);
    let rig = Rig::new(Log::Dma(DmaLog { max_ranges: 1, ..DmaLog::default() }), 1);
    rig.map_all(&[(0, 10), (9 * GIB, 10)]);
    rig.start();
    rig.map(5 * GIB, 10, 50);
    assert_eq!(restarts(&rig), 0, "the one range holds it");
    assert_eq!(rig.harvest().list(), (5 * GIB..5 * GIB + 10).collect::<Vec<_>>(), "a new range is dirty once");
    assert_eq!(rig.harvest().list(), [0u64; 0]);
    rig.map(20 * GIB, 10, 200);
    assert_eq!(restarts(&rig), 1);
    let all: Vec<u64> = rig.space.mappings().iter().flat_map(|m| m.iova / P..(m.iova + m.size) / P).collect();
    assert_eq!(rig.harvest().list(), all, "a restart makes everything dirty once");
    rig.unmap(5 * GIB, 10);
    rig.unmap(20 * GIB, 10);
    assert_eq!(restarts(&rig), 1, "removal never restarts");
    // At rest nothing new is written, so what the log held is all there is.
    rig.write(&[5, 9 * GIB + 5]);
    rig.set_state(vfiomig::dialect::State::StopCopy);
    rig.map(300 * GIB, 2, 300);
    assert_eq!(restarts(&rig), 2);
    assert_eq!(rig.harvest().list(), [5, 9 * GIB + 5, 300 * GIB, 300 * GIB + 1]);
    rig.ram.assert_same();
    rig.assert_clean();
}

/// The other logs need no restart at all.
#[test]
fn new_mappings_of_other_logs_are_dirty_once() {
    for log in [
        Log::Type1(Type1Config::default()),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Draft(DraftForm::Sticky),
        Log::Draft(DraftForm::Rewrite),
    ] {
        let rig = Rig::new(log, 1);
        rig.start();
        assert_eq!(rig.harvest().list(), [0u64; 0], "{log:?}: nothing is mapped");
        rig.map_all(&[(0, 10), (10, 10)]);
        rig.write(&[15]);
        assert_eq!(rig.harvest().list(), (0..20).collect::<Vec<_>>(), "{log:?}");
        rig.write(&[15]);
        rig.map(30, 1, 30);
        assert_eq!(rig.harvest().list(), [15, 30], "{log:?}");
        rig.finish();
        rig.assert_clean();
    }
}

/// Two addresses of one page of RAM, and one address that changes its page.
#[test]
fn addresses_that_share_ram() {
    let rig = Rig::new(Log::Type1(Type1Config::default()), 1);
    rig.map(0, 4, 100);
    rig.map(1000, 4, 102);
    rig.start();
    rig.write(&[2, 1001]);
    let reported = rig.harvest();
    assert_eq!(reported.list(), [2, 1001]);
    rig.write(&[0]);
    assert_eq!(rig.unmap(0, 4).list(), [0]);
    rig.map(0, 4, 200);
    rig.write(&[0]);
    assert_eq!(rig.harvest().list(), [0, 1, 2, 3]);
    rig.finish();
    let written: BTreeSet<u64> = rig.ram.pages().into_keys().collect();
    assert_eq!(written.into_iter().collect::<Vec<_>>(), [100, 102, 103, 200]);
    rig.assert_clean();
}

/// A mapping that the tracker does not take is not half taken.
#[test]
fn mappings_that_are_refused() {
    let rig = Rig::with(Log::Everything, 1, &Ram::new(), |_| {});
    let one = |iova, size| Mapping { range: vfiomig::tracker::IovaRange { iova, size }, cookie: 0 };
    rig.map_all(&[(10, 10)]);
    for (list, errno) in [
        (vec![one(0, 0)], libc::EINVAL),
        (vec![one(1, P)], libc::EINVAL),
        (vec![one(0, P - 1)], libc::EINVAL),
        (vec![one(u64::MAX - P + 1, 2 * P)], libc::EINVAL),
        (vec![one(0, P), one(19 * P, P)], libc::EEXIST),
        (vec![one(0, P), one(0, P)], libc::EEXIST),
    ] {
        assert_eq!(rig.tracker.map(&list).unwrap_err().errno(), errno, "{list:?}");
    }
    rig.start();
    assert_eq!(rig.harvest().list(), (10..20).collect::<Vec<_>>());
    let mut nothing = Request::default();
    for (first, pages) in [(10, 5), (15, 5), (5, 10), (12, 1)] {
        let error = rig.tracker.unmap(range(first, pages), Unmap::Done, false, &mut nothing).unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL, "{first} + {pages}");
    }
    rig.tracker.unmap(range(0, 100), Unmap::Done, false, &mut nothing).unwrap();
    rig.tracker.map(&[one(10 * P, 10 * P)]).unwrap();
}
