//! One step: the guest moves to another machine, or stays, and is the same as before.

use crate::counts::Counts;
use crate::judge::{all_run, bring_back, check_accesses, check_error, take_note};
use crate::load::{Loaded, load};
use crate::machine::{Kinds, Machine};
use crate::plan::{Event, Plan, Set};
use crate::random::Random;
use crate::save::{Saving, Sent, migration};
use vfiomig::dialect::{Direction, State};
use vfiomig::migration::Migration;

/// Where the guest is.
pub struct House {
    pub kinds: Kinds,
    pub machine: Machine,
}

/// What was set, and what came of it.
struct Course {
    set: Vec<Set>,
    disturbed: bool,
    canceled: bool,
}

impl House {
    /// A step that was drawn; whether the guest has moved.
    pub fn step(&mut self, plan: &Plan, random: &mut Random, counts: &mut Counts) -> bool {
        self.machine.forget();
        self.between(plan.idle, random, counts);
        let machine = &mut self.machine;
        machine.forget();
        let save = migration(machine, Direction::Save, plan.mover);
        let set: Vec<Set> =
            plan.troubles.iter().map(|trouble| trouble.set(&machine.members[trouble.device].fake)).collect();
        let places = machine.places();
        let mut saving = Saving {
            places,
            machine,
            save: &save,
            plan,
            random,
            counts,
            disturbed: false,
            canceled: false,
            sent: Sent::default(),
        };
        let mut outcome = saving.run();
        let mut arrived = None;
        // Before HALTED only what nothing has happened to.
        let early = plan.load.early && !saving.disturbed;
        if outcome.is_ok() && early {
            arrived = self::arrive(saving.machine, plan, &saving.sent, &set, saving.counts);
        }
        // A destination that has said no is known before HALTED.
        let refused = early && arrived.is_none();
        if outcome.is_ok() && !refused {
            outcome = saving.halt();
        }
        let course = Course { set, disturbed: saving.disturbed, canceled: saving.canceled };
        let sent = saving.sent;
        if outcome.is_ok() && !early {
            arrived = self::arrive(&mut self.machine, plan, &sent, &course.set, counts);
        }
        take_note(&mut self.machine, &course.set);
        if let Err(error) = &outcome {
            check_error(&self.machine, error, course.canceled);
            let hurt = course.disturbed || self.machine.members.iter().any(|member| member.hurt);
            assert!(hurt, "without a reason: {error}");
        }
        self.count(&course, counts);
        match arrived {
            Some(target) => {
                self.hand_over(target, save, &course);
                counts.one("arrived");
                true
            }
            None => {
                counts.one(if outcome.is_err() { "came back from a save" } else { "came back from a load" });
                self.stay(save, &course, counts);
                false
            }
        }
    }

    fn count(&self, course: &Course, counts: &mut Counts) {
        for Set { trouble, id } in &course.set {
            let met = self.machine.members[trouble.device].fake.fault_reached(*id) > 0;
            counts.one(if met { "faults met" } else { "faults that no call met" });
        }
    }

    /// Between migrations.
    fn between(&mut self, event: Option<Event>, random: &mut Random, counts: &mut Counts) {
        let machine = &mut self.machine;
        let done = machine.guest(random, 40);
        counts.add("guest writes", done);
        match event {
            Some(Event::PauseResume) => {
                counts.one("pauses");
                machine.group.pause().unwrap();
                assert_eq!(machine.guest(random, 10), 0, "a device that is paused writes");
                assert!(machine.states().iter().all(|state| *state == State::Stop), "{:?}", machine.states());
                machine.group.resume().unwrap();
            }
            Some(Event::Reset(device)) => {
                counts.one("resets");
                machine.members[device].reset().unwrap();
            }
            Some(Event::Unplug(device)) => {
                counts.one("unplugs");
                machine.members[device].unplug();
                machine.plug_again();
            }
            _ => {}
        }
        let done = machine.guest(random, 10);
        counts.add("guest writes", done);
    }

    /// The guest runs elsewhere: the source ends.
    fn hand_over(&mut self, target: Machine, save: Migration, course: &Course) {
        let source = std::mem::replace(&mut self.machine, target);
        save.close().unwrap();
        for (place, member) in source.members.iter().enumerate() {
            let to_error = course.set.iter().any(|set| set.trouble.device == place && set.trouble.is_to_error());
            check_accesses(member, to_error);
        }
        source.end();
    }

    /// The guest stays here.
    fn stay(&mut self, save: Migration, course: &Course, counts: &mut Counts) {
        bring_back(&mut self.machine, &save, &course.set, counts);
        save.close().unwrap();
        self.machine.members.iter().for_each(|member| member.fake.clear_faults());
        counts.add("devices plugged anew", self.machine.plug_again());
        for member in &self.machine.members {
            member.handle.restart_stream().unwrap();
        }
        all_run(&self.machine, &[&course.set]);
    }
}

/// The other machine, if the guest has arrived there with all that it had.
fn arrive(source: &mut Machine, plan: &Plan, sent: &Sent, set: &[Set], counts: &mut Counts) -> Option<Machine> {
    let lost = source.ram.differences();
    assert!(
        lost.is_empty(),
        "{} pages lost a write, as (page, source, copy): {:?}",
        lost.len(),
        &lost[..lost.len().min(8)]
    );
    let kinds = Kinds(std::array::from_fn(|place| source.members[place].fake.config()));
    let mut target = Machine::new(&kinds, source.ram.arrived(), plan.load.max_workers);
    let loaded = load(&mut target, &plan.load, sent, counts);
    let Loaded::No(error, hurt) = loaded else {
        for (to, from) in target.members.iter_mut().zip(&source.members) {
            let name = from.handle.name();
            assert!(to.fake.content() == from.content, "{name} has another state at the destination");
            assert_eq!(to.fake.state(), State::Running, "{name} at the destination");
            to.content.clone_from(&from.content);
            to.fake.clear_faults();
            to.hurt = false;
        }
        assert!(target.ram.pages() == source.ram.pages(), "RAM at the destination is not the source's");
        return Some(target);
    };
    take_note(source, set);
    // A device that has ended its own stream too early.
    let cut = set.iter().find(|set| set.trouble.may_cut() && source.members[set.trouble.device].hurt);
    let named = cut.is_some_and(|cut| error.to_string().contains(cut.trouble.name()));
    assert!(hurt || named, "it cannot be loaded, and nobody was hurt: {error}");
    target.end();
    None
}
