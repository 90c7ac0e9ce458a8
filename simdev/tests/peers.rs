//! Each peer does what its driver or server does. The columns are those of the comparison of drivers in the protocol
//! reference; a client of these tests does what it likes, so violations are looked at only where they are the subject.

mod common;

use common::{Client, RESUMING, RUNNING, SAVING, v2};
use simdev::{
    Access, Beyond, Config, Device, DmaLog, DraftForm, Effect, Fault, Habits, MIGRATION_REGION as R, Peer, Poll,
    Restart,
};
use std::process::Command;
use std::time::{Duration, Instant};
use vfiomig::dialect::State;
use vfiomig::transport::Returned;

const V2: [Peer; 8] =
    [Peer::Mlx5, Peer::HisiAcc, Peer::Pds, Peer::Qat, Peer::Virtio, Peer::Xe, Peer::Mtty, Peer::LibvfioUserV2];

fn device(peer: Peer) -> Device {
    Device::new(peer.config().state_size(3000).seeded(1))
}

fn fresh(peer: Peer) -> Device {
    Device::new(peer.config().state_size(3000))
}

fn habits(habits: Habits) -> Device {
    Device::new(Config { habits, ..Config::default() }.state_size(3000).seeded(1))
}

/// The whole stream of a device, read patiently.
fn stream(d: &Device) -> Vec<u8> {
    let mut out = Vec::new();
    v2::set(d, v2::STOP_COPY).unwrap();
    let mut buf = [0; 1000];
    loop {
        match d.data_read(&mut buf) {
            Ok(0) => return out,
            Ok(n) => out.extend(&buf[..n]),
            Err(libc::EAGAIN) => std::thread::sleep(Duration::from_millis(5)),
            Err(errno) => panic!("read: {errno}"),
        }
    }
}

#[test]
fn names_and_flags() {
    let flags = [7, 5, 3, 7, 7, 3, 7, 5];
    for (peer, flags) in V2.into_iter().zip(flags) {
        assert_eq!(v2::flags(&device(peer)), Ok(flags), "{peer:?}");
        assert_eq!(Peer::from_name(peer.name()), Some(peer));
    }
    for peer in [Peer::SpdkV1, Peer::LibvfioUserV1] {
        assert_eq!(v2::flags(&device(peer)), Err(libc::ENOTTY));
        assert_eq!(Client::open(&device(peer), false, 1000).region_type, (3, 1));
    }
    assert_eq!(Peer::from_name("ice"), None);
    assert_eq!(Peer::ALL.len(), 10);
}

#[test]
fn an_empty_pre_copy_is_reported_in_two_ways() {
    for (peer, no_message) in [
        (Peer::Mlx5, true),
        (Peer::Virtio, true),
        (Peer::HisiAcc, false),
        (Peer::Qat, false),
        (Peer::Mtty, false),
        (Peer::LibvfioUserV2, false),
    ] {
        let d = device(peer);
        v2::set(&d, v2::PRE_COPY).unwrap();
        let last = loop {
            match d.data_read(&mut [0; 5000]) {
                Ok(0) => break false,
                Err(libc::ENOMSG) => break true,
                Ok(_) => {}
                Err(libc::EAGAIN) => std::thread::sleep(Duration::from_millis(5)),
                Err(errno) => panic!("{peer:?}: {errno}"),
            }
        };
        assert_eq!(last, no_message, "{peer:?}");
    }
}

#[test]
fn the_first_read_is_small_and_the_next_is_late() {
    let d = device(Peer::Mlx5);
    v2::set(&d, v2::STOP_COPY).unwrap();
    let begun = Instant::now();
    assert_eq!(d.data_read(&mut [0; 5000]), Ok(24));
    assert_eq!(d.data_read(&mut [0; 5000]), Err(libc::EAGAIN));
    while d.data_read(&mut [0; 5000]) == Err(libc::EAGAIN) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(begun.elapsed() >= Duration::from_millis(45), "{:?}", begun.elapsed());

    let d = device(Peer::Xe);
    v2::set(&d, v2::STOP_COPY).unwrap();
    let begun = Instant::now();
    assert!(d.data_read(&mut [0; 5000]).unwrap() > 24);
    assert!(begun.elapsed() >= Duration::from_millis(15), "it sleeps");

    for peer in [Peer::Mtty, Peer::HisiAcc] {
        let d = device(peer);
        v2::set(&d, v2::PRE_COPY).unwrap();
        assert!(d.data_read(&mut [0; 5000]).unwrap() <= 40, "{peer:?}");
    }
}

#[test]
fn a_poll_says_nothing_of_an_empty_pre_copy() {
    let ready = |d: &Device, data: &dyn vfiomig::transport::DataFd| {
        use std::os::fd::AsRawFd;
        let mut p = libc::pollfd { fd: data.wait_fd().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives.
        let n = unsafe { libc::poll(&mut p, 1, 5) };
        (n == 1, d.state())
    };
    let config = Config { habits: Habits { poll: Poll::Real, ..Habits::PLAIN }, ..Config::default() };
    let d = Device::new(config.state_size(3000));
    let transport = d.transport();
    v2::set(&d, v2::PRE_COPY).unwrap();
    let mut data = transport.open_data(Some(Returned::Number(1000))).unwrap();
    assert_eq!(ready(&d, &*data), (true, State::PreCopy));
    while data.read(&mut [0; 5000]).is_ok() {}
    assert_eq!(ready(&d, &*data), (false, State::PreCopy));
    v2::set(&d, v2::STOP_COPY).unwrap();
    assert_eq!(ready(&d, &*data), (true, State::StopCopy));
    while data.read(&mut [0; 5000]).unwrap() > 0 {}
    assert_eq!(ready(&d, &*data), (true, State::StopCopy), "the end");
    v2::set(&d, v2::STOP).unwrap();
    assert_eq!(ready(&d, &*data), (true, State::Stop), "dead");
}

#[test]
fn a_failed_read_drops_bytes_and_sticks() {
    // The errno that is injected, and what all further reads say; `None`: they go on.
    for (peer, errno, later) in [
        (Peer::Mlx5, libc::EIO, Some(libc::ENODEV)),
        (Peer::Virtio, libc::EFAULT, Some(libc::ENODEV)),
        (Peer::Xe, libc::EIO, Some(libc::EIO)),
        (Peer::Xe, 512, Some(512)),
        (Peer::Pds, libc::EFAULT, None),
        (Peer::Qat, libc::EFAULT, None),
    ] {
        let whole = stream(&device(peer)).len();
        let d = device(peer);
        v2::set(&d, v2::STOP_COPY).unwrap();
        d.inject(Fault::at(Access::DataRead, 0, Effect::Errno(errno)));
        assert_eq!(d.data_read(&mut [0; 100]), Err(errno), "{peer:?}");
        std::thread::sleep(Duration::from_millis(60));
        match later {
            Some(later) => assert_eq!([0; 2].map(|_| d.data_read(&mut [0; 100])), [Err(later); 2], "{peer:?}"),
            None => {
                let mut out = Vec::new();
                v2::drain(&d, 1000, &mut out);
                let lost = if peer == Peer::Pds { 100 } else { 0 };
                assert_eq!(out.len() + lost, whole, "{peer:?}");
            }
        }
        assert_eq!(v2::state(&d), v2::STOP_COPY, "{peer:?}: GET still says so");
    }
}

#[test]
fn a_stream_beyond_the_image() {
    for peer in V2 {
        let (source, target) = (device(peer), fresh(peer));
        let mut bytes = stream(&source);
        let image = bytes.len();
        bytes.extend([0; 10]);
        v2::set(&target, v2::RESUMING).unwrap();
        let first = target.data_write(&bytes);
        match peer.config().habits.beyond {
            Beyond::NoMemory => {
                assert_eq!(first, Err(libc::ENOMEM), "{peer:?}");
                assert_eq!(target.data_write(&bytes[..image]), Ok(image), "nothing was taken");
            }
            Beyond::Short => {
                assert_eq!(first, Ok(image), "{peer:?}");
                assert_eq!(target.data_write(&[0]), Err(libc::EINVAL));
            }
            Beyond::NoBound => {}
        }
    }
}

/// What the first bad write says, what the next one, and what leaving RESUMING.
#[test]
fn a_refused_write_and_what_comes_after_it() {
    for (peer, first, next, end) in [
        (Peer::Mlx5, Err(libc::EIO), Err(libc::ENODEV), Ok(v2::STOP)),
        (Peer::Virtio, Err(libc::EOPNOTSUPP), Err(libc::ENODEV), Ok(v2::STOP)),
        (Peer::HisiAcc, Err(libc::EFAULT), Err(libc::EFAULT), Ok(v2::STOP)),
        (Peer::Qat, Err(libc::EINVAL), Ok(10), Ok(v2::STOP)),
        (Peer::Mtty, Err(libc::EFAULT), Ok(10), Ok(v2::STOP)),
        (Peer::Pds, Err(libc::EINVAL), Err(libc::ENODEV), Ok(v2::STOP)),
    ] {
        let d = fresh(peer);
        v2::set(&d, v2::RESUMING).unwrap();
        assert_eq!(d.data_write(&[7; 40]), first, "{peer:?}");
        assert_eq!(d.data_write(&[7; 10]), next, "{peer:?}");
        assert_eq!(v2::set(&d, v2::STOP).map(|_| v2::state(&d)), end, "{peer:?}");
        if end.is_ok() && peer != Peer::Pds {
            assert!(d.violations().iter().any(|v| v.rule == "F6"), "{peer:?}: nobody but the judge sees it");
        }
    }
}

#[test]
fn a_cut_stream() {
    for (peer, end) in [
        (Peer::Mlx5, Ok(())),
        (Peer::Virtio, Ok(())),
        (Peer::HisiAcc, Err(libc::EINVAL)),
        (Peer::Qat, Err(libc::EINVAL)),
        (Peer::Mtty, Err(libc::EINVAL)),
        (Peer::Pds, Ok(())),
        (Peer::LibvfioUserV2, Err(libc::EINVAL)),
        (Peer::Xe, Err(libc::ETIMEDOUT)),
    ] {
        let bytes = stream(&device(peer));
        let d = fresh(peer);
        v2::set(&d, v2::RESUMING).unwrap();
        let half = bytes.len() / 2;
        v2::write_all(&d, &bytes[..half], 100).unwrap();
        let begun = Instant::now();
        assert_eq!(v2::set(&d, v2::STOP).map(drop), end, "{peer:?}");
        if end.is_err() {
            assert_eq!(v2::state(&d), v2::RESUMING, "{peer:?}");
            let alive = d.data_write(&bytes[half..]);
            match peer {
                Peer::Xe => {
                    assert!(begun.elapsed() >= Duration::from_millis(90));
                    assert_eq!(alive, Err(libc::ENODEV));
                }
                _ => assert_eq!(
                    alive.map(|_| v2::set(&d, v2::STOP).is_ok()),
                    Ok(true),
                    "{peer:?}: the rest makes it whole"
                ),
            }
        }
    }
}

#[test]
fn xe_is_not_left_before_the_end() {
    let d = device(Peer::Xe);
    v2::set(&d, v2::STOP_COPY).unwrap();
    d.data_read(&mut [0; 100]).unwrap();
    for _ in 0..2 {
        assert_eq!(v2::set(&d, v2::RUNNING), Err(libc::EIO));
        assert_eq!((v2::state(&d), d.data_read(&mut [0; 100])), (v2::STOP_COPY, Err(libc::ENODEV)));
    }
    d.reset().unwrap();
    stream(&d);
    v2::set(&d, v2::RUNNING).unwrap();
}

#[test]
fn a_state_may_lie() {
    for (peer, step) in [(Peer::Qat, State::RunningP2p), (Peer::HisiAcc, State::Stop), (Peer::Xe, State::RunningP2p)] {
        let d = device(peer);
        d.inject(Fault::at(Access::Enter(step), 0, Effect::Errno(libc::ETIMEDOUT)));
        assert_eq!(v2::set(&d, v2::STOP), Err(libc::ETIMEDOUT));
        assert_eq!((v2::state(&d), d.stands_still()), (v2::RUNNING, true));
        assert_eq!(d.dma_write(1), Err(libc::EBUSY));
        v2::set(&d, v2::RUNNING).unwrap();
        assert!(d.stands_still(), "nothing happens on the way to where it is");
        v2::set(&d, step.number()).unwrap();
        v2::set(&d, v2::RUNNING).unwrap();
        assert!(!d.stands_still());
        d.dma_write(1).unwrap();
    }
}

#[test]
fn a_dead_stream_in_pre_copy() {
    let d = device(Peer::Mlx5);
    v2::set(&d, v2::PRE_COPY).unwrap();
    d.inject(Fault::at(Access::PrecopyInfo, 0, Effect::Errno(libc::EINTR)));
    assert_eq!(v2::info(&d), Err(libc::EINTR));
    assert_eq!((v2::info(&d), d.data_read(&mut [0; 9])), (Err(libc::ENODEV), Err(libc::ENODEV)));
    for to in [v2::RUNNING, v2::STOP_COPY, v2::RUNNING] {
        assert_eq!(v2::set(&d, to), Err(libc::ENODEV));
        assert_eq!(v2::state(&d), v2::PRE_COPY);
    }
    d.dma_write(1).unwrap();
    assert!(!d.stands_still(), "the guest's device runs on");
    d.reset().unwrap();
    assert_eq!(v2::state(&d), v2::RUNNING);
}

#[test]
fn virtio_begins_again_for_ever() {
    let d = device(Peer::Virtio);
    v2::set(&d, v2::PRE_COPY).unwrap();
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(v2::info(&d).is_ok_and(|(_, initial, dirty)| initial + dirty > 0));
        v2::drain(&d, 1000, &mut out);
        assert_eq!(v2::info(&d), Ok((0, 0, 0)));
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(out.len() > 3 * 1400, "{}", out.len());
}

#[test]
fn sizes() {
    for (peer, longer) in [(Peer::Mlx5, true), (Peer::Virtio, true), (Peer::Xe, true), (Peer::Pds, false)] {
        let d = device(peer);
        let (size, whole) = (v2::size(&d).unwrap(), stream(&d).len() as u64);
        assert_eq!((size < whole, size == whole), (longer, !longer), "{peer:?}");
    }
    for peer in [Peer::HisiAcc, Peer::Qat, Peer::Mtty] {
        let d = device(peer);
        let size = v2::size(&d).unwrap();
        v2::set(&d, v2::PRE_COPY).unwrap();
        let mut out = Vec::new();
        v2::drain(&d, 1000, &mut out);
        assert!(!out.is_empty());
        out.extend(stream(&d));
        assert_eq!((v2::size(&d), out.len() as u64), (Ok(size), size), "{peer:?}: pre-copy is contained in it");
    }
    assert_eq!(v2::size(&device(Peer::LibvfioUserV2)), Err(libc::ENOTTY));
    let d = habits(Habits { initial_stays: true, ..Habits::PLAIN });
    v2::set(&d, v2::PRE_COPY).unwrap();
    let before = v2::info(&d).unwrap().1;
    let read = d.data_read(&mut [0; 100]).unwrap();
    assert!(read > 0 && v2::info(&d).unwrap().1 >= before);
}

#[test]
fn what_a_reset_leaves() {
    let d = device(Peer::LibvfioUserV2);
    v2::set(&d, v2::PRE_COPY).unwrap();
    d.reset().unwrap();
    assert_eq!(v2::state(&d), v2::PRE_COPY);
    v2::set(&d, v2::STOP_COPY).unwrap();
    assert_eq!((d.reset(), v2::state(&d)), (Err(libc::EINVAL), v2::STOP_COPY));
    for peer in [Peer::SpdkV1, Peer::LibvfioUserV1] {
        let d = device(peer);
        let c = Client::open(&d, false, 1000);
        c.state(RUNNING | SAVING).unwrap();
        d.reset().unwrap();
        assert_eq!(c.get(0), 1);
        c.state(0).unwrap();
        assert_eq!((d.reset(), c.get(0)), (Err(libc::EINVAL), 0));
    }
}

#[test]
fn a_second_load_without_a_reset() {
    for (peer, seen) in [(Peer::HisiAcc, true), (Peer::Qat, true), (Peer::Xe, true), (Peer::Mlx5, false)] {
        let bytes = stream(&device(peer));
        for reset in [false, true] {
            let d = fresh(peer);
            for _ in 0..2 {
                v2::set(&d, v2::RESUMING).unwrap();
                v2::write_all(&d, &bytes, 1000).unwrap();
                v2::set(&d, v2::RUNNING).unwrap();
                if reset {
                    d.reset().unwrap();
                }
            }
            assert_eq!(d.violation_count() > 0, seen && !reset, "{peer:?}");
        }
    }
    // A partial record is the begin of the next stream.
    let bytes = stream(&device(Peer::Xe));
    let d = fresh(Peer::Xe);
    v2::set(&d, v2::RESUMING).unwrap();
    v2::write_all(&d, &bytes[..10], 10).unwrap();
    v2::set(&d, v2::STOP).unwrap_err();
    d.reset().unwrap();
    v2::set(&d, v2::RESUMING).unwrap();
    v2::write_all(&d, &bytes, 1000).unwrap();
    v2::set(&d, v2::STOP).unwrap();
}

#[test]
fn open_finds_running() {
    for (peer, state) in [(Peer::Mlx5, v2::RUNNING), (Peer::Mtty, v2::STOP_COPY), (Peer::LibvfioUserV2, v2::STOP_COPY)]
    {
        let d = device(peer);
        drop({
            let transport = d.transport();
            v2::set(&d, v2::STOP_COPY).unwrap();
            transport
        });
        let _again = d.transport();
        assert_eq!(v2::state(&d), state, "{peer:?}");
    }
}

#[test]
fn logs_differ() {
    let start = |d: &Device, page_size: u64, ranges: &[[u64; 2]]| {
        let mut payload = [0u8; 24];
        payload[..8].copy_from_slice(&page_size.to_ne_bytes());
        payload[8..12].copy_from_slice(&(ranges.len() as u32).to_ne_bytes());
        payload[16..].copy_from_slice(&(ranges.as_ptr() as u64).to_ne_bytes());
        v2::feature(d, 6 | v2::SET, &mut payload).map(|()| u64::from_ne_bytes(payload[..8].try_into().unwrap()))
    };
    let stop = |d: &Device| v2::feature(d, 7 | v2::SET, &mut []);
    let range = [[0u64, 1 << 30]];
    let d = device(Peer::Mlx5);
    assert_eq!(start(&d, 1 << 30, &range), Ok(1 << 30), "pages up to 1 GiB");
    assert_eq!(start(&d, 4096, &range), Err(libc::EINVAL));
    assert!(d.violation_count() > 0, "the client knew");
    let d = device(Peer::Mlx5);
    d.leave_dma_log_on(4096, &[(0, 4096)]);
    assert_eq!(start(&d, 4096, &range), Err(libc::EINVAL));
    stop(&d).unwrap();
    start(&d, 4096, &range).unwrap();
    d.inject(Fault::at(Access::DmaLogStop, 1, Effect::Errno(libc::EIO)));
    assert_eq!((stop(&d), d.dma_logging()), (Err(libc::EIO), true), "a STOP that fails once");
    assert_eq!(start(&d, 4096, &range), Err(libc::EINVAL));
    stop(&d).unwrap();
    start(&d, 4096, &range).unwrap();
    d.assert_clean();
    assert_eq!(start(&device(Peer::Mlx5), 4096, &[[0, 4096]; 17]), Err(libc::E2BIG));
    assert_eq!(start(&device(Peer::Pds), 1 << 20, &range), Ok(1 << 20), "echoed");
    assert_eq!(start(&device(Peer::Pds), 4096, &[[0, 65 * 4096]]), Err(libc::EINVAL), "not whole words");
    let d = device(Peer::Mtty);
    assert_eq!([0; 2].map(|_| start(&d, 4096, &range)), [Ok(4096); 2]);
    let log = DmaLog { restart: Restart::Refused(libc::EEXIST), ..DmaLog::default() };
    let d = Device::new(Config { dma_log: Some(log), ..Config::default() });
    d.leave_dma_log_on(4096, &[(0, 4096)]);
    assert_eq!(start(&d, 4096, &range), Err(libc::EEXIST));
}

#[test]
fn the_v1_iteration_ends_with_each_write_of_device_state() {
    for peer in [Peer::LibvfioUserV1, Peer::SpdkV1] {
        let d = device(peer);
        let c = Client::open(&d, true, 1000);
        c.state(RUNNING | SAVING).unwrap();
        assert!(c.pending() > 0);
        c.state(SAVING).unwrap();
        assert_eq!(d.region_read(R, 0x10, &mut [0; 8]), Err(libc::EINVAL), "{peer:?}");
        assert!(c.pending() > 0);
        c.offset();
    }
    let d = device(Peer::LibvfioUserV1);
    let c = Client::open(&d, false, 1000);
    c.state(RUNNING | SAVING).unwrap();
    c.drain();
    d.redirty(3).unwrap();
    assert_eq!(c.pending(), 0, "0 stays until device_state is written");
    c.state(SAVING).unwrap();
    assert!(c.drain().iter().any(|segment| segment.len() % 8 != 0), "lengths are no multiples of 8");
    assert_eq!(d.region_write(R, 0, &[1; 8]), Err(libc::EINVAL), "device_state has 4 bytes");
}

#[test]
fn libvfio_user_goes_from_resuming_to_running_only() {
    let d = device(Peer::LibvfioUserV1);
    let c = Client::open(&d, false, 1000);
    c.state(RESUMING).unwrap();
    assert_eq!(c.state(0), Err(libc::EINVAL));
    c.state(RESUMING).unwrap();
}

#[test]
fn spdk_has_one_segment_behind_a_mapping() {
    let (source, target) = (device(Peer::SpdkV1), fresh(Peer::SpdkV1));
    let c = Client::open(&source, true, 1000);
    c.state(RUNNING | SAVING).unwrap();
    let total = c.pending();
    assert!(total > 3000);
    assert_eq!((c.offset(), c.size(), c.pending()), (0, 0, total), "nothing in pre-copy, for ever");
    c.state(SAVING).unwrap();
    assert_eq!(source.region_read(R, 4096, &mut [0; 8]), Err(libc::EOPNOTSUPP));
    let segments = c.drain();
    assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [total as usize]);
    let t = Client::open(&target, true, 1000);
    t.state(RESUMING).unwrap();
    let at = t.offset();
    t.write_data(at, &segments[0]).unwrap();
    assert_eq!(t.put(0x18, total - 1), Err(libc::EINVAL));
    let t = Client::open(&target, true, 1000);
    target.reset().unwrap();
    t.load(&segments).unwrap();
    t.state(RUNNING).unwrap();
    assert!(target.same_content(&source));
    assert_eq!(target.region_read(R, 0x10, &mut [0; 8]), Ok(8));
}

#[test]
fn a_drafts_data_offset_shows_what_was_asked_for_last() {
    let config = Config::draft(DraftForm::Rewrite).state_size(3000).seeded(1);
    let d = Device::new(Config { habits: Habits { offset_follows: true, ..Habits::PLAIN }, ..config });
    let c = Client::open(&d, false, 1000);
    c.state(RUNNING | SAVING).unwrap();
    d.dma_write(3).unwrap();
    assert!(c.pending() > 0);
    assert_eq!(c.dirty(0, 4096, 64, true), [3]);
    assert_eq!(c.segment(), [8, 0, 0, 0, 0, 0, 0, 0], "the bitmap once more");
    assert!(d.violations().iter().any(|v| v.rule == "D3"));
    assert!(c.pending() > 0);
    assert!(c.segment().len() > 8);
}

#[test]
fn small_regions() {
    for size in [0, 16, 31] {
        let config = Config::v1(simdev::Window::Trapped);
        let d = Device::new(Config { habits: Habits { region_size: Some(size), ..Habits::PLAIN }, ..config });
        assert_eq!(Client::open(&d, false, 1000).size, size);
    }
}

#[test]
fn an_empty_stop_copy() {
    let config = Config { precopy: simdev::Precopy::Everything, ..Config::default() };
    let d =
        Device::new(Config { habits: Habits { ends_in_precopy: true, ..Habits::PLAIN }, ..config }.state_size(3072));
    v2::set(&d, v2::PRE_COPY).unwrap();
    let mut out = Vec::new();
    v2::drain(&d, 1000, &mut out);
    v2::set(&d, v2::STOP_COPY).unwrap();
    assert_eq!(d.data_read(&mut [0; 100]), Ok(0));
    v2::set(&d, v2::STOP).unwrap();
    v2::set(&d, v2::RESUMING).unwrap();
    v2::write_all(&d, &out, 100).unwrap();
    v2::set(&d, v2::STOP).unwrap();
    d.assert_clean();
}

#[test]
fn bytes_that_were_taken_before_an_error() {
    let whole = stream(&habits(Habits::PLAIN)).len();
    let d = habits(Habits::PLAIN);
    d.inject(Fault::at(Access::DataRead, 0, Effect::ErrnoMoved(libc::EIO)));
    v2::set(&d, v2::STOP_COPY).unwrap();
    assert_eq!(d.data_read(&mut [0; 100]), Err(libc::EIO));
    let mut out = Vec::new();
    v2::drain(&d, 1000, &mut out);
    assert_eq!(out.len() + 100, whole);
}

/// Streams of all peers of one protocol load in each other, where their vendors are set aside.
#[test]
fn every_pair() {
    for from in V2 {
        for to in V2.into_iter().filter(|to| from.streams_to(*to)) {
            let (source, target) = (device(from), fresh(to));
            let bytes = stream(&source);
            v2::set(&target, v2::RESUMING).unwrap();
            v2::write_all(&target, &bytes, 700).unwrap();
            v2::set(&target, v2::RUNNING).unwrap();
            assert!(target.same_content(&source), "{from:?} to {to:?}");
            target.assert_clean();
        }
    }
    assert!(!Peer::SpdkV1.streams_to(Peer::LibvfioUserV1) && !Peer::Mlx5.streams_to(Peer::SpdkV1));
    assert!(Peer::Pds.streams_to(Peer::Mlx5) && !Peer::Mlx5.streams_to(Peer::Pds));
}

/// What would hurt a host aborts the test: a child does it.
#[test]
fn requests_that_would_hurt_a_host_abort() {
    const WHAT: &str = "SIMDEV_HURT";
    match std::env::var(WHAT).as_deref() {
        Ok("dead fd") => {
            let d = fresh(Peer::Virtio);
            v2::set(&d, v2::RESUMING).unwrap();
            d.reset().unwrap();
            let _ = d.data_write(&[0; 10]);
        }
        Ok("after EIO") => {
            let d = device(Peer::Mlx5);
            v2::set(&d, v2::PRE_COPY).unwrap();
            d.inject(Fault::at(Access::Enter(State::Running), 0, Effect::Errno(libc::EIO)));
            assert_eq!(v2::set(&d, v2::RUNNING), Err(libc::EIO));
            assert_eq!(v2::state(&d), v2::PRE_COPY, "a GET is harmless");
            let _ = v2::set(&d, v2::RUNNING);
        }
        Ok("refused header") => {
            let d = fresh(Peer::Xe);
            v2::set(&d, v2::RESUMING).unwrap();
            assert_eq!(d.data_write(&[7; 40]), Err(libc::EINVAL));
            let _ = d.data_write(&[7; 10]);
        }
        Ok("closed device") => {
            let d = device(Peer::Qat);
            let transport = d.transport();
            v2::set(&d, v2::STOP_COPY).unwrap();
            let mut data = transport.open_data(Some(Returned::Number(1000))).unwrap();
            drop(transport);
            let _ = data.read(&mut [0; 10]);
        }
        Ok("closed device of functions") => {
            let d = device(Peer::Qat);
            v2::set(&d, v2::STOP_COPY).unwrap();
            d.close_fd(true);
            let _ = d.data_read(&mut [0; 10]);
        }
        Ok(_) => {}
        Err(_) => {
            for what in ["dead fd", "after EIO", "refused header", "closed device", "closed device of functions"] {
                let program = std::env::current_exe().unwrap();
                let out = Command::new(program)
                    .args(["--exact", "requests_that_would_hurt_a_host_abort", "--nocapture"])
                    .env(WHAT, what)
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(!out.status.success() && text.contains("simdev: ABORT"), "{what}: {text}");
            }
        }
    }
}

/// libvfio-user v2 answers nothing but what a migration needs while the device is stopped.
#[test]
fn a_server_that_hides_a_stopped_device() {
    let d = device(Peer::LibvfioUserV2);
    d.allow_abort(true);
    for (state, shown) in [(v2::RUNNING, true), (v2::PRE_COPY, true), (v2::STOP_COPY, false), (v2::STOP, false)] {
        v2::set(&d, state).unwrap();
        let expected = if shown { Ok(()) } else { Err(libc::EINVAL) };
        assert_eq!(d.device_info(&mut [0; 24]), expected, "{state}");
        assert_eq!(d.region_info(&mut [0; 32]), expected, "{state}");
        assert_eq!(v2::state(&d), state);
    }
}

/// hisi_acc has a whole stream without a guest's driver: one that is cut behind the identity looks the same.
#[test]
fn an_identity_is_enough() {
    let source = device(Peer::HisiAcc);
    v2::set(&source, v2::PRE_COPY).unwrap();
    let mut identity = Vec::new();
    v2::drain(&source, 1000, &mut identity);
    let d = fresh(Peer::HisiAcc);
    let before = d.content();
    v2::set(&d, v2::RESUMING).unwrap();
    v2::write_all(&d, &identity, 100).unwrap();
    v2::set(&d, v2::STOP).unwrap();
    assert_eq!(d.content(), before, "nothing was loaded");
    assert!(d.violations().iter().any(|v| v.rule == "F7"));
}

#[test]
fn a_stream_dies_with_the_step_to_stop_copy() {
    for (peer, back) in [(Peer::Mlx5, Err(libc::ENODEV)), (Peer::Virtio, Ok(v2::RUNNING_P2P))] {
        let d = device(peer);
        d.allow_abort(true);
        v2::set(&d, v2::PRE_COPY_P2P).unwrap();
        d.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::Errno(libc::ETIMEDOUT)));
        assert_eq!(v2::set(&d, v2::STOP_COPY), Err(libc::ETIMEDOUT));
        assert_eq!((v2::state(&d), d.data_read(&mut [0; 9])), (v2::PRE_COPY_P2P, Err(libc::ENODEV)), "{peer:?}");
        assert_eq!(v2::set(&d, v2::RUNNING_P2P).map(|_| v2::state(&d)), back, "{peer:?}");
    }
}

#[test]
fn an_error_that_no_reset_ends() {
    for peer in [Peer::LibvfioUserV1, Peer::SpdkV1] {
        let d = device(peer);
        d.fail();
        assert_eq!((d.reset(), d.state()), (Err(libc::EINVAL), State::Error), "{peer:?}");
    }
}
