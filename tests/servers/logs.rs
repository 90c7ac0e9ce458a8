//! Logs of written pages: what a device writes is reported, whether it can map the memory or asks for it by messages.

use super::tools::{Served, kinds};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use vfiomig::tracker::{IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions};
use vfiomig::transport::vfio_user::DmaAccess;

const IOVA: u64 = 0x10_0000;
const LEN: u64 = 0x20_0000;

fn memory() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LEN).unwrap();
    file
}

fn harvest(tracker: &Tracker) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut run = |_: u64, run: IovaRange| {
        found.extend(run.iova >> 12..(run.iova + run.size) >> 12);
        true
    };
    let request = &mut Request { run: Some(&mut run), ..Request::default() };
    assert_eq!(tracker.harvest(request).unwrap().failed_reads, 0);
    found
}

#[test]
fn what_a_device_writes_is_reported_once() {
    for kind in kinds() {
        let server = Served::of(&kind, Some(7));
        let ram = memory();
        server.connection.map(IOVA, LEN, Some((ram.as_fd(), 0)), DmaAccess::ALL).unwrap();
        let devices = vec![Arc::new(server.device())];
        let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
        tracker.map(&[Mapping { range: IovaRange { iova: IOVA, size: LEN }, cookie: 0 }]).unwrap();
        tracker.start().unwrap();
        assert_eq!(tracker.info().kind, LogKind::DmaLog, "{}: {}", kind.name, tracker.info().reason);
        harvest(&tracker);
        server.ring(IOVA + 0x5000, 3);
        server.ring(IOVA + LEN - 0x1000, 1);
        let first = IOVA >> 12;
        assert_eq!(harvest(&tracker), BTreeSet::from([first + 5, first + 6, first + 7, first + 511]), "{}", kind.name);
        assert_eq!(harvest(&tracker), BTreeSet::new(), "{}", kind.name);
        let mut page = [0; 4096];
        ram.read_exact_at(&mut page, 0x6000).unwrap();
        assert_ne!(page, [0; 4096], "{}", kind.name);
        tracker.stop().unwrap();
        server.sim.assert_clean();
    }
}
