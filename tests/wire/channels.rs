//! Channels as they are: several of them, slow ones, silent ones, broken ones.

use super::sample::{Kept, read, read_from, said, small, table};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vfiomig::dialect::DialectKind;
use vfiomig::error::ErrorKind;
use vfiomig::wire::{DeviceEntry, Input, Output, Table, Timed, WireOptions};

/// Takes and gives few bytes at a time, and none every other time.
struct Trickle<T> {
    inner: T,
    ready: bool,
}

impl<T> Trickle<T> {
    fn turn(&mut self) -> io::Result<()> {
        self.ready = !self.ready;
        if self.ready { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl<T: Write> Write for Trickle<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.turn()?;
        self.inner.write(&bytes[..bytes.len().min(5)])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Read> Read for Trickle<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn()?;
        let len = buf.len().min(5);
        self.inner.read(&mut buf[..len])
    }
}

#[test]
fn an_output_that_would_block_keeps_one_record_and_takes_no_other() {
    let mut out = Output::new(Trickle { inner: Vec::new(), ready: true }, WireOptions::default(), table()).unwrap();
    let mut refused = 0;
    let mut again = |out: &mut Output<_>, put: &dyn Fn(&mut Output<_>) -> vfiomig::Result<()>| {
        while let Err(error) = put(out) {
            assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::EAGAIN), "{error}");
            refused += 1;
        }
    };
    again(&mut out, &|out| out.data(0, b"state", false));
    again(&mut out, &|out| out.vmm(None, 1, b"more"));
    again(&mut out, &|out| out.end(0));
    again(&mut out, &|out| out.end(1));
    again(&mut out, &|out| out.finish());
    again(&mut out, &|out| out.flush());
    assert!(refused > 20, "{refused}");
    let (records, error) = read(&out.into_inner().inner);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records[1..3], [Kept::Data(0, 0, b"state".to_vec(), false), Kept::Vmm(None, 1, b"more".to_vec())]);
}

#[test]
fn an_input_that_would_block_goes_on_where_it_was() {
    let bytes = small();
    let mut input = Input::new(Trickle { inner: &bytes[..], ready: true });
    let (mut records, mut waited) = (Vec::new(), 0);
    while records.last() != Some(&Kept::Finish) {
        let (more, error) = read_from(&mut input);
        records.extend(more);
        if let Some(error) = error {
            assert_eq!(error.errno(), libc::EAGAIN, "{error}");
            waited += 1;
        }
    }
    assert_eq!(records, read(&bytes).0);
    assert!(waited > 20);
}

#[test]
fn an_output_that_failed_is_over() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EPIPE))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Output::new(Broken, WireOptions::default(), table()).unwrap();
    for _ in 0..2 {
        let error = out.data(0, b"x", false).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::EPIPE));
        assert!(error.to_string().contains("wire: channel 0: writing: "), "{error}");
    }
}

/// A peer that is silent, or does not read, is not waited for for ever, and a wish ends the wait earlier.
#[test]
fn a_silent_peer_has_its_time() {
    let (one, other) = UnixStream::pair().unwrap();
    let patience = Duration::from_millis(150);
    let begun = Instant::now();
    let mut input = Input::new(Timed::new(one.as_fd(), patience));
    let error = input.next().unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ETIMEDOUT), "{error}");
    assert!(
        error.to_string().contains("wire: preamble at offset 0: reading: the peer brought nothing for 150ms"),
        "{error}"
    );
    // Any of several wishes.
    for (first, second) in [(true, false), (false, true)] {
        let timed = Timed::new(one.as_fd(), Duration::from_secs(60)).until(move || first).until(move || second);
        let error = Input::new(timed).next().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Canceled, "{error}");
    }
    let mut out = Output::new(Timed::new(other.as_fd(), patience), WireOptions::default(), table()).unwrap();
    let bytes = vec![0; 1 << 20];
    let error = (0..8).find_map(|_| out.vmm(None, 0, &bytes).err()).unwrap();
    assert_eq!(error.errno(), libc::ETIMEDOUT, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // A deadline is for all of it, whatever comes: here a byte each few milliseconds, and more than anybody reads.
    let (one, mut other) = UnixStream::pair().unwrap();
    let begun = Instant::now();
    let trickle = std::thread::spawn(move || {
        while other.write_all(&[0x89]).is_ok() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut timed = Timed::new(one.as_fd(), Duration::from_secs(60)).by(begun + patience);
    let error = (0..).find_map(|_| std::io::Read::read(&mut timed, &mut [0]).err()).unwrap();
    assert!(error.to_string().contains("the time for the whole wire is over"), "{error}");
    let error = vfiomig::Error::from(error);
    assert_eq!((error.kind(), error.errno()), (ErrorKind::System, libc::ETIMEDOUT));
    let (much, mut to) = (vec![0; 1 << 20], Timed::new(one.as_fd(), Duration::from_secs(60)).by(begun + 2 * patience));
    assert!((0..64).find_map(|_| std::io::Write::write_all(&mut to, &much).err()).is_some());
    assert!(begun.elapsed() >= patience && begun.elapsed() < Duration::from_secs(10));
    drop((timed, to));
    drop(one);
    trickle.join().unwrap();
    // In non-blocking mode nothing waits.
    let (one, _other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let error = Input::new(Timed::patient(one.as_fd())).next().unwrap_err();
    assert_eq!(error.errno(), libc::EAGAIN, "{error}");
}

/// Each channel has the whole table and the records of its own devices.
#[test]
fn a_device_has_one_channel() {
    let entry = |name, channel| DeviceEntry { channel, ..DeviceEntry::new(name, DialectKind::V2) };
    let table = Table::new(vec![entry("a", 1), entry("b", 0)]).unwrap();
    let options = WireOptions { channels: 2, wire: 9, channel: 0 };
    let mut out = Output::new(Vec::new(), options, table.clone()).unwrap();
    assert!(said(out.data(0, b"x", false)).contains("DATA of a: channel of the device: expected 1, found 0"));
    out.vmm(Some(0), 3, b"of another channel").unwrap();
    out.end(1).unwrap();
    out.finish().unwrap();
    let first = out.into_inner();
    let mut input = Input::new(&first[..]);
    let (records, error) = read_from(&mut input);
    assert!(error.is_none() && records.len() == 4, "{records:?} {error:?}");
    assert_eq!(input.reader().channel(), Some((0, 2, 9)));
    // A record of a device of the other channel.
    let mut second = Output::new(Vec::new(), WireOptions { channel: 1, ..options }, table.clone()).unwrap();
    second.flush().unwrap();
    let mut bytes = second.into_inner();
    bytes.extend(super::sample::Raw { device: 1, ..super::sample::Raw::of(2, 1) }.record(b"x"));
    let error = read(&bytes).1.unwrap().to_string();
    assert!(
        error.contains("channel 1: record 1") && error.contains("channel of the device: expected 0, found 1"),
        "{error}"
    );
    for (channel, channels) in [(0, 0), (2, 2), (0, 65)] {
        let options = WireOptions { channel, channels, wire: 0 };
        assert!(said(Output::new(Vec::new(), options, Table::new(vec![]).unwrap())).contains("a wire has 1 to 64"));
    }
    assert!(said(Output::new(Vec::new(), WireOptions::default(), table)).contains("a: channel 1 of a wire of 1"));
}

/// What takes the bytes keeps some, and would block where it is to let them go.
#[test]
fn a_flush_that_would_block_ends_no_channel() {
    let (here, mut there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    let table = Table::new(vec![DeviceEntry::new("nic0", DialectKind::V2)]).unwrap();
    let buffer = io::BufWriter::with_capacity(4 << 20, here);
    let mut output = Output::new(buffer, WireOptions::default(), table).unwrap();
    output.data(0, &[7; 1 << 20], false).unwrap();
    let failure = output.flush().unwrap_err();
    assert_eq!((failure.kind(), failure.errno()), (ErrorKind::System, libc::EAGAIN), "{failure}");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        there.read_to_end(&mut bytes).unwrap();
        bytes
    });
    output.end(0).unwrap();
    output.finish().unwrap();
    while let Err(failure) = output.flush() {
        assert_eq!(failure.errno(), libc::EAGAIN, "{failure}");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(output);
    let bytes = reader.join().unwrap();
    let mut input = Input::new(&bytes[..]);
    while input.next().unwrap() != vfiomig::wire::WireRecord::Finish {}
}
