//! Harvests that read only what their destinations ask for, counted at the device (a VMM that draws the guest's screen).

use crate::rig::{Log, P, Rig, range};
use simdev::{Access, DmaLog, DraftForm, Kernel, Type1Config};
use std::collections::BTreeSet;
use vfiomig::error::ErrorKind;
use vfiomig::tracker::{Dest, Harvest, IovaRange, Request};

/// Far apart, so that no log reads two of them together.
const FAR: u64 = 1 << 30;
const PLACES: [(u64, u64); 3] = [(0, 100), (FAR, 100), (2 * FAR, 100)];

fn reads(rig: &Rig) -> u64 {
    match (&rig.type1, &rig.iommufd) {
        (Some(container), _) => container.watch().count(Access::Type1Get),
        (_, Some(fd)) => fd.watch().count(Access::HwptGetDirty),
        _ if matches!(rig.log, Log::Draft(_)) => rig.devices[0].count(Access::PfnWrite) / 3,
        _ => rig.devices[0].count(Access::DmaLogReport),
    }
}

fn only(rig: &Rig, pieces: &[(u64, u64)], keep: bool) -> (BTreeSet<u64>, Harvest) {
    let mut reported = BTreeSet::new();
    let mut run = |_: u64, run: IovaRange| {
        reported.extend(run.iova / P..(run.iova + run.size) / P);
        true
    };
    let dest = |&(first, pages): &(u64, u64)| Dest {
        range: range(first, pages),
        page_size: P,
        first_bit: 0,
        bitmap: None,
        token: 0,
    };
    let dests: Vec<Dest<'_>> = pieces.iter().map(dest).collect();
    let mut request = Request { dests: &dests, run: Some(&mut run), only_dests: true, keep, ..Request::default() };
    let harvest = rig.tracker.harvest(&mut request).unwrap();
    (reported, harvest)
}

/// A harvest for a few destinations costs what they and the words beside them cost.
#[test]
fn only_the_neighbourhood_of_destinations_is_read() {
    let mut logs = Log::all();
    logs.extend([
        Log::Dma(DmaLog { page_size: 16 * P, ..DmaLog::default() }),
        Log::Hwpt(16, Kernel::V7_3),
        Log::Type1(Type1Config { max_bitmap: 16, ..Type1Config::default() }),
        Log::Draft(DraftForm::Rewrite),
    ]);
    for log in logs.into_iter().filter(|log| !matches!(log, Log::Everything)) {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        rig.write(&[3, FAR + 3, 2 * FAR + 3]);
        let begun = reads(&rig);
        let (reported, harvest) = only(&rig, &[(FAR, 8)], false);
        assert_eq!((harvest.reads, reads(&rig) - begun), (1, 1), "{log:?}");
        assert!(reported.contains(&(FAR + 3)) && reported.iter().all(|page| (FAR..FAR + 8).contains(page)), "{log:?}");
        // Two pieces of one range are one read, of two ranges two; nothing that is mapped, none.
        let begun = reads(&rig);
        assert_eq!(only(&rig, &[(FAR, 8), (FAR + 20, 4)], false).1.reads, 1, "{log:?}");
        assert_eq!(only(&rig, &[(FAR, 8), (2 * FAR, 1)], true).1.reads, 2, "{log:?}");
        assert_eq!(only(&rig, &[(FAR + 5000, 8)], false).1.reads, 0, "{log:?}");
        assert_eq!(reads(&rig) - begun, 3, "{log:?}");
        // The others are reported when a destination asks.
        let reported = rig.take(false).pages;
        assert!(reported.contains(&3) && reported.contains(&(2 * FAR + 3)), "{log:?}");
        rig.assert_clean();
    }
}

/// A final harvest is one of all that is mapped.
#[test]
fn a_final_harvest_reads_all() {
    for log in Log::all() {
        let rig = Rig::new(log, 1);
        rig.map_all(&PLACES);
        rig.start();
        rig.harvest();
        rig.tracker.begin_final().unwrap();
        let missing = || rig.tracker.final_missing().unwrap();
        only(&rig, &PLACES[..2], false);
        assert!(missing().is_some(), "{log:?}");
        only(&rig, &PLACES[..2], false);
        only(&rig, &PLACES[2..], false);
        assert!(missing().is_some(), "{log:?}: not in one call");
        only(&rig, &PLACES, true);
        assert!(missing().is_some(), "{log:?}: a watcher");
        only(&rig, &[(0, 3 * FAR)], false);
        assert_eq!(missing(), None, "{log:?}");
    }
}

#[test]
fn without_destinations_it_is_misuse() {
    let rig = Rig::new(Log::Everything, 1);
    rig.start();
    let mut run = |_: u64, _: IovaRange| true;
    let mut request = Request { run: Some(&mut run), only_dests: true, ..Request::default() };
    assert_eq!(rig.tracker.harvest(&mut request).unwrap_err().kind(), ErrorKind::Argument);
}
