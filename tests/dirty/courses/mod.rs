//! Random courses: any order of calls in any form, and one question at the end and at each gate: was every page reported that was
//! written? `COURSES_SECONDS` is how long each test may take (2), `COURSES_SEED` where it begins.

mod names;
mod rigs;
mod single;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime};

/// Numbers that a seed makes.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..5 {
            dice.roll(2);
        }
        dice
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len() as u64) as usize]
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs courses until the time is over; at least one. The seed of one that fails is in the message.
fn courses(what: &str, course: impl Fn(u64)) {
    let begin = number("COURSES_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        now.as_millis() as u64 % 1_000_000_000 * 1000
    });
    let (begun, limit) = (Instant::now(), Duration::from_secs(number("COURSES_SECONDS").unwrap_or(2)));
    let mut seed = begin;
    while seed == begin || begun.elapsed() < limit {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| course(seed))) {
            eprintln!("{what}: COURSES_SEED={seed} fails");
            resume_unwind(panic);
        }
        seed += 1;
    }
    println!("{what}: {} courses from COURSES_SEED={begin} on", seed - begin);
}
