//! The software container (T1 to T9): what clients that keep the rules get, and what the others are blamed for.

mod common;

use common::Words;
use simdev::{Access, Config, Device, Effect, Fault, Kernel, Mapping, Ram, Space, Type1, Type1Config};
use vfiomig::error::Errno;
use vfiomig::transport::type1::Container;

const P: u64 = 4096;
const START: u32 = 1;
const STOP: u32 = 2;
const END: u64 = u64::MAX - 4 * P + 1;

/// Pages 64..128, 192..194, 256..512 and the last four of the address space.
fn container(config: Type1Config) -> (Type1, Device, Space) {
    let space = Space::new(&Ram::new());
    for (first, pages) in [(64, 64), (192, 2), (256, 256)] {
        space.map(Mapping { iova: first * P, size: pages * P, ram: first * P }).unwrap();
    }
    space.map(Mapping { iova: END, size: 4 * P, ram: 0 }).unwrap();
    let d = Device::new(Config::default());
    d.attach(&space);
    (Type1::new(&space, config), d, space)
}

fn plain() -> (Type1, Device, Space) {
    container(Type1Config::default())
}

fn write(d: &Device, pages: &[u64]) {
    pages.iter().for_each(|&page| d.dma_write(page).unwrap());
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

fn errno<T>(result: Result<T, Errno>) -> Result<T, i32> {
    result.map_err(Errno::get)
}

fn toggle(c: &Type1, flags: u32) -> Result<(), i32> {
    let mut b = [8, 0, 0, 0, 0, 0, 0, 0];
    b[4..].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: no bitmap.
    errno(unsafe { c.dirty_pages(&mut b) })
}

/// {argsz, flags, iova, size, {pgsize, size, data}} of GET_BITMAP and UNMAP_DMA.
fn argument(flags: u32, iova: u64, size: u64, (page, bytes, address): (u64, u64, u64)) -> [u8; 48] {
    let mut b = [0; 48];
    b[0] = 48;
    b[4..8].copy_from_slice(&flags.to_ne_bytes());
    for (i, value) in [iova, size, page, bytes, address].into_iter().enumerate() {
        put(&mut b, 8 + 8 * i, value);
    }
    b
}

fn get_into(c: &Type1, iova: u64, size: u64, bitmap: (u64, u64, u64)) -> Result<(), i32> {
    // SAFETY: callers give memory of their own, or an address that is none.
    errno(unsafe { c.dirty_pages(&mut argument(4, iova, size, bitmap)) })
}

fn get(c: &Type1, first: u64, pages: u64) -> Result<Vec<u64>, i32> {
    let mut words = Words::new();
    let bitmap = (P, pages.div_ceil(64) * 8, words.address());
    get_into(c, first * P, pages * P, bitmap).map(|()| words.bits().iter().map(|bit| bit + first).collect())
}

fn unmap(c: &Type1, first: u64, pages: u64) -> Result<(u64, Vec<u64>), i32> {
    let mut words = Words::new();
    let mut b = argument(1, first * P, pages * P, (P, pages.div_ceil(64) * 8, words.address()));
    // SAFETY: `words` is as long as said.
    errno(unsafe { c.unmap_dma(&mut b) })?;
    Ok((u64::from_ne_bytes(b[16..24].try_into().unwrap()), words.bits().iter().map(|bit| bit + first).collect()))
}

fn unmap_plain(c: &Type1, flags: u32, iova: u64, size: u64) -> Result<u64, i32> {
    let mut b = argument(flags, iova, size, (0, 0, 0));
    b[0] = 24;
    // SAFETY: no bitmap.
    errno(unsafe { c.unmap_dma(&mut b[..24]) })?;
    Ok(u64::from_ne_bytes(b[16..24].try_into().unwrap()))
}

fn rules(c: &Type1) -> Vec<&'static str> {
    c.watch().take_violations().iter().map(|v| v.rule).collect()
}

#[test]
fn info_tells_of_the_log_where_there_is_one() {
    let caps = |config| {
        let (c, ..) = container(config);
        let mut info = vec![0; 24];
        info[0] = 24;
        c.info(&mut info).unwrap();
        let needed = info[0] as usize;
        assert!(needed > 24 && info[4] & 2 != 0 && info[16] == 0, "P7: no room for capabilities yet");
        info = vec![0; needed];
        info[0] = needed as u8;
        c.info(&mut info).unwrap();
        let (mut at, mut found) = (info[16] as usize, Vec::new());
        while at != 0 {
            found.push((info[at], info[at + 8..].to_vec()));
            at = info[at + 4] as usize;
        }
        c.watch().assert_clean();
        found
    };
    let found = caps(Type1Config { max_bitmap: 64, ..Type1Config::default() });
    assert_eq!(found.iter().map(|cap| cap.0).collect::<Vec<_>>(), [2, 3]);
    let words: Vec<u64> = found[0].1.chunks(8).map(|w| u64::from_ne_bytes(w.try_into().unwrap())).collect();
    assert_eq!(words[..3], [0, P, 64]);
    assert_eq!(caps(Type1Config { migration: false, ..Type1Config::default() }).len(), 1, "T1");
    let (c, ..) = plain();
    assert_eq!((c.info(&mut [8; 24]).is_err(), rules(&c)), (true, vec!["P6"]));
}

#[test]
fn bits_are_exact_and_reading_clears() {
    let (c, d, _) = plain();
    write(&d, &[100]);
    assert_eq!((toggle(&c, START), toggle(&c, START), c.logging()), (Ok(()), Ok(()), true), "T2");
    assert_eq!(get(&c, 64, 64), Ok(vec![]), "what was before START is in no log");
    write(&d, &[64, 127, 193, 256, 511, 511]);
    assert_eq!(toggle(&c, START), Ok(()), "T2: no reset of the log");
    assert_eq!(get(&c, 64, 130), Ok(vec![64, 127, 193]), "clubbed, over a hole");
    assert_eq!(get(&c, 0, 194), Ok(vec![]));
    assert_eq!(get(&c, 256, 256), Ok(vec![256, 511]));
    assert_eq!(get(&c, 0, 64), Ok(vec![]), "nothing is mapped there");
    write(&d, &[300]);
    assert_eq!((toggle(&c, STOP), toggle(&c, STOP), toggle(&c, START)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(get(&c, 256, 256), Ok(vec![]), "T2: STOP frees the log");
    c.watch().assert_clean();
}

/// T4: words are overwritten, holes are left alone.
#[test]
fn what_is_in_the_memory_before() {
    let (c, d, _) = plain();
    toggle(&c, START).unwrap();
    write(&d, &[65, 193]);
    let mut words = Words::new();
    words.0[..5].fill(u64::MAX);
    get_into(&c, 0, 200 * P, (P, 32, words.address())).unwrap();
    assert_eq!(words.0[..5], [u64::MAX, 2, u64::MAX, 2, u64::MAX], "the words of 64..128 and of 192..194");
    assert_eq!(rules(&c), ["T4"]);
}

/// What Linux does where a mapping does not begin with a word of the request: bits that it shifted past the end of the mapping
/// stay in its bitmap, and show in a later read, in a neighbour's range too.
#[test]
fn strays_of_mappings_that_begin_within_a_word() {
    let (c, d, space) = plain();
    for first in [1000, 1010] {
        space.map(Mapping { iova: first * P, size: 5 * P, ram: 0 }).unwrap();
    }
    toggle(&c, START).unwrap();
    write(&d, &[1004, 1011]);
    assert_eq!(get(&c, 990, 25), Ok(vec![1004, 1011]), "nothing is wrong yet");
    assert_eq!(get(&c, 1000, 15), Ok(vec![1014, 1031]), "1004 was shifted by 10, 1011 by 20");
    c.watch().assert_clean();
}

#[test]
fn pinned_pages_are_never_clean() {
    let (c, d, _) = plain();
    c.pin(70).unwrap();
    assert_eq!(c.pin(1), Err(libc::EFAULT));
    toggle(&c, START).unwrap();
    write(&d, &[71]);
    assert_eq!((get(&c, 64, 64), get(&c, 64, 64)), (Ok(vec![70, 71]), Ok(vec![70])), "T5");
    c.unpin(70);
    assert_eq!((get(&c, 64, 64), get(&c, 64, 64)), (Ok(vec![70]), Ok(vec![])));
    c.pin(192).unwrap();
    assert_eq!(unmap(&c, 192, 2), Ok((2 * P, vec![192])));
    let (c, ..) = container(Type1Config { perpetual: true, ..Type1Config::default() });
    toggle(&c, START).unwrap();
    for _ in 0..2 {
        assert_eq!(get(&c, 64, 130), Ok((64..128).chain([192, 193]).collect()), "T5: every mapped page");
    }
}

#[test]
fn unmap_tells_the_last_state() {
    let (c, d, space) = plain();
    toggle(&c, START).unwrap();
    write(&d, &[64, 193, 300]);
    assert_eq!(unmap(&c, 0, 200), Ok((66 * P, vec![64, 193])));
    assert_eq!(unmap(&c, 0, 200), Ok((0, vec![])), "T7: nothing mapped is no error");
    assert_eq!(space.mappings().len(), 2);
    space.map(Mapping { iova: 64 * P, size: P, ram: 0 }).unwrap();
    assert_eq!(get(&c, 64, 1), Ok(vec![]), "a new mapping is clean");
    assert_eq!(unmap_plain(&c, 0, 64 * P, P), Ok(P));
    assert_eq!(unmap_plain(&c, 2, 0, 0), Ok(260 * P), "T8: all");
    c.watch().assert_clean();
}

#[test]
fn requests_that_a_client_knows_to_be_wrong() {
    let (c, ..) = plain();
    for flags in [0, 3, 5, 8] {
        assert_eq!((toggle(&c, flags), rules(&c)), (Err(libc::EINVAL), vec!["T2"]), "{flags}");
    }
    assert_eq!((toggle(&c, 4), rules(&c)), (Err(libc::EINVAL), vec!["P6"]));
    assert_eq!((get(&c, 64, 64), rules(&c)), (Err(libc::EINVAL), vec!["T3"]), "not started");
    assert_eq!((unmap(&c, 64, 64), rules(&c)), (Err(libc::EINVAL), vec!["T7"]), "not started");
    toggle(&c, START).unwrap();
    let mut words = Words::new();
    let at = words.address();
    for (iova, size, bitmap) in [
        (64 * P, 0, (P, 8, at)),
        (64 * P + 1, 64 * P, (P, 8, at)),
        (64 * P, 64 * P + 1, (P, 16, at)),
        (64 * P, 64 * P, (2 * P, 8, at)),
        (64 * P, 64 * P, (0, 8, at)),
        (64 * P, 65 * P, (P, 8, at)),
        (64 * P, 64 * P, (P, (256 << 20) + 8, at)),
        (64 * P, 32 * P, (P, 8, at)),
        (65 * P, 63 * P, (P, 8, at)),
        (65 * P, 129 * P, (P, 24, at)),
        (64 * P, 129 * P, (P, 24, at)),
        (END, 5 * P, (P, 8, at)),
    ] {
        let reported = (get_into(&c, iova, size, bitmap), rules(&c));
        assert_eq!(reported, (Err(libc::EINVAL), vec!["T3"]), "{iova:#x} + {size:#x}, {bitmap:?}");
    }
    for (first, pages) in [(64, 32), (65, 63), (100, 100), (64, 129)] {
        assert_eq!((unmap(&c, first, pages), rules(&c)), (Err(libc::EINVAL), vec!["T7"]), "{first} + {pages}");
    }
    for flags in [3, 5, 8] {
        assert_eq!(unmap_plain(&c, flags, 64 * P, 64 * P), Err(libc::EINVAL));
        assert!(["T7", "P6"].contains(&rules(&c)[0]));
    }
    assert_eq!((unmap_plain(&c, 2, P, P), rules(&c)), (Err(libc::EINVAL), vec!["T8"]));
    assert!(words.bits().is_empty());
    assert_eq!(get_into(&c, 64 * P, 64 * P, (P, 8, 8)), Err(libc::EFAULT));
    let (old, ..) = container(Type1Config { v2: false, ..Type1Config::default() });
    assert_eq!(toggle(&old, START), Err(libc::EACCES), "T2");
}

#[test]
fn sizes_that_are_too_large() {
    let (c, _, space) = container(Type1Config { max_bitmap: 8, ..Type1Config::default() });
    toggle(&c, START).unwrap();
    assert_eq!(get(&c, 64, 64), Ok(vec![]));
    assert_eq!(get(&c, 0, 64), Ok(vec![]));
    c.watch().assert_clean();
    assert_eq!((get(&c, 60, 68), rules(&c)), (Err(libc::EINVAL), vec!["T3"]));
    toggle(&c, STOP).unwrap();
    space.map(Mapping { iova: 1 << 44, size: 8 << 40, ram: 0 }).unwrap();
    assert_eq!(toggle(&c, START), Err(libc::EINVAL), "T2: a mapping of 2^31 pages");
    c.watch().assert_clean();
}

#[test]
fn the_end_of_the_address_space() {
    let last = u64::MAX / P;
    for (kernel, read) in [(Kernel::V6_12, Err(libc::EINVAL)), (Kernel::V7_3, Ok(vec![last]))] {
        let (c, d, _) = container(Type1Config { kernel, ..Type1Config::default() });
        toggle(&c, START).unwrap();
        write(&d, &[last]);
        assert_eq!(get(&c, END / P, 4), read, "T3");
        c.watch().assert_clean();
        write(&d, &[last]);
        assert_eq!(unmap(&c, END / P, 4), read.map(|pages| (4 * P, pages)), "T8");
        c.watch().assert_clean();
        unmap_plain(&c, 2, 0, 0).unwrap();
    }
    let (c, ..) = container(Type1Config { kernel: Kernel::V7_3, ..Type1Config::default() });
    toggle(&c, START).unwrap();
    assert_eq!((get(&c, END / P, 5), rules(&c)), (Err(libc::EOVERFLOW), vec!["T3"]));
}

#[test]
fn faults_before_and_midway() {
    let (c, d, space) = plain();
    let moved = |access, nth| Fault::at(access, nth, Effect::ErrnoMoved(libc::EFAULT));
    let ids = [
        Fault::at(Access::Type1Start, 0, Effect::Errno(libc::ENOMEM)),
        Fault::at(Access::Type1Get, 0, Effect::Errno(libc::ENOMEM)),
        moved(Access::Type1Get, 2),
        Fault::at(Access::Type1Unmap, 0, Effect::Errno(libc::ENOMEM)),
        moved(Access::Type1Unmap, 1),
        Fault::at(Access::Type1Unmap, 2, Effect::Lie(77)),
        Fault::at(Access::Type1Stop, 0, Effect::Errno(libc::EIO)),
        Fault::at(Access::Type1Info, 0, Effect::Errno(libc::EIO)),
    ]
    .map(|fault| c.watch().inject(fault));
    assert_eq!((toggle(&c, START), toggle(&c, START)), (Err(libc::ENOMEM), Ok(())));
    write(&d, &[64, 193]);
    assert_eq!((get(&c, 64, 130), get(&c, 64, 130)), (Err(libc::ENOMEM), Ok(vec![64, 193])));
    write(&d, &[64, 193]);
    let mut words = Words::new();
    assert_eq!(get_into(&c, 64 * P, 130 * P, (P, 24, words.address())), Err(libc::EFAULT));
    assert_eq!((words.bits(), get(&c, 64, 130)), (vec![0], Ok(vec![])), "T6: 193 is lost");
    assert_eq!((unmap(&c, 64, 130), space.mappings().len()), (Err(libc::ENOMEM), 4));
    assert_eq!((unmap(&c, 64, 130), space.mappings().len()), (Err(libc::EFAULT), 3), "T7");
    assert_eq!(unmap(&c, 64, 130), Ok((77, vec![])));
    assert_eq!((toggle(&c, STOP), c.logging(), c.info(&mut [24; 24]).is_err()), (Err(libc::EIO), true, true));
    assert_eq!(ids.map(|id| c.watch().fault_reached(id)), [1; 8]);
    assert_eq!((c.watch().count(Access::Type1Get), c.watch().count(Access::Any)), (4, 11));
}

/// T8: what a client asks next of an old kernel is no offence, though it cuts a mapping.
#[test]
fn a_second_try_at_the_end() {
    let (c, ..) = plain();
    assert_eq!(unmap_plain(&c, 0, END, 3 * P), Err(libc::EINVAL));
    c.watch().assert_clean();
}
