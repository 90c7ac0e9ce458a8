//! Memory that was lent outlives its session, whatever becomes of the device and of the window, until something is lent again or
//! the device is closed. The address sanitizer sees this file (tests/asan.sh); mappings that are given back are unmapped.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfiomig::device::CapFlags;
use vfiomig::dialect::Caps;
use vfiomig::error::Errno;
use vfiomig::transport::ops::OpsTransport;
use vfiomig::transport::{DataFd, Feature, Mapped, Returned, Transport};

/// A device that describes its regions as so many bytes larger.
struct Changing(Box<dyn Transport>, Arc<AtomicU64>);

impl Transport for Changing {
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.0.device_info(info)
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        self.0.device_feature(feature)
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.0.region_info(info)?;
        let size = u64::from_ne_bytes(info[16..24].try_into().unwrap());
        info[16..24].copy_from_slice(&(size + self.1.load(Ordering::Relaxed)).to_ne_bytes());
        Ok(())
    }
    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.region_read(index, offset, buf)
    }
    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.0.region_write(index, offset, buf)
    }
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        self.0.region_map(index, offset, len)
    }
    fn reset(&self) -> Result<(), Errno> {
        self.0.reset()
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        self.0.open_data(data_fd)
    }
}

/// Memory that the library lent, and what it held then.
struct Lent {
    memory: *mut u8,
    held: Vec<u8>,
    is_room: bool,
    of_device: bool,
}

impl Lent {
    fn take(device: &Device, sim: &simdev::Device, is_room: bool) -> Self {
        if is_room {
            set(device, State::Resuming).unwrap();
            let of_device = device.info().caps.contains(CapFlags::MAPPED);
            let segment = if matches!(device.info().dialect, Some(DialectKind::V2)) { u64::MAX } else { 2000 };
            let room = device.reserve_raw(segment).unwrap();
            let held = vec![0x5a; room.len.min(2000)];
            // SAFETY: the library lends `room.len` bytes.
            unsafe { std::ptr::copy_nonoverlapping(held.as_ptr(), room.data, held.len()) };
            return Lent { memory: room.data, held, is_room, of_device };
        }
        sim.allow_abort(true);
        set(device, State::StopCopy).unwrap();
        let chunk = device.peek_raw(0).unwrap();
        let of_device = chunk.flags & DEVICE_MEM != 0;
        // SAFETY: the library lends `chunk.len` bytes.
        let held = unsafe { std::slice::from_raw_parts(chunk.data, chunk.len) }.to_vec();
        Lent { memory: chunk.data.cast_mut(), held, is_room, of_device }
    }

    /// The memory is there, and what is the library's own was left alone.
    fn check(&self, what: &str) {
        // SAFETY: that is what this test is about.
        let now = unsafe { std::slice::from_raw_parts(self.memory, self.held.len()) }.to_vec();
        assert!(self.of_device || now == self.held, "{what}: it was overwritten");
        if self.is_room {
            // SAFETY: as above; a room may be written to.
            unsafe { std::ptr::copy_nonoverlapping(self.held.as_ptr(), self.memory, self.held.len()) };
        }
    }

    fn give_back(&self, device: &Device) -> Error {
        let outcome = if self.is_room { device.commit_raw(10, false) } else { device.consume_raw(10) };
        outcome.unwrap_err()
    }
}

fn reprobe(device: &Device, more: &AtomicU64) {
    more.fetch_add(4096, Ordering::Relaxed);
    device.reprobe().unwrap();
}

type End = fn(&Device, &AtomicU64);

/// What ends the session in which it was lent, or follows upon that.
const ENDS: [(&str, End); 4] = [
    ("reset", |device, _| device.reset().unwrap()),
    ("reset by others, another region", |device, more| {
        device.reset().unwrap();
        reprobe(device, more);
    }),
    ("another region", reprobe),
    ("two other regions", |device, more| {
        reprobe(device, more);
        reprobe(device, more);
    }),
];

/// The calls of a new session that lend nothing.
fn use_without_lending(device: &Device) {
    let (mut near, far) = UnixStream::pair().unwrap();
    device.restart_stream().unwrap();
    set(device, State::StopCopy).unwrap();
    device.send(near.as_fd(), 900).unwrap();
    device.read(&mut [0; 500]).unwrap();
    device.read(&mut [0; 100_000]).unwrap();
    device.reset().unwrap();
    set(device, State::Resuming).unwrap();
    near.write_all(&[9; 3000]).unwrap();
    // A strict device refuses such bytes; they went through the library all the same.
    let _ = device.receive(far.as_fd(), 900, false);
    let _ = device.write(&[7; 1000], false);
    device.reset().unwrap();
}

/// What was lent can be read until the next peek or the end of the handle, whatever became of the window.
#[test]
fn lent_memory_outlives_its_window() {
    let v2 = || Config::v2(Caps { p2p: true, pre_copy: true });
    let mut configs: Vec<Config> = WINDOWS.into_iter().map(Config::v1).collect();
    configs.push(v2());
    for config in configs {
        for is_room in [false, true] {
            for (name, end) in ENDS {
                let what = format!("{:?} {:?} room={is_room}: {name}", config.dialect, config.window);
                let config = Config { precopy: Precopy::Nothing, bad_load: simdev::BadLoad::Keep, ..config.clone() };
                let sim = simdev::Device::new(config.state_size(20_000).seeded(3));
                let more = Arc::new(AtomicU64::new(0));
                let options = DeviceOptions { name: "vf0".into(), buffer_size: Some(8192), ..DeviceOptions::default() };
                let device = Device::new(Box::new(Changing(sim.transport(), Arc::clone(&more))), options).unwrap();
                let lent = Lent::take(&device, &sim, is_room);
                end(&device, &more);
                let junk: Vec<Vec<u8>> = (0..8).map(|_| vec![0xee; 8192]).collect();
                lent.check(&what);
                if device.state() != State::Running {
                    device.reset().unwrap();
                }
                use_without_lending(&device);
                lent.check(&what);
                drop(junk);
                assert_eq!(lent.give_back(&device).errno(), libc::ESTALE, "{what}");
                // Lent again: what was out is forgotten, and so is its window.
                device.restart_stream().unwrap();
                set(&device, State::StopCopy).unwrap();
                let chunk = device.peek_raw(0).unwrap();
                device.consume_raw(chunk.len).unwrap();
                let maps = sim.mappings();
                assert!(maps <= 2, "{what}: {maps} mappings");
                device.close().unwrap();
                assert_eq!(sim.mappings(), 0, "{what}");
            }
        }
    }
}

/// A window that stays mapped says so.
#[test]
fn a_reprobe_keeps_what_is_known_of_the_window() {
    let sim = simdev::Device::new(Config::v1(Window::Area).seeded(3));
    let more = Arc::new(AtomicU64::new(0));
    let device = Device::new(Box::new(Changing(sim.transport(), Arc::clone(&more))), DeviceOptions::default()).unwrap();
    set(&device, State::PreCopy).unwrap();
    let caps = device.info().caps;
    assert!(caps.contains(CapFlags::MAPPED));
    device.reprobe().unwrap();
    assert_eq!(device.info().caps, caps);
    set(&device, State::Running).unwrap();
    set(&device, State::PreCopy).unwrap();
    assert_ne!(device.peek_raw(0).unwrap().flags & DEVICE_MEM, 0);
    // Another region is not mapped before its first session.
    reprobe(&device, &more);
    assert_eq!(device.info().caps, caps - CapFlags::MAPPED);
    device.close().unwrap();
    assert_eq!(sim.mappings(), 0);
}

/// What functions of a VMM have mapped goes back to them.
#[test]
fn mappings_of_functions_are_given_back() {
    let mut mapped = 0;
    for window in WINDOWS {
        let sim = simdev::Device::new(Config::v1(window.clone()).seeded(3));
        sim.allow_abort(true);
        let (ops, opaque) = sim.ops();
        // SAFETY: `sim` lives longer than the device, and its functions keep to the table's contract.
        let transport = unsafe { OpsTransport::new(ops, opaque) }.unwrap();
        let device = Device::new(Box::new(transport), DeviceOptions::default()).unwrap();
        set(&device, State::StopCopy).unwrap();
        assert_eq!(device.info().caps.contains(CapFlags::MAPPED), sim.mappings() > 0, "{window:?}");
        mapped += sim.mappings();
        drop(device);
        assert_eq!(sim.mappings(), 0, "{window:?}");
    }
    assert!(mapped > 0, "no window was mapped");
}
