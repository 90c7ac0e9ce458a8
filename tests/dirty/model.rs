//! Any sequence of calls against a naive model, which knows three things: what was written since the log was read, what was read
//! and not given, and what may come although no device wrote it.

use crate::rig::{Log, P, Rig, range};
use proptest::prelude::*;
use simdev::{DmaLog, DraftForm, Kernel, Type1Config};
use std::collections::BTreeSet;
use vfiomig::tracker::{Dest, IovaRange, Request};

type Pages = BTreeSet<u64>;

/// Ranges that are mapped as a whole or not at all, in neighbouring pairs.
const PLACES: u64 = 6;
const SIZE: u64 = 24;

fn place(number: u64) -> std::ops::Range<u64> {
    let first = number * SIZE + number / 2 * 40;
    first..first + SIZE
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u64, u64),
    Map(u64),
    /// Whether what was written is taken, or left over.
    Unmap(u64, bool),
    Harvest,
    /// The places whose bit is set.
    Part(u64),
    NoRead,
    Start,
    Stop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (0..PLACES, 0..SIZE).prop_map(|(place, page)| Op::Write(place, page)),
        3 => (0..PLACES).prop_map(Op::Map),
        2 => (0..PLACES, any::<bool>()).prop_map(|(place, take)| Op::Unmap(place, take)),
        2 => Just(Op::Harvest),
        3 => (0u64..1 << PLACES).prop_map(Op::Part),
        2 => Just(Op::NoRead),
        1 => Just(Op::Start),
        1 => Just(Op::Stop),
    ];
    prop::collection::vec(op, 1..60)
}

fn logs() -> impl Strategy<Value = Log> {
    prop::sample::select(vec![
        Log::Dma(DmaLog::default()),
        Log::Dma(DmaLog { max_ranges: 2, ..DmaLog::default() }),
        Log::Dma(DmaLog { page_size: 16 * P, ..DmaLog::default() }),
        Log::Type1(Type1Config::default()),
        Log::Type1(Type1Config { max_bitmap: 8, ..Type1Config::default() }),
        Log::Hwpt(1, Kernel::V6_12),
        Log::Hwpt(8, Kernel::V7_3),
        Log::Draft(DraftForm::Rewrite),
        Log::Functions(DmaLog::default()),
    ])
}

#[derive(Default)]
struct Model {
    users: u32,
    mapped: Pages,
    /// Mapped at any time.
    named: Pages,
    log: Pages,
    left: Pages,
    may: Pages,
}

impl Model {
    fn forget(&mut self) {
        (self.log, self.left, self.may) = Default::default();
    }
}

/// Pages that a log may tell for `pages`.
fn widened(log: Log, pages: &Pages) -> Pages {
    let size = match log {
        Log::Dma(log) => log.page_size / P,
        Log::Hwpt(entry, _) => entry,
        _ => 1,
    };
    pages.iter().flat_map(|page| page / size * size..(page / size + 1) * size).collect()
}

fn check(reported: &Pages, must: &Pages, may: &Pages, what: Op) -> Result<(), TestCaseError> {
    let lost: Vec<&u64> = must.difference(reported).collect();
    prop_assert!(lost.is_empty(), "{:?} lost {:?}", what, lost);
    let invented: Vec<&u64> = reported.difference(may).collect();
    prop_assert!(invented.is_empty(), "{:?} invented {:?}", what, invented);
    Ok(())
}

/// Asks for some places by destinations.
fn part(rig: &Rig, numbers: &[u64]) -> vfiomig::Result<Pages> {
    let mut reported = Pages::new();
    let dest = |&number: &u64| Dest {
        range: range(place(number).start, SIZE),
        page_size: P,
        first_bit: 0,
        bitmap: None,
        token: 0,
    };
    let dests: Vec<Dest<'_>> = numbers.iter().map(dest).collect();
    let mut run = |_cookie: u64, run: IovaRange| {
        reported.extend(run.iova / P..(run.iova + run.size) / P);
        true
    };
    // Without destinations a run callback asks for everything.
    let run = if dests.is_empty() { None } else { Some(&mut run as _) };
    rig.tracker.harvest(&mut Request { dests: &dests, run, ..Request::default() })?;
    Ok(reported)
}

fn step(rig: &Rig, m: &mut Model, op: Op) -> Result<(), TestCaseError> {
    let log = rig.log;
    let running = m.users > 0;
    match op {
        Op::Write(number, at) => {
            let page = place(number).start + at;
            let written = rig.devices[0].dma_write(page).is_ok();
            prop_assert_eq!(written, m.mapped.contains(&page));
            if written && running {
                m.log.insert(page);
            }
        }
        Op::Map(number) if !m.mapped.contains(&place(number).start) => {
            rig.map(place(number).start, SIZE, number * SIZE);
            m.mapped.extend(place(number));
            m.named.extend(place(number));
            if running {
                m.left.extend(place(number));
            }
            if running && matches!(log, Log::Dma(_) | Log::Functions(_)) {
                // A restart, if the log did not hold the range.
                m.may.extend(&m.mapped);
            }
        }
        Op::Unmap(number, take) if m.mapped.contains(&place(number).start) => {
            let gone: Pages = place(number).collect();
            let known = &m.log | &m.left;
            let must = &known & &gone;
            let reported = if take {
                rig.try_unmap(place(number).start, SIZE).unwrap().pages
            } else {
                rig.unmap_into(place(number).start, SIZE, &mut Request::default()).unwrap();
                Pages::new()
            };
            let mut may = widened(log, &(&known | &m.may));
            if running && matches!(log, Log::Hwpt(..)) {
                may.extend(&gone);
                m.may.extend(&gone);
            }
            check(&reported, &(if take { must.clone() } else { Pages::new() }), &(&may & &m.named), op)?;
            // A read for the range may have read others too; where it is now is the tracker's business.
            m.may.extend(widened(log, &m.log));
            m.left.extend(must);
            m.log = &(&m.log - &gone) - &reported;
            m.left = &m.left - &reported;
            m.mapped = &m.mapped - &gone;
        }
        Op::Harvest if running => {
            let known = &m.log | &m.left;
            let may = widened(log, &(&known | &m.may));
            let reported = rig.take(false).pages;
            check(&reported, &known, &(&may & &m.named), op)?;
            (m.log, m.left, m.may) = Default::default();
        }
        Op::Part(bits) if running => {
            let numbers: Vec<u64> = (0..PLACES).filter(|number| bits >> number & 1 != 0).collect();
            let asked: Pages = numbers.iter().flat_map(|&number| place(number)).collect();
            let known = &m.log | &m.left;
            let may = widened(log, &(&known | &m.may));
            let reported = part(rig, &numbers).unwrap();
            check(&reported, &(&known & &asked), &(&may & &asked), op)?;
            m.may = &may - &asked;
            m.left = &known - &asked;
            m.log.clear();
        }
        Op::NoRead if running => {
            let may = widened(log, &(&m.left | &m.may));
            let reported = rig.take(true).pages;
            check(&reported, &m.left, &(&may & &m.named), op)?;
            m.left = &m.left - &reported;
            // Reported because it was new, or because of a restart; the log need not know that.
            m.may.extend(&m.log & &reported);
            m.log = &m.log - &reported;
        }
        Op::Harvest | Op::Part(_) | Op::NoRead => {
            prop_assert!(part(rig, &[0]).is_err());
        }
        Op::Start => {
            rig.tracker.start().unwrap();
            if !running {
                m.forget();
            }
            m.users += 1;
        }
        // The draft's log runs with the save session, whoever reads it.
        Op::Stop if m.users == 1 && matches!(log, Log::Draft(_)) => {}
        Op::Stop => {
            prop_assert_eq!(rig.tracker.stop().is_ok(), running);
            m.users = m.users.saturating_sub(1);
            if m.users == 0 {
                m.forget();
            }
        }
        Op::Map(_) | Op::Unmap(..) => {}
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence(log in logs(), ops in ops()) {
        let rig = Rig::new(log, 1);
        let mut model = Model::default();
        rig.start();
        model.users = 1;
        for op in ops {
            step(&rig, &mut model, op)?;
        }
        if model.users > 0 {
            step(&rig, &mut model, Op::Harvest)?;
            let asked: Vec<u64> = (0..PLACES).collect();
            prop_assert!(part(&rig, &asked).unwrap().is_empty());
        }
        rig.assert_clean();
    }
}
