//! Values of arguments: sizes, times, errnos, accesses.

use simdev::{Access, Paced};
use std::str::FromStr;
use std::time::Duration;
use vfiomig::dialect::State;

/// Names of accesses.
const ACCESSES: [(&str, Access); 20] = [
    ("any", Access::Any),
    ("device-info", Access::DeviceInfo),
    ("region-info", Access::RegionInfo),
    ("reset", Access::Reset),
    ("state-get", Access::StateRead),
    ("state-set", Access::StateWrite),
    ("pending-read", Access::PendingRead),
    ("data-offset-read", Access::DataOffsetRead),
    ("data-size-read", Access::DataSizeRead),
    ("data-size-write", Access::DataSizeWrite),
    ("data-read", Access::DataRead),
    ("data-write", Access::DataWrite),
    ("bar", Access::BarAccess),
    ("migration", Access::GetMigration),
    ("log-start", Access::DmaLogStart),
    ("log-stop", Access::DmaLogStop),
    ("log-report", Access::DmaLogReport),
    ("dma-map", Access::DmaMap),
    ("dma-unmap", Access::DmaUnmap),
    ("irq-info", Access::IrqInfo),
];

/// Names of states, behind `enter-`.
const STATES: [(&str, State); 7] = [
    ("running", State::Running),
    ("pre-copy", State::PreCopy),
    ("stop-copy", State::StopCopy),
    ("stop", State::Stop),
    ("resuming", State::Resuming),
    ("running-p2p", State::RunningP2p),
    ("pre-copy-p2p", State::PreCopyP2p),
];

/// Names of errnos that drivers and servers answer with.
const ERRNOS: [(&str, i32); 16] = [
    ("EPERM", libc::EPERM),
    ("ENOENT", libc::ENOENT),
    ("EINTR", libc::EINTR),
    ("EIO", libc::EIO),
    ("EAGAIN", libc::EAGAIN),
    ("ENOMEM", libc::ENOMEM),
    ("EFAULT", libc::EFAULT),
    ("EBUSY", libc::EBUSY),
    ("EEXIST", libc::EEXIST),
    ("ENODEV", libc::ENODEV),
    ("EINVAL", libc::EINVAL),
    ("ENOTTY", libc::ENOTTY),
    ("ENOSPC", libc::ENOSPC),
    ("ENOTSUP", libc::ENOTSUP),
    ("ETIMEDOUT", libc::ETIMEDOUT),
    ("ENOMSG", libc::ENOMSG),
];

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|row| row.0 == name).map(|row| row.1)
}

fn parse_access(name: &str) -> Result<Access, String> {
    let entered = name.strip_prefix("enter-").and_then(|state| named(&STATES, state)).map(Access::Enter);
    let set = (name == "irq-set").then_some(Access::IrqSet);
    entered
        .or(set)
        .or_else(|| named(&ACCESSES, name))
        .ok_or_else(|| format!("{name:?} is no access: --help lists them"))
}

fn parse_number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is no number"))
}

/// A number of bytes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let unit = [('K', 1u64 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let unit = unit.iter().find_map(|(end, unit)| text.strip_suffix(*end).map(|rest| (rest, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    parse_number(number)?.checked_mul(unit).ok_or_else(|| format!("{text:?} is too much"))
}

/// A size that is kept in memory.
pub fn parse_size(text: &str) -> Result<usize, String> {
    const MOST: u64 = 4 << 30;
    let size = parse_bytes(text)?;
    if size == 0 || size > MOST { Err(format!("{text:?} is not between 1 and 4G")) } else { Ok(size as usize) }
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("us", 1u64), ("ms", 1000), ("s", 1_000_000)];
    let time = units.iter().find_map(|(end, unit)| Some((text.strip_suffix(end)?.parse::<u64>().ok()?, *unit)));
    let (number, unit) = time.ok_or_else(|| format!("{text:?} is no time: 10us, 10ms, 10s"))?;
    number.checked_mul(unit).map(Duration::from_micros).ok_or_else(|| format!("{text:?} is too much"))
}

/// VENDOR:DEVICE.
pub fn parse_pci_id(text: &str) -> Result<(u16, u16), String> {
    let hex = |part: &str| u16::from_str_radix(part, 16).map_err(|_| format!("{part:?} is no number in hex"));
    let (vendor, device) = text.split_once(':').ok_or("two numbers with a colon between")?;
    Ok((hex(vendor)?, hex(device)?))
}

/// WHAT=TIME.
pub fn parse_delay(text: &str) -> Result<(Access, Duration), String> {
    let (what, time) = text.split_once('=').ok_or("WHAT=TIME")?;
    Ok((parse_access(what)?, parse_time(time)?))
}

/// `WHAT[@N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub access: Access,
    pub nth: u64,
}

impl FromStr for Event {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (what, nth) = text.split_once('@').unwrap_or((text, "0"));
        Ok(Event { access: parse_access(what)?, nth: parse_number(nth)? })
    }
}

/// `WHAT[@N]=ERRNO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub event: Event,
    pub errno: i32,
}

impl FromStr for Failure {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (event, errno) = text.split_once('=').ok_or("WHAT[@N]=ERRNO")?;
        let number = errno.parse().ok().filter(|number| (0..4096).contains(number));
        let errno = named(&ERRNOS, errno).or(number).ok_or_else(|| format!("{errno:?} is no errno that is known"))?;
        Ok(Failure { event: event.parse()?, errno })
    }
}

/// START+SIZE/TIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(pub Paced);

impl FromStr for Pace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (range, period) = text.split_once('/').ok_or("START+SIZE/TIME")?;
        let (start, len) = range.split_once('+').ok_or("START+SIZE/TIME")?;
        Ok(Pace(Paced { start: parse_bytes(start)?, len: parse_bytes(len)?, period: parse_time(period)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_help_says() {
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("0x1000"), Ok(4096));
        assert_eq!(parse_pci_id("1af4:10f0"), Ok((0x1af4, 0x10f0)));
        let enter = Access::Enter(State::StopCopy);
        assert_eq!(parse_delay("enter-stop-copy=20ms"), Ok((enter, Duration::from_millis(20))));
        assert_eq!("data-read@3".parse(), Ok(Event { access: Access::DataRead, nth: 3 }));
        let failure = Failure { event: Event { access: Access::StateWrite, nth: 0 }, errno: libc::EIO };
        assert_eq!("state-set=EIO".parse(), Ok(failure));
        assert_eq!("state-set=5".parse(), Ok(failure));
        let paced = Paced { start: 0x10_0000, len: 65536, period: Duration::from_millis(10) };
        assert_eq!("0x100000+64K/10ms".parse(), Ok(Pace(paced)));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "0", "5G", "x", "18446744073709551615G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        for bad in ["", "enter-", "enter-nowhere", "reset@", "reset@x"] {
            assert!(bad.parse::<Event>().is_err(), "{bad}");
        }
        for bad in ["reset", "reset=EWHAT", "reset=-5", "reset=5000"] {
            assert!(bad.parse::<Failure>().is_err(), "{bad}");
        }
        for bad in ["0+1", "0/1ms", "0+1/1", "0+1/99999999999999999999s"] {
            assert!(bad.parse::<Pace>().is_err(), "{bad}");
        }
    }
}
