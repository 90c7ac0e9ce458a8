//! Descriptors of the caller that are not ready: no call waits for them for ever, and no state change waits for such a call.

#![allow(clippy::incompatible_msrv, reason = "std::io::pipe: tests are built by the newest toolchain")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/rig.rs"]
mod rig;

use rig::Rig;
use simdev::Config;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use vfiomig::dialect::Caps;
use vfiomig::error::ErrorKind;
use vfiomig::internals::set_caller_patience;
use vfiomig::migration::{AbortTo, Phase};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

/// Ends to write to and to read from: a socket and a pipe, both in blocking mode.
fn channels() -> Vec<(OwnedFd, OwnedFd)> {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    vec![(a.into(), b.into()), (writer.into(), reader.into())]
}

fn config() -> Config {
    Config::v2(Caps { p2p: true, pre_copy: true }).state_size(4 << 20)
}

/// A peer that stalls: what it took is counted, the rest stays in the stream, and the state change of another thread gets through.
#[test]
fn a_stalled_reader_holds_neither_the_call_nor_the_device() {
    for (to, from) in channels() {
        set_caller_patience(Duration::from_millis(700));
        let source = Rig::source(&[config()], 1);
        source.allow_abort();
        let save = source.save();
        save.advance(Phase::SaveStopCopy).unwrap();
        let device = &source.devices[0];
        let begun = Instant::now();
        let failure = loop {
            if let Err(failure) = device.send(to.as_fd(), 0) {
                break failure;
            }
        };
        assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::EAGAIN), "{failure}");
        assert!(
            (Duration::from_millis(700)..Duration::from_secs(5)).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        let sent = device.info().saved_bytes;
        assert!(sent > 0 && sent < 4 << 20);
        // Nothing was lost: another descriptor gets the rest.
        let rest = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(from).read_to_end(&mut all).map(|_| all.len() as u64).unwrap()
        });
        while device.send(to.as_fd(), 0).unwrap() != (0, END) {}
        drop(to);
        assert_eq!(rest.join().unwrap(), device.info().saved_bytes);
    }
}

/// The wait for a reader or a writer ends with a cancel, and an abort does not wait for it.
#[test]
fn a_cancel_ends_the_wait_for_a_descriptor() {
    for (to, from) in channels() {
        let (source, target) = (Rig::source(&[config()], 1), Rig::target(&[config()], 1));
        source.allow_abort();
        target.allow_abort();
        let (save, load) = (source.save(), target.load());
        save.advance(Phase::SaveStopCopy).unwrap();
        load.advance(Phase::LoadResuming).unwrap();
        std::thread::scope(|scope| {
            let receiving = scope.spawn(|| target.devices[0].receive(from.as_fd(), 100, false));
            std::thread::sleep(Duration::from_millis(150));
            load.cancel();
            let begun = Instant::now();
            assert_eq!(receiving.join().unwrap().unwrap_err().kind(), ErrorKind::Canceled);
            load.abort(AbortTo::Running).unwrap();
            let sending = scope.spawn(|| {
                loop {
                    if let Err(failure) = source.devices[0].send(to.as_fd(), 0) {
                        return failure;
                    }
                }
            });
            std::thread::sleep(Duration::from_millis(150));
            save.cancel();
            assert_eq!(sending.join().unwrap().kind(), ErrorKind::Canceled);
            save.abort(AbortTo::Running).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        });
    }
}

/// A descriptor in non-blocking mode says EAGAIN at once, and so does an empty one to read from.
#[test]
fn non_blocking_descriptors_are_not_waited_for() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    let (source, target) = (Rig::source(&[config()], 1), Rig::target(&[config()], 1));
    source.allow_abort();
    target.allow_abort();
    let (save, load) = (source.save(), target.load());
    save.advance(Phase::SaveStopCopy).unwrap();
    load.advance(Phase::LoadResuming).unwrap();
    let begun = Instant::now();
    let failure = target.devices[0].receive(b.as_fd(), 100, false).unwrap_err();
    assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::EAGAIN), "{failure}");
    let full = (0..4096).find_map(|_| source.devices[0].send(a.as_fd(), 0).err()).unwrap();
    assert_eq!((full.kind(), full.errno()), (ErrorKind::System, libc::EAGAIN), "{full}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}
