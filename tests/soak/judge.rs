//! What holds whatever was done: the way back, and who may be blamed.

use crate::counts::Counts;
use crate::machine::{Machine, Member};
use crate::plan::Set;
use vfiomig::dialect::State;
use vfiomig::error::{Error, ErrorKind};
use vfiomig::migration::{AbortTo, Migration, Phase};

/// Which devices had something happen to them: a fault that was met, or what the plan did.
pub fn take_note(machine: &mut Machine, set: &[Set]) {
    for Set { trouble, id } in set {
        let member = &mut machine.members[trouble.device];
        let reached = member.fake.fault_reached(*id) > 0;
        member.hurt |= reached;
        member.gone |= reached && trouble.is_for_good();
        member.lost_fd += u64::from(reached && trouble.loses_fd(&member.fake));
    }
}

/// An error names nobody who is well.
pub fn check_error(machine: &Machine, error: &Error, canceled: bool) {
    assert!(error.kind() != ErrorKind::Panic, "{error}");
    assert!(error.errno() > 0 && !error.to_string().is_empty(), "{error:?}");
    if canceled {
        return;
    }
    for result in error.results() {
        let found = machine.members.iter().find(|member| member.handle.name() == result.device);
        let member = found.unwrap_or_else(|| panic!("a result of {}: {error}", result.device));
        assert!(result.errno == 0 || member.hurt, "{} is blamed: {result:?}", result.device);
    }
}

fn is_brought_back(member: &Member) -> bool {
    member.gone || member.fake.state() == State::Running
}

/// The source goes on: abort, and a reset of what cannot be brought back otherwise.
pub fn bring_back(machine: &mut Machine, save: &Migration, set: &[Set], counts: &mut Counts) {
    // Each fault may meet one try.
    for attempt in 0..=set.len() + 2 {
        let outcome = save.abort_without_second_guest(AbortTo::Running);
        take_note(machine, set);
        let Err(error) = outcome else {
            assert_eq!(save.phase(), Phase::Idle);
            break;
        };
        check_error(machine, &error, false);
        for member in &mut machine.members {
            let name = member.handle.name().to_string();
            assert!(member.hurt || is_brought_back(member), "{name} is in {}: {error}", member.fake.state());
            // A state that could only not be read is tried again before that.
            let wanted = member.fake.state() == State::Error || attempt > 0;
            if !is_brought_back(member) && wanted && member.reset().is_ok() {
                counts.one("resets of devices that had failed");
            }
        }
        if machine.members.iter().any(|member| member.gone) && machine.members.iter().all(is_brought_back) {
            break;
        }
    }
    for member in &machine.members {
        assert!(is_brought_back(member), "{} is in {} at the end", member.handle.name(), member.fake.state());
    }
}

/// Every device runs with the state that the guest has left in it, and was asked for nothing that is forbidden.
pub fn all_run(machine: &Machine, sets: &[&[Set]]) {
    for (place, member) in machine.members.iter().enumerate() {
        let (name, state) = (member.handle.name(), member.fake.state());
        assert_eq!((state, member.handle.state()), (State::Running, State::Running), "{name}");
        assert!(member.fake.content() == member.content, "{name} has lost its state");
        assert!(!member.tracks(), "{name}: its log is on: {:?}", member.log_kind());
        check_accesses(
            member,
            sets.iter().flat_map(|set| set.iter()).any(|set| set.trouble.device == place && set.trouble.is_to_error()),
        );
    }
}

pub fn check_accesses(member: &Member, went_to_error: bool) {
    let violations = member.fake.violations();
    let wrong: Vec<_> = violations.iter().filter(|v| !(went_to_error && v.rule == "N14")).collect();
    assert!(wrong.is_empty(), "{}: {wrong:?}", member.handle.name());
}
