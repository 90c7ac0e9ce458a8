//! For each rule of the judge one client that breaks it and is seen, and its twin that obeys and is not.

mod common;

use common::{Client, NDMA, RESUMING, RUNNING, SAVING, v2};
use simdev::{BadLoad, Config, DataPath, Device, DraftForm, MIGRATION_REGION as R, Precopy, Trapped, Window};
use vfiomig::dialect::State;

fn device(config: Config) -> Device {
    Device::new(Config { abort_allowed: true, ..config }.seeded(5))
}

fn v1() -> Config {
    Config::v1(Window::Trapped)
}

/// Runs `obey` on one device and `break_it` on another; only the second is blamed, by `rule`.
fn both<A, B>(rule: &str, config: Config, obey: impl FnOnce(&Client) -> A, break_it: impl FnOnce(&Client) -> B) {
    let (good, bad) = (device(config.clone()), device(config));
    obey(&Client::open(&good, true, usize::MAX));
    good.assert_clean();
    break_it(&Client::open(&bad, true, usize::MAX));
    let found = bad.violations();
    assert!(found.iter().any(|v| v.rule == rule), "{rule} is not in {found:?}");
}

fn read(c: &Client, at: u64, len: usize) -> Result<usize, i32> {
    c.d.region_read(R, at, &mut vec![0; len])
}

fn write(c: &Client, at: u64, len: usize) -> Result<usize, i32> {
    c.d.region_write(R, at, &vec![0; len])
}

fn save(c: &Client) {
    c.state(SAVING).unwrap();
}

#[test]
fn widths_and_places() {
    for (rule, config) in [("V1-1", v1()), ("D1", Config::draft(DraftForm::Sticky))] {
        for (at, len) in [(0, 8), (0, 1), (2, 2), (8, 4), (0xc, 4), (0x10, 16), (0x14, 8), (0x18, 4), (0x1c, 8), (4, 8)]
        {
            both(rule, config.clone(), |c| c.get(0), |c| assert_eq!(read(c, at, len), Err(libc::EINVAL)));
            both(rule, config.clone(), |_| {}, |c| assert_eq!(write(c, at, len), Err(libc::EINVAL)));
        }
        for at in [8, 0x10] {
            both(rule, config.clone(), |_| {}, |c| assert_eq!(write(c, at, 8), Err(libc::EINVAL)));
        }
    }
    for at in [0x20, 0x28, 0x30] {
        both("D1", Config::draft(DraftForm::Sticky), |c| c.put(at, 1).unwrap(), |c| read(c, at, 8));
        both("D1", Config::draft(DraftForm::Sticky), |_| {}, |c| write(c, at, 4));
    }
    both("D1", Config::draft(DraftForm::Sticky), |_| {}, |c| write(c, 0x38, 8));
}

#[test]
fn the_reserved_word_reads_zero_and_takes_anything() {
    let d = device(v1());
    let mut b = [9; 4];
    d.region_read(R, 4, &mut b).unwrap();
    assert_eq!(b, [0; 4]);
    d.region_write(R, 4, &[9; 4]).unwrap();
    d.assert_clean();
}

#[test]
fn reserved_bits() {
    for (rule, config) in [("V1-1", v1()), ("D2", Config::draft(DraftForm::Rewrite))] {
        let config = Config { reserved_bits: 0x100, ..config };
        both(rule, config, |c| c.state(SAVING).unwrap(), |c| c.put(0, u64::from(SAVING)).unwrap());
    }
    both("V1-1", v1(), |c| c.state(RUNNING).unwrap(), |c| c.put(0, u64::from(RUNNING | NDMA)).unwrap());
    both("V1-1", Config::v1_ndma(Window::Trapped), |c| c.state(RUNNING | NDMA).unwrap(), |c| c.put(0, 0x10).unwrap());
}

#[test]
fn states() {
    for bad in [5, 6, 7] {
        both("W6", v1(), save, |c| assert_eq!(c.put(0, bad), Err(libc::EINVAL)));
    }
    let to_error = |c: &Client| {
        c.state(RESUMING).unwrap();
        let _ = c.load_segment(&[1; 64]).unwrap_err();
        assert_eq!(c.d.state(), State::Error);
        c.d.take_violations();
    };
    both("V1-2", v1(), |c| (to_error(c), c.d.reset().unwrap()), |c| (to_error(c), c.state(RUNNING).unwrap_err()));
    both(
        "N14",
        v1(),
        |c| (to_error(c), assert_eq!(c.get(0), 6)),
        |c| (to_error(c), assert_eq!(read(c, 8, 8), Err(libc::EIO))),
    );
}

#[test]
fn undefined_registers() {
    both("V1-7", v1(), |c| (save(c), c.pending()), |c| c.pending());
    both("V1-7", v1(), |_| {}, |c| (c.state(RESUMING).unwrap(), c.pending()));
    both("V1-7", Config::draft(DraftForm::Sticky), |_| {}, |c| c.pending());
    both("V1-13", v1(), |c| (c.state(RESUMING).unwrap(), c.offset()), |c| c.offset());
    both("V1-13", v1(), |_| {}, |c| c.size());
    both("V1-13", v1(), |_| {}, |c| read(c, 4096, 64));
}

#[test]
fn save_iteration_of_v1() {
    let started = |c: &Client| {
        save(c);
        assert!(c.pending() > 0 && c.pending() > 0, "V1-6 a: repeatable");
    };
    // a before b, also behind a write of device_state, which begins the iteration anew
    let early = |c: &Client| assert_eq!(c.d.region_read(R, 0x10, &mut [0; 8]), Err(libc::EINVAL));
    both("V1-6", v1(), |c| (started(c), c.segment()), |c| (save(c), early(c)));
    both("V1-6", v1(), |_| {}, |c| (c.state(SAVING | RUNNING).unwrap(), c.pending(), save(c), early(c)));
    // c before b, d before c
    both("V1-6", v1(), |_| {}, |c| (started(c), c.size()));
    both(
        "V1-6",
        v1(),
        |_| {},
        |c| {
            started(c);
            let at = c.offset();
            let _ = read(c, at, 64);
        },
    );
    // pending_bytes inside the iteration
    both("V1-6", v1(), |_| {}, |c| (started(c), c.offset(), c.pending()));
    both("V1-6", v1(), |_| {}, |c| (started(c), c.offset(), c.size(), c.pending()));
    both(
        "V1-6",
        v1(),
        |c| {
            started(c);
            let (at, len) = (c.offset(), c.size());
            assert_eq!((at, len), (c.offset(), c.size()));
            for i in (0..len).rev() {
                let _ = read(c, at + i, 1);
            }
            c.pending();
        },
        |c| {
            started(c);
            let (at, len) = (c.offset(), c.size());
            let _ = read(c, at, len as usize - 1);
            c.pending();
        },
    );
    // outside the segment
    for (skip, more) in [(-1i64, 0i64), (0, 1), (64, 0)] {
        both(
            "V1-6",
            v1(),
            |_| {},
            |c| {
                started(c);
                let (at, len) = (c.offset(), c.size());
                let _ = read(c, (at as i64 + skip) as u64, (len as i64 + more) as usize);
            },
        );
    }
    both("V1-6", v1(), |_| {}, |c| (started(c), c.segment(), c.pending(), read(c, 4096, 8)));
    both("V1-9", v1(), |_| {}, |c| (save(c), write(c, 4096, 8)));
    both("V1-9", v1(), |_| {}, |c| (save(c), c.put(0x18, 64).unwrap_err()));
    both("V1-13", v1(), |_| {}, |c| (started(c), read(c, c.size, 1)));
    both("V1-13", v1(), |_| {}, |c| write(c, u64::MAX - 3, 8));
}

#[test]
fn mapped_parts_need_no_trapped_read_and_unmapped_ones_do() {
    let config = Config::v1(Window::Gap).segments(60_000).state_size(100_000);
    let config = Config { segment_size: 60_000, ..config };
    both(
        "V1-6",
        config,
        |c| (save(c), c.drain()),
        |c| {
            save(c);
            c.pending();
            c.offset();
            c.size();
            // The mapped parts may have been read; the gap was not.
            c.pending();
        },
    );
}

#[test]
fn the_draft_registers_of_a_device_that_has_none() {
    both("1.1", v1(), |_| {}, |c| read(c, 0x38, 8));
    both("1.1", v1(), |c| c.get(0), |c| (save(c), read(c, 0x20, 8)));
}

#[test]
fn load_iteration() {
    let source = device(v1());
    let from = Client::open(&source, false, usize::MAX);
    save(&from);
    let stream = from.drain();
    let loading = |c: &Client| c.state(RESUMING).unwrap();
    let obey = |c: &Client| {
        c.load(&stream).unwrap();
        c.state(RUNNING).unwrap();
    };
    both("V1-9", v1(), obey, |c| (loading(c), write(c, 4096, 64)));
    both("V1-9", v1(), obey, |c| (loading(c), assert_eq!(c.put(0x18, 64), Err(libc::EINVAL))));
    both("V1-9", v1(), obey, |c| (loading(c), c.offset(), assert_eq!(c.put(0x18, 0), Err(libc::EINVAL))));
    both("V1-9", v1(), obey, |c| {
        loading(c);
        c.write_data(c.offset() - 8, &[0; 16]).unwrap();
    });
    both("V1-9", v1(), obey, |c| {
        loading(c);
        let at = c.offset();
        c.write_data(at, &stream[0][..100]).unwrap();
        let _ = c.put(0x18, stream[0].len() as u64);
    });
    both("V1-10", v1(), obey, |c| (loading(c), c.offset(), assert_eq!(c.put(0x18, 1 << 20), Err(libc::EINVAL))));
    // split, merged, left out, swapped, sent twice
    let split = |c: &Client| {
        loading(c);
        let _ = c.load_segment(&stream[0][..64]);
    };
    both("V1-10", v1(), obey, split);
    both("V1-10", v1(), obey, |c| {
        loading(c);
        let _ = c.load_segment(&[&stream[0][..], &stream[1][..]].concat());
    });
    both("V1-10", v1(), obey, |c| (loading(c), c.load_segment(&stream[1])));
    both("V1-10", v1(), obey, |c| (c.load(&stream[..1]).unwrap(), c.load_segment(&stream[0])));
    both("D6", Config::draft(DraftForm::Sticky), obey, |c| (loading(c), c.load_segment(&stream[1])));
    // the end is missing
    both("N2", v1(), obey, |c| {
        c.load(&stream[..stream.len() - 1]).unwrap();
        assert_eq!(c.state(RUNNING), Err(libc::EINVAL));
        assert_eq!(c.d.state(), State::Error, "N11");
    });
    let keep = Config { bad_load: BadLoad::Keep, ..v1() };
    both("N2", keep, obey, |c| {
        c.load(&stream[..stream.len() - 1]).unwrap();
        assert_eq!(c.state(RUNNING), Err(libc::EINVAL));
        assert_eq!(c.d.state(), State::Resuming);
    });
}

/// A mapped window cannot be watched: a late reader gets 0xdb, and the destination sees it.
#[test]
fn a_late_reader_of_a_mapped_window_fails_at_the_destination() {
    for (config, rule) in [
        (Config::v1(Window::Area), "V1-10"),
        (Config { window: Window::Area, ..Config::draft(DraftForm::Rewrite) }, "D6"),
    ] {
        let (source, sink) = (device(config.clone()), device(config));
        let (from, to) = (Client::open(&source, true, 8), Client::open(&sink, true, 8));
        save(&from);
        from.pending();
        let (at, len) = (from.offset(), from.size());
        from.pending();
        if rule == "D6" {
            // The draft's acknowledge is the next data_offset.
            assert!(from.offset() > 0 && from.size() > 0);
        }
        let mut late = vec![0; len as usize];
        from.read_data(at, &mut late);
        if rule == "V1-10" {
            assert!(late.iter().all(|&b| b == 0xdb));
        }
        source.assert_clean();
        to.state(RESUMING).unwrap();
        assert_eq!(to.load_segment(&late), Err(libc::EINVAL));
        assert_eq!(sink.violations()[0].rule, rule);
    }
}

#[test]
fn saving_is_not_left_with_data() {
    let left = |config: Config, allowed: bool| {
        let d = Device::new(Config { abort_allowed: allowed, precopy: Precopy::Everything, ..config }.seeded(1));
        let c = Client::open(&d, false, usize::MAX);
        c.state(SAVING | RUNNING).unwrap();
        c.state(RUNNING).unwrap();
        d.assert_clean();
        c.state(SAVING).unwrap();
        (d, c)
    };
    for (rule, config) in [("V1-8", v1()), ("D3", Config::draft(DraftForm::Sticky))] {
        let (d, c) = left(config.clone(), false);
        c.state(0).unwrap();
        assert_eq!(d.violations()[0].rule, rule);
        let (d, c) = left(config.clone(), true);
        c.state(0).unwrap();
        d.assert_clean();
        // all but the acknowledge, or the last bytes
        let (d, c) = left(config, false);
        while c.pending() > 32 {
            c.segment();
        }
        assert!(c.offset() > 0 && c.size() > 0);
        c.state(0).unwrap();
        assert_eq!(d.violations()[0].rule, rule);
    }
}

#[test]
fn mappings() {
    let config = || Config::v1(Window::Area);
    both("2.1", config(), |_| {}, |c| assert_eq!(c.d.region_map(R, 0, 4096), Err(libc::EINVAL)));
    both("2.1", config(), |_| {}, |c| assert_eq!(c.d.region_map(R, 4096, 1 << 20), Err(libc::EINVAL)));
    both("2.1", config(), |_| {}, |c| assert_eq!(c.d.region_map(R, 4097, 4096), Err(libc::EINVAL)));
    both("2.1", v1(), |_| {}, |c| assert_eq!(c.d.region_map(R, 4096, 4096), Err(libc::EINVAL)));
    both("2.1", config(), |_| {}, |c| c.d.region_unmap(R, std::ptr::NonNull::dangling(), 4096));
}

#[test]
fn the_bar_rests() {
    let touch = |d: &Device| d.region_read(0, 16, &mut [0; 4]).unwrap();
    both("W1", v1(), |c| assert_eq!(touch(&c.d), 4), |c| (save(c), touch(&c.d)));
    let d = device(Config::default());
    touch(&d);
    v2::set(&d, v2::PRE_COPY).unwrap();
    touch(&d);
    d.assert_clean();
    v2::set(&d, v2::STOP_COPY).unwrap();
    touch(&d);
    assert_eq!(d.violations()[0].rule, "V2-8");
}

#[test]
fn draft_window() {
    let config = || Config::draft(DraftForm::Rewrite);
    let saving = |c: &Client| {
        c.state(SAVING | RUNNING).unwrap();
        c.d.dma_write(3).unwrap();
    };
    let triple = |c: &Client, pages: u64| [(0x20, 0), (0x28, 4096), (0x30, pages)].map(|(at, v)| c.put(at, v).unwrap());
    // D3: pending_bytes is a pure query
    both(
        "D5",
        config(),
        |c| {
            saving(c);
            c.pending();
            let (at, len) = (c.offset(), c.size());
            c.pending();
            c.read_data(at, &mut vec![0; len as usize]);
            c.offset();
        },
        |c| (saving(c), c.offset(), c.size(), c.offset()),
    );
    both("D5", config(), |_| {}, |c| (saving(c), c.offset(), c.offset()));
    both("D3", config(), |_| {}, |c| (saving(c), c.size()));
    both("D3", config(), |_| {}, |c| (saving(c), read(c, c.offset(), 8)));
    both("D3", config(), |c| (saving(c), c.drain()), |c| (saving(c), c.drain(), c.offset()));
    // the bitmap and the data take turns
    both(
        "D5",
        config(),
        |c| {
            saving(c);
            triple(c, 10);
            assert_eq!(c.get(0x38), 10);
            let mut word = [0; 8];
            c.read_data(c.offset(), &mut word);
            assert_eq!(word[0], 8);
            // data_offset shows what was asked for last.
            c.pending();
            c.segment();
        },
        |c| {
            saving(c);
            triple(c, 10);
            c.get(0x38);
            c.offset();
            c.offset();
        },
    );
    both(
        "D5",
        config(),
        |_| {},
        |c| {
            saving(c);
            assert!(c.offset() > 0 && c.size() > 0);
            triple(c, 10);
            c.get(0x38);
        },
    );
    both(
        "D8",
        config(),
        |c| (saving(c), assert_eq!(c.dirty(0, 4096, 10, true), [3])),
        |c| {
            assert_eq!(read(c, 0x38, 8), Err(libc::EINVAL));
        },
    );
    for (page, total) in [(0, 1), (100, 1), (4096, 0), (6000, 3), (4096, u64::MAX)] {
        both(
            "D8",
            config(),
            |_| {},
            |c| {
                saving(c);
                c.put(0x28, page).unwrap();
                c.put(0x30, total).unwrap();
                assert_eq!(read(c, 0x38, 8), Err(libc::EINVAL));
            },
        );
    }
    // a range may end at 2^64
    let (d, last) = (device(config()), u64::MAX / 4096);
    let c = Client::open(&d, false, usize::MAX);
    saving(&c);
    c.d.dma_write(last).unwrap();
    assert_eq!(c.dirty(last - 3, 4096, 4, true), [last]);
    d.assert_clean();
    let again = |c: &Client| {
        saving(c);
        c.d.dma_write(900).unwrap();
        triple(c, 1000);
        c.get(0x38);
        c.read_data(c.offset(), &mut [0; 64]);
        c.get(0x38);
    };
    both("D16", config(), |c| (saving(c), c.dirty(0, 4096, 1000, true)), again);
    let sticky = device(Config::draft(DraftForm::Sticky));
    again(&Client::open(&sticky, false, usize::MAX));
    sticky.assert_clean();
}

fn v2_both<A, B>(rule: &str, config: Config, obey: impl FnOnce(&Device) -> A, break_it: impl FnOnce(&Device) -> B) {
    let (good, bad) = (device(config.clone()), device(config));
    obey(&good);
    good.assert_clean();
    break_it(&bad);
    assert_eq!(bad.violations().first().map(|v| v.rule), Some(rule), "{:?}", bad.violations());
}

#[test]
fn v2_requests() {
    let full = Config::default;
    let set = |d: &Device, to| v2::set(d, to).unwrap();
    v2_both(
        "V2-1",
        full(),
        |d| set(d, v2::STOP_COPY),
        |d| {
            set(d, v2::STOP_COPY);
            assert_eq!(v2::set(d, v2::PRE_COPY), Err(libc::EINVAL));
        },
    );
    v2_both("V2-1", full(), |_| {}, |d| assert_eq!(v2::set(d, 0), Err(libc::EINVAL)));
    v2_both("V2-1", full(), |_| {}, |d| assert_eq!(v2::set(d, 8), Err(libc::EINVAL)));
    let plain = Config { dialect: simdev::Dialect::V2 { p2p: false, pre_copy: false }, ..full() };
    v2_both("V2-1", plain.clone(), |_| {}, |d| assert_eq!(v2::set(d, v2::PRE_COPY), Err(libc::EINVAL)));
    v2_both("V2-5", full(), |_| {}, |d| v2::feature(d, 2 | v2::SET, &mut [1, 0, 0, 0, 0, 0, 0, 0]).unwrap());
    v2_both("P6", full(), |_| {}, |d| assert_eq!(d.feature(&mut [16, 0, 0, 0, 2, 0, 1, 0]), Err(libc::EINVAL)));
    v2_both("P5", full(), |_| {}, |d| assert_eq!(v2::feature(d, 2 | v2::GET, &mut []), Err(libc::EINVAL)));
    v2_both("P5", full(), |_| {}, |d| assert_eq!(v2::feature(d, 1 | v2::SET, &mut [0; 8]), Err(libc::EINVAL)));
    let d = device(full());
    for feature in [0, 3, 6, 7, 8, 12, 99] {
        assert_eq!(v2::feature(&d, feature | v2::GET, &mut [0; 32]), Err(libc::ENOTTY));
    }
    assert_eq!(v2::feature(&d, 2 | v2::GET | v2::SET | v2::PROBE, &mut []), Ok(()));
    assert_eq!(v2::feature(&d, 1 | v2::SET | v2::PROBE, &mut []), Err(libc::EINVAL));
    d.assert_clean();
    let opt_in = |config| v2::feature(&device(Config { opt_in: true, ..config }), 12 | v2::SET, &mut []);
    assert_eq!((opt_in(full()), opt_in(plain)), (Ok(()), Err(libc::EINVAL)), "C8");
}

#[test]
fn v2_data() {
    let pre_copy = |d: &Device| v2::set(d, v2::PRE_COPY).unwrap();
    v2_both(
        "C2",
        Config::default(),
        |d| (pre_copy(d), v2::info(d).unwrap()),
        |d| {
            v2::set(d, v2::STOP_COPY).unwrap();
            assert_eq!(v2::info(d), Err(libc::EINVAL));
        },
    );
    v2_both(
        "C2",
        Config::default(),
        |_| {},
        |d| (pre_copy(d), assert_eq!(d.precopy_info(&mut [16; 16]), Err(libc::EINVAL))),
    );
    v2_both(
        "F5",
        Config { abort_allowed: false, ..Config::default() },
        |_| {},
        |d| {
            d.allow_abort(false);
            v2::set(d, v2::STOP_COPY).unwrap();
            d.data_read(&mut [0; 64]).unwrap();
            v2::set(d, v2::STOP).unwrap();
        },
    );
    v2_both(
        "F1",
        Config::default(),
        |_| {},
        |d| {
            v2::set(d, v2::RESUMING).unwrap();
            assert_eq!(d.data_write(&[7; 64]), Err(libc::EINVAL));
            assert_eq!(d.data_write(&[7; 64]), Err(libc::ENODEV), "F6");
        },
    );
    // two streams glued together
    let source = device(Config::default());
    let mut stream = Vec::new();
    v2::set(&source, v2::STOP_COPY).unwrap();
    v2::drain(&source, 999, &mut stream);
    let load = |d: &Device| {
        v2::set(d, v2::RESUMING).unwrap();
        v2::write_all(d, &stream, 1000).unwrap();
    };
    v2_both(
        "F1",
        Config::default(),
        |d| (load(d), v2::set(d, v2::STOP)),
        |d| (load(d), v2::write_all(d, &stream, 1000)),
    );
    let none = Config { has_precopy_info: false, ..Config::default() };
    let d = device(none);
    pre_copy(&d);
    assert_eq!(v2::info(&d), Err(libc::ENOTTY));
    assert_eq!(v2::size(&device(Config { has_data_size: false, ..Config::default() })), Err(libc::ENOTTY));
    assert_eq!(
        device(Config { data: DataPath::RealFd, ..Config::default() }).data_read(&mut [0; 1]),
        Err(libc::ENODEV)
    );
}

/// F4: new data only after pre-copy info.
#[test]
fn data_hide_until_asked_for() {
    let d = device(Config { needs_info: true, ..Config::default() });
    v2::set(&d, v2::PRE_COPY).unwrap();
    let mut buf = [0; 64];
    assert_eq!(d.data_read(&mut buf), Err(libc::ENOMSG));
    assert!(v2::info(&d).unwrap().1 > 0);
    assert_eq!(d.data_read(&mut buf), Ok(64));
    v2::drain(&d, 4096, &mut Vec::new());
    d.redirty(1).unwrap();
    assert_eq!(d.data_read(&mut buf), Err(libc::ENOMSG));
    v2::info(&d).unwrap();
    assert_eq!(d.data_read(&mut buf), Ok(64));
}

#[test]
fn two_requests_at_once() {
    use simdev::{Access, Effect, Fault};
    let d = device(Config::default());
    d.inject(Fault::at(Access::StateRead, 0, Effect::Delay(std::time::Duration::from_millis(200))));
    let other = d.clone();
    let thread = std::thread::spawn(move || v2::state(&other));
    while d.count(Access::StateRead) == 0 {
        std::thread::yield_now();
    }
    v2::flags(&d).unwrap();
    thread.join().unwrap();
    assert_eq!(d.violations()[0].rule, "P2");
}

#[test]
fn trapped_limits() {
    let d = device(Config { trapped: Trapped::Word, ..v1() });
    let c = Client::open(&d, false, 8);
    save(&c);
    c.pending();
    let (at, _) = (c.offset(), c.size());
    assert_eq!(read(&c, at, 16), Err(libc::EINVAL));
    assert_eq!(read(&c, at + 4, 8), Err(libc::EINVAL));
    assert_eq!(read(&c, at, 8), Ok(8));
    d.assert_clean();
}

#[test]
fn rest_is_kept() {
    let d = Device::new(Config::v1_ndma(Window::Trapped));
    let c = Client::open(&d, false, 8);
    c.state(RUNNING | NDMA).unwrap();
    assert_eq!((d.dma_write(1), d.touch(0, 1, 1)), (Err(libc::EBUSY), Ok(())), "N12");
    c.state(0).unwrap();
    assert_eq!((d.dma_write(1), d.touch(0, 1, 1)), (Err(libc::EBUSY), Err(libc::EBUSY)));
    assert_eq!(d.refused(), (1, 2));
    assert!(d.ram().is_empty() && d.take_dma_log().is_empty());
}
