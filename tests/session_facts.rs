//! What a device says of its session without being asked: whether it was empty once, whether its stream is whole; and
//! `observe`, which takes over what others did to the device.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use simdev::{Config, DraftForm, Window};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, State};
use vfiomig::window::StreamFlags;

const EMPTY: StreamFlags = StreamFlags::EMPTY;
const END: StreamFlags = StreamFlags::END;

fn configs() -> Vec<Config> {
    let both = Caps { p2p: true, pre_copy: true };
    let all = [
        Config::v2(both),
        Config::v1(Window::Trapped),
        Config::v1_ndma(Window::Area),
        Config::draft(DraftForm::Rewrite),
    ];
    all.into_iter().map(|config| Config { abort_allowed: true, ..config.seeded(3).state_size(9000) }).collect()
}

fn open(device: &simdev::Device, config: &Config) -> Device {
    let dialect = match config.dialect {
        simdev::Dialect::Draft { .. } => Some(vfiomig::dialect::DialectKind::Draft),
        _ => None,
    };
    Device::new(device.transport(), DeviceOptions { name: "d".into(), dialect, ..DeviceOptions::default() }).unwrap()
}

fn go(device: &Device, to: State) {
    device.set_state(to, OnFailure::Keep, false).unwrap();
}

/// (bytes, segment_end) until EMPTY or END.
fn drain(device: &Device, until: StreamFlags) -> Vec<(Vec<u8>, bool)> {
    let mut all = Vec::new();
    loop {
        let mut buf = vec![0; 4096];
        let (len, flags) = device.read(&mut buf).unwrap();
        if len == 0 {
            assert_eq!(flags, until);
            return all;
        }
        buf.truncate(len);
        all.push((buf, flags.contains(vfiomig::window::StreamFlags::SEGMENT_END)));
    }
}

#[test]
fn a_session_tells_once_empty_and_complete() {
    for config in configs() {
        let source = simdev::Device::new(config.clone());
        let device = open(&source, &config);
        let facts = || (device.info().seen_empty, device.info().complete);
        assert_eq!(facts(), (false, false));
        go(&device, State::PreCopy);
        assert_eq!(facts(), (false, false));
        let mut all = drain(&device, EMPTY);
        assert_eq!(facts(), (true, false));
        go(&device, State::StopCopy);
        assert_eq!(facts(), (true, false), "it is the same session");
        all.extend(drain(&device, END));
        assert_eq!(facts(), (true, true));
        go(&device, State::Stop);
        assert_eq!(facts(), (false, false), "the session is over");

        let target = simdev::Device::new(Config { seed: None, ..config.clone() });
        let device = open(&target, &config);
        go(&device, State::Resuming);
        let total: usize = all.iter().map(|(bytes, _)| bytes.len()).sum();
        for (bytes, segment_end) in &all {
            device.write(bytes, *segment_end).unwrap();
        }
        assert!(device.finish(Some(total as u64 + 1)).is_err());
        assert!(!device.info().complete);
        device.finish(Some(total as u64)).unwrap();
        assert!(device.info().complete);
        assert!(device.finish(Some(1)).is_err());
        assert!(!device.info().complete, "a later and wrong count takes its place");
        device.finish(None).unwrap();
        assert!(device.info().complete);
        go(&device, State::Running);
        assert!(!device.info().complete);
        assert!(target.same_content(&source));
    }
}

#[test]
fn observe_takes_over_what_others_did() {
    for config in configs() {
        let fake = simdev::Device::new(config.clone());
        let device = open(&fake, &config);
        assert_eq!(device.observe().unwrap(), State::Running);
        go(&device, State::PreCopy);
        assert_eq!(device.observe().unwrap(), State::PreCopy);
        assert!(device.info().session_open, "nothing has changed");
        fake.reset().unwrap();
        assert_eq!(device.state(), State::PreCopy, "nobody has told");
        assert_eq!(device.observe().unwrap(), State::Running);
        assert_eq!((device.state(), device.info().session_open), (State::Running, false));
        go(&device, State::PreCopy);
    }
}

/// Who looks from another thread, at whatever moment: an end comes with all bytes that were before it.
#[test]
fn an_end_that_is_seen_has_all_bytes_before_it() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let config = Config { abort_allowed: true, ..Config::v2(Caps { p2p: false, pre_copy: false }) };
    let config = config.seeded(3).state_size(2000);
    let device = &open(&simdev::Device::new(config.clone()), &config);
    let (looks, over, total) = (&AtomicU64::new(0), &AtomicBool::new(false), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let info = device.info();
                // Of a session that is still the last one all is of that session.
                if info.complete && device.info().session == info.session {
                    assert!(info.saved_bytes >= total.load(Ordering::Relaxed), "{info:?}");
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_secs(2) {
            go(device, State::StopCopy);
            let mut sum = 0;
            loop {
                let (len, _) = device.read(&mut [0; 64]).unwrap();
                sum += len as u64;
                if len == 0 {
                    break;
                }
            }
            total.store(sum, Ordering::Relaxed);
            let seen = looks.load(Ordering::Relaxed);
            while looks.load(Ordering::Relaxed) < seen + 2 {
                assert!(!watcher.is_finished(), "who looks has ended");
                std::thread::yield_now();
            }
            go(device, State::Running);
            device.restart_stream().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}
