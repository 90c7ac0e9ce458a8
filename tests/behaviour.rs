//! What a device handle promises, through the Rust API and through the C API. Rules: families V2, F and C.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod common;

use common::doors::{Door, EMPTY, END};
use common::fake::{Call, Fake, Fault, PrecopyEnd, pattern};
use vfiomig::device::OnFailure;
use vfiomig::dialect::{Caps, State};
use vfiomig::error::ErrorKind;

both_doors! {
    whole_migrations_in_every_shape
    empty_and_end_differ
    precopy_info_comes_before_reading_on
    partial_consume_lends_the_rest_again
    chunk_lives_from_precopy_into_stop_copy
    abort_makes_the_stream_void
    second_session_is_never_appended
    complete_stream_is_not_void
    finish_decides_whether_resuming_may_be_left
    refused_write_leaves_only_reset
    failed_change_and_its_policies
    moved_without_a_descriptor
    no_descriptor_is_a_protocol_error
    changed_by_others_is_stale_once
    reprobe_takes_the_new_state
    not_migratable_has_a_reason
    any_state_is_taken_as_it_is
    reinit_counts_only_after_opt_in
    sizes_unknown_are_not_zero
    no_message_in_stop_copy_is_a_protocol_error
    zero_outside_stop_copy_is_not_the_end
    reset_is_tried_again
    reset_that_is_missing
    dead_device
    same_state_asks_nothing
}

fn stop_copy_of<D: Door>(door: &D) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = vec![0; 700];
    loop {
        let (n, flags) = door.read(&mut buf).unwrap();
        assert_eq!(n == 0, flags == END);
        if flags == END {
            return all;
        }
        all.extend(&buf[..n]);
    }
}

fn freed<D: Door>(door: D, fake: &Fake) {
    door.free();
    assert_eq!(fake.model().violations, Vec::<String>::new());
    fake.assert_sessions_closed("freed");
}

fn whole_migrations_in_every_shape<D: Door>() {
    for caps in Caps::ALL {
        for (len, max_io, buffer, end) in [
            (10_000, usize::MAX, 4096, PrecopyEnd::NoMessage),
            (10_000, 700, 4096, PrecopyEnd::Zero),
            (1, 1, 1 << 20, PrecopyEnd::Zero),
            (100_000, 5000, 65536, PrecopyEnd::NoMessage),
        ] {
            let source = Fake::new(caps, pattern(len, 1));
            let target = Fake::new(caps, pattern(len, 2));
            source.model().precopy_end = end;
            source.model().max_io = max_io;
            target.model().max_io = max_io;
            let from = D::open_with(&source, "source", buffer).unwrap();
            let to = D::open_with(&target, "target", buffer).unwrap();
            to.set_state(State::Resuming).unwrap();
            let mut total = 0;
            let mut pass = |peek: bool| loop {
                if peek {
                    let (bytes, flags) = from.peek(999).unwrap();
                    if flags != 0 {
                        return flags;
                    }
                    let fits = to.reserve(&bytes).unwrap();
                    to.commit(fits).unwrap();
                    from.consume(fits).unwrap();
                    total += fits as u64;
                } else {
                    let mut buf = vec![0; 1234];
                    let (n, flags) = from.read(&mut buf).unwrap();
                    if flags != 0 {
                        return flags;
                    }
                    to.write(&buf[..n]).unwrap();
                    total += n as u64;
                }
            };
            if caps.pre_copy {
                from.set_state(State::PreCopy).unwrap();
                assert_eq!(pass(true), EMPTY);
                if caps.p2p {
                    from.set_state(State::PreCopyP2p).unwrap();
                    assert_eq!(pass(false), EMPTY);
                }
            }
            from.set_state(State::StopCopy).unwrap();
            assert_eq!(pass(false), END);
            assert_eq!(pass(true), END, "END repeats");
            assert_eq!((total, total), (len as u64, from.info().3));
            assert_eq!(to.info().4, total);
            to.finish(Some(total)).unwrap();
            to.set_state(State::Running).unwrap();
            from.set_state(State::Stop).unwrap();
            assert_eq!(target.model().content, source.model().content);
            assert_eq!((from.info().2, to.info().2), (1, 1), "one session each");
            freed(from, &source);
            freed(to, &target);
        }
    }
}

fn empty_and_end_differ<D: Door>() {
    for end in [PrecopyEnd::NoMessage, PrecopyEnd::Zero] {
        let fake = Fake::full(300);
        fake.model().precopy_end = end;
        let door = D::open(&fake);
        door.set_state(State::PreCopy).unwrap();
        assert_eq!(door.peek(0).unwrap(), (pattern(300, 1)[..100].to_vec(), 0));
        door.consume(100).unwrap();
        for _ in 0..3 {
            assert_eq!(door.peek(0).unwrap(), (vec![], EMPTY), "F3: {end:?}");
            assert_eq!(door.read(&mut [0; 10]).unwrap(), (0, EMPTY));
        }
        door.set_state(State::StopCopy).unwrap();
        assert_eq!(stop_copy_of(&door), pattern(300, 1)[100..]);
        assert_eq!(door.peek(0).unwrap(), (vec![], END));
        freed(door, &fake);
    }
}

fn precopy_info_comes_before_reading_on<D: Door>() {
    let fake = Fake::full(300);
    fake.model().needs_info = true;
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    let mut got = 0;
    for _ in 0..4 {
        let (n, _) = door.read(&mut [0; 60]).unwrap();
        got += n;
    }
    assert_eq!(got, 100, "F4: the device offers data only after pre-copy info");
    freed(door, &fake);

    // Once it was asked, reading goes on without asking before each read.
    let fake = Fake::full(300);
    fake.model().needs_info = true;
    fake.model().max_io = 10;
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    while door.info().3 < 100 {
        door.read(&mut [0; 60]).unwrap();
    }
    assert_eq!(fake.model().calls.iter().filter(|&&c| c == Call::PrecopyInfo).count(), 1);
    let calls = fake.model().calls.clone();
    let reads = calls.iter().filter(|&&c| c == Call::Read).count();
    // C5: where the device says 0 and 0, it is not read in vain.
    assert_eq!(door.read(&mut [0; 60]).unwrap(), (0, EMPTY));
    assert_eq!(door.read(&mut [0; 60]).unwrap(), (0, EMPTY));
    let reads_after = fake.model().calls.iter().filter(|&&c| c == Call::Read).count();
    assert!(reads_after <= reads + 1, "{:?}", fake.model().calls);
    freed(door, &fake);
}

fn partial_consume_lends_the_rest_again<D: Door>() {
    let fake = Fake::full(3000);
    let door = D::open(&fake);
    door.set_state(State::StopCopy).unwrap();
    let mut all: Vec<u8> = Vec::new();
    let mut step = 0;
    loop {
        let (bytes, flags) = door.peek(0).unwrap();
        if flags == END {
            break;
        }
        let busy = door.peek(0).unwrap_err();
        assert!(busy.is(ErrorKind::Busy) && busy.errno == libc::EBUSY, "one chunk at a time");
        assert!(door.read(&mut [0; 10]).unwrap_err().is(ErrorKind::Busy));
        let much = door.consume(bytes.len() + 1).unwrap_err();
        assert!(much.is(ErrorKind::Argument), "{much:?}");
        let take = (step * 37) % (bytes.len() + 1);
        all.extend(&bytes[..take]);
        door.consume(take).unwrap();
        assert!(door.consume(1).unwrap_err().is(ErrorKind::Order), "no chunk is out");
        step += 1;
    }
    assert_eq!(all, pattern(3000, 1));
    freed(door, &fake);
}

fn chunk_lives_from_precopy_into_stop_copy<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    let (bytes, _) = door.peek(80).unwrap();
    door.set_state(State::StopCopy).unwrap();
    door.consume(50).unwrap();
    let mut all = bytes[..50].to_vec();
    all.extend(stop_copy_of(&door));
    assert_eq!(all, pattern(300, 1), "what was read in PRE_COPY and not consumed comes first");
    freed(door, &fake);
}

fn abort_makes_the_stream_void<D: Door>() {
    for chunk_out in [false, true] {
        let fake = Fake::full(300);
        let door = D::open(&fake);
        door.set_state(State::PreCopy).unwrap();
        if chunk_out {
            door.peek(10).unwrap();
        } else {
            door.read(&mut [0; 10]).unwrap();
        }
        door.set_state(State::Running).unwrap();
        for failure in [
            door.peek(0).unwrap_err(),
            door.read(&mut [0; 10]).unwrap_err(),
            door.consume(1).unwrap_err(),
            door.consume(0).unwrap_err(),
        ] {
            assert!(failure.is(ErrorKind::Stale) && failure.errno == libc::ESTALE, "{failure:?}");
        }
        assert!(!door.info().5);
        freed(door, &fake);
    }
}

fn second_session_is_never_appended<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    door.read(&mut [0; 10]).unwrap();
    // Pause and cont in the middle of a migration: STOP_COPY, then RUNNING, and at the end STOP_COPY again.
    door.set_state(State::StopCopy).unwrap();
    door.set_state(State::Running).unwrap();
    door.set_state(State::StopCopy).unwrap();
    assert!(door.peek(0).unwrap_err().is(ErrorKind::Stale));
    assert_eq!(door.info().2, 2, "the second session is open, but not readable");
    door.restart_stream().unwrap();
    assert_eq!(stop_copy_of(&door), pattern(300, 1));
    freed(door, &fake);

    // A session of which nothing was taken leaves nothing void.
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    door.set_state(State::Running).unwrap();
    door.set_state(State::StopCopy).unwrap();
    assert_eq!(stop_copy_of(&door), pattern(300, 1));
    freed(door, &fake);
}

/// STOP is where a whole stream ends. Let run from its END, the device is in another state than the stream says.
fn complete_stream_is_not_void<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    for _ in 0..2 {
        door.set_state(State::StopCopy).unwrap();
        assert_eq!(stop_copy_of(&door), pattern(300, 1));
        door.set_state(State::Stop).unwrap();
        door.set_state(State::Running).unwrap();
    }
    door.set_state(State::StopCopy).unwrap();
    assert_eq!(stop_copy_of(&door), pattern(300, 1));
    door.set_state(State::Running).unwrap();
    door.set_state(State::StopCopy).unwrap();
    assert!(door.read(&mut [0; 10]).unwrap_err().is(ErrorKind::Stale));
    assert!(door.restart_stream().is_ok());
    assert_eq!(stop_copy_of(&door), pattern(300, 1));
    door.set_state(State::Running).unwrap();
    assert!(door.restart_stream().is_ok());
    door.set_state(State::StopCopy).unwrap();
    door.read(&mut [0; 10]).unwrap();
    assert!(door.restart_stream().unwrap_err().is(ErrorKind::Order), "bytes of this session were taken already");
    freed(door, &fake);
}

fn finish_decides_whether_resuming_may_be_left<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    assert!(door.write(&[0; 10]).unwrap_err().is(ErrorKind::Order));
    assert!(door.finish(Some(0)).unwrap_err().is(ErrorKind::Order));
    door.set_state(State::Resuming).unwrap();
    let data = pattern(300, 9);
    door.write(&data[..200]).unwrap();
    for to in [State::Stop, State::Running, State::RunningP2p] {
        let early = door.set_state(to).unwrap_err();
        assert!(early.is(ErrorKind::Order), "F7: {early:?}");
    }
    let short = door.finish(Some(300)).unwrap_err();
    assert!(
        short.is(ErrorKind::Incomplete) && short.message.contains("200") && short.message.contains("300"),
        "{short:?}"
    );
    assert!(door.set_state(State::Stop).unwrap_err().is(ErrorKind::Order));
    door.write(&data[200..]).unwrap();
    assert!(door.finish(Some(299)).unwrap_err().is(ErrorKind::Incomplete), "too long");
    door.finish(Some(300)).unwrap();
    door.finish(Some(300)).unwrap();
    assert!(door.write(&data[..1]).unwrap_err().is(ErrorKind::Order), "nothing after finish");
    assert!(door.reserve(&data).unwrap_err().is(ErrorKind::Order));
    door.set_state(State::Stop).unwrap();
    door.set_state(State::Running).unwrap();
    assert_eq!(fake.model().content, data);
    freed(door, &fake);

    // A count that comes after "cannot know" takes its place: the stream is short, and may still be completed.
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::Resuming).unwrap();
    door.write(&data[..299]).unwrap();
    door.finish(None).unwrap();
    assert!(door.finish(Some(300)).unwrap_err().is(ErrorKind::Incomplete));
    assert!(door.set_state(State::Stop).unwrap_err().is(ErrorKind::Order), "F7");
    door.write(&data[299..]).unwrap();
    door.finish(Some(300)).unwrap();
    door.set_state(State::Stop).unwrap();
    freed(door, &fake);

    // "Cannot know": the driver's own check is all there is.
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::Resuming).unwrap();
    door.write(&data[..200]).unwrap();
    door.finish(None).unwrap();
    let refused = door.set_state(State::Stop).unwrap_err();
    assert!(refused.is(ErrorKind::Device) && refused.errno == libc::EINVAL, "{refused:?}");
    let resuming = State::Resuming.number();
    assert_eq!(refused.results, [(resuming, State::Stop.number(), resuming, 0, libc::EINVAL)]);
    door.reset().unwrap();
    freed(door, &fake);
}

fn refused_write_leaves_only_reset<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::Resuming).unwrap();
    let failed = door.write(&pattern(400, 1)).unwrap_err();
    assert!(
        failed.is(ErrorKind::Device) && failed.errno == libc::ENOMEM && failed.message.contains("vf0"),
        "{failed:?}"
    );
    assert_eq!(door.info().4, 300, "what the device took is counted");
    assert!(door.write(&[1]).unwrap_err().is(ErrorKind::Stale), "F6");
    assert!(door.finish(Some(300)).unwrap_err().is(ErrorKind::Stale));
    assert!(door.finish(None).unwrap_err().is(ErrorKind::Stale));
    assert!(door.reserve(&[1]).unwrap_err().is(ErrorKind::Stale));
    let stuck = door.set_state(State::Running).unwrap_err();
    assert!(stuck.is(ErrorKind::Order) && stuck.message.contains("reset"), "{stuck:?}");
    door.reset().unwrap();
    assert_eq!(door.state(), State::Running);
    door.set_state(State::Resuming).unwrap();
    door.write(&pattern(300, 3)).unwrap();
    door.finish(Some(300)).unwrap();
    door.set_state(State::Running).unwrap();
    freed(door, &fake);
}

/// The number that the next call will have.
fn next_call(fake: &Fake) -> usize {
    fake.model().calls.len()
}

fn failed_change_and_its_policies<D: Door>() {
    use State::*;
    // A change asks for the state first, so the SET is the call after the next.
    let cases = [
        (PreCopy, OnFailure::Keep, Fault::Errno(libc::EBUSY), ErrorKind::Device, PreCopy, 0),
        (PreCopy, OnFailure::ReturnTo(Running), Fault::Errno(libc::EBUSY), ErrorKind::Device, Running, 1),
        (PreCopy, OnFailure::ReturnTo(PreCopy), Fault::Errno(libc::EBUSY), ErrorKind::Device, PreCopy, 0),
        (PreCopy, OnFailure::Reset, Fault::Errno(libc::EBUSY), ErrorKind::Device, Running, 2),
        (PreCopy, OnFailure::Keep, Fault::ToError(libc::EIO), ErrorKind::Device, Error, 0),
        (PreCopy, OnFailure::ReturnTo(Running), Fault::ToError(libc::EIO), ErrorKind::Device, Error, 0),
        (PreCopy, OnFailure::Reset, Fault::ToError(libc::EIO), ErrorKind::Device, Running, 2),
        (PreCopy, OnFailure::Keep, Fault::Moved(libc::EINTR), ErrorKind::Device, StopCopy, 0),
    ];
    for (from, policy, fault, kind, found, action) in cases {
        let fake = Fake::full(300);
        let door = D::open(&fake);
        door.set_state(from).unwrap();
        door.read(&mut [0; 10]).unwrap();
        fake.model().fault = Some((next_call(&fake) + 1, fault));
        let failed = door.set_state_with(StopCopy, policy, false).unwrap_err();
        let what = format!("{policy:?} {fault:?} {failed:?}");
        assert!(failed.is(kind) && fake.model().fault_reached, "{what}");
        let [result] = failed.results[..] else { panic!("{what}") };
        assert_eq!(
            (result.0, result.1, result.2, result.3),
            (from.number(), StopCopy.number(), found.number(), action)
        );
        assert_eq!((door.state(), fake.model().state), (found, found), "{what}");
        for part in ["vf0", from.name(), "STOP_COPY"] {
            assert!(failed.message.contains(part), "{what}");
        }
        // P17: the data fd is kept as long as the device is in the same session.
        let alive = door.read(&mut [0; 10]);
        match found {
            PreCopy | StopCopy => assert_eq!(alive.unwrap().0, 10, "{what}"),
            _ => assert!(alive.unwrap_err().is(ErrorKind::Stale), "{what}"),
        }
        if found == Error {
            assert!(door.set_state(Running).unwrap_err().is(ErrorKind::Order), "no request from ERROR");
            door.reset().unwrap();
        }
        freed(door, &fake);
    }
}

fn moved_without_a_descriptor<D: Door>() {
    for to in [State::StopCopy, State::PreCopy, State::Resuming] {
        let fake = Fake::full(300);
        let door = D::open(&fake);
        fake.model().fault = Some((next_call(&fake) + 1, Fault::Moved(libc::EMFILE)));
        let failed = door.set_state(to).unwrap_err();
        assert!(failed.is(ErrorKind::Device) && failed.errno == libc::EMFILE, "V2-5: {failed:?}");
        assert_eq!((failed.results[0].2, door.state()), (to.number(), to));
        if to == State::Resuming {
            assert!(door.write(&[0]).unwrap_err().is(ErrorKind::Stale));
            assert!(door.set_state(State::Stop).unwrap_err().is(ErrorKind::Order), "F7");
            door.reset().unwrap();
        } else {
            assert!(door.peek(0).unwrap_err().is(ErrorKind::Stale));
            door.set_state(State::Running).unwrap();
        }
        // With a descriptor to spare it works.
        door.set_state(State::StopCopy).unwrap();
        assert_eq!(stop_copy_of(&door), pattern(300, 1));
        freed(door, &fake);
    }
}

/// Only where the descriptor counts; the C door's table has data functions, to which the number means nothing.
fn no_descriptor_is_a_protocol_error<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    fake.model().fault = Some((next_call(&fake) + 1, Fault::NoFd));
    match door.set_state_with(State::StopCopy, OnFailure::ReturnTo(State::Running), false) {
        Err(failed) => {
            assert!(failed.is(ErrorKind::Protocol), "{failed:?}");
            assert_eq!((door.state(), failed.results[0].3), (State::Running, 1));
        }
        Ok(()) => assert_eq!(std::any::type_name::<D>().rsplit(':').next(), Some("CDoor")),
    }
    freed(door, &fake);
}

fn changed_by_others_is_stale_once<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::Resuming).unwrap();
    door.write(&pattern(300, 1)).unwrap();
    door.finish(Some(300)).unwrap();
    door.set_state(State::Stop).unwrap();
    // A reset by others: the loaded state is gone. Taking RUNNING for "there already" would run an empty device.
    fake.model().state = State::Running;
    let calls = next_call(&fake);
    let stale = door.set_state(State::Running).unwrap_err();
    assert!(
        stale.is(ErrorKind::Stale) && stale.message.contains("STOP") && stale.message.contains("RUNNING"),
        "{stale:?}"
    );
    assert_eq!(fake.model().calls[calls..], [Call::GetState], "nothing was requested");
    assert_eq!(door.state(), State::Running);
    door.set_state(State::Running).unwrap();
    freed(door, &fake);
}

fn reprobe_takes_the_new_state<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    door.read(&mut [0; 10]).unwrap();
    fake.reset().unwrap();
    fake.model().migration_flags = Ok(3);
    door.reprobe().unwrap();
    assert_eq!((door.state(), door.info().1 & 3), (State::Running, 2));
    assert!(door.read(&mut [0; 10]).unwrap_err().is(ErrorKind::Stale));
    assert!(door.set_state(State::PreCopy).unwrap_err().is(ErrorKind::Order), "it has no PRE_COPY any more");
    freed(door, &fake);
}

fn not_migratable_has_a_reason<D: Door>() {
    for (flags, region, word) in [
        (Err(libc::ENOTTY), None, "no kernel support"),
        (Err(libc::EINVAL), None, "no kernel support"),
        (Err(libc::ENOTTY), Some((4, 1)), "no kernel support"),
        (Ok(0), None, "no stop-copy"),
        (Ok(6), None, "0x6"),
    ] {
        let fake = Fake::full(300);
        fake.model().migration_flags = flags;
        fake.model().region_type = region;
        let door = D::open(&fake);
        let (dialect, _, _, _, _, _, reason) = door.info();
        assert!(dialect == 0 && reason.contains(word), "{reason}");
        let refused = door.set_state(State::Stop).unwrap_err();
        assert!(refused.is(ErrorKind::Unsupported) && refused.message.contains(word), "{refused:?}");
        assert!(door.peek(0).unwrap_err().is(ErrorKind::Unsupported));
        assert!(door.pending(true).unwrap_err().is(ErrorKind::Unsupported));
        freed(door, &fake);
    }
    for errno in [libc::EIO, libc::ENODEV] {
        let fake = Fake::full(300);
        fake.model().migration_flags = Err(errno);
        let failed = D::open_with(&fake, "vf0", 4096).err().unwrap();
        assert!(failed.is(ErrorKind::Device) && failed.errno == errno, "{failed:?}");
    }
}

fn any_state_is_taken_as_it_is<D: Door>() {
    for state in State::ALL {
        let fake = Fake::full(300);
        fake.model().state = state;
        let door = D::open(&fake);
        assert_eq!((door.state(), fake.model().state), (state, state));
        assert!(fake.model().calls.iter().all(|c| !matches!(c, Call::SetState(_))));
        let saved = door.peek(0).unwrap_err();
        let wanted = if state.session() == Some(vfiomig::dialect::Direction::Save) {
            ErrorKind::Stale
        } else {
            ErrorKind::Order
        };
        assert!(saved.is(wanted), "{saved:?}");
        freed(door, &fake);
    }
    // A state that its own flags exclude.
    let fake = Fake::new(Caps::default(), pattern(10, 1));
    fake.model().state = State::PreCopy;
    assert!(D::open_with(&fake, "vf0", 4096).err().unwrap().is(ErrorKind::Protocol));
}

fn reinit_counts_only_after_opt_in<D: Door>() {
    for opt_in in [Ok(()), Err(libc::ENOTTY), Err(libc::EINVAL)] {
        let fake = Fake::full(300);
        fake.model().opt_in = opt_in;
        // C7: without the opt-in the flags are an echo, and mean nothing.
        fake.model().info_flags = 1;
        let door = D::open(&fake);
        assert_eq!(door.info().1 & 8 != 0, opt_in.is_ok());
        door.set_state(State::PreCopy).unwrap();
        let pending = door.pending(true).unwrap();
        assert_eq!(pending.reinit_count, u32::from(opt_in.is_ok()));
        assert_eq!(pending.initial_bytes, Some(100));
        assert_eq!(door.pending(false).unwrap(), pending, "cached");
        // What the library has read ahead is still to be sent.
        door.read(&mut [0; 30]).unwrap();
        assert_eq!(door.pending(true).unwrap().initial_bytes, Some(70));
        door.set_state(State::StopCopy).unwrap();
        assert_eq!(door.pending(false).unwrap().initial_bytes, None, "known only in PRE_COPY states");
        freed(door, &fake);
    }
}

fn sizes_unknown_are_not_zero<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    let none = door.pending(false).unwrap();
    assert_eq!((none.initial_bytes, none.dirty_bytes, none.stop_copy_bytes), (None, None, None));
    let outside = door.pending(true).unwrap();
    assert_eq!((outside.initial_bytes, outside.dirty_bytes, outside.stop_copy_bytes), (None, None, Some(200)));
    // P19, V2-13: an error cast to a size.
    fake.model().data_size = Ok((-5i64) as u64);
    assert_eq!(door.pending(true).unwrap().stop_copy_bytes, None);
    fake.model().data_size = Err(libc::ENOTTY);
    assert_eq!(door.pending(true).unwrap().stop_copy_bytes, None);
    fake.model().data_size = Err(libc::EIO);
    assert_eq!(door.pending(true).unwrap().stop_copy_bytes, None, "it is optional");
    fake.model().data_size = Ok(0);
    fake.model().has_precopy_info = false;
    door.set_state(State::PreCopy).unwrap();
    let pending = door.pending(true).unwrap();
    assert_eq!((pending.initial_bytes, pending.stop_copy_bytes), (None, Some(0)));
    // C2: without the ioctl reading goes on all the same.
    let mut got = 0;
    for _ in 0..5 {
        got += door.read(&mut [0; 60]).unwrap().0;
    }
    assert_eq!(got, 100);
    freed(door, &fake);
}

fn no_message_in_stop_copy_is_a_protocol_error<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::StopCopy).unwrap();
    fake.model().fault = Some((next_call(&fake), Fault::Errno(libc::ENOMSG)));
    let failed = door.read(&mut [0; 10]).unwrap_err();
    assert!(failed.is(ErrorKind::Protocol) && failed.errno == libc::EPROTO, "F2, P3: {failed:?}");
    freed(door, &fake);
}

fn zero_outside_stop_copy_is_not_the_end<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::StopCopy).unwrap();
    while door.info().3 < 300 {
        door.read(&mut [0; 100]).unwrap();
    }
    // P3: somebody moved the device; the 0 that comes now is no end of a stream.
    fake.model().state = State::PreCopy;
    fake.model().precopy_end = PrecopyEnd::Zero;
    let failed = door.read(&mut [0; 10]).unwrap_err();
    assert!(failed.is(ErrorKind::Stale), "{failed:?}");
    assert!(door.read(&mut [0; 10]).unwrap_err().is(ErrorKind::Stale));
    freed(door, &fake);
}

fn reset_is_tried_again<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    fake.model().reset_errnos = vec![libc::EAGAIN; 4];
    door.reset().unwrap();
    assert_eq!(fake.model().calls.iter().filter(|&&c| c == Call::Reset).count(), 5);
    assert_eq!(door.state(), State::Running);
    freed(door, &fake);
}

fn reset_that_is_missing<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    door.set_state(State::PreCopy).unwrap();
    fake.model().reset_errnos = vec![libc::EINVAL, libc::ENOTTY];
    let failed = door.reset().unwrap_err();
    assert!(failed.is(ErrorKind::Unsupported), "{failed:?}");
    assert_eq!(door.state(), State::PreCopy);
    // A failed reset as policy: an error, and the device stays where it was found.
    fake.model().fault = Some((next_call(&fake) + 1, Fault::Errno(libc::EIO)));
    let failed = door.set_state_with(State::StopCopy, OnFailure::Reset, false).unwrap_err();
    assert!(
        failed.is(ErrorKind::Device) && failed.errno == libc::EIO && failed.message.contains("reset failed"),
        "{failed:?}"
    );
    assert_eq!((failed.results[0].2, failed.results[0].3), (State::PreCopy.number(), 0));
    assert_eq!(door.read(&mut [0; 10]).unwrap().0, 10, "the session is still alive");
    freed(door, &fake);
}

fn dead_device<D: Door>() {
    let fake = Fake::full(300);
    fake.model().max_io = 10;
    let door = D::open(&fake);
    door.set_state(State::StopCopy).unwrap();
    door.read(&mut [0; 10]).unwrap();
    // V2-10: the data fd says ENODEV, and the state is read.
    fake.model().state = State::Running;
    if let Some(session) = &mut fake.model().session {
        session.load = true;
    }
    let failed = door.read(&mut [0; 10]).unwrap_err();
    assert!(failed.is(ErrorKind::Device) && failed.errno == libc::ENODEV, "{failed:?}");
    assert_eq!((failed.results[0].2, failed.results[0].3), (State::Running.number(), 0));
    assert_eq!(door.state(), State::Running);
    assert!(door.read(&mut [0; 10]).unwrap_err().is(ErrorKind::Stale));
    freed(door, &fake);
}

fn same_state_asks_nothing<D: Door>() {
    let fake = Fake::full(300);
    let door = D::open(&fake);
    for state in [State::Running, State::PreCopy, State::StopCopy] {
        door.set_state(state).unwrap();
        let calls = next_call(&fake);
        door.set_state(state).unwrap();
        assert!(!fake.model().calls[calls..].iter().any(|c| matches!(c, Call::SetState(_))));
    }
    freed(door, &fake);
}
