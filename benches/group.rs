//! What a group costs: a phase of N devices against the slowest of them and against the same devices one after another, and
//! the streams of four devices drained side by side, one after another, and by a plain read+write loop.
//!
//! The devices are software; their transitions sleep. So these are figures of the library, not of hardware.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "common/mod.rs"]
mod common;

use simdev::{Access, Config, DataPath, Effect, Fault, Precopy};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, FromRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig::dialect::{Caps, Direction, State};
use vfiomig::group::{self, Group};
use vfiomig::migration::{AbortTo, Migration, Outlet, Phase};
use vfiomig::tracker::{self, Tracker};

const CAPS: Caps = Caps { p2p: true, pre_copy: true };

fn group_of(fakes: &[simdev::Device], max_workers: usize) -> Arc<Group> {
    let group = Group::new(group::GroupOptions { max_workers, ..group::GroupOptions::default() });
    let mut devices = Vec::new();
    for (number, fake) in fakes.iter().enumerate() {
        let options = DeviceOptions { name: format!("simdev{number}"), ..DeviceOptions::default() };
        let device = Arc::new(Device::new(fake.transport(), options).unwrap());
        group.add_device(Arc::clone(&device)).unwrap();
        devices.push(device);
    }
    let options = tracker::TrackerOptions {
        name: "none".into(),
        devices,
        everything: true,
        ..tracker::TrackerOptions::default()
    };
    group.add_tracker(Arc::new(Tracker::new(options).unwrap())).unwrap();
    Arc::new(group)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Time of the phase SAVE_PRE_COPY, one transition a device, and of the slowest device in it.
fn phase(group: &Arc<Group>) -> (f64, f64) {
    let migration = Migration::new(Arc::clone(group), Direction::Save).unwrap();
    migration.advance(Phase::SaveTracking).unwrap();
    let begun = Instant::now();
    migration.advance(Phase::SavePreCopy).unwrap();
    let took = begun.elapsed();
    let report = migration.report().unwrap();
    let last = report.phases.last().unwrap();
    assert!(last.phase == Phase::SavePreCopy && last.devices.iter().all(|d| d.found == State::PreCopy.number()));
    let slowest = last.devices.iter().map(|device| device.duration).max().unwrap();
    migration.abort(AbortTo::Running).unwrap();
    (took.as_secs_f64() * 1e3, slowest.as_secs_f64() * 1e3)
}

fn transitions(quick: bool) {
    let mut table = common::Table::new("phases");
    // Thousands of threads at once are of interest where transitions take long enough to overlap.
    let (counts, times, rounds): (&[usize], &[u64], usize) =
        if quick { (&[2], &[1], 1) } else { (&[1, 4, 16, 64, 256, 1024], &[1, 10, 100], 9) };
    for &milliseconds in times {
        for &count in counts.iter().filter(|&&count| count <= 64 || milliseconds == 10) {
            let fakes: Vec<simdev::Device> =
                (0..count).map(|_| simdev::Device::new(Config::v2(CAPS).state_size(4096))).collect();
            let wait = Effect::Delay(Duration::from_millis(milliseconds));
            for fake in &fakes {
                fake.allow_abort(true);
                fake.inject(Fault::from(Access::Enter(State::PreCopy), 0, wait));
            }
            let side_by_side = group_of(&fakes, 0);
            let (mut phases, mut again, mut slowest) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let (took, slow) = phase(&side_by_side);
                phases.push(took);
                slowest.push(slow);
                again.push(phase(&side_by_side).0);
            }
            side_by_side.close().unwrap();
            let (a, b) = (median(&mut phases), median(&mut again));
            let t = milliseconds as f64;
            let goal = if count <= 64 { 1.05 * t + 1.0 } else { 1.2 * t + 2.0 };
            // The sum takes long enough to be measured once, and is known where it takes too long.
            let serial = if count <= 64 { phase(&group_of(&fakes, 1)).0 } else { t * count as f64 };
            table.line(
                &[("devices", &count.to_string()), ("transition", &format!("{milliseconds} ms"))],
                &[
                    ("phase ms", a),
                    ("slowest device", median(&mut slowest)),
                    ("one by one", serial),
                    ("goal", goal),
                    ("goal/phase", goal / a),
                    ("noise", f64::max(a / b, b / a)),
                ],
            );
        }
    }
}

fn memory(name: &std::ffi::CStr) -> File {
    // SAFETY: a C string and no flags.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: just made, it has no other owner.
    unsafe { File::from_raw_fd(fd) }
}

/// What is in a file, in short.
fn sum_of(file: &mut File, buf: &mut [u8]) -> (usize, u64) {
    file.seek(SeekFrom::Start(0)).unwrap();
    let (mut len, mut sum) = (0, 0u64);
    loop {
        let n = file.read(buf).unwrap();
        if n == 0 {
            return (len, sum);
        }
        sum = buf[..n]
            .chunks_exact(8)
            .fold(sum, |sum, word| sum.rotate_left(1) ^ u64::from_ne_bytes(word.try_into().unwrap()));
        len += n;
    }
}

/// All streams of a group in STOP_COPY into one memory file each.
fn drain(group: &Arc<Group>, files: &[File]) -> f64 {
    let migration = Migration::new(Arc::clone(group), Direction::Save).unwrap();
    migration.advance(Phase::SaveStopCopy).unwrap();
    for mut file in files {
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    let outlets: Vec<Outlet<'_>> = files.iter().map(|file| Outlet::Fd(file.as_fd())).collect();
    let begun = Instant::now();
    migration.save_complete(&outlets, &mut |_| panic!("no piece comes here")).unwrap();
    let took = begun.elapsed();
    migration.abort(AbortTo::Running).unwrap();
    took.as_secs_f64()
}

fn plain(sources: &mut [File], files: &mut [File], buf: &mut [u8]) -> f64 {
    for file in sources.iter_mut().chain(files.iter_mut()) {
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    let begun = Instant::now();
    for (source, file) in sources.iter_mut().zip(files) {
        loop {
            let n = source.read(buf).unwrap();
            if n == 0 {
                break;
            }
            file.write_all(&buf[..n]).unwrap();
        }
    }
    begun.elapsed().as_secs_f64()
}

fn drains(quick: bool) {
    let (bytes, rounds) = if quick { (1 << 20, 1) } else { (100 << 20, 9) };
    const DEVICES: usize = 4;
    let fakes: Vec<simdev::Device> = (0..DEVICES as u64)
        .map(|number| {
            let config = Config {
                data: DataPath::RealFd,
                judge_content: false,
                precopy: Precopy::Nothing,
                abort_allowed: true,
                ..Config::v2(Caps { p2p: false, pre_copy: false }).state_size(bytes).seeded(number + 1)
            };
            simdev::Device::new(config)
        })
        .collect();
    let mut files: Vec<File> = (0..DEVICES).map(|_| memory(c"drained")).collect();
    let mut buf = vec![0; 1 << 20];
    let (many, one) = (group_of(&fakes, 0), group_of(&fakes, 1));
    // The same bytes for the plain loop, from files of the same kind.
    drain(&one, &files);
    let mut sources: Vec<File> = Vec::new();
    let mut expected = Vec::new();
    for file in &mut files {
        expected.push(sum_of(file, &mut buf));
        let mut source = memory(c"source");
        file.seek(SeekFrom::Start(0)).unwrap();
        std::io::copy(file, &mut source).unwrap();
        sources.push(source);
    }
    assert!(expected.iter().all(|(len, _)| *len >= bytes));
    let (mut side, mut serial, mut loops, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        side.push(drain(&many, &files));
        for (file, expected) in files.iter_mut().zip(&expected) {
            assert_eq!(sum_of(file, &mut buf), *expected, "side by side brought other bytes");
        }
        serial.push(drain(&one, &files));
        loops.push(plain(&mut sources, &mut files, &mut buf));
        again.push(plain(&mut sources, &mut files, &mut buf));
        for (file, expected) in files.iter_mut().zip(&expected) {
            assert_eq!(sum_of(file, &mut buf), *expected);
        }
    }
    let mib = expected.iter().map(|(len, _)| len).sum::<usize>() as f64 / f64::from(1 << 20);
    let rate = |times: &mut [f64]| mib / median(times);
    let (side, serial, a, b) = (rate(&mut side), rate(&mut serial), rate(&mut loops), rate(&mut again));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\nstreams of {DEVICES} devices, {mib:.0} MiB, into memory files, {cores} cores: MiB/s, median of {rounds}"
    );
    println!(
        "  side by side {side:>8.0}   against one after another {:.2}, against the plain loop {:.2}",
        side / serial,
        side / a
    );
    println!("  one by one   {serial:>8.0}   against the plain loop {:.2}", serial / a);
    println!("  plain loop   {a:>8.0}   noise {:.3}", a / b);
}

fn main() {
    if !common::is_wanted("group") {
        return;
    }
    // `cargo test` builds and runs benches with --test: one small round shows that it works.
    let quick = std::env::args().any(|arg| arg == "--test");
    transitions(quick);
    drains(quick);
}
