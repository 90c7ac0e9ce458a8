//! What a device says of itself before its state is changed, and what can be said of it at the end.

use super::client::number;
use super::subject::{Speaks, Subject};
use super::table::Need::{Danger, Kernel, PreCopy, V2};
use super::table::{Check, Result, Run::Do, fail, pass, quirk, skip};
use crate::text::count;
use vfiomig::dialect::State;
use vfiomig::transport::requests;

/// A feature that no kernel has.
const NO_FEATURE: u16 = 0xfff0;
/// A size from here on is a negative errno (K22).
const NO_SIZE: u64 = 1 << 63;

/// The first checks.
pub const CHECKS: &[Check] = &[
    Check {
        name: "fresh-state",
        rule: "N16",
        about: "a device that was just opened is in RUNNING, and says the same twice",
        cost: "the VMM refuses the device, or takes an old session for its own",
        needs: &[],
        run: Do(fresh_state),
    },
    Check {
        name: "device-info",
        rule: "P6",
        about: "the device describes itself",
        cost: "a VMM cannot open it at all",
        needs: &[],
        run: Do(device_info),
    },
    Check {
        name: "region-info",
        rule: "P6",
        about: "its regions are described, or said to be absent",
        cost: "a VMM cannot map its BARs, and may not find the migration region",
        needs: &[],
        run: Do(region_info),
    },
    Check {
        name: "migration-flags",
        rule: "V2-11",
        about: "the migration flags have STOP_COPY, and only bits that are known",
        cost: "the VMM says that the device cannot be migrated",
        needs: &[V2],
        run: Do(migration_flags),
    },
    Check {
        name: "unknown-feature",
        rule: "V2-15",
        about: "a feature that does not exist is refused by ENOTTY or EINVAL",
        cost: "a VMM believes in features that are not there",
        needs: &[V2, Kernel],
        run: Do(unknown_feature),
    },
    Check {
        name: "feature-probe",
        rule: "V2-15",
        about: "PROBE of a feature that exists succeeds, and changes nothing",
        cost: "a VMM that probes first says that the device cannot be migrated",
        needs: &[V2, Kernel],
        run: Do(feature_probe),
    },
    Check {
        name: "data-size",
        rule: "V2-13",
        about: "MIG_DATA_SIZE answers in any state",
        cost: "the downtime cannot be estimated: the VMM switches over too early or never",
        needs: &[V2, Kernel],
        run: Do(data_size),
    },
    Check {
        name: "reinit-opt-in",
        rule: "C8",
        about: "opting in to REINIT succeeds with PRE_COPY, or the feature is absent",
        cost: "initial data that comes late is not seen, and costs downtime",
        needs: &[V2, PreCopy, Kernel],
        run: Do(opt_in),
    },
];

/// The last checks.
pub const LAST: &[Check] = &[
    Check {
        name: "odd-state",
        rule: "V2-1",
        about: "a state that does not exist is refused",
        cost: "nothing with a VMM that is right; a wrong one may hurt the host",
        needs: &[V2, Danger],
        run: Do(odd_state),
    },
    Check {
        name: "slow-requests",
        rule: "V2-6",
        about: "no request takes longer than a second",
        cost: "the time is downtime",
        needs: &[],
        run: Do(slow),
    },
];

fn device_info(subject: &mut Subject) -> Result {
    match requests::device_info(subject.transport()) {
        Ok(info) => pass(format!(
            "{}; {}",
            count(info.num_regions, "region"),
            if info.can_reset { "a reset" } else { "no reset" }
        )),
        Err(errno) => fail(format!("VFIO_DEVICE_GET_INFO failed: {errno}")),
    }
}

fn region_info(subject: &mut Subject) -> Result {
    let Ok(info) = requests::device_info(subject.transport()) else {
        return skip("it does not say how many regions it has");
    };
    let mut described = 0u32;
    for index in 0..info.num_regions.min(64) {
        match requests::region_info(subject.transport(), index) {
            Ok(_) => described = described.saturating_add(1),
            // Some regions of a PCI device are numbers only, such as VGA's.
            Err(error) if index == 8 && error.errno() == libc::EINVAL => {}
            Err(error) => return fail(format!("region {index}: {error}")),
        }
    }
    pass(count(described, "region"))
}

fn fresh_state(subject: &mut Subject) -> Result {
    let states = subject.state().and_then(|first| Ok((first, subject.state()?)));
    subject.look_for_reset();
    let (first, again) = states?;
    if first != again {
        return fail(format!("it said {first}, and then {again}, without a request between"));
    }
    if first == State::Running {
        return pass("RUNNING");
    }
    quirk(format!(
        "it is in {first}: the program before this one left it there, and opening it does not end that (K20, K24)"
    ))
}

fn migration_flags(subject: &mut Subject) -> Result {
    let flags = match requests::migration_flags(subject.transport()) {
        Ok(flags) => flags,
        Err(errno) => return fail(format!("reading the flags failed: {errno}")),
    };
    match flags {
        _ if flags & 1 == 0 => fail(format!("the flags are {flags:#x}, without STOP_COPY")),
        _ if flags & !7 != 0 => quirk(format!("the flags are {flags:#x}: bits that no uAPI knows")),
        _ => pass(format!("{flags:#x}")),
    }
}

fn unknown_feature(subject: &mut Subject) -> Result {
    match requests::probe(subject.transport(), NO_FEATURE, false) {
        Ok(()) => fail(format!("PROBE of feature {NO_FEATURE:#x} succeeds")),
        Err(errno) if matches!(errno.get(), libc::ENOTTY | libc::EINVAL) => pass(errno.to_string()),
        Err(errno) => fail(format!("PROBE of feature {NO_FEATURE:#x} answers {errno}")),
    }
}

fn feature_probe(subject: &mut Subject) -> Result {
    let before = subject.state()?;
    for (index, set, name) in [(1, false, "MIGRATION"), (2, false, "MIG_DEVICE_STATE"), (2, true, "MIG_DEVICE_STATE")] {
        if let Err(errno) = requests::probe(subject.transport(), index, set) {
            return fail(format!("PROBE of {name} to be {}: {errno}", if set { "set" } else { "got" }));
        }
    }
    let after = subject.state()?;
    if before == after { pass("three probes") } else { fail(format!("PROBE took the device from {before} to {after}")) }
}

fn data_size(subject: &mut Subject) -> Result {
    match requests::data_size(subject.transport()) {
        Ok(size) if size >= NO_SIZE => quirk(format!("it answers {size:#x}, which is an errno and no size (K22)")),
        Ok(size) => pass(count(size, "byte")),
        Err(errno) if errno.means_absent() => skip("there is no such feature: kernels before 6.2"),
        Err(errno) => fail(format!("it failed in RUNNING: {errno}")),
    }
}

fn opt_in(subject: &mut Subject) -> Result {
    match requests::opt_in(subject.transport()) {
        Ok(()) => pass("it has REINIT"),
        Err(errno) if errno.get() == libc::ENOTTY => skip("there is no such feature: kernels before 7.1"),
        Err(errno) => fail(format!("{errno}, although it has PRE_COPY")),
    }
}

fn odd_state(subject: &mut Subject) -> Result {
    let client = subject.v2()?;
    let lacking = [State::PreCopy, State::RunningP2p].into_iter().filter(|state| !client.caps.has(*state)).map(number);
    for wrong in lacking.chain([200, u32::MAX]).collect::<Vec<u32>>() {
        if client.try_set(wrong).is_ok() {
            let now = client.raw_state().ok();
            return fail(format!("a request for state {wrong} succeeds; it says that it is in {now:?}"));
        }
        let now = client.state()?;
        if now != State::Running {
            return fail(format!("a request for state {wrong} is refused, and takes the device to {now}"));
        }
    }
    pass("all are refused, and it stays in RUNNING")
}

fn slow(subject: &mut Subject) -> Result {
    let slow = match &subject.speaks {
        Speaks::V2(client) => client.slow.first(),
        Speaks::V1(registers) => registers.slow.first(),
    };
    match slow {
        None => pass("none did"),
        Some((number, first)) => quirk(format!("{number} did: {first}")),
    }
}
