//! Saving in STOP_COPY: the data fd and the stream.

use super::client::Said;
use super::poll;
use super::subject::Subject;
use super::table::Need::{Danger, Image, Kernel, V2};
use super::table::{Check, Result, Run::Do, fail, pass, quirk, skip};
use crate::text::count;
use vfiomig::dialect::State;
use vfiomig::transport::requests;

/// What is checked of the stream of a device that stands still.
pub const CHECKS: &[Check] = &[
    Check {
        name: "save",
        rule: "F2",
        about: "in STOP_COPY the stream is read to its end, which is 0",
        cost: "the guest's device cannot be saved",
        needs: &[V2],
        run: Do(save),
    },
    Check {
        name: "end-stays",
        rule: "F2",
        about: "behind the end every read is 0",
        cost: "a VMM that reads once more takes what comes for data, or for an error",
        needs: &[V2, Image],
        run: Do(end_stays),
    },
    Check {
        name: "size-of-stream",
        rule: "V2-13",
        about: "MIG_DATA_SIZE is not less than the stream",
        cost: "downtime is longer than the VMM thinks",
        needs: &[V2, Kernel, Image],
        run: Do(size_of_stream),
    },
    Check {
        name: "odd-reads",
        rule: "F1",
        about: "the stream is the same in small and odd reads",
        cost: "the stream is destroyed by a VMM whose buffers have another size",
        needs: &[V2, Image],
        run: Do(odd_reads),
    },
    Check {
        name: "save-twice",
        rule: "K21",
        about: "a second save without a reset gives a whole stream too",
        cost: "after a migration that failed the next one fails too",
        needs: &[V2, Image],
        run: Do(save_twice),
    },
    Check {
        name: "poll-at-end",
        rule: "F4",
        about: "at the end of the stream poll() says that it can be read",
        cost: "a VMM that polls waits for ever, with a guest that stands still",
        needs: &[V2, Image, Kernel],
        run: Do(poll_at_end),
    },
    Check {
        name: "reads-do-not-sleep",
        rule: "F8",
        about: "with O_NONBLOCK a read of the data fd does not sleep",
        cost: "whoever reads several devices in turns waits for each, and cannot be woken",
        needs: &[V2, Image, Kernel],
        run: Do(reads_do_not_sleep),
    },
    Check {
        name: "read-after-leaving",
        rule: "F5",
        about: "a data fd gives nothing once its state was left",
        cost: "bytes of a session that has ended are taken for the stream",
        needs: &[V2, Image, Kernel],
        run: Do(read_after_leaving),
    },
    Check {
        name: "info-while-stopped",
        rule: "P22",
        about: "the device describes itself while it is stopped",
        cost: "a VMM that opens the device in STOP cannot",
        needs: &[V2],
        run: Do(info_while_stopped),
    },
    Check {
        name: "write-after-leaving",
        rule: "K10",
        about: "a data fd of a load takes nothing once its state was left",
        cost: "the host crashes",
        needs: &[V2, Kernel, Image, Danger],
        run: Do(write_after_leaving),
    },
];

fn save(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let image = client.read_to_end(&[1 << 20])?;
    client.set(State::Stop)?;
    client.set(State::Running)?;
    let len = image.len();
    subject.image = Some(image);
    if len == 0 { quirk("the stream is empty, which is legal (K11)") } else { pass(count(len, "byte")) }
}

fn end_stays(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    client.read_to_end(&[1 << 20])?;
    for _ in 0..3 {
        let said = client.read(&mut [0; 4096])?;
        if said != Said::Zero {
            return fail(format!("a read behind the end says {said:?}"));
        }
    }
    client.set(State::Stop)?;
    pass("three times")
}

fn size_of_stream(subject: &mut Subject) -> Result {
    let len = subject.image.as_ref().map_or(0, |image| image.len() as u64);
    match requests::data_size(subject.transport()) {
        Ok(size) if size >= 1 << 63 => skip("it says no size"),
        Ok(size) if size < len => quirk(format!("it says {size}, and the stream has {} (K22)", count(len, "byte"))),
        Ok(size) => pass(format!("{size}, and the stream has {}", count(len, "byte"))),
        Err(_) => skip("there is no such feature"),
    }
}

fn odd_reads(subject: &mut Subject) -> Result {
    let len = subject.image.as_ref().map_or(0, Vec::len);
    // Single bytes only where the stream is short, for each read costs a request.
    let sizes: &[usize] = if len < 1 << 16 { &[1, 7, 4095, 13] } else { &[4095, 65537, 777] };
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let image = client.read_to_end(sizes)?;
    client.set(State::Stop)?;
    compare(subject, &image, "in odd reads")
}

fn save_twice(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    let image = client.read_to_end(&[1 << 20])?;
    client.set(State::Stop)?;
    compare(subject, &image, "the second time")
}

/// Compares with what was saved first. The bytes may differ, for the device ran between; their number should not.
pub fn compare(subject: &Subject, image: &[u8], when: &str) -> Result {
    let first = subject.image.as_deref().unwrap_or_default();
    if image == first {
        return pass(format!("the same {} {when}", count(image.len(), "byte")));
    }
    if image.len() == first.len() {
        return pass(format!("as many bytes {when}, {}; what is in them differs, for it ran between", image.len()));
    }
    let text = format!("{} {when}, where it was {} at first", count(image.len(), "byte"), first.len());
    if image.is_empty() { fail(text) } else { quirk(format!("{text}; it ran between")) }
}

fn poll_at_end(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    client.read_to_end(&[1 << 20])?;
    let ready = client.session.as_ref().and_then(|session| session.wait_fd().map(poll::readable));
    match ready {
        None => skip("there is no descriptor that could be polled"),
        Some(true) => pass("it does"),
        Some(false) => fail("poll() says nothing for 100 ms, although a read answers 0"),
    }
}

fn reads_do_not_sleep(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    if client.session.as_ref().is_none_or(|session| session.wait_fd().is_none()) {
        return skip("there is no descriptor");
    }
    client.slept = 0;
    client.read_to_end(&[1 << 16])?;
    let slept = client.slept;
    client.set(State::Stop)?;
    if slept == 0 {
        return pass("none did");
    }
    quirk(format!("{} did: each device wants a thread of its own", count(slept.unsigned_abs(), "read")))
}

fn read_after_leaving(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    client.set(State::StopCopy)?;
    client.read_to_end(&[1 << 20])?;
    let mut dead = client.session.take();
    client.set(State::Stop)?;
    let said = dead.as_mut().map(|dead| dead.read(&mut [0; 64]));
    match said {
        Some(Ok(0)) => quirk("a read answers 0, and not ENODEV: it looks like the end of the stream"),
        Some(Ok(len)) => fail(format!("it brings {}", count(len, "byte"))),
        Some(Err(errno)) if errno.get() == libc::ENODEV => pass(errno.to_string()),
        Some(Err(errno)) => quirk(format!("it says {errno}, and not ENODEV")),
        None => skip("there was no data fd"),
    }
}

fn info_while_stopped(subject: &mut Subject) -> Result {
    subject.v2()?.set(State::Stop)?;
    match requests::device_info(subject.transport()) {
        Ok(_) => pass("in STOP"),
        Err(errno) => quirk(format!("in STOP it says {errno}, as libvfio-user does")),
    }
}

fn write_after_leaving(subject: &mut Subject) -> Result {
    let image = subject.image.clone().unwrap_or_default();
    let client = subject.v2()?;
    client.set(State::Resuming)?;
    let mut rest = image.as_slice();
    while !rest.is_empty() {
        match client.write(rest) {
            Ok(len) => rest = rest.get(len..).unwrap_or_default(),
            Err(errno) => return skip(format!("its own stream is refused: {errno}")),
        }
    }
    let mut dead = client.session.take();
    client.set(State::Stop)?;
    match dead.as_mut().map(|dead| dead.write(&[0; 64])) {
        Some(Ok(len)) => fail(format!("{len} of 64 bytes are taken in STOP")),
        Some(Err(errno)) => pass(errno.to_string()),
        None => skip("there was no data fd"),
    }
}
