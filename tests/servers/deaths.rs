//! A server that dies, hangs or fails in each state: the library says so, within its time, and asks it for nothing more.

use super::tools::{Served, kinds, load, save, set};
use simdev::{Access, Config, Effect, Fault, Happens, ServerOptions, Trigger};
use std::time::{Duration, Instant};
use vfiomig::dialect::State;
use vfiomig::error::ErrorKind;
use vfiomig::transport::vfio_user::ConnectOptions;

fn spoiled(config: &Config, seed: Option<u64>, access: Access, nth: u64, happens: Happens) -> Served {
    let options = ServerOptions { triggers: vec![Trigger { access, nth, happens }], ..ServerOptions::default() };
    let connect = ConnectOptions { timeout: Duration::from_secs(2), ..ConnectOptions::default() };
    Served::with(Config { seed, ..config.clone() }, options, connect)
}

const SAVE: [(Access, u64); 5] = [
    (Access::Enter(State::PreCopy), 0),
    (Access::DataRead, 0),
    (Access::Enter(State::StopCopy), 0),
    (Access::DataRead, 1),
    (Access::Enter(State::Stop), 0),
];

#[test]
fn a_server_that_dies_in_a_save_is_lost_at_once() {
    for kind in kinds() {
        for (access, nth) in SAVE {
            let server = spoiled(&kind.config, Some(7), access, nth, Happens::Dies);
            let device = server.device();
            let begun = Instant::now();
            let error = save(&device).err().unwrap_or_else(|| panic!("{}, {access:?} {nth}: it was saved", kind.name));
            assert_eq!(error.kind(), ErrorKind::Device, "{}, {access:?} {nth}: {error}", kind.name);
            assert!(set(&device, State::Running).is_err() && device.reset().is_err());
            assert!(begun.elapsed() < Duration::from_secs(30), "{}, {access:?}", kind.name);
        }
    }
}

#[test]
fn a_server_that_dies_in_a_load_is_lost_at_once() {
    for kind in kinds() {
        let stream = save(&Served::of(&kind, Some(7)).device()).unwrap();
        let load_of = [(Access::Enter(State::Resuming), 0), (Access::DataWrite, 2), (Access::Enter(State::Running), 0)];
        for (access, nth) in load_of {
            let server = spoiled(&kind.config, None, access, nth, Happens::Dies);
            let device = server.device();
            let error = load(&device, &stream).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Device, "{}, {access:?} {nth}: {error}", kind.name);
            assert!(device.reset().is_err(), "{}, {access:?}", kind.name);
        }
    }
}

/// No answer: the time of the connection is all that it takes.
#[test]
fn a_server_that_does_not_answer_takes_no_more_than_its_time() {
    let kind = &kinds()[0];
    for access in [Access::Enter(State::StopCopy), Access::DataRead] {
        let server = spoiled(&kind.config, Some(7), access, 0, Happens::IsSilent);
        let (device, begun) = (server.device(), Instant::now());
        assert!(save(&device).is_err(), "{access:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{access:?}");
    }
}

/// A step that the device refuses leaves the connection as it was.
#[test]
fn a_device_that_fails_goes_on_over_the_same_connection() {
    for kind in kinds() {
        let server = Served::of(&kind, Some(7));
        server.sim.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::Errno(libc::EBUSY)));
        server.sim.allow_abort(true);
        let device = server.device();
        assert_eq!(set(&device, State::StopCopy).unwrap_err().errno(), libc::EBUSY, "{}", kind.name);
        set(&device, State::Running).unwrap();
        device.restart_stream().unwrap();
        save(&device).unwrap();
    }
}
