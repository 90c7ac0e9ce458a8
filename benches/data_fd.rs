//! v2: from a data fd to a socket, by the library and by a plain read+write loop, in turns within one run. Both must deliver
//! the same bytes. The loop is measured against itself too: that is the machine's noise.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/mod.rs"]
mod common;

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions, OnFailure};
use vfiomig::dialect::State;
use vfiomig::transport::ops::{Ops, OpsTransport};
use vfiomig::window::StreamFlags;

const END: StreamFlags = StreamFlags::END;

const STREAM: usize = 256 << 20;
const ROUNDS: usize = 15;

/// The stream's bytes; each session reads them from the start through a descriptor of its own.
struct Source {
    file: std::fs::File,
    state: u32,
}

fn memory(len: usize) -> std::fs::File {
    // SAFETY: a C string and no flags.
    let fd = unsafe { libc::memfd_create(c"stream".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: just made, it has no other owner.
    let mut file = unsafe { std::fs::File::from_raw_fd(fd) };
    let block: Vec<u8> = (0..1 << 20).map(|i| (i * 131 + (i >> 11)) as u8).collect();
    for _ in 0..len >> 20 {
        file.write_all(&block).unwrap();
    }
    file
}

/// A descriptor with a position of its own.
fn reopened(file: &std::fs::File) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::File::open(path).unwrap().into()
}

unsafe extern "C" fn feature(opaque: *mut c_void, feature: *mut c_void, _argsz: u32) -> c_int {
    // SAFETY: `opaque` is the bench's Source; the library calls from one thread at a time.
    let source = unsafe { &mut *opaque.cast::<Source>() };
    let words = feature.cast::<u32>();
    // SAFETY: the library gives a whole vfio_device_feature, aligned, with 8 bytes of payload for these requests.
    unsafe {
        match words.add(1).read() {
            0x1_0001 => words.cast::<u64>().add(1).write(1),
            0x1_0002 => words.add(2).write(source.state),
            0x2_0002 => {
                source.state = words.add(2).read();
                if source.state == State::StopCopy.number() {
                    use std::os::fd::IntoRawFd;
                    words.cast::<i32>().add(3).write(reopened(&source.file).into_raw_fd());
                }
            }
            _ => return -libc::ENOTTY,
        }
    }
    0
}

/// Reads everything from the socket in a thread, and returns length and a checksum of what came.
fn drain(mut socket: UnixStream) -> std::thread::JoinHandle<(usize, u64)> {
    std::thread::spawn(move || {
        let mut buf = vec![0; 1 << 20];
        let (mut len, mut sum) = (0, 0u64);
        loop {
            let n = socket.read(&mut buf).unwrap();
            if n == 0 {
                return (len, sum);
            }
            // A word in 64 is enough to see an order that is wrong, and cheap enough not to be what is measured.
            for at in ((64 - len % 64) % 64..n).step_by(64) {
                sum = sum.wrapping_mul(31).wrapping_add(u64::from(buf[at]));
            }
            len += n;
        }
    })
}

fn timed(work: impl FnOnce(&UnixStream)) -> (Duration, (usize, u64)) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reader = drain(theirs);
    let begun = Instant::now();
    work(&ours);
    drop(ours);
    let got = reader.join().unwrap();
    (begun.elapsed(), got)
}

fn plain(file: &std::fs::File, size: usize) -> (Duration, (usize, u64)) {
    let mut source = std::fs::File::from(reopened(file));
    let mut buf = vec![0; size];
    timed(|socket| {
        let mut socket = socket;
        loop {
            let n = source.read(&mut buf).unwrap();
            if n == 0 {
                break;
            }
            socket.write_all(&buf[..n]).unwrap();
        }
    })
}

fn library(device: &Device) -> (Duration, (usize, u64)) {
    device.restart_stream().unwrap();
    device.set_state(State::StopCopy, OnFailure::Keep, false).unwrap();
    let result = timed(|socket| while device.send(socket.as_fd(), 0).unwrap().1 != END {});
    device.set_state(State::Running, OnFailure::Keep, false).unwrap();
    result
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    if !common::is_wanted("data_fd") {
        return;
    }
    // `make check` runs benches with --test: two small rounds show that they work, for the second session of a device begins
    // where the first one ended.
    let quick = std::env::args().any(|arg| arg == "--test");
    let (stream, rounds, sizes) =
        if quick { (4 << 20, 2, vec![1 << 20]) } else { (STREAM, ROUNDS, vec![64 << 10, 256 << 10, 1 << 20, 4 << 20]) };
    let file = memory(stream);
    println!("{} MiB from a data fd to a socket, {rounds} rounds, median MiB/s", stream >> 20);
    println!("{:>8} {:>8} {:>8} {:>16} {:>16}", "buffer", "loop", "library", "library / loop", "noise: loop/loop");
    for size in sizes {
        let source =
            Box::into_raw(Box::new(Source { file: file.try_clone().unwrap(), state: State::Running.number() }));
        // SAFETY: a table of NULL members but one.
        let mut ops: Ops = unsafe { std::mem::zeroed() };
        ops.device_feature = Some(feature);
        // SAFETY: `source` outlives the device, which only this thread uses.
        let transport = unsafe { OpsTransport::new(ops, source.cast()) }.unwrap();
        let options = DeviceOptions { name: "bench".into(), buffer_size: Some(size), ..DeviceOptions::default() };
        let device = Device::new(Box::new(transport), options).unwrap();
        let (mut loops, mut loops_again, mut libs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (first, expected) = plain(&file, size);
            let (ours, got) = library(&device);
            let (second, _) = plain(&file, size);
            assert_eq!(got, expected, "the library delivered other bytes than the loop");
            assert_eq!(got.0, stream);
            loops.push(first.as_secs_f64());
            libs.push(ours.as_secs_f64());
            loops_again.push(second.as_secs_f64());
        }
        let (a, b, l) = (median(&mut loops), median(&mut loops_again), median(&mut libs));
        let mib = (stream >> 20) as f64;
        println!(
            "{:>7}K {:>8.0} {:>8.0} {:>16.3} {:>16.3}",
            size >> 10,
            mib / f64::min(a, b),
            mib / l,
            (a + b) / 2.0 / l,
            a / b
        );
        device.close().unwrap();
        // SAFETY: the device is closed, so it has no other owner.
        drop(unsafe { Box::from_raw(source) });
    }
}
