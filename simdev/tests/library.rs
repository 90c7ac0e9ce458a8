//! The library saves and loads simdev's v2 devices through both ways in: the Rust transport and the table of functions.

use simdev::{Config, DataPath, Device, Dialect};
use std::time::Duration;
use vfiomig::device::{self, DeviceOptions, OnFailure};
use vfiomig::dialect::{Caps, State};
use vfiomig::transport::Transport;
use vfiomig::transport::ops::OpsTransport;

fn transport(d: &Device, table: bool) -> Box<dyn Transport> {
    if !table {
        return d.transport();
    }
    let (ops, opaque) = d.ops();
    // SAFETY: the caller keeps the device for longer than the transport.
    Box::new(unsafe { OpsTransport::new(ops, opaque) }.unwrap())
}

fn round(config: Config, table: bool) {
    let pre_copy = matches!(config.dialect, Dialect::V2 { pre_copy: true, .. });
    let (source, sink) = (Device::new(config.clone().seeded(4)), Device::new(config));
    let open = |d| device::Device::new(transport(d, table), DeviceOptions::default()).unwrap();
    let (from, to) = (open(&source), open(&sink));
    let set = |d: &device::Device, state| d.set_state(state, OnFailure::Keep, false).unwrap();
    let (mut stream, mut buf) = (Vec::new(), vec![0; 3000]);
    let mut drain = |stream: &mut Vec<u8>| {
        loop {
            match from.read(&mut buf).unwrap() {
                (0, _) => break,
                (n, _) => stream.extend(&buf[..n]),
            }
        }
    };
    if pre_copy {
        set(&from, State::PreCopy);
        drain(&mut stream);
        source.touch(10, 200, 1).unwrap();
    }
    set(&from, State::StopCopy);
    drain(&mut stream);
    set(&from, State::Stop);
    set(&to, State::Resuming);
    to.write(&stream, false).unwrap();
    to.finish(Some(stream.len() as u64)).unwrap();
    set(&to, State::Stop);
    set(&to, State::Running);
    drop((from, to));
    source.assert_clean();
    sink.assert_clean();
    assert!(source.same_content(&sink));
    if source.sessions_closed() > 0 {
        assert_eq!((source.sessions_opened(), source.sessions_closed()), (1, 1));
    }
}

#[test]
fn both_doors_and_both_kinds_of_data() {
    for caps in Caps::ALL {
        for table in [false, true] {
            for data in [DataPath::Functions, DataPath::RealFd] {
                round(Config { data, max_io: 1000, vary_segments: true, ..Config::v2(caps) }, table);
            }
        }
    }
}

#[test]
fn a_device_that_runs_meanwhile() {
    let config = Config::v2(Caps::ALL[3]).state_size(1 << 20);
    let source = Device::new(config.seeded(1));
    let from = device::Device::new(source.transport(), DeviceOptions::default()).unwrap();
    let runner = source.run(Duration::from_micros(200), 500, 0..100);
    from.set_state(State::PreCopy, OnFailure::Keep, false).unwrap();
    let mut buf = vec![0; 64 << 10];
    for _ in 0..100 {
        from.read(&mut buf).unwrap();
    }
    from.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
    while from.read(&mut buf).unwrap().0 > 0 {}
    from.set_state(State::Stop, OnFailure::Keep, false).unwrap();
    runner.stop();
    drop(from);
    source.assert_clean();
}
