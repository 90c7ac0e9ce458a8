//! What is not whole, comes from a peer that is gone, silent or wrong: no guest runs with it, and there is a way back.

use super::*;

/// The devices of a load: untouched, or where a load waits for more, or LOADED behind an END that was right. Never do they run what came.
fn assert_waits(target: &Rig, load: &Migration, what: &str) {
    for state in target.states() {
        assert!([State::Running, State::Resuming, State::Stop].contains(&state), "{what}: {state}");
        assert!(state != State::Running || load.phase() == Phase::Idle, "{what}: {state} in {}", load.phase());
    }
}

/// How many bytes of a wire have gone by when a device's END has.
fn end_of(wire: &[u8], device: usize) -> usize {
    let mut input = Input::new(wire);
    loop {
        match input.next().unwrap() {
            WireRecord::End { device: ended, .. } if ended == device => break,
            WireRecord::Finish => panic!("no END of {device}"),
            _ => {}
        }
    }
    usize::try_from(input.reader().offset()).unwrap()
}

/// Wherever a wire is cut, and whichever bit of it changes: the load fails in words, no device leaves RESUMING but behind its own END that
/// came whole, and the same devices load the whole wire.
#[test]
fn a_wire_that_is_not_whole_loads_nothing() {
    let configs = [v2().state_size(90), Config::v1(Window::Trapped).state_size(90)];
    let source = Rig::source(&configs, 1);
    let (wire, _) = save_with(&source, &source.save(), SaveOptions::default()).unwrap();
    let target = Rig::target(&configs, 1);
    target.allow_abort();
    let load = target.load();
    // The table is the other way round.
    let end = end_of(&wire, 1);
    let damaged = |at: usize| {
        let flipped = |bit: usize| {
            let mut flipped = wire.clone();
            flipped[at] ^= 1 << bit;
            (at, format!("bit {bit} of byte {at} changed"), flipped)
        };
        (0..8).map(flipped).chain([(at, format!("cut at {at}"), wire[..at].to_vec())]).collect::<Vec<_>>()
    };
    for (at, what, bytes) in (0..wire.len()).flat_map(damaged) {
        let error = load_wire(&load, &bytes).expect_err(&what);
        let kinds = [ErrorKind::Incomplete, ErrorKind::Protocol, ErrorKind::Unsupported];
        assert!(kinds.contains(&error.kind()) && error.to_string().contains("wire: "), "{what}: {error}");
        assert_waits(&target, &load, &what);
        let loaded = target.fakes[0].state() == State::Stop;
        assert_eq!(loaded, at >= end, "{what}: the END of d0 ends at {end}");
        load.abort(AbortTo::Running).unwrap();
    }
    load_wire(&load, &wire).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

/// A void stream of one device makes those of the others void, and one that goes on all the same is no stream.
#[test]
fn a_stream_that_is_void_takes_the_others_along() {
    let configs = [v2(), v2()];
    let target = Rig::target(&configs, 1);
    target.allow_abort();
    let load = target.load();
    let mut out = Output::new(Vec::new(), WireOptions::default(), load.wire_table(1).unwrap()).unwrap();
    out.data(0, b"old", false).unwrap();
    out.data(1, b"old", false).unwrap();
    out.void(0).unwrap();
    out.data(0, b"new", false).unwrap();
    out.data(1, b"er", false).unwrap();
    let error = load_wire(&load, &out.into_inner()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Protocol && error.to_string().contains("d1: another device's stream"),
        "{error}"
    );
    load.abort(AbortTo::Running).unwrap();
}

/// The destination side hears why the source side ended, and does not wait.
#[test]
fn a_source_that_fails_says_why() {
    let source = Rig::source(&[v2()], 1);
    source.allow_abort();
    let save = source.save();
    let mut out = outputs(&save);
    let failed = save.save_to(&mut out, SaveOptions::default(), &mut |step, _| match step {
        SaveStep::Last => Err(Error::new(ErrorKind::System, libc::ENOSPC, "the disk is full")),
        _ => Ok(SaveNext::Go),
    });
    assert_eq!(failed.unwrap_err().errno(), libc::ENOSPC);
    save.abort(AbortTo::Running).unwrap();
    let [out] = out;
    let target = Rig::target(&[v2()], 1);
    target.allow_abort();
    let load = target.load();
    let error = load_wire(&load, &out.into_inner()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Incomplete, libc::ECONNABORTED));
    assert!(error.to_string().contains("the source side gave up: the disk is full"), "{error}");
    load.abort(AbortTo::Running).unwrap();
}

/// A peer that is silent is waited for no longer than for any descriptor, and a cancel ends it earlier.
#[test]
fn nothing_waits_for_ever() {
    let _guard = patience(LONG);
    for nonblocking in [false, true] {
        let target = Rig::target(&[v2()], 0);
        let load = target.load();
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(nonblocking).unwrap();
        set_caller_patience(SHORT);
        let begun = Instant::now();
        let error = load.load_from(&mut [Input::new(load.wire_fd(one.as_fd()))], &[], &mut |_| Ok(())).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{error}");
        // Behind the table, too.
        let mut out = Output::new(&other, WireOptions::default(), load.wire_table(1).unwrap()).unwrap();
        out.flush().unwrap();
        let error = load.load_from(&mut [Input::new(load.wire_fd(one.as_fd()))], &[], &mut |_| Ok(())).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{error}");
        set_caller_patience(LONG);
        let mut out = Output::new(&other, WireOptions::default(), load.wire_table(1).unwrap()).unwrap();
        out.flush().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                load.cancel();
            });
            let error = load.load_from(&mut [Input::new(load.wire_fd(one.as_fd()))], &[], &mut |_| Ok(())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
        });
        assert!(begun.elapsed() < Duration::from_secs(30));
        load.abort(AbortTo::Running).unwrap();
    }
    // A save whose reader takes nothing.
    let source = Rig::source(&[v2().state_size(4 << 20)], 0);
    source.allow_abort();
    let save = source.save();
    let (one, _other) = UnixStream::pair().unwrap();
    set_caller_patience(SHORT);
    let table = save.wire_table(1).unwrap();
    let mut out = [Output::new(save.wire_fd(one.as_fd()), WireOptions::default(), table).unwrap()];
    let error = save.save_to(&mut out, SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go)).unwrap_err();
    set_caller_patience(LONG);
    assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{error}");
    save.abort(AbortTo::Running).unwrap();
    assert_eq!(source.states(), [State::Running]);
}

/// Whichever side is gone: the source side's devices run again, those of the destination side are as they were, and both can try again.
#[test]
fn a_peer_that_dies_leaves_a_way_back() {
    let _guard = patience(LONG);
    let configs = [v2().state_size(2 << 20), Config::v1(Window::Area).state_size(2 << 20)];
    let source = Rig::source(&configs, 1);
    source.allow_abort();
    let save = source.save();
    let (one, mut other) = UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || other.read_exact(&mut [0; 600_000]).unwrap());
    let table = save.wire_table(1).unwrap();
    let mut out = [Output::new(save.wire_fd(one.as_fd()), WireOptions::default(), table).unwrap()];
    let error = save.save_to(&mut out, SaveOptions::default(), &mut |_, _| Ok(SaveNext::Go)).unwrap_err();
    reader.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::System, "{error}");
    assert!([libc::EPIPE, libc::ECONNRESET].contains(&error.errno()), "{error}");
    assert_eq!((save.phase(), source.states()), (Phase::Failed, vec![State::StopCopy; 2]));
    save.abort(AbortTo::Running).unwrap();
    assert_eq!((save.phase(), source.states()), (Phase::Idle, vec![State::Running; 2]));

    let (wire, _) = save_with(&source, &save, SaveOptions::default()).unwrap();
    let target = Rig::target(&configs, 1);
    target.allow_abort();
    let load = target.load();
    let (one, mut other) = UnixStream::pair().unwrap();
    let half = wire[..wire.len() / 2].to_vec();
    let writer = std::thread::spawn(move || other.write_all(&half).unwrap());
    let error = load.load_from(&mut [Input::new(load.wire_fd(one.as_fd()))], &[], &mut |_| Ok(())).unwrap_err();
    writer.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
    assert!(error.to_string().contains("the wire was cut"), "{error}");
    assert_eq!(target.states(), [State::Resuming; 2]);
    load.abort(AbortTo::Running).unwrap();
    assert_eq!((load.phase(), target.states()), (Phase::Idle, vec![State::Running; 2]));
    load_wire(&load, &wire).unwrap();
    load.advance(Phase::LoadRunning).unwrap();
    assert!(target.fakes.iter().zip(&source.fakes).all(|(a, b)| a.same_content(b)));
}

/// What is no wire touches no device; what is one up to its table, none beyond where a load begins; a right wire with a state that is none
/// is refused by the device, which then can load another one.
#[test]
fn nonsense_is_refused_where_it_is_seen() {
    let source = Rig::source(&[v2()], 1);
    let (wire, _) = save_with(&source, &source.save(), SaveOptions::default()).unwrap();
    let target = Rig::target(&[v2()], 1);
    target.allow_abort();
    let load = target.load();
    for (what, bytes) in [
        ("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n and more of it".to_vec()),
        ("zeros", vec![0; 1 << 20]),
        ("ones", vec![0xff; 1 << 20]),
        ("nothing", vec![]),
    ] {
        let error = load_wire(&load, &bytes).expect_err(what);
        assert!([ErrorKind::Protocol, ErrorKind::Incomplete].contains(&error.kind()), "{what}: {error}");
        assert!(load.phase() == Phase::Idle && target.fakes[0].transitions().is_empty(), "{what}");
    }
    // The preamble has 48 bytes, a header 36, whose payload is the table.
    let table_ends = 48 + 36 + u32::from_le_bytes(wire[56..60].try_into().unwrap()) as usize;
    for tail in [vec![0; 4096], vec![0xff; 4096], wire[48..table_ends].to_vec()] {
        let error = load_wire(&load, &[&wire[..table_ends], &tail].concat()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert_eq!((load.phase(), target.states()), (Phase::LoadResuming, vec![State::Resuming]));
        load.abort(AbortTo::Running).unwrap();
    }
    let (mut input, mut stream) = (Input::new(&wire[..]), Vec::new());
    loop {
        match input.next().unwrap() {
            WireRecord::Data { bytes, .. } => stream.extend_from_slice(bytes),
            WireRecord::Finish => break,
            _ => {}
        }
    }
    stream.truncate(stream.len() / 2);
    // Seen as it comes, and behind the END.
    for (stream, phase) in [(vec![0x5a; 5000], Phase::LoadResuming), (stream, Phase::Failed)] {
        let mut out = Output::new(Vec::new(), WireOptions::default(), load.wire_table(1).unwrap()).unwrap();
        out.data(0, &stream, false).unwrap();
        out.end(0).unwrap();
        out.finish().unwrap();
        let error = load_wire(&load, &out.into_inner()).unwrap_err();
        assert!(error.kind() == ErrorKind::Device && error.to_string().contains("d0"), "{error}");
        assert_eq!(load.phase(), phase, "{error}");
        load.abort(AbortTo::Running).unwrap();
        assert_eq!(target.states(), [State::Running]);
    }
    load_wire(&load, &wire).unwrap();
    assert!(target.fakes[0].same_content(&source.fakes[0]));
}
