//! One log in memory, with pages up to 1 GiB, functions that fail, addresses that are used again, requests of every form, watchers,
//! and threads beside.

use super::names::{Form, Named, Names, with_request};
use super::{Dice, courses};
use crate::memory::{MemoryLog, mapping};
use crate::rig::{P, range};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use vfiomig::tracker::{IovaRange, Mapping, Request, Tracker, Unmap};

struct Place {
    first: u64,
    pages: u64,
    /// While it is mapped.
    cookie: Option<u64>,
    /// Of the last mapping.
    last: u64,
}

/// What the VMM knows, and what it is owed.
#[derive(Default)]
struct Vmm {
    places: Vec<Place>,
    names: Names,
    cookies: u64,
    /// Written through the mapping of that cookie, and not reported: cookie and page.
    owed: BTreeSet<(u64, u64)>,
}

struct Course {
    log: MemoryLog,
    tracker: Tracker,
    vmm: Mutex<Vmm>,
}

impl Course {
    fn vmm(&self) -> MutexGuard<'_, Vmm> {
        self.vmm.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A device writes to what is mapped.
    fn write(&self, d: &mut Dice) {
        let mut vmm = self.vmm();
        if vmm.places.is_empty() {
            return;
        }
        let Place { first, pages, cookie, .. } = vmm.places[d.roll(vmm.places.len() as u64) as usize];
        let page = match d.roll(4) {
            0 => first,
            1 => first + pages - 1,
            _ => first + d.roll(pages),
        };
        if let Some(cookie) = cookie {
            // Owed before it is logged: what is reported in between is reported again.
            vmm.owed.insert((cookie, page));
            self.log.write(page * P);
        }
    }

    /// Something is reported. A watcher's VMM is owed it all the same.
    fn reported(&self, named: Named, keep: bool) {
        let mut vmm = self.vmm();
        let names = match named {
            Named::ByCookie(cookie, first, pages) => {
                assert!((1..=vmm.cookies).contains(&cookie), "a cookie of nobody: {cookie:#x}");
                vec![(cookie, first, pages)]
            }
            Named::ByIova(first, pages) => vmm.names.of(first, pages),
        };
        for (cookie, first, pages) in names.into_iter().filter(|_| !keep) {
            let gone: Vec<(u64, u64)> = vmm.owed.range((cookie, first)..(cookie, first + pages)).copied().collect();
            for page in gone {
                vmm.owed.remove(&page);
            }
        }
    }

    fn harvest(&self, d: &mut Dice, form: Form) {
        let (space, edges) = {
            let vmm = self.vmm();
            let end = vmm.places.iter().map(|place| place.first + place.pages).max().unwrap_or(1) + 20;
            ((0, end.min(1 << 52)), vmm.places.iter().map(|place| place.first).collect::<Vec<_>>())
        };
        with_request(d, space, &edges, form, &|named| self.reported(named, form.keep), &mut |request| {
            self.tracker.harvest(request).unwrap();
        });
    }

    /// Maps some of what is not mapped, mostly other memory than before.
    fn map(&self, d: &mut Dice, which: impl Iterator<Item = usize>) {
        let mut vmm = self.vmm();
        let mut list: Vec<Mapping> = Vec::new();
        for index in which {
            let same = d.one_in(4);
            let Vmm { places, names, cookies, .. } = &mut *vmm;
            let place = &mut places[index];
            if place.cookie.is_none() {
                if !same || place.last == 0 {
                    *cookies += 1;
                    place.last = *cookies;
                }
                place.cookie = Some(place.last);
                names.map(place.first, place.pages, place.last);
                list.push(mapping(place.first * P, place.pages * P, place.last));
            }
        }
        drop(vmm);
        self.tracker.map(&list).unwrap();
    }

    fn unmap(&self, d: &mut Dice) {
        let (first, pages, at) = {
            let vmm = self.vmm();
            if vmm.places.is_empty() {
                return;
            }
            let at = d.roll(vmm.places.len() as u64) as usize;
            let last = (at + d.pick(&[0, 0, 1, 3])).min(vmm.places.len() - 1);
            let end = vmm.places[last].first + vmm.places[last].pages;
            (vmm.places[at].first, end - vmm.places[at].first, at..last + 1)
        };
        let gone = || self.vmm().places[at.clone()].iter_mut().for_each(|place| place.cookie = None);
        let mut by = |_: IovaRange| {
            gone();
            Ok(())
        };
        let how = if d.one_in(3) {
            gone();
            Unmap::Done
        } else {
            Unmap::By(&mut by)
        };
        if d.one_in(3) {
            // NULL in C.
            self.tracker.unmap(range(first, pages), how, false, &mut Request::default()).unwrap();
            return;
        }
        let form = Form { partial: true, keep: d.one_in(5) };
        let mut how = Some(how);
        let space = (0, first + pages + 20);
        with_request(
            d,
            space,
            &[first, first + pages],
            form,
            &|named| self.reported(named, form.keep),
            &mut |request| {
                self.tracker.unmap(range(first, pages), how.take().unwrap(), false, request).unwrap();
            },
        );
    }

    /// A gate that is open has seen everything.
    fn gate(&self, d: &mut Dice) {
        self.tracker.begin_final().unwrap();
        let form = Form { partial: d.one_in(2), keep: d.one_in(4) };
        self.harvest(d, form);
        if d.one_in(2) {
            self.harvest(d, Form { partial: true, keep: false });
        }
        if self.tracker.final_missing().unwrap().is_none() {
            let vmm = self.vmm();
            assert!(vmm.owed.is_empty(), "the gate is open: {:x?}", vmm.owed);
        }
        self.tracker.end_final().unwrap();
    }

    /// One reads everything, and nothing is owed.
    fn finish(&self, d: &mut Dice) {
        self.log.state().fails.clear();
        self.tracker.begin_final().unwrap();
        self.harvest(d, Form { partial: false, keep: false });
        // What can be named by a cookie only.
        let mut run = |cookie: u64, run: IovaRange| {
            self.reported(Named::ByCookie(cookie, run.iova / P, run.size / P), false);
            true
        };
        self.tracker.harvest(&mut Request { run: Some(&mut run), no_read: true, ..Request::default() }).unwrap();
        assert_eq!(self.tracker.final_missing().unwrap(), None);
        assert!(self.vmm().owed.is_empty(), "lost: {:x?}", self.vmm().owed);
        self.tracker.stop().unwrap();
    }
}

/// How large things are.
struct Size {
    /// Bytes of a page of the log, as powers of two.
    shifts: &'static [u32],
    /// Pages of a mapping at most.
    most: u64,
    /// Pages to a place that is so far away that the log is started anew for it.
    far: u64,
    places: u64,
    steps: u64,
}

fn course(seed: u64, size: &Size, faults: bool, threads: bool) {
    let mut dice = Dice::new(seed);
    let d = &mut dice;
    let (own, hint) = (d.pick(size.shifts), d.pick(size.shifts));
    let log = MemoryLog::new(1 << own);
    // Some of the space, all of it, or none.
    let some = range(d.pick(&[0, 0, 100, 1 << 20]), size.places * d.pick(&[10, 100, size.most]));
    let aperture = if d.one_in(3) { vec![some] } else { Vec::new() };
    let tracker = log.tracker_in(1 << hint.min(30), aperture);
    let course = Course { log, tracker, vmm: Mutex::default() };
    let mut next = d.roll(100);
    for _ in 0..size.places {
        let pages = 1 + if d.one_in(3) { d.roll(size.most) } else { d.roll(40) };
        course.vmm().places.push(Place { first: next, pages, cookie: None, last: 0 });
        // Writes beside a log that is started anew are what a second thread is for.
        let far = if threads { d.one_in(2) } else { d.one_in(8) };
        next += pages + if far { size.far } else { d.pick(&[0, 0, 1, 20, 500, size.most]) };
    }
    let most = if threads { 4 } else { 2 };
    let some: Vec<usize> = (0..size.places as usize).filter(|_| d.one_in(most)).collect();
    course.map(d, some.into_iter());
    course.tracker.start().unwrap();
    // The first pass over RAM.
    course.vmm().owed.clear();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if threads {
            course.log.state().stop_takes = Duration::from_millis(2);
            let (course, over) = (&course, &over);
            scope.spawn(move || {
                let mut dice = Dice::new(seed + 2);
                while !over.load(Ordering::Relaxed) {
                    course.write(&mut dice);
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            scope.spawn(move || {
                let mut dice = Dice::new(seed + 1);
                while !over.load(Ordering::Relaxed) {
                    course.harvest(&mut dice, Form { partial: true, keep: true });
                    let _ = course.tracker.info();
                }
            });
        }
        let ended = End(&over);
        for _ in 0..size.steps {
            (0..d.roll(4)).for_each(|_| course.write(d));
            let at = d.roll(size.places) as usize;
            match d.roll(12) {
                0 | 1 => {
                    let end = at + d.pick(&[1, 1, 3]);
                    course.map(d, at..end.min(size.places as usize));
                }
                2 | 3 => course.unmap(d),
                4..=6 => course.harvest(d, Form { partial: true, keep: false }),
                7 => {
                    let partial = d.one_in(2);
                    course.harvest(d, Form { partial, keep: true });
                }
                8 if !threads => course.gate(d),
                9 if faults => {
                    let what = d.pick(&["report", "start", "stop"]);
                    course.log.state().fails.push(what);
                }
                10 => {
                    course.tracker.start().unwrap();
                    course.tracker.stop().unwrap();
                }
                _ => {}
            }
        }
        drop(ended);
    });
    course.finish(d);
}

/// Ends the other thread, also when this one panics.
struct End<'e>(&'e AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const SMALL: Size = Size { shifts: &[12, 12, 13, 16, 20], most: 300, far: 1 << 22, places: 9, steps: 80 };
/// A log page has up to 2^18 units, and several blocks of leftovers.
const LARGE: Size = Size { shifts: &[12, 21, 26, 27, 28, 29, 30], most: 1 << 19, far: 1 << 22, places: 7, steps: 60 };

#[test]
fn pages_of_all_sizes() {
    courses("pages of all sizes", |seed| course(seed, if seed % 2 == 0 { &SMALL } else { &LARGE }, false, false));
}

#[test]
fn functions_that_fail() {
    courses("functions that fail", |seed| course(seed, if seed % 3 == 0 { &LARGE } else { &SMALL }, true, false));
}

#[test]
fn a_second_thread() {
    courses("a second thread", |seed| course(seed, if seed % 3 == 0 { &LARGE } else { &SMALL }, seed % 2 == 0, true));
}

#[test]
fn very_many_mappings() {
    let size = Size { shifts: &[12, 14], most: 3, far: 1, places: 100_000, steps: 25 };
    // One alone takes seconds.
    course(super::number("COURSES_SEED").unwrap_or(1), &size, false, false);
}
