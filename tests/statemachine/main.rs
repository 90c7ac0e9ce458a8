//! Random courses: a VMM's main thread drives a group and a migration, a second thread does other things at the same time, any
//! device may be any peer and fail at any access. After each pair of calls every device is where a model says that it may be
//! (N28).
//!
//! Without VFIOMIG_STATEMACHINE_SECONDS it runs for 15 s, and every change is judged by the same courses; with it, for so long by
//! new ones. A course that fails is made as short as it gets; its seed is kept in proptest-regressions and comes first from
//! then on.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "../common/rig.rs"]
mod rig;

mod content;
mod course;
mod model;
mod world;

use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[test]
fn each_device_is_where_it_may_be() {
    let asked: Option<u64> = std::env::var("VFIOMIG_STATEMACHINE_SECONDS").ok().map(|text| text.parse().unwrap());
    let seconds = asked.unwrap_or(15);
    let (begun, most) = (Instant::now(), Duration::from_secs(seconds));
    let config = Config {
        // Until the time is up.
        cases: u32::MAX,
        max_global_rejects: 0,
        max_shrink_time: 30_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("proptest-regressions/statemachine.txt"))),
        ..Config::default()
    };
    let (courses, failed) = (Cell::new(0u64), Cell::new(false));
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let outcome = runner.run(&course::courses(), |course| {
        if begun.elapsed() > most && !failed.get() {
            // The end, and no failure.
            return Err(TestCaseError::reject("time is up"));
        }
        courses.set(courses.get() + 1);
        catch_unwind(AssertUnwindSafe(|| world::run(&course))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            failed.set(true);
            TestCaseError::fail(text.unwrap_or("panicked").to_string())
        })
    });
    let courses = courses.get();
    if let Err(error) = outcome {
        assert!(error.to_string().contains("Too many global rejects"), "{error}");
    }
    assert!(courses > 10, "{courses} courses in {seconds} s");
    println!("{courses} courses");
}
