//! Jobs on many mixes of threads, limits and panics.

use super::super::threads::refuse_threads_beyond;
use super::*;
use crate::log::{Level, log};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// The log and the number of available threads belong to the process or thread: such tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn with_log<T>(run: impl FnOnce() -> T) -> (T, Vec<(ThreadId, String)>) {
    let _turn = TURN.lock();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let sink = move |_: Level, text: &str| kept.lock().push((thread::current().id(), text.to_string()));
    crate::log::set_sink(Some(Arc::new(sink)), Level::Debug);
    let result = run();
    crate::log::set_sink(None, Level::Error);
    let lines = lines.lock().clone();
    (result, lines)
}

fn here() -> ThreadId {
    thread::current().id()
}

#[test]
fn every_item_runs_once_and_results_keep_their_order() {
    for count in 0..20 {
        for max in [0, 1, 2, 3, 100] {
            for pinned in [0b0, 0b1, 0b1010_1010, u32::MAX] {
                let any: Vec<bool> = (0..count).map(|i| pinned & (1 << i) == 0).collect();
                let results = run(max, &any, |i| (i, here()));
                assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
                let workers: HashSet<_> = results.iter().map(|r| r.1).filter(|&id| id != here()).collect();
                assert!(max == 0 || workers.len() <= max, "{} workers of {max}", workers.len());
                for (any, (_, id)) in any.iter().zip(&results) {
                    assert!(*any || *id == here(), "a pinned item ran elsewhere");
                    assert!(!*any || max == 1 || count == 1 || *id != here(), "a free item ran here");
                }
            }
        }
    }
}

#[test]
fn one_item_or_one_worker_makes_no_thread() {
    assert_eq!(run(0, &[true], |_| here()), [here()]);
    assert_eq!(run(1, &[true; 3], |_| here()), [here(); 3]);
    assert!(run(0, &[], |_| ()).is_empty());
}

#[test]
fn results_come_on_the_calling_thread_as_they_are_ready() {
    // Item 1 is not ready before the sink has seen item 0.
    let seen = Barrier::new(2);
    let mut order = Vec::new();
    let caller = here();
    let job = |i| {
        if i == 1 {
            seen.wait();
        }
        i
    };
    run_each(0, &[true, true], job, |item, result| {
        assert_eq!((item, here()), (result, caller));
        order.push(item);
        if item == 0 {
            seen.wait();
        }
    });
    assert_eq!(order, [0, 1]);
}

#[test]
fn sixteen_items_cost_the_slowest_not_the_sum() {
    let each = Duration::from_millis(10);
    let once = || {
        let begun = Instant::now();
        run(0, &[true; 16], |_| thread::sleep(each));
        begun.elapsed()
    };
    // Other work of the machine only ever adds time. How much the threads cost is measured by benches/group.rs.
    let best = (0..50).map(|_| once()).min().unwrap();
    assert!(best < 3 * each, "{best:?}");
}

#[test]
fn lines_are_logged_here_and_in_the_order_of_each_job() {
    let ((), mut lines) = with_log(|| {
        run_each(0, &[true, false, true, true], |i| (0..3).for_each(|n| log!(Info, "{i}.{n}")), |_, ()| ());
    });
    // Whether threads can be had is a fact of the process: the line may tell the end of what another test began.
    lines.retain(|(_, text)| !text.ends_with("threads can be made again"));
    assert_eq!(lines.len(), 12, "{lines:?}");
    assert!(lines.iter().all(|(id, _)| *id == here()), "{lines:?}");
    for i in 0..4 {
        let own: Vec<_> = lines.iter().map(|(_, text)| text).filter(|t| t.starts_with(&i.to_string())).collect();
        assert_eq!(own, [&format!("{i}.0"), &format!("{i}.1"), &format!("{i}.2")]);
    }
}

#[test]
fn signals_are_blocked_in_workers_from_the_first_instruction() {
    let raised = run(0, &[true; 4], |_| crate::transport::signals::is_blocked(libc::SIGUSR2));
    assert_eq!(raised, [true; 4]);
    assert!(!crate::transport::signals::is_blocked(libc::SIGUSR2));
}

#[test]
fn missing_threads_are_replaced_by_the_calling_one_and_it_is_said() {
    for available in 0..4 {
        let (results, lines) = with_log(|| {
            refuse_threads_beyond(available);
            let results = run(0, &[true, true, true, false], |i| {
                log!(Info, "job {i}");
                i
            });
            refuse_threads_beyond(usize::MAX);
            results
        });
        assert_eq!(results, [0, 1, 2, 3]);
        // At which level depends on the calls before: tests/log_lines.rs.
        let said: Vec<_> = lines.iter().filter(|(_, text)| text.contains("threads could be made")).collect();
        assert_eq!(said.len(), usize::from(available < 3), "{lines:?}");
        assert_eq!(lines.iter().filter(|(_, text)| text.starts_with("job ")).count(), 4);
        assert!(said.iter().all(|(_, text)| text.starts_with(&format!("only {available} of 3"))), "{said:?}");
    }
}

#[test]
fn a_panic_reaches_the_caller_after_all_were_joined() {
    for (pinned, available) in [(false, usize::MAX), (false, 0), (true, usize::MAX)] {
        let (running, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let job = |i: usize| {
            running.fetch_add(1, Ordering::SeqCst);
            if i == 1 {
                panic!("job {i}");
            }
            thread::sleep(Duration::from_millis(20));
            ended.fetch_add(1, Ordering::SeqCst);
        };
        let (outcome, _) = with_log(|| {
            refuse_threads_beyond(available);
            let outcome = catch_unwind(AssertUnwindSafe(|| run(0, &[true, !pinned, true], job)));
            refuse_threads_beyond(usize::MAX);
            outcome
        });
        assert_eq!(outcome.unwrap_err().downcast_ref::<String>().map(String::as_str), Some("job 1"));
        assert_eq!(running.load(Ordering::SeqCst), ended.load(Ordering::SeqCst) + 1);
    }
}

#[test]
fn after_a_panic_nothing_new_begins() {
    let begun = AtomicUsize::new(0);
    let job = |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        panic!("at once");
    };
    assert!(catch_unwind(AssertUnwindSafe(|| run(2, &[true; 100], job))).is_err());
    assert!(begun.load(Ordering::SeqCst) < 10);
}

#[test]
fn a_panic_of_the_sink_reaches_the_caller_too() {
    let ended = AtomicUsize::new(0);
    let job = |i| {
        thread::sleep(Duration::from_millis(i as u64 * 10));
        ended.fetch_add(1, Ordering::SeqCst);
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| run_each(0, &[true; 3], job, |_, ()| panic!("sink"))));
    assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"sink"));
    assert_eq!(ended.load(Ordering::SeqCst), 3, "the workers that had begun were joined");
}

#[test]
fn a_worker_that_calls_back_is_refused_not_kept_waiting() {
    let gate = crate::gate::Gate::new(crate::gate::GateLevel::Group, ());
    let pass = gate.enter_whole().unwrap();
    let denied = |_| gate.enter_whole().err();
    let denied_below = |_| run(0, &[true; 2], denied);
    let all: Vec<_> = run(0, &[true; 2], denied_below).into_iter().flatten().collect();
    assert_eq!(all, [Some(crate::gate::Denied::Reentry); 4]);
    drop(pass);
    // What another worker of the same call holds is waited for.
    assert_eq!(run(0, &[true; 8], denied), [None; 8]);
}

#[test]
fn a_job_may_have_workers_of_its_own() {
    let sums = run(0, &[true; 4], |i| run(0, &[true; 4], |j| i * j).into_iter().sum::<usize>());
    assert_eq!(sums, [0, 6, 12, 18]);
}

/// Each job gives `count` pieces; what the caller saw, by item.
fn exchange(max: usize, any: &[bool], spare: usize, count: usize, stop_at: Option<usize>) -> Vec<Vec<usize>> {
    let mut seen = vec![Vec::new(); any.len()];
    let ahead = AtomicUsize::new(0);
    let job = |item: usize, give: Give<'_, usize>| {
        for n in 0..count {
            ahead.fetch_add(1, Ordering::SeqCst);
            if give(item * 1000 + n).is_none() {
                return n + 1;
            }
        }
        count
    };
    let caller = here();
    let mut given = vec![0; any.len()];
    let on = |item: usize, piece: usize| {
        assert_eq!(here(), caller);
        assert!(ahead.fetch_sub(1, Ordering::SeqCst) <= any.len() * (spare + 1), "too far ahead");
        seen[item].push(piece);
        stop_at.is_none_or(|last| piece % 1000 < last).then_some(0)
    };
    run_pieces(max, any, &vec![0; spare], job, &mut Unwatched, on, |item, count| given[item] = count);
    for (seen, given) in seen.iter().zip(given) {
        assert_eq!(seen.len(), given, "every piece arrives before its job's result");
    }
    seen
}

#[test]
fn pieces_arrive_in_order_and_no_job_runs_ahead() {
    for (max, any) in [(1, vec![true; 3]), (0, vec![true; 3]), (2, vec![true; 5]), (0, vec![false, true, false, true])]
    {
        for spare in 0..3 {
            let seen = exchange(max, &any, spare, 50, None);
            for (item, seen) in seen.iter().enumerate() {
                assert_eq!(*seen, (0..50).map(|n| item * 1000 + n).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_caller_that_wants_no_more_ends_the_jobs() {
    for (max, any) in [(1, vec![true; 3]), (0, vec![true; 3]), (0, vec![false, true, false, true])] {
        for spare in 0..3 {
            for seen in exchange(max, &any, spare, 500, Some(5)) {
                assert!((6..=6 + spare).contains(&seen.len()), "{spare} {}", seen.len());
            }
        }
    }
}

#[test]
fn panics_in_the_middle_of_an_exchange_leave_no_worker_waiting() {
    for who in ["job", "on"] {
        for any in [vec![true; 3], vec![false, true, true]] {
            let job = |item: usize, give: Give<'_, usize>| {
                while let Some(n) = give(item) {
                    assert!(who != "job" || n < 20 || item != 1, "job");
                }
            };
            let mut count = 0;
            let on = |_, _| {
                count += 1;
                assert!(who != "on" || count < 20, "on");
                Some(count)
            };
            let outcome =
                catch_unwind(AssertUnwindSafe(|| run_pieces(0, &any, &[0], job, &mut Unwatched, on, |_, ()| ())));
            assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&who));
        }
    }
}
