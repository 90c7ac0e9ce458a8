//! Safe code that implements the traits of `transport`, or calls what implements them, can spoil a migration and nothing else: no
//! memory of the process, and no descriptor that it does not own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use simdev::{Config, DataPath, DmaLog, Ram, Space, Window};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::error::{Errno, Error, ErrorKind};
use vfiomig::tracker::{self, Request, Tracker};
use vfiomig::transport::iommufd::{Iommufd, KernelIommufd};
use vfiomig::transport::kernel::Kernel;
use vfiomig::transport::type1::{Container, KernelContainer};
use vfiomig::transport::{DataFd, Feature, Mapped, PrecopyInfo, Returned, Transport};

/// How a transport in the middle spoils what goes through it.
#[derive(Clone, Copy, Default)]
struct Spoil {
    /// Writes over each request before it is handed on.
    requests: bool,
    /// The number that it puts into answers to state changes.
    data_fd: Option<RawFd>,
    /// Asks the device to map so many bytes less.
    map_less: usize,
}

struct Middle {
    inner: Box<dyn Transport>,
    spoil: Spoil,
    spoiled: Arc<AtomicUsize>,
}

struct MiddleData(Box<dyn DataFd>, bool);

impl Middle {
    fn count(&self) {
        self.spoiled.fetch_add(1, Ordering::Relaxed);
    }
}

impl Transport for Middle {
    fn report_adds_bits(&self) -> bool {
        self.inner.report_adds_bits()
    }
    fn device_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.device_info(info)
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        let flags = feature.flags();
        if self.spoil.requests {
            self.count();
            feature.bytes_mut().fill(0x55);
        }
        self.inner.device_feature(feature)?;
        if let (Some(number), 0x2_0002) = (self.spoil.data_fd, flags) {
            self.count();
            feature.put_u32(12, number as u32);
        }
        Ok(())
    }
    fn region_info(&self, info: &mut [u8]) -> Result<(), Errno> {
        self.inner.region_info(info)
    }
    fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        self.inner.region_read(index, offset, buf)
    }
    fn region_write(&self, index: u32, offset: u64, buf: &[u8]) -> Result<usize, Errno> {
        self.inner.region_write(index, offset, buf)
    }
    fn region_map(&self, index: u32, offset: u64, len: usize) -> Result<Mapped, Errno> {
        self.count();
        self.inner.region_map(index, offset, len - self.spoil.map_less)
    }
    fn reset(&self) -> Result<(), Errno> {
        self.inner.reset()
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        Ok(Box::new(MiddleData(self.inner.open_data(data_fd)?, self.spoil.requests)))
    }
}

impl DataFd for MiddleData {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.0.read(buf)
    }
    fn write(&mut self, buf: &[u8]) -> Result<usize, Errno> {
        self.0.write(buf)
    }
    fn precopy_info(&mut self, info: &mut PrecopyInfo) -> Result<(), Errno> {
        if self.1 {
            info.bytes_mut()[..4].fill(0x55);
        }
        self.0.precopy_info(info)
    }
    fn wait_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.0.wait_fd()
    }
}

fn open(sim: &simdev::Device, spoil: Spoil) -> (Arc<Device>, Arc<AtomicUsize>) {
    let spoiled = Arc::new(AtomicUsize::new(0));
    let middle = Middle { inner: sim.transport(), spoil, spoiled: Arc::clone(&spoiled) };
    let options = DeviceOptions { name: "vf0".into(), ..DeviceOptions::default() };
    (Arc::new(Device::new(Box::new(middle), options).unwrap()), spoiled)
}

fn set(device: &Device, state: State) -> vfiomig::Result<()> {
    device.set_state(state, OnFailure::Keep, false)
}

fn read_all(device: &Device) -> Vec<u8> {
    let (mut buf, mut stream) = ([0; 4096], Vec::new());
    loop {
        match device.read(&mut buf).unwrap() {
            (0, _) => return stream,
            (n, _) => stream.extend(&buf[..n]),
        }
    }
}

/// Sizes and addresses are the library's own, whatever is written over them on the way. The VMM needs no unsafe code for a harvest, a
/// save and a load.
#[test]
fn a_request_that_was_written_over_is_asked_as_it_was_made() {
    let (space, log) = (Space::new(&Ram::new()), DmaLog::default());
    let config = Config { dma_log: Some(log), abort_allowed: true, ..Config::default() }.state_size(3000).seeded(1);
    let (sim, fresh) = (simdev::Device::new(config.clone()), simdev::Device::new(config.seeded(2)));
    sim.attach(&space);
    let (device, spoiled) = open(&sim, Spoil { requests: true, ..Spoil::default() });
    let (ours, size) = (Arc::clone(&device), 200 * 4096);
    let tracker =
        Tracker::new(tracker::TrackerOptions { devices: vec![ours], ..tracker::TrackerOptions::default() }).unwrap();
    space.map(simdev::Mapping { iova: 0, size, ram: 0 }).unwrap();
    tracker.map(&[tracker::Mapping { range: tracker::IovaRange { iova: 0, size }, cookie: 0 }]).unwrap();
    tracker.start().unwrap();
    assert_eq!(tracker.info().kind, tracker::LogKind::DmaLog);
    [3, 64, 199].into_iter().for_each(|page| sim.dma_write(page).unwrap());
    let mut reported = Vec::new();
    let mut run = |_, range: tracker::IovaRange| {
        reported.extend(range.iova / 4096..(range.iova + range.size) / 4096);
        true
    };
    tracker.harvest(&mut Request { run: Some(&mut run), ..Request::default() }).unwrap();
    assert_eq!(reported, [3, 64, 199]);
    tracker.stop().unwrap();
    set(&device, State::StopCopy).unwrap();
    let stream = read_all(&device);
    set(&device, State::Stop).unwrap();
    let (destination, _) = open(&fresh, Spoil { requests: true, ..Spoil::default() });
    set(&destination, State::Resuming).unwrap();
    destination.write(&stream, false).unwrap();
    destination.finish(Some(stream.len() as u64)).unwrap();
    set(&destination, State::Running).unwrap();
    assert!(spoiled.load(Ordering::Relaxed) > 10);
    sim.assert_clean();
    fresh.assert_clean();
    assert!(fresh.same_content(&sim));
}

/// A number that safe code wrote is never owned, read or closed; the descriptor that came is.
#[test]
fn no_descriptor_is_adopted_by_its_number() {
    let path = std::env::temp_dir().join(format!("vfiomig-sound-{}", std::process::id()));
    let mut bystander = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bystander.write_all(b"not the library's").unwrap();
    let data_fd = Some(bystander.as_raw_fd());
    for data in [DataPath::RealFd, DataPath::Functions] {
        let config = Config { data, abort_allowed: true, ..Config::default() }.state_size(3000).seeded(1);
        let sim = simdev::Device::new(config);
        let (device, spoiled) = open(&sim, Spoil { data_fd, ..Spoil::default() });
        // A change that begins a session, and two that do not.
        for state in [State::StopCopy, State::Stop, State::Running] {
            set(&device, state).unwrap();
            if state == State::StopCopy {
                assert!(read_all(&device).len() >= 3000, "{data:?}: the stream is the device's");
            }
        }
        drop(device);
        assert!(spoiled.load(Ordering::Relaxed) >= 3);
        sim.assert_clean();
        bystander.rewind().unwrap();
        let mut text = String::new();
        bystander.read_to_string(&mut text).unwrap();
        assert_eq!(text, "not the library's");
    }
}

/// A transport that answers a state change with a number, and hands it to a kernel's.
struct Number(Kernel<File>, RawFd);

impl Transport for Number {
    fn device_info(&self, _info: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
    fn device_feature(&self, feature: &mut Feature) -> Result<(), Errno> {
        match feature.flags() {
            0x1_0001 => feature.put_u64(8, 1),
            0x1_0002 => feature.put_u32(8, 2),
            0x2_0002 => feature.put_u32(12, self.1 as u32),
            _ => return Err(Errno::new(libc::ENOTTY)),
        }
        Ok(())
    }
    fn open_data(&self, data_fd: Option<Returned>) -> Result<Box<dyn DataFd>, Error> {
        assert!(matches!(data_fd, Some(Returned::Number(number)) if number == self.1));
        self.0.open_data(data_fd)
    }
}

/// The kernel's transport takes descriptors only.
#[test]
fn a_number_is_no_descriptor_for_the_kernels_transport() {
    let (null, bystander) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
    let number = Number(Kernel::new(null), bystander.as_raw_fd());
    let device = Device::new(Box::new(number), DeviceOptions::default()).unwrap();
    let error = set(&device, State::StopCopy).unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains("no data fd"), "{error}");
    drop(device);
    (&bystander).read_exact(&mut [0; 16]).unwrap();
}

/// What is shorter than was asked for is no mapping, and the data is reached without one.
#[test]
fn a_short_mapping_is_not_used() {
    let sim = simdev::Device::new(Config::v1(Window::Whole).state_size(100_000).seeded(1));
    sim.allow_abort(true);
    for (map_less, mapped) in [(4096, false), (0, true)] {
        let (device, spoiled) = open(&sim, Spoil { map_less, ..Spoil::default() });
        set(&device, State::StopCopy).unwrap();
        assert_eq!(device.info().caps.contains(vfiomig::device::CapFlags::MAPPED), mapped);
        assert!(spoiled.load(Ordering::Relaxed) > 0 && read_all(&device).len() >= 100_000);
        set(&device, State::Running).unwrap();
    }
}

/// An argument of `len` bytes whose first field says `size`.
fn argument(size: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..4].copy_from_slice(&size.to_ne_bytes());
    bytes
}

/// A kernel writes as far as argsz says. /dev/null knows none of the requests and would say ENOTTY.
#[test]
fn a_kernel_is_not_asked_to_write_behind_a_buffer() {
    let null = || File::open("/dev/null").unwrap();
    let (device, container, iommufd) = (Kernel::new(null()), KernelContainer(null()), KernelIommufd(null()));
    type Ask<'a> = &'a dyn Fn(&mut [u8]) -> Result<(), Errno>;
    let requests: [(&str, usize, Ask); 5] = [
        ("device_info", 24, &|bytes| device.device_info(bytes)),
        ("region_info", 32, &|bytes| device.region_info(bytes)),
        ("info", 24, &|bytes| container.info(bytes)),
        ("set_dirty_tracking", 16, &|bytes| iommufd.set_dirty_tracking(bytes)),
        ("ioas_unmap", 24, &|bytes| iommufd.ioas_unmap(bytes)),
    ];
    for (name, size, ask) in requests {
        let errno = |says: usize, len: usize| ask(&mut argument(says as u32, len)).unwrap_err().get();
        assert_eq!((errno(size, size), errno(size + 100, size + 100)), (libc::ENOTTY, libc::ENOTTY), "{name}");
        for (says, len) in
            [(size + 1, size), (4096, size), (u32::MAX as usize, size), (size - 1, size), (0, size), (8, 8)]
        {
            assert_eq!(errno(says, len), libc::EINVAL, "{name}: {says} in {len}");
        }
        assert_eq!(ask(&mut []).unwrap_err().get(), libc::EINVAL, "{name}");
    }
}
