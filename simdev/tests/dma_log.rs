//! Device DMA logging (L1 to L9): what clients of the rules get, and what the others lose.

mod common;

use common::{Words, v2};
use simdev::{Access, Config, Device, DmaLog, Effect, Fault};

const P: u64 = 4096;

fn device(log: DmaLog) -> Device {
    Device::new(Config { dma_log: Some(log), abort_allowed: true, ..Config::default() })
}

/// {u64 page_size, u32 num_ranges, u32 reserved, u64 ranges*}
fn start(d: &Device, page: u64, ranges: &[(u64, u64)]) -> Result<u64, i32> {
    let flat: Vec<u64> = ranges.iter().flat_map(|r| [r.0, r.1]).collect();
    let mut p = [0; 24];
    p[..8].copy_from_slice(&page.to_ne_bytes());
    p[8..12].copy_from_slice(&(ranges.len() as u32).to_ne_bytes());
    p[16..].copy_from_slice(&(flat.as_ptr() as u64).to_ne_bytes());
    v2::feature(d, 6 | v2::SET, &mut p).map(|()| u64::from_ne_bytes(p[..8].try_into().unwrap()))
}

fn stop(d: &Device) -> Result<(), i32> {
    v2::feature(d, 7 | v2::SET, &mut [])
}

fn report_at(d: &Device, iova: u64, len: u64, page: u64, address: u64) -> Result<(), i32> {
    let mut p: Vec<u8> = [iova, len, page, address].iter().flat_map(|v| v.to_ne_bytes()).collect();
    v2::feature(d, 8 | v2::GET, &mut p)
}

fn report(d: &Device, iova: u64, len: u64, page: u64) -> Result<Vec<u64>, i32> {
    let mut words = Words::new();
    report_at(d, iova, len, page, words.address()).map(|()| words.bits())
}

fn write(d: &Device, pages: &[u64]) {
    pages.iter().for_each(|&page| d.dma_write(page).unwrap());
}

fn rules(d: &Device) -> Vec<&'static str> {
    d.take_violations().iter().map(|v| v.rule).collect()
}

#[test]
fn reports_are_exact_and_clear() {
    let d = device(DmaLog::default());
    assert_eq!(start(&d, P, &[(0, 64 * P), (1 << 32, 128 * P)]), Ok(P));
    assert_eq!(d.dma_ranges(), [(0, 64 * P), (1 << 32, 128 * P)]);
    write(&d, &[0, 63, 64, 1 << 20, (1 << 20) + 127]);
    assert_eq!(report(&d, 0, 64 * P, P), Ok(vec![0, 63]));
    assert_eq!(report(&d, 1 << 32, 128 * P, P), Ok(vec![0, 127]));
    assert_eq!(report(&d, 1 << 32, 128 * P, P), Ok(vec![]));
    assert_eq!(d.take_dma_log().into_iter().collect::<Vec<_>>(), [0, 63, 64, 1 << 20, (1 << 20) + 127]);
    d.reset().unwrap();
    assert!(d.dma_logging(), "L9: survives a reset");
    write(&d, &[7]);
    assert_eq!(report_at(&d, 0, 64 * P, P, 8), Err(libc::EFAULT), "an address that is not one");
    assert_eq!(report(&d, 4 * P, 8 * P, P), Ok(vec![3]), "L7: an aligned part of a range");
    assert_eq!((stop(&d), stop(&d), d.dma_ranges()), (Ok(()), Ok(()), vec![]), "L9");
    d.assert_clean();
}

/// P9: one coarse bit is several fine ones, several fine records are one coarse bit.
#[test]
fn page_sizes_of_device_and_report() {
    let d = device(DmaLog { page_size: 4 * P, ..DmaLog::default() });
    assert_eq!(start(&d, P, &[(0, 64 * P)]), Ok(4 * P));
    write(&d, &[5]);
    assert_eq!(report(&d, 0, 64 * P, P), Ok(vec![4, 5, 6, 7]));
    write(&d, &[5, 60]);
    assert_eq!(report(&d, 0, 64 * P, 8 * P), Ok(vec![0, 7]));
    d.assert_clean();
}

#[test]
fn what_a_device_refuses_without_blame() {
    let d = device(DmaLog { report: false, ..DmaLog::default() });
    start(&d, P, &[(0, 64 * P)]).unwrap();
    assert_eq!(report(&d, 0, 64 * P, P), Err(libc::EOPNOTSUPP));
    d.assert_clean();
    let few = device(DmaLog { max_ranges: 2, ..DmaLog::default() });
    assert_eq!(start(&few, P, &[(0, P), (2 * P, P), (4 * P, P)]), Err(libc::E2BIG));
    assert_eq!(start(&few, P, &[(0, P), (2 * P, P)]), Ok(P));
    few.assert_clean();
    let sized = || device(DmaLog { min_total: 16 * P, max_total: 64 * P, ..DmaLog::default() });
    for (ranges, answer) in [
        (vec![(0, 8 * P)], Err(libc::EOPNOTSUPP)),
        (vec![(0, 4 * P), (8 * P, 5 * P)], Ok(P)),
        (vec![(0, 64 * P)], Ok(P)),
        (vec![(0, 64 * P), (65 * P, P)], Err(libc::EOPNOTSUPP)),
    ] {
        let d = sized();
        assert_eq!(start(&d, P, &ranges), answer, "L3: {ranges:?}");
        d.assert_clean();
    }
}

#[test]
fn requests_that_a_client_knows_to_be_wrong() {
    let ranges = [(0, 64 * P)];
    let started = || {
        let d = device(DmaLog::default());
        start(&d, P, &ranges).unwrap();
        d.assert_clean();
        d
    };
    let d = started();
    assert_eq!((start(&d, P, &ranges), rules(&d)), (Err(libc::EINVAL), vec!["L1"]));
    for (page, ranges, errno, rule) in [
        (P, vec![], libc::EINVAL, "L1"),
        (0, vec![(0, P)], libc::EINVAL, "L2"),
        (3, vec![(0, P)], libc::EINVAL, "L2"),
        (P, vec![(1, P)], libc::EINVAL, "L2"),
        (P, vec![(0, 1)], libc::EINVAL, "L2"),
        (P, vec![(0, 0)], libc::EINVAL, "L2"),
        (P, vec![(0, 2 * P), (P, P)], libc::EINVAL, "L2"),
        (P, vec![(u64::MAX - P + 1, P)], libc::EOVERFLOW, "L2"),
    ] {
        let d = device(DmaLog::default());
        assert_eq!((start(&d, page, &ranges), rules(&d)), (Err(errno), vec![rule]), "{page} {ranges:?}");
    }
    for (iova, len, page, errno, rule) in [
        (0, P, 512, libc::EINVAL, "L4"),
        (0, P, 3 * P, libc::EINVAL, "L4"),
        (0, 0, P, libc::EOVERFLOW, "L4"),
        (u64::MAX - P + 1, P, P, libc::EOVERFLOW, "L4"),
        (0, 65 * P, P, libc::EINVAL, "L7"),
        (1, P, P, libc::EINVAL, "L7"),
        (64 * P, P, P, libc::EINVAL, "L7"),
    ] {
        let d = started();
        assert_eq!((report(&d, iova, len, page), rules(&d)), (Err(errno), vec![rule]), "{iova:#x} + {len:#x}, {page}");
    }
    let d = device(DmaLog::default());
    assert_eq!((report(&d, 0, P, P), rules(&d)), (Err(libc::EINVAL), vec!["L5"]));
    let d = started();
    let mut words = Words::new();
    words.0[0] = 1 << 5;
    write(&d, &[9]);
    report_at(&d, 0, 64 * P, P, words.address()).unwrap();
    assert_eq!((words.bits(), rules(&d)), (vec![5, 9], vec![]), "L5: sets, never clears");
    let d = device(DmaLog { overwrites: true, ..DmaLog::default() });
    start(&d, P, &ranges).unwrap();
    write(&d, &[9]);
    report_at(&d, 0, 64 * P, P, words.address()).unwrap();
    assert_eq!((words.bits(), rules(&d)), (vec![9], vec!["P10"]));
}

/// I6: what is logged is a whole tracking page, whatever was asked for.
#[test]
fn records_spill_to_the_end_of_the_page_of_memory() {
    let d = device(DmaLog { page_size: 16 * P, ..DmaLog::default() });
    assert_eq!(start(&d, P, &[(0, 33 * P)]), Ok(16 * P));
    write(&d, &[32]);
    assert_eq!(report(&d, 0, 33 * P, P), Ok((32..48).collect()));
    d.assert_clean();
    // 4096 * 8 bits fill a page of memory; what lies behind it is safe.
    let d = device(DmaLog { page_size: 16 * P, ..DmaLog::default() });
    let pages = 4096 * 8 - 3;
    start(&d, P, &[(0, pages * P)]).unwrap();
    write(&d, &[pages - 1]);
    assert_eq!(report(&d, 0, pages * P, P), Ok((4096 * 8 - 16..4096 * 8).collect()));
    d.assert_clean();
    // Memory that is not whole pages: a kernel would write into what lies behind it.
    write(&d, &[pages - 1]);
    let mut words = Words::new();
    let at = words.address() + 8;
    report_at(&d, 0, pages * P, P, at).unwrap();
    assert_eq!((words.bits().len(), rules(&d)), (13, vec!["I6"]));
}

/// L7: START may answer a page size to which the ranges do not fit; records that begin below a range are lost.
#[test]
fn ranges_that_do_not_fit_the_tracking_page_lose_records() {
    let d = device(DmaLog { page_size: 16 * P, ..DmaLog::default() });
    assert_eq!(start(&d, P, &[(4 * P, 28 * P)]), Ok(16 * P));
    write(&d, &[5, 20]);
    assert_eq!((report(&d, 4 * P, 28 * P, P), rules(&d)), (Ok((12..28).collect()), vec!["L7"]));
    assert_eq!((report(&d, 4 * P, 28 * P, P), rules(&d)), (Ok(vec![]), vec![]), "lost for good");
    let d = device(DmaLog { page_size: 16 * P, ..DmaLog::default() });
    start(&d, P, &[(0, 20 * P), (24 * P, 8 * P)]).unwrap();
    write(&d, &[25]);
    assert_eq!((report(&d, 0, 20 * P, P), rules(&d)), (Ok((16..32).collect()), vec!["L7"]));
    assert_eq!(report(&d, 24 * P, 8 * P, P), Ok(vec![]), "the first report took it");
}

/// L7: pds.
#[test]
fn a_device_that_finds_bits_by_whole_words() {
    let log = DmaLog { whole_words: true, ..DmaLog::default() };
    let d = device(log);
    start(&d, P, &[(64 * P, 256 * P)]).unwrap();
    write(&d, &[64, 128, 200]);
    assert_eq!(report(&d, 64 * P, 64 * P, P), Ok(vec![0]));
    assert_eq!(report(&d, 128 * P, 192 * P, P), Ok(vec![0, 72]));
    d.assert_clean();
    write(&d, &[64, 130]);
    assert_eq!((report(&d, 65 * P, 128 * P, P), rules(&d)), (Ok(vec![2]), vec!["L7"]), "not 65, and 130 is told as 67");
    d.take_violations();
    write(&d, &[80, 100, 128]);
    assert_eq!((report(&d, 64 * P, 32 * P, P), rules(&d)), (Ok(vec![0, 16]), vec!["L7"]));
    d.take_violations();
    assert_eq!(report(&d, 64 * P, 128 * P, P), Ok(vec![64]), "100 was cleared with the word that it is in");
}

/// L8: pds.
#[test]
fn a_device_that_stops_its_log_itself() {
    let d = device(DmaLog { stops_itself: true, ..DmaLog::default() });
    start(&d, P, &[(0, 64 * P)]).unwrap();
    write(&d, &[3]);
    v2::set(&d, v2::STOP_COPY).unwrap();
    assert_eq!(report(&d, 0, 64 * P, P), Ok(vec![3]));
    v2::set(&d, v2::STOP).unwrap();
    assert!(!d.dma_logging());
    assert_eq!((report(&d, 0, 64 * P, P), stop(&d)), (Err(libc::EINVAL), Ok(())));
    start(&d, P, &[(0, 64 * P)]).unwrap();
    d.assert_clean();
    let other = device(DmaLog::default());
    start(&other, P, &[(0, 64 * P)]).unwrap();
    v2::set(&other, v2::STOP_COPY).unwrap();
    v2::set(&other, v2::STOP).unwrap();
    assert!(other.dma_logging());
}

#[test]
fn faults_before_and_after_the_log_was_cleared() {
    let d = device(DmaLog::default());
    d.inject(Fault::at(Access::DmaLogStart, 0, Effect::Errno(libc::ENOMEM)));
    d.inject(Fault::at(Access::DmaLogStart, 1, Effect::Lie(1 << 63)));
    d.inject(Fault::at(Access::DmaLogStop, 0, Effect::Errno(libc::EIO)));
    let before = d.inject(Fault::at(Access::DmaLogReport, 0, Effect::Errno(libc::EIO)));
    let after = d.inject(Fault::at(Access::DmaLogReport, 2, Effect::ErrnoMoved(libc::EIO)));
    assert_eq!((start(&d, P, &[(0, 64 * P)]), start(&d, P, &[(0, 64 * P)])), (Err(libc::ENOMEM), Ok(1 << 63)));
    write(&d, &[1]);
    assert_eq!((report(&d, 0, 64 * P, P), report(&d, 0, 64 * P, P)), (Err(libc::EIO), Ok(vec![1])));
    write(&d, &[1, 2, 3, 4]);
    let mut words = Words::new();
    assert_eq!(report_at(&d, 0, 64 * P, P, words.address()), Err(libc::EIO));
    assert_eq!((words.bits(), report(&d, 0, 64 * P, P)), (vec![1, 2], Ok(vec![])), "L6: the rest is lost");
    assert_eq!([before, after].map(|id| d.fault_reached(id)), [1, 1]);
    assert_eq!((stop(&d), d.dma_logging(), stop(&d), d.dma_logging()), (Err(libc::EIO), true, Ok(()), false));
    d.assert_clean();
}

/// A harvest may come while the device's own thread waits for a state change.
#[test]
fn reports_beside_another_request() {
    let d = device(DmaLog::default());
    start(&d, P, &[(0, 64 * P)]).unwrap();
    d.inject(Fault::at(Access::StateRead, 0, Effect::Delay(std::time::Duration::from_millis(100))));
    d.inject(Fault::at(Access::DmaLogReport, 0, Effect::Delay(std::time::Duration::from_millis(200))));
    let other = d.clone();
    let thread = std::thread::spawn(move || v2::state(&other));
    while d.count(Access::StateRead) == 0 {
        std::thread::yield_now();
    }
    let reader = d.clone();
    let harvest = std::thread::spawn(move || report(&reader, 0, 64 * P, P));
    thread.join().unwrap();
    v2::flags(&d).unwrap();
    assert_eq!(harvest.join().unwrap(), Ok(vec![]));
    d.assert_clean();
}

/// mtty writes no memory, and its log need know none: started or not, it is clean.
#[test]
fn a_log_that_is_a_stub() {
    let d = device(DmaLog { stub: true, ..DmaLog::default() });
    assert_eq!(report(&d, 0, 64 * P, P), Ok(vec![]), "never started");
    start(&d, P, &[(0, 64 * P)]).unwrap();
    write(&d, &[3]);
    assert_eq!(report(&d, 0, 64 * P, P), Ok(vec![]));
    d.assert_clean();
}
