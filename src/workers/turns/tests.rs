//! Turns on many mixes of threads, limits and panics.

use super::super::threads::refuse_threads_beyond;
use super::super::watch::Unwatched;
use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Each item shows, or asks for, `count` things.
struct Counting {
    count: usize,
    how: Turn,
    pause: Vec<Duration>,
    done: Vec<AtomicUsize>,
    running: Vec<AtomicBool>,
    between: AtomicUsize,
    most: AtomicUsize,
    order: Mutex<Vec<usize>>,
    stop: AtomicBool,
}

impl Counting {
    fn new(items: usize, count: usize, how: Turn) -> Self {
        Counting {
            count,
            how,
            pause: vec![Duration::ZERO; items],
            done: (0..items).map(|_| AtomicUsize::new(0)).collect(),
            running: (0..items).map(|_| AtomicBool::new(false)).collect(),
            between: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            order: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        }
    }

    fn run(&self, max: usize, any_thread: &[bool], first: usize) -> Vec<usize> {
        let mut heard = vec![0; any_thread.len()];
        let home = thread::current().id();
        run_turns(Crew { max, any_thread, first }, self, &mut Unwatched, &mut |item| {
            assert_eq!(thread::current().id(), home);
            heard[item] += 1;
            if self.how == Turn::Show {
                self.between.fetch_sub(1, Ordering::SeqCst);
            }
        });
        heard
    }
}

impl Work for Counting {
    fn turn(&self, item: usize) -> Turn {
        assert!(!self.running[item].swap(true, Ordering::SeqCst), "two turns of one item");
        self.order.lock().push(item);
        thread::sleep(self.pause[item]);
        let before = self.done[item].fetch_add(1, Ordering::SeqCst);
        let last = before >= self.count || self.stop.load(Ordering::SeqCst);
        if !last && self.how == Turn::Show {
            self.most.fetch_max(self.between.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        self.running[item].store(false, Ordering::SeqCst);
        if last { Turn::Done } else { self.how }
    }
    fn wait(&self, items: &[usize], patient: bool) -> Vec<usize> {
        if patient {
            thread::sleep(Duration::from_millis(1));
        }
        items.to_vec()
    }
}

#[test]
fn every_item_has_its_turns_and_is_heard() {
    for how in [Turn::Show, Turn::Ask, Turn::Again, Turn::Wait] {
        for items in [0, 1, 2, 5, 9] {
            for (max, threads) in [(0, usize::MAX), (1, usize::MAX), (2, usize::MAX), (0, 0), (0, 2)] {
                for pinned in [0b0, 0b1, 0b1010_1010, u32::MAX] {
                    let any: Vec<bool> = (0..items).map(|i| pinned & (1 << i) == 0).collect();
                    let work = Counting::new(items, 20, how);
                    refuse_threads_beyond(threads);
                    let heard = work.run(max, &any, 1);
                    refuse_threads_beyond(usize::MAX);
                    let expected = if matches!(how, Turn::Show | Turn::Ask) { 20 } else { 0 };
                    assert_eq!(heard, vec![expected; items], "{how:?} {max} {pinned:#b}");
                    assert!(work.done.iter().all(|done| done.load(Ordering::SeqCst) == 21));
                    let workers = if max == 0 { items } else { max };
                    assert!(work.most.load(Ordering::SeqCst) <= workers + 1, "too much between the threads");
                }
            }
        }
    }
}

#[test]
fn turns_go_around_and_begin_where_they_should() {
    let work = Counting::new(4, 2, Turn::Show);
    work.run(1, &[true; 4], 2);
    assert_eq!(*work.order.lock(), [2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
}

/// Items that no worker may serve take their turns on the calling thread, between those of the others.
#[test]
fn a_slow_item_of_the_calling_thread_holds_the_others_up_by_little() {
    let measure = || {
        let mut work = Counting::new(3, 50, Turn::Show);
        work.pause[0] = Duration::from_millis(10);
        let mut last = vec![Duration::ZERO; 3];
        let begun = Instant::now();
        run_turns(Crew { max: 0, any_thread: &[false, true, true], first: 0 }, &work, &mut Unwatched, &mut |item| {
            last[item] = begun.elapsed();
        });
        assert!(last[0] >= Duration::from_millis(500), "{last:?}");
        last
    };
    // What else runs on the machine makes a run longer, never shorter: one that is as short as it must be proves it.
    let short =
        |last: &[Duration]| last[1].max(last[2]) < Duration::from_millis(200) && last[0] < Duration::from_secs(2);
    let mut seen = Vec::new();
    assert!((0..20).map(|_| measure()).inspect(|last| seen.push(last.clone())).any(|last| short(&last)), "{seen:?}");
}

#[test]
fn panics_leave_no_worker_waiting() {
    struct Panics(AtomicUsize);
    impl Work for Panics {
        fn turn(&self, _item: usize) -> Turn {
            assert!(self.0.fetch_add(1, Ordering::SeqCst) != 20, "turn");
            Turn::Ask
        }
        fn wait(&self, items: &[usize], _patient: bool) -> Vec<usize> {
            items.to_vec()
        }
    }
    for any in [vec![true; 3], vec![false, true, true], vec![true]] {
        let crew = Crew { max: 0, any_thread: &any, first: 0 };
        let run = || run_turns(crew, &Panics(AtomicUsize::new(0)), &mut Unwatched, &mut |_| ());
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let mut heard = 0;
        let run = || {
            run_turns(crew, &Panics(AtomicUsize::new(1000)), &mut Unwatched, &mut |_| {
                heard += 1;
                assert!(heard < 20, "hear");
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    }
}
