//! Several address spaces in one harvest, and several threads that read.

use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog, Effect, Fault, Kernel, Ram, Type1Config};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use vfiomig::bitmap::Words;
use vfiomig::dialect::State;
use vfiomig::tracker::{Dest, Harvest, IovaRange, Request, Tracker, harvest};

const MAPS: [(u64, u64); 4] = [(0, 100), (100, 28), (512, 512), (5000, 7)];

fn into_bitmap(trackers: &[&Tracker], max_workers: usize) -> (Vec<u64>, Harvest) {
    let mut words = vec![0u64; 100];
    let cells = Cell::from_mut(&mut words[..]).as_slice_of_cells();
    let bitmap = Some(Words::Plain(cells));
    let dests = [Dest { range: range(0, 6400), page_size: P, first_bit: 0, bitmap, token: 0 }];
    let reported = harvest(trackers, &mut Request { dests: &dests, max_workers, ..Request::default() }).unwrap();
    (words, reported)
}

fn bits(words: &[u64]) -> BTreeSet<u64> {
    (0..words.len() as u64 * 64).filter(|bit| words[*bit as usize / 64] >> (bit % 64) & 1 != 0).collect()
}

/// One VM with three address spaces over the same RAM, each with a log of its own kind and devices that never rest.
#[test]
fn trackers_of_several_kinds_in_one_call() {
    let ram = Ram::new();
    let logs = [Log::Dma(DmaLog::default()), Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12)];
    let rigs: Vec<Rig> = logs.into_iter().map(|log| Rig::with(log, 2, &ram, |_| {})).collect();
    rigs.iter().for_each(|rig| rig.map_all(&MAPS));
    rigs.iter().for_each(|rig| drop(rig.start()));
    let ranges: Vec<_> = MAPS.iter().map(|&(first, pages)| first..first + pages).collect();
    let writers: Vec<_> = rigs.iter().zip(1..).map(|(rig, seed)| rig.writers(&ranges, seed)).collect();
    let trackers: Vec<&Tracker> = rigs.iter().map(|rig| &rig.tracker).collect();
    let pass = || {
        let owed = ram.owed();
        let reported = bits(&into_bitmap(&trackers, 0).0);
        reported.iter().for_each(|&page| ram.copy(page));
        assert!(owed.is_subset(&reported), "{:?}", owed.difference(&reported));
    };
    for _ in 0..8 {
        writers.iter().for_each(|w| w.wait(30));
        pass();
    }
    rigs.iter().for_each(|rig| rig.set_state(State::StopCopy));
    pass();
    ram.assert_same();
    drop(writers);
    rigs.iter().for_each(Rig::assert_clean);
}

/// The same writes, read by one thread and by several: the same bits, the same counts.
#[test]
fn workers_change_nothing_but_the_time() {
    let run = |max_workers: usize| {
        let ram = Ram::new();
        let logs = [
            Log::Dma(DmaLog { page_size: 4 * P, ..DmaLog::default() }),
            Log::Dma(DmaLog::default()),
            Log::Type1(Type1Config { max_bitmap: 64, ..Type1Config::default() }),
            Log::Hwpt(8, Kernel::V7_3),
        ];
        let rigs: Vec<Rig> = logs.into_iter().map(|log| Rig::with(log, 5, &ram, |_| {})).collect();
        let mut all = Vec::new();
        for rig in &rigs {
            rig.map_all(&MAPS);
            rig.start();
        }
        for round in 0..4u64 {
            for (i, rig) in rigs.iter().enumerate() {
                for (k, device) in rig.devices.iter().enumerate() {
                    for page in (0..100).map(|n| n * 7 % 100 + 512 * (n % 2)) {
                        if (page + round + i as u64 * 3 + k as u64) % 5 == 0 {
                            device.dma_write(page).unwrap();
                        }
                    }
                }
            }
            let trackers: Vec<&Tracker> = rigs.iter().map(|rig| &rig.tracker).collect();
            all.push(into_bitmap(&trackers, max_workers));
        }
        rigs.iter().for_each(Rig::assert_clean);
        all
    };
    let one = run(1);
    assert!(one.iter().all(|(words, reported)| reported.newly > 0 && reported.newly == bits(words).len() as u64));
    for max_workers in [0, 2, 16] {
        assert_eq!(run(max_workers), one, "{max_workers}");
    }
}

/// Reports of one range end in one bitmap, whether devices add to what others reported or replace it: what each wrote is reported, and
/// a page that several wrote counts once.
#[test]
fn what_several_devices_wrote_is_reported_together() {
    let shared = 3;
    for (overwrites, max_workers) in [(false, 1), (false, 0), (true, 1), (true, 0), (true, 2)] {
        let rig = Rig::new(Log::Dma(DmaLog { overwrites, ..DmaLog::default() }), 6);
        rig.map_all(&MAPS);
        // Too far away to be read with the others.
        for far in [1, 2] {
            rig.map(far * (16 << 30) / P, 10, 4096 + far * 10);
        }
        rig.start();
        rig.harvest();
        for round in 0..20u64 {
            let mut written = BTreeSet::from([shared]);
            for (device, number) in rig.devices.iter().zip(0u64..) {
                let own = [512 + round * 6 + number, 100 + (round + number) % 28];
                for page in own.into_iter().chain([shared]) {
                    device.dma_write(page).unwrap();
                    written.insert(page);
                }
            }
            let (words, reported) = into_bitmap(&[&rig.tracker], max_workers);
            assert_eq!(bits(&words), written, "{overwrites} {max_workers}");
            let pages = written.len() as u64;
            assert_eq!(
                (reported.newly, reported.total, reported.reads),
                (pages, pages, 3 * 6),
                "{overwrites} {max_workers}"
            );
        }
        rig.assert_clean();
    }
}

/// Side by side: a harvest costs the slowest device, not the sum.
#[test]
fn devices_are_read_side_by_side() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 8);
    rig.map_all(&[(0, 10)]);
    rig.start();
    let delay = Duration::from_millis(60);
    for device in &rig.devices {
        device.inject(Fault::from(Access::DmaLogReport, 0, Effect::Delay(delay)));
    }
    let time = |max_workers| {
        let begin = Instant::now();
        into_bitmap(&[&rig.tracker], max_workers);
        begin.elapsed()
    };
    assert!(time(1) >= 8 * delay);
    assert!(time(0) < 6 * delay);
}

#[test]
fn a_tracker_is_named_once_and_runs() {
    let rigs = [Rig::new(Log::Everything, 1), Rig::new(Log::Everything, 1)];
    rigs[0].map_all(&MAPS);
    rigs[0].start();
    let call = |trackers: &[&Tracker]| harvest(trackers, &mut Request::default()).map_err(|e| e.kind());
    assert_eq!(call(&[&rigs[0].tracker, &rigs[0].tracker]), Err(vfiomig::error::ErrorKind::Argument));
    assert_eq!(call(&[&rigs[0].tracker, &rigs[1].tracker]), Err(vfiomig::error::ErrorKind::Order));
    assert!(call(&[]).is_ok());
    assert!(call(&[&rigs[0].tracker]).is_ok());
}

/// A failed read of one tracker takes nothing from the others.
#[test]
fn one_tracker_fails_and_the_others_are_exact() {
    let ram = Ram::new();
    let rigs = [
        Rig::with(Log::Dma(DmaLog::default()), 1, &ram, |_| {}),
        Rig::with(Log::Type1(Type1Config::default()), 1, &ram, |_| {}),
    ];
    rigs[0].map_all(&[(0, 10)]);
    rigs[1].map_all(&[(100, 10)]);
    rigs.iter().for_each(|rig| drop(rig.start()));
    let nth = rigs[0].devices[0].count(Access::DmaLogReport);
    let id = rigs[0].devices[0].inject(Fault::at(Access::DmaLogReport, nth, Effect::Errno(libc::EIO)));
    rigs[0].write(&[3]);
    rigs[1].write(&[105]);
    let (words, reported) = into_bitmap(&[&rigs[0].tracker, &rigs[1].tracker], 0);
    assert_eq!(bits(&words).into_iter().collect::<Vec<_>>(), (0..10).chain([105]).collect::<Vec<_>>());
    assert_eq!((reported.failed_reads, reported.degraded_bytes, reported.reads), (1, 10 * P, 2));
    assert_eq!(reported.first_errno.map(|e| e.get()), Some(libc::EIO));
    assert_eq!(rigs[0].devices[0].fault_reached(id), 1);
}

/// Each address space keeps what a callback refused of it.
#[test]
fn a_callback_that_stops_in_the_middle_of_several_trackers() {
    for stop_at in 0..8 {
        let ram = Ram::new();
        let logs = [Log::Dma(DmaLog::default()), Log::Type1(Type1Config::default()), Log::Hwpt(1, Kernel::V6_12)];
        let rigs: Vec<Rig> = logs.into_iter().map(|log| Rig::with(log, 1, &ram, |_| {})).collect();
        for (rig, ram) in rigs.iter().zip(0..) {
            rig.map(0, 100, ram * 1000);
            rig.start();
            rig.write(&[3, 4, 50]);
        }
        let trackers: Vec<&Tracker> = rigs.iter().map(|rig| &rig.tracker).collect();
        let (mut reported, mut calls) = (Vec::new(), 0);
        for no_read in [false, true] {
            let mut run = |cookie: u64, run: IovaRange| {
                calls += 1;
                let first = run.iova.wrapping_add(cookie) / P;
                if calls != stop_at + 1 {
                    reported.extend(first..first + run.size / P);
                }
                calls != stop_at + 1
            };
            harvest(&trackers, &mut Request { run: Some(&mut run), no_read, ..Request::default() }).unwrap();
        }
        reported.sort_unstable();
        assert_eq!(reported, [3, 4, 50, 1003, 1004, 1050, 2003, 2004, 2050], "stop at {stop_at}");
    }
}

/// Calls from other threads wait, calls from a callback are refused.
#[test]
fn callers_wait_for_each_other() {
    let rig = Rig::new(Log::Dma(DmaLog::default()), 2);
    rig.map_all(&MAPS);
    rig.start();
    let ranges: Vec<_> = MAPS.iter().map(|&(first, pages)| first..first + pages).collect();
    let writers = rig.writers(&ranges, 9);
    let ram = &rig.ram;
    let copy = |reported: &mut BTreeSet<u64>, run: IovaRange| {
        (run.iova / P..(run.iova + run.size) / P).for_each(|page| {
            ram.copy(page);
            reported.insert(page);
        });
        true
    };
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (rig, copy) = (&rig, &copy);
            scope.spawn(move || {
                for round in 0..10u64 {
                    let first = 10_000 + thread * 1000 + round;
                    rig.space.map(simdev::Mapping { iova: first * P, size: P, ram: first * P }).unwrap();
                    rig.tracker.map(&[vfiomig::tracker::Mapping { range: range(first, 1), cookie: 0 }]).unwrap();
                    rig.tracker.start().unwrap();
                    let mut reported = BTreeSet::new();
                    let mut run = |_cookie: u64, run: IovaRange| copy(&mut reported, run);
                    rig.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
                    rig.tracker.stop().unwrap();
                }
            });
        }
    });
    let mut run = |_cookie: u64, _run: IovaRange| {
        let errno = |result: vfiomig::Result<()>| result.unwrap_err().errno();
        assert_eq!(errno(rig.tracker.start()), libc::EDEADLK);
        assert_eq!(errno(rig.tracker.map(&[])), libc::EDEADLK);
        assert_eq!(errno(rig.tracker.harvest(&mut Request::default()).map(drop)), libc::EDEADLK);
        assert!(rig.tracker.info().starts > 0);
        true
    };
    writers.wait(10);
    rig.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    // The runs of that harvest were not copied.
    rig.ram.copy_all();
    rig.finish();
    writers.stop();
    rig.assert_clean();
}
