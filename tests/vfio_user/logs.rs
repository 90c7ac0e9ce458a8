//! Logs of written pages: both generations, and what a server must not be asked (U-11 to U-14).

use super::peer::{Dma, Kind};
use super::rig::{Direct, open};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use vfiomig::bitmap::Words;
use vfiomig::error::Errno;
use vfiomig::tracker::{Dest, IovaRange, LogKind, Mapping, Request, Tracker, TrackerOptions, Unmap};

const MIB: u64 = 1 << 20;

/// Neighbours, one of an odd number of pages, and one far away.
const MAPPED: [(u64, u64); 4] = [(0, MIB), (MIB, 3 * 4096), (MIB + 3 * 4096, MIB), (1 << 40, 4 * MIB)];

fn server(kind: Kind) -> (Arc<Direct>, Tracker) {
    let channel = Direct::new(kind, b"state");
    for (iova, size) in MAPPED {
        channel.peer().dma.insert(iova, Dma { size, has_fd: true, written: Vec::new() });
    }
    let devices = vec![Arc::new(open(&channel))];
    let tracker = Tracker::new(TrackerOptions { devices, ..TrackerOptions::default() }).unwrap();
    (channel, tracker)
}

fn tracked(kind: Kind) -> (Arc<Direct>, Tracker) {
    let (channel, tracker) = server(kind);
    let mapping = |(iova, size)| Mapping { range: IovaRange { iova, size }, cookie: iova };
    tracker.map(&MAPPED.map(mapping)).unwrap();
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, LogKind::DmaLog, "{}", tracker.info().reason);
    (channel, tracker)
}

/// Pages of 4096 bytes that a call reports.
fn pages(call: impl FnOnce(&mut Request<'_>)) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut run = |_: u64, run: IovaRange| {
        found.extend(run.iova >> 12..(run.iova + run.size) >> 12);
        true
    };
    call(&mut Request { run: Some(&mut run), ..Request::default() });
    found
}

fn harvest(tracker: &Tracker) -> BTreeSet<u64> {
    pages(|request| assert_eq!(tracker.harvest(request).unwrap().failed_reads, 0))
}

fn write(channel: &Direct, pages: &[u64]) {
    for page in pages {
        assert!(channel.peer().write_memory(page << 12), "{page:#x}");
    }
}

const WRITTEN: [u64; 6] = [0, 255, 256, 258, 259, (1 << 28) + 1000];

/// U-11, U-12: each mapping as a whole, in the pages of the start. The judge would say if not.
#[test]
fn exactly_what_was_written_is_reported_once() {
    for kind in [Kind::V2, Kind::V1] {
        let (channel, tracker) = tracked(kind);
        assert_eq!(harvest(&tracker), BTreeSet::new());
        write(&channel, &WRITTEN);
        assert_eq!(harvest(&tracker), WRITTEN.into(), "{kind:?}");
        assert_eq!(harvest(&tracker), BTreeSet::new());
        tracker.stop().unwrap();
        assert_eq!(channel.peer().logging, None);
        channel.judge();
    }
}

/// U-11: a server with pages of its own is asked in those.
#[test]
fn the_page_of_the_start_is_the_page_of_the_report() {
    let (channel, tracker) = server(Kind::V2);
    channel.peer().own_page = Some(64 << 10);
    tracker.map(&[Mapping { range: IovaRange { iova: 1 << 40, size: 4 * MIB }, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    let first = 1 << 28;
    write(&channel, &[first + 17]);
    assert_eq!(harvest(&tracker), (first + 16..first + 32).collect());
    channel.judge();
}

/// A VMM with larger pages than the server's log has, as on hosts with 64 KiB: the log is asked in the server's, and the VMM's bitmap has
/// its own.
#[test]
fn pages_of_the_server_become_those_of_the_vmm() {
    for kind in [Kind::V2, Kind::V1] {
        let channel = Direct::new(kind, b"state");
        channel.peer().dma.insert(1 << 40, Dma { size: 4 * MIB, has_fd: true, written: Vec::new() });
        channel.peer().own_page = Some(4096);
        let devices = vec![Arc::new(open(&channel))];
        let options = TrackerOptions { devices, page_size: Some(64 << 10), ..TrackerOptions::default() };
        let tracker = Tracker::new(options).unwrap();
        tracker.map(&[Mapping { range: IovaRange { iova: 1 << 40, size: 4 * MIB }, cookie: 0 }]).unwrap();
        tracker.start().unwrap();
        assert_eq!(tracker.info().kind, LogKind::DmaLog, "{}", tracker.info().reason);
        let first = 1 << 28;
        write(&channel, &[first + 17, first + 1023]);
        let bits = [Cell::new(0u64)];
        let range = IovaRange { iova: 1 << 40, size: 4 * MIB };
        let bitmap = Some(Words::Plain(&bits));
        let dests = [Dest { range, page_size: 64 << 10, first_bit: 0, bitmap, token: 0 }];
        tracker.harvest(&mut Request { dests: &dests, ..Request::default() }).unwrap();
        assert_eq!(bits[0].get(), 1 << 1 | 1 << 63, "{kind:?}");
        assert_eq!(harvest(&tracker), BTreeSet::new());
        channel.judge();
    }
}

/// U-12: no descriptor, no log: dirty each time, while the others are exact and nothing is started anew.
#[test]
fn a_mapping_without_a_descriptor_is_dirty_each_time() {
    for kind in [Kind::V2, Kind::V1] {
        let (channel, tracker) = server(kind);
        channel.peer().dma.get_mut(&MIB).unwrap().has_fd = false;
        let mapping = |(iova, size)| Mapping { range: IovaRange { iova, size }, cookie: iova };
        tracker.map(&MAPPED.map(mapping)).unwrap();
        tracker.start().unwrap();
        let rom: BTreeSet<u64> = (256..259).collect();
        for _ in 0..2 {
            assert_eq!(harvest(&tracker), rom, "{kind:?}");
            write(&channel, &[3]);
            assert_eq!(harvest(&tracker), rom.iter().copied().chain([3]).collect());
        }
        assert_eq!(tracker.info().starts, 1);
        channel.judge();
    }
}

/// U-13: the server forgets what it knows of a mapping with the mapping, so it is asked before.
#[test]
fn a_mapping_is_read_before_it_goes() {
    for (kind, quiet) in [(Kind::V2, true), (Kind::V1, true), (Kind::V2, false), (Kind::V1, false)] {
        let (channel, tracker) = tracked(kind);
        write(&channel, &WRITTEN);
        let gone = IovaRange { iova: MIB, size: 3 * 4096 };
        let mut by_vmm = |range: IovaRange| {
            assert!(channel.peer().dma.remove(&range.iova).is_some());
            Ok::<(), Errno>(())
        };
        let found = pages(|request| {
            tracker.unmap(gone, Unmap::By(&mut by_vmm), quiet, request).unwrap();
        });
        // Not quiet: what the device writes between the two is in no log.
        let expected = if quiet { vec![256, 258] } else { vec![256, 257, 258] };
        let within: Vec<u64> = found.into_iter().filter(|page| (256..259).contains(page)).collect();
        assert_eq!(within, expected, "{kind:?} {quiet}");
        assert!(harvest(&tracker).is_subset(&[0, 255, 259, (1 << 28) + 1000].into()));
        channel.judge();
    }
}

/// A log that dies with its server hides nothing: everything is dirty from then on, and said to be so (L6).
#[test]
fn a_log_that_fails_is_no_clean_log() {
    for kind in [Kind::V2, Kind::V1] {
        let (channel, tracker) = tracked(kind);
        channel.spoil(|_, _| Err(libc::ECONNRESET));
        let found = pages(|request| assert!(tracker.harvest(request).unwrap().failed_reads > 0));
        assert_eq!(found.len() as u64, MAPPED.iter().map(|(_, size)| size >> 12).sum::<u64>());
    }
}

/// U-14: a bitmap of more than 1 MiB has no message in the first generation; its mapping is dirty, and the server not asked.
#[test]
fn a_first_generation_bitmap_fits_into_one_message() {
    let (channel, tracker) = server(Kind::V1);
    const LARGE: u64 = 33 << 30;
    channel.peer().dma.insert(1 << 42, Dma { size: LARGE, has_fd: true, written: Vec::new() });
    tracker.map(&[Mapping { range: IovaRange { iova: 1 << 42, size: LARGE }, cookie: 0 }]).unwrap();
    tracker.map(&[Mapping { range: IovaRange { iova: 0, size: MIB }, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    write(&channel, &[9]);
    let asked = channel.peer().count(14);
    let mut found = Vec::new();
    let mut run = |_: u64, run: IovaRange| {
        found.push((run.iova, run.size));
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(found, [(9 << 12, 4096), (1 << 42, LARGE)]);
    assert_eq!(channel.peer().count(14), asked + 1);
    channel.judge();
}
