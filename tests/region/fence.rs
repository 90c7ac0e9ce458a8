//! What a failed call of a load leaves: a session that goes on where nothing of the call was taken, else one that only a reset
//! ends. Rules: F6, P4, V1-9.

use super::*;

/// How the bytes of one whole segment are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hand {
    Write,
    Commit,
    Receive,
}

fn hand_over(to: &Device, hand: Hand, segment: &[u8]) -> Result<(), Error> {
    match hand {
        Hand::Write => to.write(segment, true),
        Hand::Commit => {
            let room = to.reserve_raw(segment.len() as u64)?;
            assert_eq!(room.len, segment.len());
            // SAFETY: the library lends `room.len` bytes.
            unsafe { std::ptr::copy_nonoverlapping(segment.as_ptr(), room.data, room.len) };
            to.commit_raw(room.len, true)
        }
        Hand::Receive => {
            let (mut near, far) = UnixStream::pair().unwrap();
            near.write_all(segment).unwrap();
            to.receive(far.as_fd(), segment.len(), true).map(|got| assert_eq!(got, segment.len()))
        }
    }
}

/// The stream of a device, segment by segment.
fn segments_of(from: &Device) -> Vec<Vec<u8>> {
    let mut segments = vec![Vec::new()];
    let mut buf = vec![0; 9000];
    loop {
        let (n, flags) = from.read(&mut buf).unwrap();
        if flags.contains(END) {
            segments.pop();
            return segments;
        }
        segments.last_mut().unwrap().extend(&buf[..n]);
        if flags.contains(SEGMENT_END) {
            segments.push(Vec::new());
        }
    }
}

/// A register that is taken short is a refusal like any other, and a failure before anything was taken is
/// none at all.
#[test]
fn a_load_is_broken_by_what_may_have_moved_and_by_nothing_else() {
    let errno = Effect::Errno;
    // Access, its fault, what a call by write, commit and receive leaves: true if the session goes on.
    let cases = [
        (Access::DataOffsetRead, errno(libc::EIO), [true, true, true]),
        (Access::DataOffsetRead, Effect::Lie(0), [true, true, true]),
        (Access::DataOffsetRead, Effect::Short(4), [true, true, true]),
        // The bytes that came out of a socket cannot be read from it again.
        (Access::DataWrite, errno(libc::EAGAIN), [true, true, false]),
        (Access::DataWrite, errno(libc::EIO), [false, false, false]),
        (Access::DataWrite, Effect::Short(0), [false, false, false]),
        (Access::DataSizeWrite, errno(libc::EAGAIN), [false, false, false]),
        (Access::DataSizeWrite, errno(libc::EIO), [false, false, false]),
        (Access::DataSizeWrite, Effect::Short(4), [false, false, false]),
        (Access::DataSizeWrite, Effect::Short(0), [false, false, false]),
    ];
    let hands = [Hand::Write, Hand::Commit, Hand::Receive];
    for (access, effect, goes_on) in cases {
        for (hand, goes_on) in hands.into_iter().zip(goes_on) {
            for nth in 0..2 {
                let what = format!("{hand:?} {access:?} {nth} {effect:?}");
                // Each segment fits into one access.
                let pair = Pair::new(&Config::v1(Window::Trapped).state_size(9000), Quirks::default());
                set(&pair.to, State::Resuming).unwrap();
                set(&pair.from, State::StopCopy).unwrap();
                let fault = pair.target.inject(Fault::at(access, nth, effect));
                let mut failed = None;
                for (number, segment) in segments_of(&pair.from).into_iter().enumerate() {
                    let outcome = match (&failed, hand_over(&pair.to, hand, &segment)) {
                        (None, Err(error)) if goes_on => {
                            // The room of a commit that failed is still out.
                            let again = match hand {
                                Hand::Commit if access == Access::DataWrite => pair.to.commit_raw(segment.len(), true),
                                _ => hand_over(&pair.to, hand, &segment),
                            };
                            failed = Some((number, error));
                            again
                        }
                        (_, outcome) => outcome,
                    };
                    if let Err(error) = outcome {
                        failed = Some((number, error));
                        break;
                    }
                }
                assert_eq!(pair.target.fault_reached(fault), 1, "{what}");
                let (number, error) = failed.unwrap_or_else(|| panic!("{what}: no failure"));
                assert_eq!(number, nth as usize, "{what}");
                if !(hand == Hand::Commit && access == Access::DataOffsetRead) {
                    let way_on = if goes_on { "can be made again" } else { "only a reset remains" };
                    assert!(error.to_string().contains(way_on), "{what}: {error}");
                }
                assert_eq!(pair.to.info().broken, !goes_on, "{what}");
                let (finish, total) =
                    (pair.to.finish(Some(pair.from.info().saved_bytes)), pair.from.info().saved_bytes);
                if goes_on {
                    finish.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(pair.to.info().loaded_bytes, total, "{what}");
                    set(&pair.to, State::Running).unwrap();
                    assert!(pair.source.same_content(&pair.target), "{what}");
                } else {
                    assert_eq!(finish.unwrap_err().kind(), ErrorKind::Stale, "{what}");
                    assert_eq!(pair.to.write(&[0; 10], true).unwrap_err().kind(), ErrorKind::Stale, "{what}");
                    assert_eq!(set(&pair.to, State::Running).unwrap_err().kind(), ErrorKind::Order, "{what}");
                    pair.to.reset().unwrap();
                    assert_eq!(pair.to.state(), State::Running);
                }
                pair.from.close().unwrap();
                pair.to.close().unwrap();
            }
        }
    }
}

/// A socket of the caller that fails loses nothing, and its text does not ask for a reset.
#[test]
fn a_failed_socket_is_not_the_devices() {
    for window in [Window::Trapped, Window::Area] {
        let pair = Pair::new(&Config::v1(window).state_size(5000), Quirks::default());
        set(&pair.to, State::Resuming).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let error = pair.to.receive(far.as_fd(), 100, true).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::EAGAIN));
        let text = error.to_string();
        assert!(text.contains("target") && text.contains("caller's fd") && !text.contains("reset"), "{text}");
        drop(near);
        // The session lives.
        set(&pair.from, State::StopCopy).unwrap();
        for segment in segments_of(&pair.from) {
            hand_over(&pair.to, Hand::Receive, &segment).unwrap();
        }
        pair.to.finish(Some(pair.from.info().saved_bytes)).unwrap();
        set(&pair.to, State::Running).unwrap();
        assert!(pair.source.same_content(&pair.target));
        pair.from.close().unwrap();
        pair.to.close().unwrap();
    }
}

/// A driver that refuses the stream when RESUMING is left says EINVAL, which is no word on what to do.
#[test]
fn a_stream_that_is_not_accepted_is_reported_as_such() {
    let v2 = Config::v2(vfiomig::dialect::Caps { p2p: true, pre_copy: true });
    for config in [Config::v1(Window::Trapped), v2] {
        let target = simdev::Device::new(Config { bad_load: simdev::BadLoad::Keep, ..config });
        let to = open(&target, "target");
        set(&to, State::Resuming).unwrap();
        to.finish(None).unwrap();
        target.inject(Fault::from(Access::StateWrite, target.count(Access::StateWrite), Effect::Errno(libc::EINVAL)));
        let error = set(&to, State::Running).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Device, libc::EINVAL));
        let text = error.to_string();
        for part in ["target", "RESUMING -> RUNNING", "did not accept the stream", "found in RESUMING"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(error.results()[0].message.contains("did not accept"), "{text}");
        target.clear_faults();
        to.reset().unwrap();
        // Elsewhere an EINVAL has nothing to do with a stream.
        target.inject(Fault::from(Access::StateWrite, target.count(Access::StateWrite), Effect::Errno(libc::EINVAL)));
        let text = set(&to, State::StopCopy).unwrap_err().to_string();
        assert!(!text.contains("stream"), "{text}");
        to.close().unwrap();
    }
}
