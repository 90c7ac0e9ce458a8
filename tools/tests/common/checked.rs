//! All checks on simdev's device, in this process.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses a part of it")]

use simdev::{Access, Config, Device, DmaLog, Effect, Fault, Habits, Poll, Size};
use vfiomig_tools::check::{Checked, Subject, run, words};

/// Everything that is optional, and nothing that is odd.
pub fn clean() -> Config {
    Config {
        echo_info: false,
        opt_in: true,
        dma_log: Some(DmaLog::default()),
        habits: Habits { size: Size::Constant, poll: Poll::Always, ..Habits::PLAIN },
        ..Config::default()
    }
    .seeded(3)
}

/// All that is no pass and no skip: the word, and the name of the check. With what was seen, for those who read a failure.
pub fn found(all: &[Checked]) -> (Vec<String>, String) {
    let odd = all.iter().filter(|checked| !["pass", "skip"].contains(&words(&checked.verdict).0));
    let names = odd.clone().map(|checked| format!("{} {}", words(&checked.verdict).0, checked.check.name)).collect();
    let told = odd.map(|checked| format!("{} {}: {}\n", checked.check.name, checked.rule, words(&checked.verdict).1));
    (names, told.collect())
}

/// What came of all checks.
pub struct Tried {
    pub names: Vec<String>,
    pub told: String,
    pub lost: bool,
    pub skipped: Vec<(&'static str, String)>,
}

/// All checks on a device, which meets the fault behind what is asked before the first.
pub fn check(device: &Device, kernel: bool, fault: Option<(Access, u64, Effect)>) -> Tried {
    let transport = device.transport();
    let mut subject = Subject::new("device", &*transport, kernel).unwrap();
    let writes = device.clone();
    subject.writer = Some(Box::new(move |address| writes.dma_write(address / 4096).is_ok()));
    let opens = device.clone();
    subject.library = Some(Box::new(move |quirks| {
        let options = vfiomig::device::DeviceOptions { name: "device".into(), quirks, ..Default::default() };
        vfiomig::device::Device::new(opens.transport(), options).map_err(|error| error.to_string())
    }));
    let set = fault.map(|(access, nth, effect)| device.inject(Fault::at(access, device.count(access) + nth, effect)));
    let all = run(&mut subject, &mut |_| {});
    assert!(set.is_none_or(|set| device.fault_reached(set) > 0), "the fault was never met");
    let (names, told) = found(&all);
    let skipped = all.iter().filter(|checked| words(&checked.verdict).0 == "skip");
    let skipped = skipped.map(|checked| (checked.check.name, words(&checked.verdict).1.to_string())).collect();
    Tried { names, told, lost: subject.lost.is_some(), skipped }
}

/// A stream that was cut anywhere.
pub const CUT: [&str; 5] =
    ["fail load-nothing", "fail load-beginning", "fail load-precopy-part", "fail load-half", "fail load-but-one-byte"];

/// Names as strings.
pub trait MapToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl MapToStrings for &[&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|text| text.to_string()).collect()
    }
}
