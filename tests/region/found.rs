//! What a probe finds, and why it finds nothing: a reason that an operator can act upon, in lines that name the device.

use super::server::Server;
use super::*;
use std::sync::{Arc, Mutex};
use vfiomig::dialect::{Caps, Reason};
use vfiomig::error::Errno;
use vfiomig::log::{Level, set_sink};
use vfiomig::transport::{DataFd, Feature, Mapped, Returned, Transport};

fn probe(transport: Box<dyn Transport>, name: &str, dialect: Option<DialectKind>) -> Device {
    Device::new(transport, DeviceOptions { name: name.into(), dialect, ..DeviceOptions::default() }).unwrap()
}

/// Why the device cannot be migrated; its text is whole in the C API, and an attempt says it too.
fn reason(device: &Device) -> Reason {
    let info = device.info();
    assert_eq!((info.dialect, info.state), (None, State::Error));
    let reason = info.reason.unwrap();
    let text = reason.to_string();
    assert!(text.len() < 128, "{} bytes: {text}", text.len());
    let refused = set(device, State::Stop).unwrap_err();
    assert!(refused.kind() == ErrorKind::Unsupported && refused.to_string().contains(&text), "{refused}");
    reason
}

/// V1-14, D18: a region without room for the registers is no reason not to start a VM.
#[test]
fn a_region_that_is_too_small_is_a_reason() {
    for (region_type, kind, needed) in [(3, DialectKind::V1, 32), (2, DialectKind::Draft, 64)] {
        for size in [0, 16, 31, 32, 63, 64] {
            let server = Server::new(region_type, Vec::new(), 16);
            server.model().size = size;
            let device = probe(Box::new(server.clone()), "nvme", None);
            if size >= needed {
                assert_eq!(device.info().dialect, Some(kind), "{size}");
                continue;
            }
            let reason = reason(&device);
            assert_eq!(reason, Reason::TooSmall { kind, index: 0, size, needed });
            for part in [size.to_string(), needed.to_string(), kind.name().to_string()] {
                assert!(reason.to_string().contains(&part), "{reason}");
            }
            assert_eq!(server.model().log, [""; 0], "no register was touched");
            // It grows with the next realisation.
            server.model().size = 0x1_0000;
            device.reprobe().unwrap();
            assert_eq!((device.info().dialect, device.info().reason), (Some(kind), None));
        }
    }
}

/// Which protocol was asked for, and which was found.
#[test]
fn another_protocol_is_named() {
    let v2 = || simdev::Device::new(Config::v2(Caps { p2p: true, pre_copy: true })).transport();
    let region = |region_type| -> Box<dyn Transport> { Box::new(Server::new(region_type, Vec::new(), 16)) };
    let cases = [
        (v2(), DialectKind::V1, DialectKind::V2),
        (v2(), DialectKind::Draft, DialectKind::V2),
        (region(3), DialectKind::V2, DialectKind::V1),
        (region(2), DialectKind::V2, DialectKind::Draft),
        (region(2), DialectKind::V1, DialectKind::Draft),
    ];
    for (transport, wanted, found) in cases {
        let device = probe(transport, "gpu0", Some(wanted));
        let reason = reason(&device);
        assert_eq!(reason, Reason::Other { wanted, found });
        let text = reason.to_string();
        assert!(text.contains(wanted.name()) && text.contains(found.name()), "{text}");
    }
    // Nothing at all is nothing, whatever was asked for.
    let server = Server::new(9, Vec::new(), 16);
    for wanted in [None, Some(DialectKind::V1), Some(DialectKind::V2), Some(DialectKind::Draft)] {
        assert_eq!(reason(&probe(Box::new(server.clone()), "gpu0", wanted)), Reason::NoSupport);
    }
}

/// A region that cannot be understood is the reason, not only a line in the log.
#[test]
fn a_broken_description_is_the_reason() {
    let server = Server::new(3, Vec::new(), 16);
    server.model().next_capability = 32;
    let device = probe(Box::new(server.clone()), "gpu0", None);
    let Reason::Broken(text) = reason(&device) else { panic!("{:?}", device.info().reason) };
    assert!(text.contains("region 0") && text.contains("capability chain"), "{text}");
    // Another region is whole: then it is no reason.
    server.model().next_capability = 0;
    device.reprobe().unwrap();
    assert_eq!(device.info().dialect, Some(DialectKind::V1));
}

/// A table of the VMM without device_info.
struct NoInfo(Server);

impl Transport for NoInfo {
    fn has_device_info(&self) -> bool {
        false
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.0.region_info(info)
    }
    fn region_read(&self, index: u32, at: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.region_read(index, at, buf)
    }
    fn region_write(&self, index: u32, at: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.0.region_write(index, at, buf)
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        self.0.open_data(data_fd)
    }
}

/// v1 needs device_info, and that is said.
#[test]
fn a_table_without_device_info_is_named() {
    let device = probe(Box::new(NoInfo(Server::new(3, Vec::new(), 16))), "gpu0", None);
    let reason = reason(&device);
    assert_eq!(reason, Reason::NoDeviceInfo);
    assert!(reason.to_string().contains("device_info") && reason.to_string().contains("v1"), "{reason}");
}

/// A simdev device behind a transport that fails one function.
struct Without {
    inner: Box<dyn Transport>,
    regions: u32,
}

impl Transport for Without {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.device_info(info)?;
        info[8..12].copy_from_slice(&self.regions.to_ne_bytes());
        Ok(())
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        self.inner.device_feature(feature)
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.region_info(info)
    }
    fn region_read(&self, index: u32, at: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.inner.region_read(index, at, buf)
    }
    fn region_write(&self, index: u32, at: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.inner.region_write(index, at, buf)
    }
    fn region_map(&self, index: u32, at: u64, len: usize) -> Result<Mapped, Errno> {
        self.inner.region_map(index, at, len)
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        self.inner.open_data(data_fd)
    }
}

/// Each line names its device, and none is made of Rust's debug output.
#[test]
fn lines_of_the_log_name_the_device() {
    let lines: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
    let keep = Arc::clone(&lines);
    set_sink(Some(Arc::new(move |level, text: &str| keep.lock().unwrap().push((level, text.into())))), Level::Debug);
    let take = |part: &str| -> (Level, String) {
        let lines = lines.lock().unwrap();
        let found: Vec<_> = lines.iter().filter(|(_, text)| text.contains("logged") && text.contains(part)).collect();
        assert_eq!(found.len(), 1, "{part}: {found:?}");
        let (level, text) = found[0].clone();
        assert!(text.starts_with("logged"), "{text}");
        for debug in ["Some(", "Errno(", "{ ", "(os error"] {
            assert!(!text.contains(debug), "{text}");
        }
        (level, text)
    };
    let saving = |name: &str, config: Config| {
        let sim = simdev::Device::new(config.seeded(1));
        let device = open(&sim, name);
        sim.allow_abort(true);
        set(&device, State::StopCopy).unwrap();
        (sim, device)
    };

    // The one line that says that a draft may be taken for v1: not where the options or the region say what it is.
    let as_v1 = |name: &str, config: Config, dialect| {
        let sim = simdev::Device::new(config);
        let device = probe(sim.transport(), name, dialect);
        assert_eq!(device.info().dialect, Some(DialectKind::V1));
    };
    as_v1("logged-auto", Config::v1(Window::Trapped), None);
    as_v1("logged-named", Config::v1(Window::Trapped), Some(DialectKind::V1));
    as_v1("logged-ndma", Config::v1_ndma(Window::Trapped), None);
    let (level, _) = take("drafts of 2019");
    assert_eq!(level, Level::Info);

    let areas = |count: u64| Window::Areas((0..count).map(|i| (4096 + i * 8192, 4096)).collect());
    saving("logged-many", Config { window_size: 70 * 8192, ..Config::v1(areas(70)) });
    assert_eq!(take("logged-many: 70 areas").0, Level::Warning);
    saving("logged-overlap", Config::v1(Window::Areas(vec![(4096, 8192), (8192, 4096)])));
    assert_eq!(take("logged-overlap: the migration region cannot be mapped").0, Level::Warning);
    saving("logged-fails", Config { map_fails: true, ..Config::v1(Window::Area) });
    assert_eq!(take("logged-fails: area 0x1000").0, Level::Warning);

    let (sim, device) = saving("logged-ack", Config::v1(Window::Trapped).state_size(9000));
    sim.inject(Fault::at(Access::PendingRead, 1, Effect::Errno(libc::EIO)));
    while !device.read(&mut [0; 5000]).unwrap().1.contains(SEGMENT_END) {}
    assert_eq!(take("acknowledging a segment failed").0, Level::Warning);
    let (sim, device) = saving("logged-short", Config::v1(Window::Trapped).state_size(9000));
    sim.inject(Fault::at(Access::PendingRead, 1, Effect::Short(3)));
    while !device.read(&mut [0; 5000]).unwrap().1.contains(SEGMENT_END) {}
    assert_eq!(take("3 of 8 bytes").0, Level::Warning);

    let sim = simdev::Device::new(Config::v1(Window::Trapped));
    probe(Box::new(Without { inner: sim.transport(), regions: 1000 }), "logged-regions", None);
    assert_eq!(take("1000 regions").0, Level::Warning);
    let server = Server::new(3, Vec::new(), 16);
    server.model().next_capability = 32;
    probe(Box::new(server), "logged-chain", None);
    assert_eq!(take("logged-chain: region 0: bad capability chain").0, Level::Warning);

    // What every PCI device has is not worth a warning.
    let server = Server::new(3, Vec::new(), 16);
    server.model().regions = 10;
    let device = probe(Box::new(server), "logged-vga", None);
    assert_eq!(device.info().dialect, Some(DialectKind::V1));
    assert_eq!(take("logged-vga: region 8").0, Level::Debug);

    let sim = simdev::Device::new(Config::v1(Window::Trapped));
    let device = open(&sim, "logged-dead");
    let reads = sim.count(Access::StateRead);
    sim.inject(Fault::from(Access::StateRead, reads + 1, Effect::Errno(libc::ENODEV)));
    set(&device, State::StopCopy).unwrap_err();
    assert_eq!(take("logged-dead: its state cannot be read: reading device_state").0, Level::Warning);
    set_sink(None, Level::Error);
}

/// Only where the device says so a reset is possible, and region type 2 is not the draft's.
#[test]
fn what_the_device_says_of_itself_is_heeded() {
    for (ccw, can_reset) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut config = Config { ccw, can_reset, ..Config::draft(DraftForm::Rewrite) };
        if let simdev::Dialect::Draft { region_type, .. } = &mut config.dialect {
            *region_type = 2;
        }
        let device = probe(simdev::Device::new(config).transport(), "gpu", None);
        let info = device.info();
        assert_eq!(info.dialect, (!ccw).then_some(DialectKind::Draft));
        assert_eq!(info.caps.contains(vfiomig::device::CapFlags::RESET), can_reset, "ccw={ccw}");
    }
}
