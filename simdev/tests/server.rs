//! The server of vfio-user: what it says of a client that goes wrong, what goes wrong in it, and what it does beside the
//! specification. Whether it keeps to the specification is what tests/vfio_user/smoke.py looks at.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "server/client.rs"]
mod client;

use client::{Client, words};
use proptest::prelude::*;
use simdev::{
    Access, Config, Device, Dialect, DmaLog, Effect, End, Fault, Happens, Quirk, Quirks, Restart, Server,
    ServerOptions, Trigger, Window,
};
use vfiomig::dialect::State;

const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const GET_INFO: u16 = 4;
const GET_REGION_INFO: u16 = 5;
const REGION_READ: u16 = 9;
const RESET: u16 = 13;
const DIRTY_PAGES: u16 = 14;
const FEATURE: u16 = 16;
const DATA_READ: u16 = 17;
const DATA_WRITE: u16 = 18;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const IOVA: u64 = 0x10_0000;

fn device() -> Device {
    let config = Config {
        dialect: Dialect::V2 { p2p: false, pre_copy: true },
        dma_log: Some(DmaLog { restart: Restart::Taken, ..DmaLog::default() }),
        ..Config::default()
    };
    Device::new(config.served().state_size(4096).seeded(1))
}

fn quirky(quirk: Quirk) -> ServerOptions {
    ServerOptions { quirks: Quirks::none().and(quirk), ..ServerOptions::default() }
}

fn happens(access: Access, nth: u64, happens: Happens) -> ServerOptions {
    ServerOptions { triggers: vec![Trigger { access, nth, happens }], ..ServerOptions::default() }
}

fn set_state(client: &mut Client, state: State) -> Result<Vec<u8>, i32> {
    client.call(FEATURE, &words(&[16, 2 | SET, state.number(), u32::MAX]))
}

fn map(iova: u64, size: u64) -> Vec<u8> {
    [words(&[32, 3]), 0u64.to_ne_bytes().to_vec(), iova.to_ne_bytes().to_vec(), size.to_ne_bytes().to_vec()].concat()
}

fn report(iova: u64, len: u64, page: u64) -> Vec<u8> {
    let numbers: Vec<u8> = [iova, len, page].iter().flat_map(|number| number.to_ne_bytes()).collect();
    [words(&[1 << 20, 8 | GET]), numbers].concat()
}

fn start(page: u64) -> Vec<u8> {
    [words(&[24, 6 | SET]), page.to_ne_bytes().to_vec(), words(&[0, 0])].concat()
}

#[test]
fn each_offence_is_refused_and_recorded() {
    let version = [0, 0, 1, 0].to_vec();
    let cases: [(&str, u16, Vec<u8>, i32); 16] = [
        ("VERSION twice", 1, version, libc::EINVAL),
        ("an unknown command", 99, Vec::new(), libc::EINVAL),
        ("the server's command", 12, vec![0; 16], libc::EINVAL),
        ("a short GET_INFO", GET_INFO, words(&[16, 0]), libc::EINVAL),
        ("a small argsz", GET_INFO, words(&[8, 0, 0, 0]), libc::EINVAL),
        ("no pages", DMA_MAP, map(IOVA, 100), libc::EINVAL),
        ("beyond the end", DMA_MAP, map(u64::MAX - 4095, 8192), libc::EINVAL),
        ("mapped twice", DMA_MAP, map(IOVA + 4096, 4096), libc::EEXIST),
        ("no region", DMA_UNMAP, [words(&[24, 0]), map(0, 0)[..16].to_vec()].concat(), libc::ENOENT),
        ("a read that is too long", REGION_READ, words(&[0, 0, 7, 2 << 20]), libc::EINVAL),
        ("data while it runs", DATA_READ, words(&[108, 100]), libc::EINVAL),
        ("a load while it runs", DATA_WRITE, words(&[12, 4, 0]), libc::EINVAL),
        ("SET without a state", FEATURE, words(&[16, 2 | SET]), libc::EINVAL),
        ("no such state", FEATURE, words(&[16, 2 | SET, 9, 0]), libc::EINVAL),
        ("REPORT of nothing", FEATURE, report(IOVA, 4096, 4096), libc::EINVAL),
        ("a cut range", FEATURE, [start(4096)[..16].to_vec(), words(&[2, 0])].concat(), libc::EINVAL),
    ];
    for (name, command, payload, errno) in cases {
        let device = device();
        let (mut client, thread) = Client::open(Server::new(&device, ServerOptions::default()));
        client.call(DMA_MAP, &map(IOVA, 0x10000)).unwrap();
        device.assert_clean();
        assert_eq!(client.call(command, &payload), Err(errno), "{name}");
        assert_eq!(device.violation_count(), 1, "{name}: {:?}", device.violations());
        client.call(GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
        drop(client);
        assert_eq!(thread.join(), [End::Closed], "{name}");
    }
}

#[test]
fn offences_are_told_as_they_happen() {
    let (device, (sender, told)) = (device(), std::sync::mpsc::channel());
    let sender = std::sync::Mutex::new(sender);
    let server = Server::new(&device, ServerOptions::default())
        .on_violation(move |violation| sender.lock().unwrap().send(violation.clone()).unwrap());
    let (mut client, _thread) = Client::open(server);
    client.call(99, &[]).unwrap_err();
    client.call(GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
    assert_eq!(told.try_iter().map(|v| v.rule).collect::<Vec<_>>(), ["U-1"]);
}

/// Who reads the verdict finds what it says in docs/rules.md.
#[test]
fn an_offence_has_the_name_of_its_rule() {
    let offences = [
        ("U-1", GET_INFO, words(&[16])),
        ("U-2", REGION_READ, words(&[0, 0, 0, 2 << 20])),
        ("U-5", DATA_READ, words(&[16, 8])),
        ("U-6", GET_REGION_INFO, words(&[8, 0, 0, 0, 0, 0, 0, 0])),
        ("U-20", DMA_UNMAP, words(&[24, 0, 0x1000, 0, 0x1000, 0])),
    ];
    for (rule, command, payload) in offences {
        let device = device();
        let (mut client, _thread) = Client::open(Server::new(&device, ServerOptions::default()));
        client.call(command, &payload).unwrap_err();
        assert_eq!(device.violations().iter().map(|v| v.rule).collect::<Vec<_>>(), [rule]);
    }
    let device = Device::new(Config::v1(Window::Trapped));
    let (mut client, _thread) = Client::open(Server::new(&device, ServerOptions::default()));
    client.call(DIRTY_PAGES, &words(&[8, 7])).unwrap_err();
    assert_eq!(device.violations().iter().map(|v| v.rule).collect::<Vec<_>>(), ["U-14"]);
}

#[test]
fn a_first_message_that_is_no_version_ends_the_connection() {
    for first in [GET_INFO, 99] {
        let device = device();
        let (mut client, thread) = Client::raw(Server::new(&device, ServerOptions::default()));
        assert_eq!(client.call(first, &words(&[16, 0, 0, 0])), Err(libc::EINVAL));
        assert!(matches!(thread.join()[..], [End::Broken(_)]));
        assert_eq!(device.violation_count(), 1);
    }
}

#[test]
fn a_server_dies_where_it_was_told_to() {
    let device = device();
    let options = happens(Access::Enter(State::StopCopy), 0, Happens::Dies);
    let (mut client, thread) = Client::open(Server::new(&device, options));
    set_state(&mut client, State::PreCopy).unwrap();
    client.post(FEATURE, &words(&[16, 2 | SET, State::StopCopy.number(), 0]));
    assert!(client.is_closed());
    assert_eq!((thread.join(), device.state()), (vec![End::Died], State::StopCopy));
}

#[test]
fn a_server_is_silent_once_and_serves_again() {
    let device = device();
    let (mut client, _thread) = Client::open(Server::new(&device, happens(Access::StateRead, 1, Happens::IsSilent)));
    let get = words(&[16, 2 | GET]);
    client.call(FEATURE, &get).unwrap();
    client.post(FEATURE, &get);
    client.call(FEATURE, &get).unwrap();
    assert_eq!(device.count(Access::StateRead), 3);
}

#[test]
fn faults_of_the_device_are_answers_of_the_server() {
    let device = device();
    device.inject(Fault::at(Access::Enter(State::StopCopy), 0, Effect::Errno(libc::EIO)));
    device.inject(Fault::at(Access::DmaMap, 0, Effect::Errno(libc::ENOSPC)));
    let (mut client, _thread) = Client::open(Server::new(&device, ServerOptions::default()));
    assert_eq!(client.call(DMA_MAP, &map(IOVA, 4096)), Err(libc::ENOSPC));
    assert_eq!(set_state(&mut client, State::StopCopy), Err(libc::EIO));
    set_state(&mut client, State::StopCopy).unwrap();
}

#[test]
fn padded_reads_are_as_long_as_what_was_asked() {
    for (options, len) in [(ServerOptions::default(), None), (quirky(Quirk::PaddedReads), Some(100_008))] {
        let device = device();
        let (mut client, _thread) = Client::open(Server::new(&device, options));
        set_state(&mut client, State::StopCopy).unwrap();
        let answer = client.call(DATA_READ, &words(&[100_008, 100_000])).unwrap();
        let size = u32::from_ne_bytes(answer[4..8].try_into().unwrap()) as usize;
        assert!(size > 4096 && size < 10_000, "{size}");
        assert_eq!(answer.len(), len.unwrap_or(8 + size));
    }
}

#[test]
fn a_message_in_two_pieces_is_lost_by_a_server_that_receives_once() {
    for (quirks, expected) in [(Quirks::none(), Ok(())), (Quirks::none().and(Quirk::OneReceive), Err(libc::EINVAL))] {
        let device = device();
        let (mut client, _thread) =
            Client::open(Server::new(&device, ServerOptions { quirks, ..ServerOptions::default() }));
        let number = client.send_in_pieces(GET_INFO, &words(&[16, 0, 0, 0]));
        assert_eq!(client.wait(GET_INFO, number).map(drop), expected);
        device.assert_clean();
    }
}

#[test]
fn an_unknown_command_leaves_its_payload_to_be_the_next_header() {
    let device = device();
    let options = ServerOptions { migratable: false, ..quirky(Quirk::StrayErrors) };
    let (mut client, _thread) = Client::open(Server::new(&device, options));
    let number = client.post(FEATURE, &words(&[16, 1 | GET, 0, 0]));
    assert_eq!(client.wait(FEATURE, number), Err(0));
    assert_eq!(client.receive().unwrap(), (16, 0, Err(0)));
    client.call(GET_INFO, &words(&[16, 0, 0, 0])).unwrap();
    device.assert_clean();
}

#[test]
fn the_log_of_regions_wants_regions() {
    let device = device();
    let (mut client, _thread) = Client::open(Server::new(&device, quirky(Quirk::RegionLog)));
    client.call(DMA_MAP, &map(IOVA, 0x10000)).unwrap();
    client.call(FEATURE, &start(4096)).unwrap();
    assert_eq!(client.call(FEATURE, &start(8192)), Err(libc::EINVAL));
    client.call(FEATURE, &start(4096)).unwrap();
    assert_eq!(client.call(FEATURE, &report(IOVA + 4096, 4096, 4096)), Err(libc::ENOTSUP));
    assert_eq!(client.call(FEATURE, &report(0, 4096, 4096)), Err(libc::ENOENT));
    // Of memory that it cannot map it knows nothing.
    assert_eq!(client.call(FEATURE, &report(IOVA, 0x10000, 4096)), Err(libc::EINVAL));
    device.assert_clean();
}

#[test]
fn what_is_mapped_can_be_mapped_again_where_a_server_allows_it() {
    let device = device();
    let (mut client, _thread) = Client::open(Server::new(&device, quirky(Quirk::Remaps)));
    client.call(DMA_MAP, &map(IOVA, 0x10000)).unwrap();
    client.call(DMA_MAP, &map(IOVA, 0x10000)).unwrap();
    assert_eq!(client.call(DMA_MAP, &map(IOVA, 0x8000)), Err(libc::EINVAL));
}

#[test]
fn while_it_is_stopped_a_narrow_server_answers_only_a_migration() {
    let device = device();
    let (mut client, _thread) = Client::open(Server::new(&device, quirky(Quirk::NarrowWhileStopped)));
    let config = words(&[0, 0, 7, 4]);
    set_state(&mut client, State::Stop).unwrap();
    client.call(REGION_READ, &config).unwrap();
    assert_eq!(client.call(DMA_MAP, &map(IOVA, 4096)), Err(libc::EINVAL));
    assert_eq!(client.call(RESET, &[]), Err(libc::EINVAL));
    set_state(&mut client, State::StopCopy).unwrap();
    assert_eq!(client.call(REGION_READ, &config), Err(libc::EINVAL));
    client.call(DATA_READ, &words(&[16, 8])).unwrap();
}

#[test]
fn the_state_stays_when_a_client_goes_and_its_memory_does_not() {
    let device = device();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let thread = Server::new(&device, ServerOptions::default()).bind(&path).unwrap();
    for _ in 0..2 {
        let mut client = Client::at(&path);
        client.call(DMA_MAP, &map(IOVA, 4096)).unwrap();
        set_state(&mut client, State::Stop).unwrap();
    }
    assert_eq!(device.state(), State::Stop);
    device.assert_clean();
    drop(thread);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a client sends, the server goes on or ends the connection; a panic of its thread would leave no end.
    #[test]
    fn no_bytes_of_a_client_are_too_much(
        messages in prop::collection::vec((0u16..20, prop::collection::vec(hostile_word(), 0..14), 0u32..0x40), 1..40),
        quirk in prop::option::of(prop::sample::select(Quirk::all().collect::<Vec<_>>())),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let quirks = quirk.map_or(Quirks::none(), |quirk| Quirks::none().and(quirk));
        let patience = std::time::Duration::from_millis(20);
        let (mut client, thread) =
            Client::open(Server::new(&device(), ServerOptions { quirks, patience, ..ServerOptions::default() }));
        client.send_hostile(&messages, &tail);
        drop(client);
        prop_assert_eq!(thread.join().len(), 1);
    }
}

/// Numbers that mean something somewhere, and any.
fn hostile_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 2, 3, 4, 7, 8, 9, 16, 24, 32, 40, 48, 4096, 8192, 0x10_0000, u32::MAX]),
        (0u32..10, prop::sample::select(vec![GET, SET, GET | SET | 1 << 18])).prop_map(|(index, how)| index | how),
        any::<u32>(),
    ]
}
