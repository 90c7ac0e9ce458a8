//! What real drivers and servers do that a client must survive: each a trigger, and the library's answer. The numbers are
//! those of docs/rules.md, K1 to K25: `r12_03` is K3.

use crate::both_vmms;
use crate::common::doors::{EMPTY, END, Failure};
use crate::pairs::{SIZE, load, save};
use crate::vmm::{PAGES, Stream, Vmm, length};
use simdev::{Access, Config, Device, DmaLog, Effect, Fault, Habits, Peer, Precopy, Restart};
use std::time::{Duration, Instant};
use vfiomig::dialect::{Direction, State};
use vfiomig::error::ErrorKind;
use vfiomig::migration::{AbortTo, Phase};

both_vmms! {
    r12_01_a_stream_that_fails_in_pre_copy
    r12_01_a_stream_that_fails_with_the_guest_stopped
    r12_02_a_save_that_fails_after_the_change
    r12_03_a_suspend_that_fails
    r12_03_a_suspend_that_fails_in_a_migration
    r12_03_a_device_that_stays_still
    r12_03_asked_to_run_it_runs
    r12_04_the_first_write_error_is_final
    r12_05_a_cut_stream_is_no_stream
    r12_06_stop_copy_is_left_at_its_end
    r12_06_an_end_that_takes_long
    r12_06_an_end_that_does_not_come
    r12_07_a_lost_read_breaks_the_session
    r12_08_one_request_at_a_time
    r12_09_a_slow_end_of_a_cut_stream
    r12_10_no_write_on_a_dead_fd
    r12_11_nothing_now_is_no_end
    r12_11_an_empty_stop_copy
    r12_12_info_is_zeroed
    r12_13_rounds_are_bounded
    r12_14_no_poll_waits_in_pre_copy
    r12_15_error_at_any_moment
    r12_16_a_log_that_stops_itself
    r12_17_nothing_but_a_reset_after_eio
    r12_17_whatever_the_caller_asks
    r12_18_no_way_back_from_stop_copy
    r12_19_moved_without_a_descriptor
    r12_20_a_reset_behind_a_state_change
    r12_21_a_reset_between_loads
    r12_22_sizes_are_estimates
    r12_23_logs_that_start_and_do_not_report
    r12_23_logs_that_are_on
    r12_24_a_reset_that_is_refused_while_stopped
    r12_24_the_next_client_finds_stop_copy
    r12_25_one_segment_by_mmap
}

fn open<V: Vmm>(peer: Peer) -> (Device, V) {
    open_with(peer.config())
}

fn open_with<V: Vmm>(config: Config) -> (Device, V) {
    let device = Device::new(config.state_size(SIZE).seeded(1));
    device.allow_abort(true);
    let vmm = V::new(std::slice::from_ref(&device));
    (device, vmm)
}

fn fresh<V: Vmm>(peer: Peer) -> (Device, V) {
    let device = Device::new(peer.config().state_size(SIZE));
    let vmm = V::new(std::slice::from_ref(&device));
    (device, vmm)
}

fn stream_of<V: Vmm>(peer: Peer) -> Vec<Stream> {
    let device = Device::new(peer.config().state_size(SIZE).seeded(1));
    save(&mut V::new(std::slice::from_ref(&device)), std::slice::from_ref(&device))
}

fn from_here(device: &Device, access: Access, effect: Effect) {
    device.inject(Fault::at(access, device.count(access), effect));
}

fn says(failure: &Failure, words: &[&str]) {
    let text = &failure.message;
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

/// The last step to STOP_COPY fails behind the suspend. virtio comes back; mlx5 stands still until a reset, and no text may say that
/// the guest can run on with it.
fn r12_01_a_stream_that_fails_with_the_guest_stopped<V: Vmm>() {
    for peer in [Peer::Mlx5, Peer::Virtio] {
        let (device, mut vmm) = open::<V>(peer);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SavePreCopy).unwrap();
        vmm.advance(Phase::SaveP2pGrace).unwrap();
        from_here(&device, Access::Enter(State::StopCopy), Effect::Errno(libc::ETIMEDOUT));
        says(&vmm.advance(Phase::SaveStopCopy).unwrap_err(), &["d0"]);
        let back = vmm.abort(AbortTo::Running);
        if peer == Peer::Virtio {
            back.unwrap();
            assert_eq!((device.state(), device.resets()), (State::Running, 0));
            continue;
        }
        let stuck = back.unwrap_err();
        says(&stuck, &["d0", "PRE_COPY_P2P", "stands still", "only a reset"]);
        assert!(!stuck.message.contains("can run on"), "{}", stuck.message);
        assert_eq!((device.state(), device.resets()), (State::PreCopyP2p, 0));
        vmm.end();
        vmm.reset(0).unwrap();
        save(&mut vmm, std::slice::from_ref(&device));
    }
}

/// Only a reset would end the state; the guest runs on meanwhile, and its device is not reset behind its back.
fn r12_01_a_stream_that_fails_in_pre_copy<V: Vmm>() {
    for access in [Access::DataRead, Access::PrecopyInfo] {
        let (device, mut vmm) = open::<V>(Peer::Mlx5);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SavePreCopy).unwrap();
        from_here(&device, access, Effect::Errno(libc::EIO));
        let mut streams = [Stream::new()];
        // The first round may not come to it.
        let failed = (0..10).find_map(|_| vmm.save(false, &mut streams).err()).unwrap();
        says(&failed, &["d0"]);
        let asked = device.count(Access::StateWrite);
        let stuck = vmm.abort(AbortTo::Running).unwrap_err();
        says(&stuck, &["d0", "reset", "PRE_COPY"]);
        assert!(device.count(Access::StateWrite) - asked <= 3, "it is not asked for ever");
        assert_eq!((device.state(), vmm.state(0), device.resets()), (State::PreCopy, State::PreCopy, 0));
        device.dma_write(1).unwrap();
        vmm.end();
        vmm.reset(0).unwrap();
        save(&mut vmm, std::slice::from_ref(&device));
    }
}

fn r12_02_a_save_that_fails_after_the_change<V: Vmm>() {
    for nth in [0, 2] {
        let (device, mut vmm) = open::<V>(Peer::Mlx5);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveStopCopy).unwrap();
        let at = device.count(Access::DataRead) + nth;
        device.inject(Fault::at(Access::DataRead, at, Effect::Errno(libc::ENODEV)));
        let mut streams = [Stream::new()];
        let failed = vmm.save(true, &mut streams).unwrap_err();
        says(&failed, &["d0"]);
        vmm.harvest().unwrap();
        vmm.advance(Phase::SaveHalted).unwrap_err();
        vmm.abort(AbortTo::Running).unwrap();
        assert_eq!((device.state(), device.resets()), (State::Running, 0));
    }
    let (device, vmm) = open::<V>(Peer::Mlx5);
    vmm.set_state(0, State::StopCopy).unwrap();
    from_here(&device, Access::DataRead, Effect::Errno(libc::ENODEV));
    vmm.read(0, &mut [0; 100]).unwrap_err();
    assert!(vmm.read(0, &mut [0; 100]).unwrap_err().is(ErrorKind::Stale), "it is no end");
    vmm.set_state(0, State::Running).unwrap();
}

/// The step towards rest at which a driver's suspend fails.
const SUSPENDS: [(Peer, State, i32); 7] = [
    (Peer::Qat, State::RunningP2p, libc::ETIMEDOUT),
    (Peer::HisiAcc, State::Stop, libc::EBUSY),
    (Peer::Pds, State::RunningP2p, libc::ETIMEDOUT),
    (Peer::Pds, State::Stop, libc::ETIMEDOUT),
    (Peer::Xe, State::RunningP2p, libc::ETIMEDOUT),
    (Peer::Mlx5, State::RunningP2p, libc::EIO),
    (Peer::Virtio, State::RunningP2p, libc::EAGAIN),
];

fn r12_03_a_suspend_that_fails<V: Vmm>() {
    for (peer, step, errno) in SUSPENDS {
        let (device, vmm) = open::<V>(peer);
        from_here(&device, Access::Enter(step), Effect::Errno(errno));
        says(&vmm.pause().unwrap_err(), &["d0"]);
        assert!(device.stands_still(), "{peer:?}");
        vmm.resume().unwrap();
        assert_eq!((device.state(), device.stands_still()), (State::Running, false), "{peer:?}");
        device.dma_write(1).unwrap();
        device.assert_clean();
    }
}

fn r12_03_a_suspend_that_fails_in_a_migration<V: Vmm>() {
    let in_pre_copy = [
        (Peer::Qat, State::PreCopyP2p, libc::ETIMEDOUT),
        (Peer::HisiAcc, State::StopCopy, libc::EBUSY),
        (Peer::Mlx5, State::PreCopyP2p, libc::EBUSY),
        (Peer::Virtio, State::PreCopyP2p, libc::EAGAIN),
    ];
    let late = [Phase::SaveP2pGrace, Phase::SaveStopCopy];
    let ways = SUSPENDS.map(|case| (Phase::SaveTracking, case)).into_iter();
    for (through, (peer, step, errno)) in ways.chain(in_pre_copy.map(|case| (Phase::SavePreCopy, case))) {
        let (device, mut vmm) = open::<V>(peer);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(through).unwrap();
        from_here(&device, Access::Enter(step), Effect::Errno(errno));
        let failed = late.iter().find_map(|phase| vmm.advance(*phase).err()).unwrap();
        says(&failed, &["d0"]);
        vmm.abort(AbortTo::Running).unwrap_or_else(|failure| panic!("{peer:?} {through}: {failure:?}"));
        assert_eq!((device.state(), device.stands_still()), (State::Running, false), "{peer:?} {through}");
        // From the P2P state the way back is no other, and hisi_acc's STOP_COPY is entered from PRE_COPY.
        let besides = (peer, step) != (Peer::Pds, State::Stop);
        assert_eq!(vmm.report().contains("standing still"), besides, "{peer:?} {through}: {}", vmm.report());
        device.dma_write(1).unwrap();
        vmm.end();
        device.allow_abort(false);
        save(&mut vmm, std::slice::from_ref(&device));
        device.assert_clean();
    }
}

/// A caller without a group: asking for RUNNING is no empty success.
fn r12_03_asked_to_run_it_runs<V: Vmm>() {
    for (peer, step, errno) in SUSPENDS {
        let (device, vmm) = open::<V>(peer);
        from_here(&device, Access::Enter(step), Effect::Errno(errno));
        vmm.set_state(0, State::Stop).unwrap_err();
        assert!(device.stands_still(), "{peer:?}");
        vmm.set_state(0, State::Running).unwrap();
        assert_eq!((device.state(), device.stands_still()), (State::Running, false), "{peer:?}");
        let asked = device.count(Access::StateWrite);
        vmm.set_state(0, State::Running).unwrap();
        assert_eq!(device.count(Access::StateWrite), asked, "{peer:?}: it runs, and is asked for nothing");
        // A step that succeeds makes it true, too.
        from_here(&device, Access::Enter(step), Effect::Errno(errno));
        vmm.set_state(0, State::Stop).unwrap_err();
        vmm.set_state(0, State::Stop).unwrap();
        vmm.set_state(0, State::Running).unwrap();
        assert!(!device.stands_still(), "{peer:?}");
    }
}

/// The way further fails too: the caller hears that a reset is needed, and the device is not called running.
fn r12_03_a_device_that_stays_still<V: Vmm>() {
    // From the P2P state the way back is no different.
    let at_once = SUSPENDS.into_iter().filter(|(peer, step, _)| (*peer, *step) != (Peer::Pds, State::Stop));
    for (peer, step, errno) in at_once {
        let (device, vmm) = open::<V>(peer);
        device.inject(Fault::from(Access::Enter(step), 0, Effect::Errno(errno)));
        vmm.pause().unwrap_err();
        says(&vmm.resume().unwrap_err(), &["d0", "reset"]);
        assert_eq!(device.resets(), 0, "that is the caller's to say");
        device.clear_faults();
        vmm.resume().unwrap();
        assert!(!device.stands_still(), "{peer:?}");

        let (device, mut vmm) = open::<V>(peer);
        device.inject(Fault::from(Access::Enter(step), 0, Effect::Errno(errno)));
        vmm.begin(Direction::Save).unwrap();
        let late = [Phase::SaveP2pGrace, Phase::SaveStopCopy];
        late.iter().find_map(|phase| vmm.advance(*phase).err()).unwrap();
        says(&vmm.abort(AbortTo::Running).unwrap_err(), &["d0", "reset"]);
        vmm.end();
        vmm.reset(0).unwrap();
        assert!(!device.stands_still());
    }
}

fn r12_04_the_first_write_error_is_final<V: Vmm>() {
    for peer in [Peer::HisiAcc, Peer::Mtty, Peer::Qat, Peer::Mlx5, Peer::Virtio, Peer::Xe] {
        let streams = stream_of::<V>(peer);
        let (device, vmm) = fresh::<V>(peer);
        vmm.set_state(0, State::Resuming).unwrap();
        // Another device's stream.
        vmm.write(0, &[7; 64], false).unwrap_err();
        let writes = device.count(Access::DataWrite);
        for (bytes, segment_end) in &streams[0] {
            assert!(vmm.write(0, bytes, *segment_end).unwrap_err().is(ErrorKind::Stale), "{peer:?}");
        }
        assert_eq!(device.count(Access::DataWrite), writes, "{peer:?}: the device would have said yes");
        vmm.finish(0, length(&streams[0])).unwrap_err();
        says(&vmm.set_state(0, State::Stop).unwrap_err(), &["reset"]);
        assert!(!device.violations().iter().any(|v| v.rule == "F6"), "{peer:?}");
        vmm.reset(0).unwrap();
        device.take_violations();
        load(&mut V::new(std::slice::from_ref(&device)), &streams);
        device.assert_clean();
    }
}

fn r12_05_a_cut_stream_is_no_stream<V: Vmm>() {
    let halves = [Peer::Mlx5, Peer::Virtio, Peer::Pds, Peer::HisiAcc].map(|peer| (peer, None));
    // Behind the identity of a hisi_acc, which pre-copy sends, nothing says that something is missing.
    let identity = {
        let (_device, mut vmm) = open::<V>(Peer::HisiAcc);
        let mut streams = [Stream::new()];
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SavePreCopy).unwrap();
        vmm.save(false, &mut streams).unwrap();
        length(&streams[0]) as usize
    };
    for (peer, cut) in halves.into_iter().chain([(Peer::HisiAcc, Some(identity))]) {
        let streams = stream_of::<V>(peer);
        let total = length(&streams[0]);
        let bytes: Vec<u8> = streams[0].iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let cut = cut.unwrap_or(bytes.len() / 2);
        let (device, vmm) = fresh::<V>(peer);
        vmm.set_state(0, State::Resuming).unwrap();
        vmm.write(0, &bytes[..cut], false).unwrap();
        assert!(vmm.finish(0, total).unwrap_err().is(ErrorKind::Incomplete), "{peer:?}");
        let asked = device.count(Access::StateWrite);
        vmm.set_state(0, State::Stop).unwrap_err();
        vmm.set_state(0, State::Running).unwrap_err();
        assert_eq!(device.count(Access::StateWrite), asked, "{peer:?}: the device would have said yes");
        vmm.reset(0).unwrap();
        device.assert_clean();
    }
}

fn r12_06_stop_copy_is_left_at_its_end<V: Vmm>() {
    for read in [0, 1, 2] {
        let (device, mut vmm) = open::<V>(Peer::Xe);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveStopCopy).unwrap();
        for _ in 0..read {
            vmm.read(0, &mut [0; 100]).unwrap();
        }
        vmm.abort(AbortTo::Running).unwrap();
        assert_eq!((device.state(), device.resets()), (State::Running, 0));
        assert!(vmm.report().contains("read and thrown away"), "{}", vmm.report());
        vmm.end();
        save(&mut vmm, std::slice::from_ref(&device));
    }
    // Without a migration the way back is the group's.
    let (device, vmm) = open::<V>(Peer::Xe);
    vmm.set_state(0, State::StopCopy).unwrap();
    vmm.read(0, &mut [0; 100]).unwrap();
    vmm.resume().unwrap();
    assert_eq!((device.state(), device.resets()), (State::Running, 0));
}

/// It takes longer than an abort may: the caller hears that it can be asked again, and nothing is lost by that.
fn r12_06_an_end_that_takes_long<V: Vmm>() {
    let (device, mut vmm) = open_with::<V>(Config { max_io: 64, ..Peer::Xe.config() });
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SaveStopCopy).unwrap();
    let slow = Effect::Delay(Duration::from_millis(150));
    device.inject(Fault::from(Access::DataRead, device.count(Access::DataRead), slow));
    let failed = vmm.abort(AbortTo::Running).unwrap_err();
    says(&failed, &["d0", "ask again"]);
    assert_eq!((failed.errno, device.state()), (libc::ETIMEDOUT, State::StopCopy));
    device.clear_faults();
    vmm.abort(AbortTo::Running).unwrap();
    assert_eq!((device.state(), device.resets()), (State::Running, 0));
}

/// The stream fails on the way to its end: the caller hears that only a reset is left.
fn r12_06_an_end_that_does_not_come<V: Vmm>() {
    let (device, mut vmm) = open::<V>(Peer::Xe);
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SaveStopCopy).unwrap();
    from_here(&device, Access::DataRead, Effect::Errno(libc::EIO));
    says(&vmm.abort(AbortTo::Running).unwrap_err(), &["d0", "reset"]);
    assert_eq!((device.state(), vmm.state(0), device.resets()), (State::StopCopy, State::StopCopy, 0));
    vmm.end();
    vmm.reset(0).unwrap();
    assert_eq!(device.state(), State::Running);
}

fn r12_07_a_lost_read_breaks_the_session<V: Vmm>() {
    for (errno, word) in [(512, "ERESTARTSYS"), (libc::EIO, "EIO")] {
        let (device, vmm) = open::<V>(Peer::Xe);
        vmm.set_state(0, State::StopCopy).unwrap();
        from_here(&device, Access::DataRead, Effect::Errno(errno));
        let failed = vmm.read(0, &mut [0; 100]).unwrap_err();
        assert_eq!(failed.errno, errno);
        if errno > 133 {
            says(&failed, &["d0", word]);
        }
        let reads = device.count(Access::DataRead);
        for _ in 0..3 {
            assert!(vmm.read(0, &mut [0; 100]).unwrap_err().is(ErrorKind::Stale));
        }
        assert_eq!(device.count(Access::DataRead), reads);
    }
}

fn r12_08_one_request_at_a_time<V: Vmm + Sync>() {
    let (device, vmm) = open::<V>(Peer::Xe);
    vmm.set_state(0, State::StopCopy).unwrap();
    from_here(&device, Access::DataRead, Effect::Delay(Duration::from_millis(150)));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| vmm.read(0, &mut [0; 100]).unwrap());
        while device.count(Access::DataRead) == 0 {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        vmm.reset(0).unwrap();
        assert!(begun.elapsed() > Duration::from_millis(50), "it waits its turn, and that is no failure");
        reader.join().unwrap();
    });
    assert!(!device.violations().iter().any(|v| v.rule == "P2"), "{:?}", device.violations());
}

fn r12_09_a_slow_end_of_a_cut_stream<V: Vmm>() {
    let streams = stream_of::<V>(Peer::Xe);
    let (bytes, segment_end) = &streams[0][0];
    let (device, vmm) = fresh::<V>(Peer::Xe);
    vmm.set_state(0, State::Resuming).unwrap();
    let half = &bytes[..bytes.len() / 2];
    vmm.write(0, half, *segment_end).unwrap();
    // Its saver was cut, and counted what it had.
    vmm.finish(0, half.len() as u64).unwrap();
    let failed = vmm.set_state(0, State::Stop).unwrap_err();
    assert_eq!((failed.errno, vmm.state(0)), (libc::ETIMEDOUT, State::Resuming));
    let writes = device.count(Access::DataWrite);
    vmm.write(0, bytes, false).unwrap_err();
    assert_eq!(device.count(Access::DataWrite), writes);
    vmm.reset(0).unwrap();
    assert_eq!(device.state(), State::Running);
}

fn r12_10_no_write_on_a_dead_fd<V: Vmm>() {
    let streams = stream_of::<V>(Peer::Virtio);
    for reset in [false, true] {
        let (device, vmm) = fresh::<V>(Peer::Virtio);
        vmm.set_state(0, State::Resuming).unwrap();
        for (bytes, segment_end) in &streams[0] {
            vmm.write(0, bytes, *segment_end).unwrap();
        }
        if reset {
            vmm.reset(0).unwrap();
        } else {
            vmm.finish(0, length(&streams[0])).unwrap();
            vmm.set_state(0, State::Stop).unwrap();
        }
        assert_eq!(device.sessions_closed(), 1, "in the same step");
        // A write that came to the device would abort the test.
        vmm.write(0, &[1; 10], false).unwrap_err();
        vmm.finish(0, 10).unwrap_err();
    }
    // Freed before the VMM closes the device fd.
    let (device, vmm) = fresh::<V>(Peer::Virtio);
    vmm.set_state(0, State::Resuming).unwrap();
    vmm.write(0, &streams[0][0].0, false).unwrap();
    drop(vmm);
    device.close_fd(true);
    assert_eq!(device.sessions_closed(), 1);
}

fn r12_11_nothing_now_is_no_end<V: Vmm>() {
    for peer in [Peer::Qat, Peer::HisiAcc, Peer::Mtty] {
        let (device, vmm) = open::<V>(peer);
        vmm.set_state(0, State::PreCopy).unwrap();
        let mut taken = 0;
        let flags = loop {
            let (len, flags) = vmm.read(0, &mut [0; 100]).unwrap();
            taken += len;
            if len == 0 {
                break flags;
            }
        };
        assert!(taken > 0);
        assert_eq!(flags, EMPTY, "{peer:?}");
        vmm.set_state(0, State::StopCopy).unwrap();
        assert!(vmm.read(0, &mut [0; 100]).unwrap().0 > 0, "{peer:?}");
        device.assert_clean();
    }
}

/// hisi_acc without a guest driver has nothing in STOP_COPY.
fn r12_11_an_empty_stop_copy<V: Vmm>() {
    let config = Peer::HisiAcc.config();
    let habits = Habits { ends_in_precopy: true, ..config.habits };
    let config = Config { precopy: Precopy::Everything, habits, ..config };
    let (device, mut vmm) = open_with::<V>(config.clone());
    let mut streams = [Stream::new()];
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SavePreCopy).unwrap();
    assert_eq!(vmm.save(false, &mut streams).unwrap(), [EMPTY]);
    let before = length(&streams[0]);
    vmm.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(vmm.save(true, &mut streams).unwrap(), [END]);
    assert_eq!(length(&streams[0]), before);
    vmm.harvest().unwrap();
    vmm.advance(Phase::SaveHalted).unwrap();
    let target = Device::new(config.state_size(SIZE));
    load(&mut V::new(std::slice::from_ref(&target)), &streams);
    assert!(target.same_content(&device));
}

fn r12_12_info_is_zeroed<V: Vmm>() {
    for peer in [Peer::Mlx5, Peer::Virtio] {
        let (device, vmm) = open::<V>(peer);
        vmm.set_state(0, State::PreCopy).unwrap();
        for _ in 0..20 {
            let pending = vmm.pending(0).unwrap();
            let sum = pending.initial_bytes.unwrap() + pending.dirty_bytes.unwrap();
            assert!(sum <= 2 * SIZE as u64, "{peer:?}: {pending:?}");
            vmm.read(0, &mut [0; 500]).unwrap();
        }
        device.assert_clean();
    }
}

/// virtio has the whole context again once per second, for ever.
fn r12_13_rounds_are_bounded<V: Vmm>() {
    let config = Peer::Virtio.config();
    let habits = Habits { renews: Some(Duration::from_nanos(1)), ..config.habits };
    let (device, mut vmm) = open_with::<V>(Config { habits, ..config });
    let mut streams = [Stream::new()];
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SavePreCopy).unwrap();
    for _ in 0..5 {
        let before = length(&streams[0]);
        vmm.save(false, &mut streams).unwrap();
        assert!(length(&streams[0]) - before < 3 * SIZE as u64, "a round ends with what was there");
    }
    vmm.advance(Phase::SaveStopCopy).unwrap();
    assert_eq!(vmm.save(true, &mut streams).unwrap(), [END]);
    vmm.harvest().unwrap();
    vmm.advance(Phase::SaveHalted).unwrap();
    let (target, mut other) = fresh::<V>(Peer::Virtio);
    load(&mut other, &streams);
    assert!(target.same_content(&device));
}

fn r12_14_no_poll_waits_in_pre_copy<V: Vmm>() {
    let (device, vmm) = open::<V>(Peer::Mlx5);
    vmm.set_state(0, State::PreCopy).unwrap();
    assert_eq!(vmm.read(0, &mut [0; 4000]).unwrap().0, 24, "tiny reads are taken");
    std::thread::sleep(Duration::from_millis(60));
    while vmm.read(0, &mut [0; 4000]).unwrap().0 > 0 {}
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(vmm.read(0, &mut [0; 4000]).unwrap(), (0, EMPTY));
    }
    assert!(begun.elapsed() < Duration::from_millis(60), "{:?}: EMPTY is told at once", begun.elapsed());
    // In STOP_COPY the data are not there for 50 ms, which is no failure.
    vmm.set_state(0, State::StopCopy).unwrap();
    while vmm.read(0, &mut [0; 4000]).unwrap().1 & END == 0 {}
    device.assert_clean();

    let (device, vmm) = open::<V>(Peer::Mlx5);
    vmm.set_state(0, State::StopCopy).unwrap();
    assert_eq!(vmm.read(0, &mut [0; 4000]).unwrap().0, 24);
    while vmm.read(0, &mut [0; 4000]).unwrap().1 & END == 0 {}
    device.assert_clean();
}

/// pds goes to ERROR when its firmware recovers, also while it only logs.
fn r12_15_error_at_any_moment<V: Vmm>() {
    for phase in [Phase::SaveTracking, Phase::SaveP2pGrace, Phase::SaveStopCopy] {
        let (device, mut vmm) = open::<V>(Peer::Pds);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(phase).unwrap();
        device.dma_write(3).unwrap_or(());
        device.fail();
        let (pages, degraded) = vmm.harvest().unwrap();
        assert_eq!((pages.len() as u64, degraded), (PAGES, true), "{phase}: nothing is known to be clean");
        let failed = match phase {
            Phase::SaveStopCopy => vmm.save(true, &mut [Stream::new()]).map(drop),
            _ => vmm.advance(Phase::SaveStopCopy),
        }
        .unwrap_err();
        says(&failed, &["d0", "ERROR"]);
        assert_eq!(vmm.state(0), State::Error, "{phase}");
        says(&vmm.abort(AbortTo::Running).unwrap_err(), &["d0", "reset"]);
        vmm.end();
        vmm.reset(0).unwrap();
        save(&mut vmm, std::slice::from_ref(&device));
    }
}

fn r12_16_a_log_that_stops_itself<V: Vmm>() {
    let (device, mut vmm) = open::<V>(Peer::Pds);
    let mut streams = [Stream::new()];
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SaveTracking).unwrap();
    vmm.harvest().unwrap();
    device.dma_write(3).unwrap();
    vmm.advance(Phase::SaveStopCopy).unwrap();
    vmm.save(true, &mut streams).unwrap();
    vmm.advance(Phase::SaveHalted).unwrap_err();
    assert_eq!(device.state(), State::StopCopy, "the last harvest comes before STOP");
    assert_eq!(vmm.harvest().unwrap(), (vec![3], false));
    vmm.advance(Phase::SaveHalted).unwrap();
    device.assert_clean();
}

/// A further SET, or pre-copy info, would abort the test.
fn r12_17_nothing_but_a_reset_after_eio<V: Vmm>() {
    let (device, mut vmm) = open::<V>(Peer::Mlx5);
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SavePreCopy).unwrap();
    vmm.save(false, &mut [Stream::new()]).unwrap();
    from_here(&device, Access::Enter(State::Running), Effect::Errno(libc::EIO));
    says(&vmm.abort(AbortTo::Running).unwrap_err(), &["d0", "reset"]);
    assert_eq!((device.state(), device.resets()), (State::PreCopy, 0));
    says(&vmm.abort(AbortTo::Running).unwrap_err(), &["d0", "reset"]);
    vmm.end();
    vmm.resume().unwrap_err();
    vmm.pause().unwrap_err();
    vmm.reset(0).unwrap();
    save(&mut vmm, std::slice::from_ref(&device));
}

fn r12_17_whatever_the_caller_asks<V: Vmm>() {
    let (device, vmm) = open::<V>(Peer::Mlx5);
    vmm.set_state(0, State::PreCopy).unwrap();
    from_here(&device, Access::Enter(State::Running), Effect::Errno(libc::EIO));
    let failed = vmm.set_state(0, State::Running).unwrap_err();
    assert_eq!(failed.errno, libc::EIO);
    for to in [State::Running, State::StopCopy, State::PreCopyP2p] {
        says(&vmm.set_state(0, to).unwrap_err(), &["reset"]);
    }
    vmm.pending(0).unwrap_or_else(|failure| {
        says(&failure, &["d0"]);
        vfiomig::device::DevicePending {
            initial_bytes: None,
            dirty_bytes: None,
            stop_copy_bytes: None,
            reinit_count: 0,
            cached: true,
        }
    });
    vmm.read(0, &mut [0; 100]).unwrap_err();
    vmm.reset(0).unwrap();
    vmm.set_state(0, State::PreCopy).unwrap();
    assert!(vmm.read(0, &mut [0; 100]).is_ok_and(|(len, _)| len > 0), "a reset begins anew");
}

fn r12_18_no_way_back_from_stop_copy<V: Vmm>() {
    for peer in [Peer::Mlx5, Peer::Qat, Peer::Virtio, Peer::Mtty, Peer::HisiAcc] {
        let (device, vmm) = open::<V>(peer);
        vmm.set_state(0, State::StopCopy).unwrap();
        let asked = device.count(Access::StateWrite);
        for to in [State::PreCopy, State::PreCopyP2p] {
            assert!(vmm.set_state(0, to).unwrap_err().is(ErrorKind::Order), "{peer:?}");
        }
        assert_eq!(device.count(Access::StateWrite), asked, "{peer:?}: the kernel would not return");
        device.assert_clean();
    }
}

fn r12_19_moved_without_a_descriptor<V: Vmm>() {
    for errno in [libc::EMFILE, libc::EFAULT] {
        for phase in [Phase::SavePreCopy, Phase::SaveStopCopy] {
            let (device, mut vmm) = open::<V>(Peer::Virtio);
            vmm.begin(Direction::Save).unwrap();
            if phase == Phase::SaveStopCopy {
                vmm.advance(Phase::SaveP2pGrace).unwrap();
            }
            from_here(&device, Access::StateWrite, Effect::ErrnoMoved(errno));
            says(&vmm.advance(phase).unwrap_err(), &["d0"]);
            assert!(device.state().session().is_some() && vmm.state(0) == device.state());
            vmm.abort(AbortTo::Running).unwrap();
            assert_eq!(device.state(), State::Running);
        }
    }
}

/// RESET returns at once while a SET is in the kernel, and takes effect when that ends: the SET succeeds, with a dead fd.
fn r12_20_a_reset_behind_a_state_change<V: Vmm>() {
    for to in [State::StopCopy, State::PreCopy, State::Resuming] {
        let (device, vmm) = open::<V>(Peer::Mlx5);
        from_here(&device, Access::StateWrite, Effect::ResetBehind);
        vmm.set_state(0, to).unwrap_or(());
        if to == State::Resuming {
            vmm.write(0, &[0; 100], false).unwrap_err();
        } else {
            vmm.read(0, &mut [0; 100]).unwrap_err();
        }
        assert_eq!((vmm.state(0), device.state()), (State::Running, State::Running), "{to}");
        vmm.set_state(0, State::Stop).unwrap();
    }
    let (device, mut vmm) = open::<V>(Peer::Mlx5);
    vmm.begin(Direction::Save).unwrap();
    vmm.advance(Phase::SaveP2pGrace).unwrap();
    from_here(&device, Access::StateWrite, Effect::ResetBehind);
    let stop_copy = vmm.advance(Phase::SaveStopCopy);
    let mut streams = [Stream::new()];
    stop_copy.and_then(|()| vmm.save(true, &mut streams)).unwrap_err();
    vmm.abort(AbortTo::Running).unwrap();
    assert_eq!(vmm.state(0), State::Running);
}

fn r12_21_a_reset_between_loads<V: Vmm>() {
    for peer in [Peer::HisiAcc, Peer::Qat, Peer::Xe] {
        let streams = stream_of::<V>(peer);
        let (device, mut vmm) = fresh::<V>(peer);
        load(&mut vmm, &streams);
        vmm.end();
        assert_eq!(device.resets(), 0, "the first load needs none");
        load(&mut vmm, &streams);
        assert!(vmm.report().contains("reset"), "{}", vmm.report());
        assert_eq!((device.resets(), device.state()), (1, State::Running), "{peer:?}");
        device.assert_clean();
    }
    // A second save without opening the device again may bring what the first one saw: that is a note.
    let (device, mut vmm) = open::<V>(Peer::Qat);
    save(&mut vmm, std::slice::from_ref(&device));
    assert!(!vmm.report().contains("again"), "{}", vmm.report());
    vmm.end();
    // The guest was not handed over after all.
    vmm.set_state(0, State::Running).unwrap();
    save(&mut vmm, std::slice::from_ref(&device));
    assert!(vmm.report().contains("d0") && vmm.report().contains("again"), "{}", vmm.report());
}

fn r12_22_sizes_are_estimates<V: Vmm>() {
    for effect in [
        Effect::Lie(1 << 63),
        Effect::Lie((-74i64) as u64),
        Effect::Lie(1),
        Effect::Errno(libc::ENOTCONN),
        Effect::Errno(libc::EIO),
    ] {
        let (device, mut vmm) = open::<V>(Peer::Xe);
        device.inject(Fault::from(Access::StopCopySize, 0, effect));
        let pending = vmm.pending(0).unwrap_or_else(|failure| panic!("{effect:?}: {failure:?}"));
        assert_eq!(pending.stop_copy_bytes, if effect == Effect::Lie(1) { Some(1) } else { None }, "{effect:?}");
        device.allow_abort(false);
        save(&mut vmm, std::slice::from_ref(&device));
        device.assert_clean();
    }
}

fn r12_23_logs_that_start_and_do_not_report<V: Vmm>() {
    for log in [DmaLog { report: false, ..DmaLog::default() }, DmaLog { max_total: 4096, ..DmaLog::default() }] {
        let (device, mut vmm) = open_with::<V>(Config { dma_log: Some(log), ..Peer::Mlx5.config() });
        let mut streams = [Stream::new()];
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveTracking).unwrap();
        device.dma_write(3).unwrap();
        assert_eq!(vmm.harvest().unwrap().0.len() as u64, PAGES, "nothing is called clean");
        vmm.advance(Phase::SaveStopCopy).unwrap();
        vmm.save(true, &mut streams).unwrap();
        assert_eq!(vmm.harvest().unwrap().0.len() as u64, PAGES);
        vmm.advance(Phase::SaveHalted).unwrap();
        assert!(!device.dma_logging());
    }
}

fn r12_23_logs_that_are_on<V: Vmm>() {
    for restart in [Restart::Refused(libc::EINVAL), Restart::Refused(libc::EEXIST), Restart::Taken] {
        let log = DmaLog { restart, ..DmaLog::default() };
        let (device, mut vmm) = open_with::<V>(Config { dma_log: Some(log), ..Peer::Mlx5.config() });
        device.leave_dma_log_on(4096, &[(0, 4096)]);
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveTracking).unwrap();
        device.dma_write(3).unwrap();
        assert!(vmm.harvest().unwrap().0.contains(&3), "{restart:?}");
        device.dma_write(9).unwrap();
        assert_eq!(vmm.harvest().unwrap(), (vec![9], false), "{restart:?}: it is taken over");
        vmm.abort(AbortTo::Running).unwrap();
        assert!(!device.dma_logging(), "{restart:?}");
        device.assert_clean();
    }
    // A STOP that fails once is made again before the next START.
    let (device, mut vmm) = open::<V>(Peer::Mlx5);
    device.inject(Fault::at(Access::DmaLogStop, 0, Effect::Errno(libc::EIO)));
    for _ in 0..2 {
        vmm.begin(Direction::Save).unwrap();
        vmm.advance(Phase::SaveTracking).unwrap();
        vmm.harvest().unwrap();
        device.dma_write(9).unwrap();
        assert_eq!(vmm.harvest().unwrap(), (vec![9], false));
        vmm.abort(AbortTo::Running).unwrap_or(());
        vmm.end();
    }
    drop(vmm);
    assert!(!device.dma_logging());
    device.assert_clean();
}

/// Whoever asks for a reset hears that it is refused there, and where it is not.
fn r12_24_a_reset_that_is_refused_while_stopped<V: Vmm>() {
    for peer in [Peer::LibvfioUserV2, Peer::LibvfioUserV1, Peer::SpdkV1] {
        for at in [State::Stop, State::StopCopy] {
            let (device, vmm) = open::<V>(peer);
            vmm.set_state(0, at).unwrap();
            says(&vmm.reset(0).unwrap_err(), &["d0", at.name(), "while it runs"]);
            assert_eq!((device.state(), vmm.state(0)), (at, at), "{peer:?}");
            vmm.set_state(0, State::Running).unwrap();
            vmm.reset(0).unwrap();
            assert_eq!((device.state(), device.resets()), (State::Running, 1), "{peer:?}");
        }
    }
    // One that keeps its state: what was sent is void, and the state is not taken for RUNNING.
    let (device, vmm) = open::<V>(Peer::LibvfioUserV2);
    vmm.set_state(0, State::PreCopy).unwrap();
    vmm.read(0, &mut [0; 100]).unwrap();
    says(&vmm.reset(0).unwrap_err(), &["d0", "PRE_COPY"]);
    assert_eq!((device.state(), vmm.state(0), device.resets()), (State::PreCopy, State::PreCopy, 1));
    assert!(vmm.read(0, &mut [0; 100]).unwrap_err().is(ErrorKind::Stale));
    vmm.resume().unwrap();
    assert_eq!(device.state(), State::Running);
}

fn r12_24_the_next_client_finds_stop_copy<V: Vmm>() {
    let (device, vmm) = open::<V>(Peer::LibvfioUserV2);
    vmm.set_state(0, State::StopCopy).unwrap();
    vmm.read(0, &mut [0; 100]).unwrap();
    drop(vmm);
    let mut next = V::new(std::slice::from_ref(&device));
    assert_eq!(next.state(0), State::StopCopy);
    assert!(next.read(0, &mut [0; 100]).unwrap_err().is(ErrorKind::Stale));
    next.resume().unwrap();
    assert_eq!(device.state(), State::Running);
    save(&mut next, std::slice::from_ref(&device));
}

fn r12_25_one_segment_by_mmap<V: Vmm>() {
    let (device, mut vmm) = open::<V>(Peer::SpdkV1);
    vmm.set_state(0, State::PreCopy).unwrap();
    for _ in 0..3 {
        assert_eq!(vmm.read(0, &mut [0; 100]).unwrap(), (0, EMPTY), "a size of 0 is nothing now");
    }
    assert!(device.count(Access::DataOffsetRead) < 20, "the loop is left");
    vmm.set_state(0, State::Running).unwrap();
    let streams = save(&mut vmm, std::slice::from_ref(&device));
    assert_eq!(streams[0].iter().filter(|(_, end)| *end).count(), 1);
    device.assert_clean();
    let (target, mut other) = fresh::<V>(Peer::SpdkV1);
    load(&mut other, &streams);
    assert!(target.same_content(&device));
    assert_eq!(target.count(Access::DataOffsetRead), 1, "read once");
    target.assert_clean();
}

/// C4: the first read brings 24 bytes, and the first image is still on its way: newer drivers say EAGAIN, older ones ENOMSG.
#[test]
fn r12_14_no_initial_data_is_left_only_when_it_was_read() {
    for older in [false, true] {
        let fake = Device::new(Peer::Mlx5.config().state_size(SIZE).seeded(1));
        fake.allow_abort(true);
        let options = vfiomig::device::DeviceOptions { name: "d0".into(), ..Default::default() };
        let device = std::sync::Arc::new(vfiomig::device::Device::new(fake.transport(), options).unwrap());
        let group = std::sync::Arc::new(vfiomig::group::Group::new(vfiomig::group::GroupOptions::default()));
        group.add_device(std::sync::Arc::clone(&device)).unwrap();
        let options = vfiomig::tracker::TrackerOptions { name: "ram".into(), everything: true, ..Default::default() };
        group.add_tracker(std::sync::Arc::new(vfiomig::tracker::Tracker::new(options).unwrap())).unwrap();
        let save = vfiomig::migration::Migration::new(group, Direction::Save).unwrap();
        save.advance(Phase::SavePreCopy).unwrap();
        if older {
            let nth = fake.count(Access::DataRead) + 1;
            fake.inject(Fault::at(Access::DataRead, nth, Effect::Errno(libc::ENOMSG)));
        }
        let budget = vfiomig::migration::Budget { bytes: 1 << 30, time: std::time::Duration::from_secs(5) };
        save.save_iterate(budget, &[], &mut |_| Ok(())).unwrap();
        let pending = save.pending();
        assert!(!pending.ready && pending.initial_bytes > Some(1000), "{pending:?}");
        assert!(pending.reasons.iter().any(|note| note == "d0: not ready: initial data is left"), "{pending:?}");
        let begun = std::time::Instant::now();
        while !save.pending().ready {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10));
            save.save_iterate(budget, &[], &mut |_| Ok(())).unwrap();
        }
        assert_eq!(save.pending().initial_bytes, Some(0));
        save.abort(AbortTo::Running).unwrap();
    }
}

/// Its description is refused there, which says nothing of whether it can be migrated.
#[test]
fn r12_24_a_description_that_is_refused_while_stopped() {
    let fake = Device::new(Peer::LibvfioUserV2.config().state_size(SIZE).seeded(1));
    fake.allow_abort(true);
    let open = || {
        let options = vfiomig::device::DeviceOptions { name: "d0".into(), ..Default::default() };
        vfiomig::device::Device::new(fake.transport(), options).unwrap()
    };
    let device = open();
    let caps = device.info().caps;
    for at in [State::Stop, State::StopCopy] {
        device.set_state(at, vfiomig::device::OnFailure::Keep, false).unwrap();
        device.reprobe().unwrap();
        assert_eq!((device.state(), device.info().caps), (at, caps));
        let next = open().info();
        assert_eq!((next.state, next.caps, next.reason), (at, caps, None));
    }
}

/// Where a mapping is not to be had, the text says what it is needed for.
#[test]
fn r12_25_without_a_mapping() {
    for no_mmap in [true, false] {
        let config = Config { map_fails: !no_mmap, ..Peer::SpdkV1.config() };
        let fake = Device::new(config.state_size(SIZE).seeded(1));
        let quirks = vfiomig::window::Quirks { no_mmap, ..Default::default() };
        let options = vfiomig::device::DeviceOptions { name: "d0".into(), quirks, ..Default::default() };
        let device = vfiomig::device::Device::new(fake.transport(), options).unwrap();
        device.set_state(State::StopCopy, vfiomig::device::OnFailure::Keep, false).unwrap();
        let failed = device.read(&mut [0; 100]).unwrap_err();
        assert_eq!(failed.errno(), libc::EOPNOTSUPP);
        assert!(failed.to_string().contains("mapping only") && failed.to_string().contains("d0"), "{failed}");
    }
}

/// A policy that names RUNNING means a device that runs.
#[test]
fn r12_03_the_policy_to_return() {
    let fake = Device::new(Peer::Qat.config().state_size(SIZE).seeded(1));
    let options = vfiomig::device::DeviceOptions { name: "d0".into(), ..Default::default() };
    let device = vfiomig::device::Device::new(fake.transport(), options).unwrap();
    from_here(&fake, Access::Enter(State::RunningP2p), Effect::Errno(libc::ETIMEDOUT));
    let back = vfiomig::device::OnFailure::ReturnTo(State::Running);
    let failed = device.set_state(State::Stop, back, false).unwrap_err();
    assert_eq!(failed.results()[0].action, vfiomig::error::Action::Recovered, "{failed}");
    assert!(!fake.stands_still());
}
