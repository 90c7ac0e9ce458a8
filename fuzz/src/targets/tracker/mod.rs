//! Trackers: any sequence of calls over logs that may say anything. What a device wrote to a mapped page must reach the
//! destination that asks for it, whatever the log said meanwhile.

mod log;
mod request;
mod space;

use crate::clock::call;
use crate::errors::check_error;
use crate::feed::Feed;
use crate::intervals::Intervals;
use parking_lot::Mutex;
use request::with_request;
use space::{Space, slot};
use std::sync::Arc;
use vfiomig::device::{Device, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, ErrorKind};
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, Unmap, harvest};

const P: u64 = 4096;

pub fn run(data: &[u8]) {
    let feed = Arc::new(Mutex::new(Feed::new(data)));
    let layout = feed.lock().u8();
    let mut course = Course { feed, layout, spaces: Vec::new(), cookie: 0 };
    for number in 0..=usize::from(layout & 6 == 6) {
        let Some(space) = Space::new(&course.feed, number, course.near()) else { return };
        course.spaces.push(space);
    }
    for _ in 0..100 {
        if course.feed.lock().done() {
            break;
        }
        course.step();
    }
    course.spaces.into_iter().for_each(close);
}

struct Course {
    feed: Arc<Mutex<Feed>>,
    layout: u8,
    spaces: Vec<Space>,
    /// The newest mapping's.
    cookie: u64,
}

impl Course {
    /// No place is so far from the next one that one range over all would need gigabytes of bitmap.
    fn near(&self) -> bool {
        self.layout & 1 == 0
    }

    fn step(&mut self) {
        let mut f = self.feed.lock();
        let op = f.u8() % 20;
        let which = if self.spaces.len() > 1 { usize::from(f.bool()) } else { 0 };
        let (a, b, c) = (f.u8(), f.u8(), f.u8());
        drop(f);
        match op {
            0..=2 => self.map(which, a, b, c),
            3 | 4 => self.unmap(which, a, b, c),
            5 => self.start(which),
            6 => self.stop(which),
            7..=11 => self.write(which, a, b, c),
            12..=16 => self.harvest(which, a, op == 16),
            17 => self.set_state(which, a, b),
            18 if a == 7 => self.close_device(which, b),
            _ => {
                let info = self.spaces[which].tracker.info();
                assert_eq!(info.starts, self.spaces[which].users);
                assert!(info.kind != LogKind::Type1);
            }
        }
    }

    fn map(&mut self, which: usize, a: u8, b: u8, c: u8) {
        let near = self.near();
        let space = &mut self.spaces[which];
        let mut list = Vec::new();
        for i in 0..1 + (c as usize & 1) {
            let first = slot(self.layout, a as usize + i) + P * u64::from(b % 16);
            let most = (u64::MAX - first) / P + 1;
            let mut pages = (1 + u64::from(c % 48)).min(most);
            if near && c == 255 && a == 255 {
                pages = 1 << 20;
            }
            self.cookie += 1;
            list.push((first, first + (pages * P - 1), self.cookie));
        }
        let maps: Vec<Mapping> = list
            .iter()
            .map(|&(first, last, cookie)| Mapping { range: IovaRange { iova: first, size: last - first + 1 }, cookie })
            .collect();
        let mut after = space.mapped.clone();
        list.iter().for_each(|&(first, last, _)| after.insert(first, last));
        let overlap = space.mapped.touches(list[0].0, list[0].1)
            || list.get(1).is_some_and(|m| space.mapped.touches(m.0, m.1) || (m.0 <= list[0].1 && m.1 >= list[0].0));
        if !overlap {
            space.logs.iter().for_each(|log| log.lock().mapped = after.clone());
        }
        match call("map", 3, 1_000_000, || space.tracker.map(&maps)) {
            Ok(()) => {
                assert!(!overlap);
                space.mapped = after;
                for &(first, last, cookie) in &list {
                    space.maps.push((first, last, cookie));
                    if space.users > 0 {
                        space.must.insert(first, last);
                    }
                }
            }
            Err(error) => {
                assert!(overlap && error.errno() == libc::EEXIST, "{error}");
            }
        }
    }

    /// Unmaps a place, or a wide range.
    fn unmap(&mut self, which: usize, a: u8, b: u8, c: u8) {
        let first = if c & 8 == 0 { slot(self.layout, a as usize) + P * u64::from(b % 16) } else { 0 };
        let most = (u64::MAX - first) / P + 1;
        let size = match c % 4 {
            0 => P * (1 + u64::from(c >> 4 & 7) * 16).min(most),
            1 => P * 64.min(most),
            _ => P * (1u64 << (c / 4 % 50)).min(most.min((1 << 52) - 1)),
        };
        let last = first + (size - 1);
        // Whole mappings, most of the time.
        let whole = self.spaces[which].maps.iter().find(|(m, ..)| *m == first).copied();
        let (last, size) = match whole {
            Some((_, end, _)) if c & 0x40 == 0 => (end, end - first + 1),
            _ => (last, size),
        };
        let cut =
            self.spaces[which].maps.iter().any(|(m, n, _)| *m <= last && *n >= first && (*m < first || *n > last));
        let fails = self.feed.lock().lies();
        let how = b % 3;
        let mut called = false;
        let mut failed = None;
        let reported = {
            let space = &self.spaces[which];
            let mut by = |range: IovaRange| {
                assert_eq!((range.iova, range.size), (first, size));
                called = true;
                if fails { Err(Errno::new(libc::EIO)) } else { Ok(()) }
            };
            let unmap = if how == 0 { Unmap::Done } else { Unmap::By(&mut by) };
            with_request(&self.feed, self.layout, &[space], false, false, true, |request| {
                match space.tracker.unmap(IovaRange { iova: first, size }, unmap, how == 1, request) {
                    Ok(harvest) => Some(harvest),
                    Err(error) => {
                        check_error(&error);
                        failed = Some(error);
                        None
                    }
                }
            })
        };
        let space = &mut self.spaces[which];
        match &failed {
            None => {
                assert!(!cut && (how == 0 || called) && (how == 0 || !fails));
                let stopped = reported.harvest.is_some_and(|harvest| harvest.stopped);
                let here = space.must.cut(first, last).and(&reported.asked);
                let lost = here.minus(&reported.reported);
                assert!(stopped || space.users == 0 || lost.is_empty(), "unmapped and not told: {lost:x?}");
                space.reported(&reported);
                space.unmapped(first, last);
            }
            Some(error) => match error.kind() {
                ErrorKind::Argument => assert!(cut && !called, "{error}"),
                ErrorKind::System => assert!(called && fails),
                _ => panic!("{error}"),
            },
        }
        space.reported(&reported);
    }

    fn start(&mut self, which: usize) {
        let space = &mut self.spaces[which];
        call("start", 3, 1_000_000, || space.tracker.start()).unwrap();
        space.users += 1;
        if space.users == 1 {
            space.forget();
        }
    }

    fn stop(&mut self, which: usize) {
        let space = &mut self.spaces[which];
        match call("stop", 3, 1_000_000, || space.tracker.stop()) {
            Ok(()) => {
                space.users -= 1;
                if space.users == 0 {
                    space.forget();
                    assert!(space.logs.iter().zip(&space.devices).all(|(log, d)| !log.lock().running || d.is_closed()));
                    assert!(!space.devices.is_empty() || space.logs.iter().all(|log| !log.lock().running));
                }
            }
            Err(error) => assert!(space.users == 0 && error.kind() == ErrorKind::Order),
        }
    }

    /// Devices write to pages that are mapped.
    fn write(&mut self, which: usize, a: u8, b: u8, c: u8) {
        let space = &mut self.spaces[which];
        let maps = space.maps.clone();
        if maps.is_empty() {
            return;
        }
        for n in 0..1 + c % 4 {
            let (first, last, _) = maps[(a as usize + n as usize) % maps.len()];
            let pages = (last - first) / P + 1;
            let page = first + P * ((u64::from(b) + u64::from(n) * 37) % pages);
            // The last page of a mapping too.
            let page = if c & 0x10 != 0 { last - (P - 1) } else { page };
            let device = (a as usize + n as usize) % space.logs.len().max(1);
            // A device whose handle is freed has been unplugged.
            let silent = |d: &Arc<Device>| d.is_closed() || matches!(d.state(), State::Stop | State::StopCopy);
            if space.devices.get(device).is_some_and(silent) {
                continue;
            }
            if let Some(log) = space.logs.get(device) {
                log.lock().write(page, page + (P - 1));
            }
            if space.users > 0 {
                space.must.insert(page, page + (P - 1));
            }
        }
    }

    fn harvest(&mut self, which: usize, a: u8, no_read: bool) {
        let many = self.spaces.len() > 1 && a & 1 == 1;
        let chosen: Vec<usize> = if many { (0..self.spaces.len()).collect() } else { vec![which] };
        let mut refused = false;
        let reported = {
            let all: Vec<&Space> = chosen.iter().map(|n| &self.spaces[*n]).collect();
            with_request(&self.feed, self.layout, &all, !no_read, no_read, true, |request| {
                let trackers: Vec<&Tracker> = all.iter().map(|space| &space.tracker).collect();
                match harvest(&trackers, request) {
                    Ok(harvest) => Some(harvest),
                    Err(error) => {
                        check_error(&error);
                        assert!(matches!(error.kind(), ErrorKind::Order | ErrorKind::Argument), "{error}");
                        refused = error.kind() == ErrorKind::Order;
                        None
                    }
                }
            })
        };
        let idle = chosen.iter().any(|n| self.spaces[*n].users == 0);
        assert_eq!(idle, refused);
        if refused {
            assert!(reported.reported.is_empty() || reported.harvest.is_none());
            return;
        }
        let Some(done) = reported.harvest else { return };
        for n in chosen {
            let space = &mut self.spaces[n];
            let lost = space.must.and(&reported.asked).minus(&reported.reported);
            assert!(done.stopped || no_read || lost.is_empty(), "LOST: written and not told: {lost:x?}");
            space.reported(&reported);
            let kept = done.stopped || no_read || !reported.everything || space.owed.is_empty();
            assert!(kept, "LOST: unmapped and not told: {:x?}", space.owed);
        }
    }

    fn set_state(&mut self, which: usize, a: u8, b: u8) {
        let space = &mut self.spaces[which];
        if let Some(device) = space.devices.get(a as usize % space.devices.len().max(1)) {
            let to = if b & 1 == 0 { State::Running } else { State::Stop };
            let _ = device.set_state(to, OnFailure::Keep, false);
        }
    }

    fn close_device(&mut self, which: usize, b: u8) {
        let space = &mut self.spaces[which];
        if let Some(device) = space.devices.get(b as usize % space.devices.len().max(1)) {
            device.close().unwrap_or(());
        }
    }
}

/// The end: everything that is mapped is harvested once more.
fn close(space: Space) {
    if space.users > 0 {
        let mut reported = Intervals::default();
        let mut run = |_: u64, run: IovaRange| {
            reported.insert(run.iova, run.iova + (run.size - 1));
            true
        };
        space.tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
        let lost = space.must.and(&space.mapped).minus(&reported);
        assert!(lost.is_empty(), "LOST at the end: {lost:x?}");
    }
    space.tracker.close().unwrap();
    assert!(space.tracker.harvest(&mut Request::default()).is_err());
    for device in &space.devices {
        device.close().unwrap_or(());
    }
}
