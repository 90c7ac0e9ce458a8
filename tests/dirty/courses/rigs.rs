//! Every log of the rig with devices that write through it, faults at any request, devices at rest and back, writers that never
//! pause, and several address spaces that are harvested together.

use super::names::{Form, Named, Names, with_request};
use super::{Dice, courses};
use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog, DraftForm, Effect, Fault, Kernel, Ram, Type1Config};
use std::cell::{Cell, RefCell};
use vfiomig::dialect::State;
use vfiomig::error::Errno;
use vfiomig::tracker::{Request, Tracker, Unmap, harvest};

const DMA: [Access; 3] = [Access::DmaLogStart, Access::DmaLogStop, Access::DmaLogReport];
const TYPE1: [Access; 4] = [Access::Type1Info, Access::Type1Start, Access::Type1Get, Access::Type1Unmap];
const HWPT: [Access; 3] = [Access::HwptSetDirty, Access::HwptGetDirty, Access::IoasUnmap];
const DRAFT: [Access; 4] = [Access::PfnWrite, Access::CopiedPfnsRead, Access::DataOffsetRead, Access::DataRead];

fn logs() -> Vec<Log> {
    let dma = |page: u64, max_ranges| DmaLog { page_size: page * P, max_ranges, ..DmaLog::default() };
    vec![
        Log::Dma(DmaLog::default()),
        Log::Dma(DmaLog { overwrites: true, max_ranges: 3, ..DmaLog::default() }),
        Log::Dma(dma(16, 2)),
        Log::Mixed([dma(4, 256), dma(64, 4)]),
        Log::Type1(Type1Config::default()),
        Log::Type1(Type1Config { max_bitmap: 16, kernel: Kernel::V7_3, ..Type1Config::default() }),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Hwpt(16, Kernel::V6_12),
        Log::Hwpt(16, Kernel::V7_3),
        Log::Draft(DraftForm::Sticky),
        Log::Draft(DraftForm::Rewrite),
        Log::Functions(dma(8, 256)),
        Log::Everything,
    ]
}

/// A range of IOVA that is mapped as a whole or not at all.
#[derive(Clone, Copy)]
struct Place {
    first: u64,
    pages: u64,
}

/// One address space and what its VMM knows of it.
struct Guest {
    rig: Rig,
    /// Several spaces: an address means the same page in all of them.
    one_to_one: bool,
    mapped: RefCell<Vec<bool>>,
    names: RefCell<Names>,
}

impl Guest {
    fn new(d: &mut Dice, log: Log, ram: &Ram, places: &[Place], one_to_one: bool) -> Guest {
        let devices = if matches!(log, Log::Functions(_)) { 1 } else { 1 + d.roll(3) as usize };
        let hint = P << (if d.one_in(2) { 0 } else { d.roll(8) });
        let workers = d.roll(3) as usize;
        let aperture = if d.one_in(4) { vec![range(d.roll(200), 1 + d.roll(600))] } else { Vec::new() };
        let rig = Rig::with(log, devices, ram, |o| {
            (o.page_size, o.max_workers, o.apertures) = (Some(hint), workers, aperture);
        });
        let guest =
            Guest { rig, one_to_one, mapped: RefCell::new(vec![false; places.len()]), names: RefCell::default() };
        for (index, &place) in places.iter().enumerate() {
            if d.one_in(2) {
                guest.map(d, index, place);
            }
        }
        guest
    }

    /// To any of several places of RAM, so that an address may come to mean another page later.
    fn map(&self, d: &mut Dice, index: usize, place: Place) {
        let Place { first, pages } = place;
        let unused = |page| self.rig.space.ram_page(page).is_none();
        if !self.mapped.borrow()[index] && (first..first + pages).all(unused) {
            let elsewhere = d.pick(&[0, 0, 1, 2]) * (1 << 20) + first % (1 << 20);
            let ram = if self.one_to_one { first } else { elsewhere };
            self.rig.map(first, pages, ram);
            self.names.borrow_mut().map(first, pages, (ram * P).wrapping_sub(first * P));
            self.mapped.borrow_mut()[index] = true;
        }
    }

    fn reported(&self, named: Named) {
        let names = match named {
            Named::ByCookie(cookie, first, pages) => vec![(cookie, first, pages)],
            Named::ByIova(first, pages) if self.one_to_one => vec![(0, first, pages)],
            Named::ByIova(first, pages) => self.names.borrow().of(first, pages),
        };
        for (cookie, first, pages) in names {
            let ram = (first * P).wrapping_add(cookie) / P;
            (ram..ram + pages).for_each(|page| self.rig.ram.copy(page));
        }
    }

    /// Several mappings and holes, in each way.
    fn unmap(&self, d: &mut Dice, places: &[Place], at: usize, quiet: bool) {
        let mut last = at;
        while last + 1 < places.len() && d.one_in(2) {
            last += 1;
        }
        let first = places[at].first;
        let pages = places[last].first + places[last].pages - first;
        let (how, null) = (d.roll(3), d.one_in(4));
        let ok = Cell::new(false);
        let mut call = |request: &mut Request<'_>| {
            let mut by =
                |r: vfiomig::tracker::IovaRange| self.rig.space.unmap(r.iova, r.size).map(drop).map_err(Errno::new);
            let how = match (how, self.rig.log) {
                (0, _) if self.rig.space.unmap(first * P, pages * P).is_err() => return,
                (0, _) => Unmap::Done,
                (1, Log::Type1(_) | Log::Hwpt(..)) => Unmap::Library,
                _ => Unmap::By(&mut by),
            };
            ok.set(self.rig.tracker.unmap(range(first, pages), how, quiet, request).is_ok());
        };
        if null {
            call(&mut Request::default());
        } else {
            let form = Form { partial: true, keep: d.one_in(5) };
            ask(self, d, places, form, &mut call);
        }
        if ok.get() {
            self.mapped.borrow_mut()[at..=last].fill(false);
        }
    }

    fn clear_faults(&self) {
        self.rig.devices.iter().for_each(simdev::Device::clear_faults);
        self.rig.type1.iter().for_each(|container| container.watch().clear_faults());
        self.rig.iommufd.iter().for_each(|fd| fd.watch().clear_faults());
    }

    fn inject(&self, d: &mut Dice) {
        let rig = &self.rig;
        let list: &[Access] = match rig.log {
            Log::Dma(_) | Log::Mixed(_) | Log::Functions(_) => &DMA,
            Log::Type1(_) => &TYPE1,
            Log::Hwpt(..) => &HWPT,
            Log::Draft(_) => &DRAFT,
            Log::Everything => return,
        };
        let access = d.pick(list);
        let effect = if d.one_in(2) { Effect::Errno(libc::EIO) } else { Effect::ErrnoMoved(libc::EBADMSG) };
        let (times, ahead) = (1 + d.roll(3), d.roll(3));
        let fault = |count: u64| Fault { times, ..Fault::at(access, count + ahead, effect) };
        let watch = rig.type1.as_ref().map(|c| c.watch()).or(rig.iommufd.as_ref().map(|fd| fd.watch()));
        match watch {
            Some(watch) => drop(watch.inject(fault(watch.count(access)))),
            None => {
                let device = &rig.devices[d.roll(rig.devices.len() as u64) as usize];
                device.inject(fault(device.count(access)));
            }
        }
    }
}

/// A request of the guest; a watcher's VMM copies nothing.
fn ask(guest: &Guest, d: &mut Dice, places: &[Place], form: Form, call: &mut dyn FnMut(&mut Request<'_>)) {
    let reported = |named: Named| {
        if !form.keep {
            guest.reported(named);
        }
    };
    let low = places[0].first.saturating_sub(20);
    let end = places.last().map_or(1, |place| place.first + place.pages + 20).min(1 << 52);
    let edges: Vec<u64> = places.iter().map(|place| place.first).collect();
    with_request(d, (low, end), &edges, form, &reported, call);
}

/// The last harvest: by pieces of all forms or by runs, then what only a cookie names.
fn last(guests: &[Guest], d: &mut Dice, places: &[Place]) {
    let trackers: Vec<&Tracker> = guests.iter().map(|guest| &guest.rig.tracker).collect();
    for guest in guests {
        guest.clear_faults();
        guest.rig.set_state(State::StopCopy);
        guest.rig.tracker.begin_final().unwrap();
    }
    let whole = Form { partial: false, keep: false };
    ask(&guests[0], d, places, whole, &mut |request| {
        harvest(&trackers, request).unwrap();
    });
    let mut run = |cookie: u64, run: vfiomig::tracker::IovaRange| {
        guests[0].reported(Named::ByCookie(cookie, run.iova / P, run.size / P));
        true
    };
    harvest(&trackers, &mut Request { run: Some(&mut run), no_read: true, ..Request::default() }).unwrap();
    for guest in guests {
        assert_eq!(guest.rig.tracker.final_missing().unwrap(), None, "{:?}", guest.rig.log);
    }
}

fn places(d: &mut Dice) -> Vec<Place> {
    let mut places = Vec::new();
    let mut next = d.roll(100);
    for _ in 0..3 + d.roll(8) {
        let pages = 1 + if d.one_in(4) { d.roll(300) } else { d.roll(40) };
        places.push(Place { first: next, pages });
        let far = if d.one_in(3) { 500 } else { 20 };
        next += pages + if d.one_in(3) { 0 } else { d.roll(far) };
    }
    if d.one_in(4) {
        // Up to the last page below 2^64.
        let end = places.last().map_or(0, |place| place.first + place.pages);
        places.iter_mut().for_each(|place| place.first += (1 << 52) - end);
    }
    places
}

fn page_of(d: &mut Dice, places: &[Place]) -> u64 {
    let Place { first, pages } = d.pick(places);
    match d.roll(4) {
        0 => first,
        1 => first + pages - 1,
        _ => first + d.roll(pages),
    }
}

/// One address space, or several over the same RAM.
fn course(seed: u64, spaces: u64, faults: bool, writing: bool) {
    let mut dice = Dice::new(seed);
    let d = &mut dice;
    let (places, ram, logs) = (places(d), Ram::new(), logs());
    let mut guests = Vec::new();
    for _ in 0..spaces {
        let log = d.pick(&logs);
        guests.push(Guest::new(d, log, &ram, &places, spaces > 1));
    }
    let what: Vec<Log> = guests.iter().map(|guest| guest.rig.log).collect();
    if spaces == 1 {
        let available = if d.one_in(3) { d.roll(3) as usize } else { usize::MAX };
        vfiomig::internals::refuse_threads_beyond(available);
    }
    for guest in &guests {
        if faults && d.one_in(3) {
            guest.inject(d);
        }
        guest.rig.start();
    }
    ram.copy_all();
    let ranges: Vec<_> = places.iter().map(|place| place.first..place.first + place.pages).collect();
    let writers = writing.then(|| guests[0].rig.writers(&ranges, seed));
    let trackers: Vec<&Tracker> = guests.iter().map(|guest| &guest.rig.tracker).collect();
    let (mut users, mut at_rest) = (1, false);
    for _ in 0..20 + d.roll(60) {
        let guest = &guests[d.roll(spaces) as usize];
        if !at_rest {
            for _ in 0..d.roll(5) {
                let _ =
                    guest.rig.devices[d.roll(guest.rig.devices.len() as u64) as usize].dma_write(page_of(d, &places));
            }
        }
        let at = d.roll(places.len() as u64) as usize;
        let form = Form { partial: true, keep: d.one_in(5) };
        match d.roll(12) {
            0 | 1 => guest.map(d, at, places[at]),
            2 | 3 if guest.mapped.borrow()[at] => {
                let quiet = d.one_in(3) && !writing;
                guest.unmap(d, &places, at, quiet);
            }
            4..=6 => ask(guest, d, &places, form, &mut |request| {
                guest.rig.tracker.harvest(request).unwrap();
            }),
            7 => ask(guest, d, &places, form, &mut |request| {
                harvest(&trackers, request).unwrap();
            }),
            8 => {
                guests[0].rig.tracker.start().unwrap();
                users += 1;
            }
            9 if users > 1 => {
                guests[0].rig.tracker.stop().unwrap();
                users -= 1;
            }
            10 if faults => guest.inject(d),
            11 if matches!(what[..], [Log::Dma(_) | Log::Mixed(_)]) && !writing => {
                at_rest = !at_rest;
                guest.rig.set_state(if at_rest { State::Stop } else { State::Running });
            }
            _ => {}
        }
    }
    guests.iter().for_each(Guest::clear_faults);
    if at_rest {
        guests[0].rig.set_state(State::Running);
        let _ = guests[0].rig.devices[0].dma_write(page_of(d, &places));
    }
    last(&guests, d, &places);
    let lost = ram.differences();
    assert!(lost.is_empty(), "{what:?}: lost {lost:?}");
    drop(writers);
    vfiomig::internals::refuse_threads_beyond(usize::MAX);
}

#[test]
fn every_log() {
    courses("every log", |seed| course(seed, 1, false, false));
}

#[test]
fn every_log_with_faults() {
    courses("every log with faults", |seed| course(seed, 1, true, false));
}

#[test]
fn every_log_beside_writers() {
    courses("every log beside writers", |seed| course(seed, 1, true, true));
}

#[test]
fn several_address_spaces() {
    courses("several address spaces", |seed| course(seed, 2 + seed % 2, seed % 2 == 0, false));
}

/// Each mapping of a page table is a read of its own, and one round of them does not hold all.
#[test]
fn very_many_mappings_of_page_tables() {
    const MANY: u64 = 20_000;
    let mut dice = Dice::new(1);
    let rig = Rig::new(Log::Hwpt(1, Kernel::V6_12), 2);
    (0..MANY).for_each(|n| rig.map(n * 2, 1, n));
    rig.start();
    for _ in 0..2 {
        let mut written: Vec<u64> = (0..50).map(|_| dice.roll(MANY) * 2).collect();
        for (page, device) in written.iter().zip(rig.devices.iter().cycle()) {
            device.dma_write(*page).unwrap();
        }
        written.sort_unstable();
        written.dedup();
        assert_eq!(rig.harvest().list(), written);
    }
    rig.write(&[0, 2 * MANY - 2]);
    rig.unmap(0, 2);
    rig.finish();
    rig.assert_clean();
}
