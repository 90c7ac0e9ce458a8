//! A guest with four devices of four kinds (v2 with a DMA log, v1 with NDMA, draft, vfio-user) is moved from machine to machine, for
//! as long as one likes: with faults, aborts, pauses, resets, unplugs, and a guest that writes all the time. After each step its
//! state and its memory are what it has left there, and the process has no descriptor, thread, mapping or MiB more than after the
//! tenth. Each step is drawn from the seed and its number alone, so that both repeat it.
//!
//! Without variables it makes a few steps of a fixed seed. VFIOMIG_SOAK_SECONDS gives it longer (`make soak`), VFIOMIG_SOAK_SEED another
//! seed, VFIOMIG_SOAK_FROM the first step.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod counts;
mod judge;
mod load;
mod machine;
mod plan;
mod random;
mod resources;
#[path = "../common/rig.rs"]
mod rig;
mod save;
mod step;

use counts::Counts;
use machine::{Kinds, Machine};
use parking_lot::Mutex;
use plan::Plan;
use random::Random;
use resources::{Held, Memory};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use step::House;

/// Steps of one house, whose devices are drawn anew for the next.
const OF_A_HOUSE: u64 = 500;
const WITHOUT_VARIABLES: u64 = 120;
/// Longer than any step takes with all of its waits.
const HANG: Duration = Duration::from_secs(120);

struct Run {
    seed: u64,
    first: u64,
    until: Option<Instant>,
    counts: Counts,
    /// What a house has after its tenth step.
    held: Option<Held>,
    memory: Option<Memory>,
    at: Arc<Mutex<Option<(Instant, String)>>>,
    told: Instant,
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// A step that never ends ends the program, and says which it was.
fn watch(at: &Mutex<Option<(Instant, String)>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if let Some((since, text)) = &*at.lock()
            && since.elapsed() > HANG
        {
            eprintln!("HANG: {text}");
            std::process::abort();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Run {
    fn goes_on(&self, step: u64) -> bool {
        self.until.map_or(step < self.first + WITHOUT_VARIABLES, |until| Instant::now() < until)
    }

    /// The steps of one house; the next one.
    fn house(&mut self, mut step: u64) -> u64 {
        let number = step / OF_A_HOUSE;
        let mut random = Random::of(self.seed, u64::MAX - number);
        let kinds = Kinds::draw(&mut random);
        let machine = Machine::new(&kinds, simdev::Ram::new(), random.below(2) as usize);
        let mut house = House { kinds, machine };
        (self.held, self.memory) = (None, None);
        let first = step;
        while step / OF_A_HOUSE == number && self.goes_on(step) {
            let mut random = Random::of(self.seed, step);
            let plan = Plan::draw(&mut random);
            let text = format!(
                "VFIOMIG_SOAK_SEED={} VFIOMIG_SOAK_FROM={step}: {plan:#?}\nof {:?}",
                self.seed,
                house.kinds.0.each_ref().map(|config| (config.dialect, config.data, config.window.clone()))
            );
            *self.at.lock() = Some((Instant::now(), text.clone()));
            let made = catch_unwind(AssertUnwindSafe(|| {
                let moved = house.step(&plan, &mut random, &mut self.counts);
                self.check_resources(&house, step - first, moved);
            }));
            *self.at.lock() = None;
            if let Err(panic) = made {
                eprintln!("soak: the step that failed is {text}");
                resume_unwind(panic);
            }
            self.counts.one("steps");
            self.tell(step);
            step += 1;
        }
        house.machine.end();
        step
    }

    fn check_resources(&mut self, house: &House, count: u64, moved: bool) {
        let less_windows = |held: Held| Held { mappings: held.mappings - house.machine.mappings(), ..held };
        let held = less_windows(Held::settled(self.held));
        if count < 10 {
            return;
        }
        assert_eq!(held, *self.held.get_or_insert(held), "what the process has, and had after the tenth step");
        // A machine that has seen nothing yet: simdev keeps a list of what it was asked.
        if moved {
            let memory = Memory::now();
            let before = *self.memory.get_or_insert(memory);
            let grown = memory.grown_since(before);
            assert!(grown.is_none(), "{}", grown.unwrap_or_default());
        }
    }

    fn tell(&mut self, step: u64) {
        if self.until.is_some() && self.told.elapsed() > Duration::from_secs(60) {
            self.told = Instant::now();
            println!("soak: seed {}, step {step}: {}", self.seed, self.counts);
        }
    }
}

#[test]
fn a_guest_that_moves_on_and_on_stays_what_it_is() {
    resources::make_malloc_plain();
    let seconds = variable("VFIOMIG_SOAK_SECONDS");
    let seed = variable("VFIOMIG_SOAK_SEED").unwrap_or(18);
    let first = variable("VFIOMIG_SOAK_FROM").unwrap_or(0);
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    println!("soak: seed {seed}");
    let at = Arc::default();
    let (counts, told) = (Counts::default(), Instant::now());
    let mut run = Run { seed, first, until, counts, held: None, memory: None, at: Arc::clone(&at), told };
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (at, over) = (Arc::clone(&at), Arc::clone(&over));
        move || watch(&at, &over)
    });
    let (mut step, mut empty) = (first, None);
    while run.goes_on(step) {
        step = run.house(step);
        let held = Held::settled(empty);
        assert_eq!(held, *empty.get_or_insert(held), "without a machine, and behind the first house");
    }
    over.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    println!("soak: seed {seed}: {}", run.counts);
    if first == 0 && step >= WITHOUT_VARIABLES {
        for what in
            ["arrived", "came back from a save", "came back from a load", "faults met", "pauses", "resets", "unplugs"]
        {
            assert!(run.counts.get(what) > 0, "{what}: none in {step} steps");
        }
    }
}
