//! Saves and loads: what was saved from a server is loaded into another, and neither has anything against the library.

use super::tools::{Served, drain, kinds, load, open, save, set};
use simdev::{Quirk, Quirks, ServerOptions};
use vfiomig::dialect::State;
use vfiomig::transport::vfio_user::ConnectOptions;

#[test]
fn a_device_moves_from_server_to_server() {
    for kind in kinds() {
        let (from, to) = (Served::of(&kind, Some(7)), Served::of(&kind, None));
        let stream = save(&from.device()).unwrap();
        load(&to.device(), &stream).unwrap();
        assert!(to.sim.same_content(&from.sim), "{}", kind.name);
        assert_eq!(to.sim.state(), State::Running, "{}", kind.name);
        from.sim.assert_clean();
        to.sim.assert_clean();
    }
}

/// What changes while it is copied is copied again.
#[test]
fn pre_copy_goes_on_into_stop_copy() {
    for kind in kinds() {
        let (from, to) = (Served::of(&kind, Some(7)), Served::of(&kind, None));
        let (device, mut stream) = (from.device(), Vec::new());
        set(&device, State::PreCopy).unwrap();
        for round in 0..5 {
            drain(&device, &mut stream).unwrap();
            from.sim.touch(1000 * round as usize, 3000, round).unwrap();
        }
        set(&device, State::StopCopy).unwrap();
        drain(&device, &mut stream).unwrap();
        stream.retain(|segment| !segment.is_empty());
        load(&to.device(), &stream).unwrap();
        assert!(to.sim.same_content(&from.sim), "{}", kind.name);
        from.sim.assert_clean();
        to.sim.assert_clean();
    }
}

#[test]
fn a_save_is_given_up_in_each_state_and_done_again() {
    for kind in kinds() {
        let from = Served::of(&kind, Some(7));
        from.sim.allow_abort(true);
        let device = from.device();
        for last in [State::PreCopy, State::StopCopy] {
            for state in [State::PreCopy, State::StopCopy] {
                set(&device, state).unwrap();
                if state == last {
                    break;
                }
            }
            set(&device, State::Running).unwrap();
            assert_eq!(from.sim.state(), State::Running, "{}", kind.name);
        }
        let to = Served::of(&kind, None);
        device.restart_stream().unwrap();
        load(&to.device(), &save(&device).unwrap()).unwrap();
        assert!(to.sim.same_content(&from.sim), "{}", kind.name);
        from.sim.assert_clean();
    }
}

/// U-21: data of pre-copy that is no part of the stream makes the destination refuse it; without pre-copy it arrives.
#[test]
fn precopy_data_that_is_no_part_of_the_stream_is_refused() {
    let kind = kinds().swap_remove(0);
    let apart = |seed| {
        let options = ServerOptions { quirks: Quirks::none().and(Quirk::PrecopyApart), ..ServerOptions::default() };
        Served::new(simdev::Config { seed, ..kind.config.clone() }, options)
    };
    let (from, to) = (apart(Some(7)), apart(None));
    let device = from.device();
    let both = save(&device).unwrap();
    assert_eq!(both.concat().len(), 4096 + stop_copy_len(&kind));
    load(&to.device(), &both).unwrap_err();
    assert!(!to.sim.same_content(&from.sim));

    set(&device, State::Running).unwrap();
    device.restart_stream().unwrap();
    set(&device, State::StopCopy).unwrap();
    let mut alone = Vec::new();
    drain(&device, &mut alone).unwrap();
    let fresh = apart(None);
    load(&fresh.device(), &alone).unwrap();
    assert!(fresh.sim.same_content(&from.sim));
    from.sim.assert_clean();
    fresh.sim.assert_clean();
}

/// What a stream of this kind has that begins in STOP_COPY.
fn stop_copy_len(kind: &super::tools::Kind) -> usize {
    let (from, mut stream) = (Served::of(kind, Some(7)), Vec::new());
    let device = from.device();
    set(&device, State::StopCopy).unwrap();
    drain(&device, &mut stream).unwrap();
    stream.concat().len()
}

/// What a reset leaves is read, not assumed.
#[test]
fn after_a_reset_the_library_knows_the_state() {
    for kind in kinds() {
        let server = Served::of(&kind, Some(7));
        server.sim.allow_abort(true);
        let device = server.device();
        set(&device, State::PreCopy).unwrap();
        // libvfio-user keeps the state (U-10), which the library does not call a reset.
        let done = device.reset().is_ok();
        assert_eq!(done, server.sim.state() == State::Running, "{}", kind.name);
        assert_eq!(device.state(), server.sim.state(), "{}", kind.name);
        set(&device, State::Running).unwrap();
        assert_eq!(server.sim.state(), State::Running, "{}", kind.name);
        server.sim.assert_clean();
    }
}

/// A device that cannot migrate is found out, and the connection is in step behind it.
#[test]
fn a_device_that_cannot_migrate_is_told_from_one_that_can() {
    let kinds = kinds();
    for quirks in [Quirks::none(), Quirks::of_rust_crate()] {
        let strays = quirks.has(Quirk::StrayErrors);
        let options = ServerOptions { migratable: false, twin_socket: false, quirks, ..ServerOptions::default() };
        let server = Served::new(kinds[0].config.clone(), options);
        // A server that does not know features may have said that it can migrate.
        assert_eq!(server.connection.migratable(), strays);
        assert_eq!(server.device().info().dialect, None);
        open(&server.connection).unwrap().reset().unwrap();
        server.sim.assert_clean();
    }
}

/// SPDK: one segment, which is reached by a mapping only.
#[test]
fn a_window_that_can_only_be_mapped_is_mapped() {
    let config = simdev::Peer::SpdkV1.config().served().state_size(20_000);
    let quirks = Quirks::of_libvfio_user(&config).without(Quirk::EmptyWindow);
    let served = |seed| {
        let mut connect = ConnectOptions::default();
        connect.server.map_region = true;
        let options = ServerOptions { quirks: quirks.clone(), ..ServerOptions::default() };
        Served::with(simdev::Config { seed, ..config.clone() }, options, connect)
    };
    let (from, to) = (served(Some(7)), served(None));
    let (source, mut stream) = (from.device(), Vec::new());
    set(&source, State::StopCopy).unwrap();
    drain(&source, &mut stream).unwrap();
    stream.retain(|segment| !segment.is_empty());
    load(&to.device(), &stream).unwrap();
    assert!(to.sim.same_content(&from.sim));
}
