//! Short-lived threads inside one call, joined before it returns (docs/design.md, "Waiting and threads"): a step over several
//! devices costs the slowest of them, not the sum.
//!
//! May import: transport, error, gate, log. All asynchronous signals are blocked in a worker from its first instruction (P1). What a
//! worker logs is told on the calling thread. A panic in a worker becomes one of the caller, after all were joined.

mod mailbox;
pub mod turns;

use crate::error::Errno;
use crate::gate::Waiting;
use crate::log::{self, Level};
use crate::transport::signals::Blocked;
use mailbox::Mailbox;
use parking_lot::Mutex;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, scope};

/// Threads of one call that moves data where the caller names no number: more would cost more than they save.
pub const DEFAULT_MAX: usize = 64;
/// The same where they only wait for their devices: one that begins after another has ended makes a step twice as long.
const MAX_WAITING: usize = 1024;

thread_local! {
    /// Threads that one call from this thread can get.
    static AVAILABLE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// For tests: a call from this thread gets no more than `count` threads, as if the system had no more.
pub fn refuse_threads_beyond(count: usize) {
    AVAILABLE.set(count);
}

type Panic = Box<dyn Any + Send>;

/// Runs something that may panic.
fn attempt<T>(what: impl FnOnce() -> T) -> Result<T, Panic> {
    // What a broken job leaves behind is the caller's to judge: the panic goes on there.
    catch_unwind(AssertUnwindSafe(what))
}

/// Items that may run on any thread, each taken once.
struct Queue {
    items: Vec<usize>,
    next: AtomicUsize,
    /// Something panicked: what has not begun does not begin.
    stop: AtomicBool,
}

impl Queue {
    fn take(&self) -> Option<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.items.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// Runs something that may panic; a panic is kept for when all workers were joined.
    fn attempt<T>(&self, what: impl FnOnce() -> T) -> Result<T, Panic> {
        let result = attempt(what);
        if result.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Runs `job(i)` for every index of `any_thread`: where it says `false` on the calling thread, else on workers, at most `max`
/// of them (0: one per item, within reason; 1: no thread is made). `sink` gets each result on the calling thread, in the
/// order in which they come. If a thread cannot be made, the calling thread does its work, and the log says so.
///
/// # Panics
/// If a job or the sink does: after every worker was joined, and without beginning anything new.
pub fn run_each<T: Send>(max: usize, any_thread: &[bool], job: impl Fn(usize) -> T + Sync, sink: impl FnMut(usize, T)) {
    let max = if max == 0 { MAX_WAITING } else { max };
    run_pieces(max, any_thread, &[], |item, _: Give<'_, ()>| job(item), |_, ()| None, sink);
}

/// Hands a piece to the calling thread and takes another one; `None`: the calling thread wants no more.
pub type Give<'a, P> = &'a mut dyn FnMut(P) -> Option<P>;

/// A piece on its way, whatever it is.
type AnyPiece = Box<dyn Any + Send>;

fn unpacked<P: Send + 'static>(parcel: AnyPiece) -> Option<P> {
    parcel.downcast().ok().map(|piece| *piece)
}

/// What comes from a worker.
enum Message {
    Piece(usize, AnyPiece),
    /// Its result is where the job has put it.
    Done(usize, Result<(), Panic>, log::Lines),
}

/// As [`run_each`], with jobs that exchange pieces with the calling thread while they run: `on` gets each piece there, in the
/// order of its job, and gives another one back. Each job begins with copies of `spare` on the way to it, so that it is
/// never more than that many pieces ahead of the calling thread.
///
/// # Panics
/// As `run_each`.
pub fn run_pieces<P: Clone + Send + 'static, T: Send>(
    max: usize,
    any_thread: &[bool],
    spare: &[P],
    job: impl Fn(usize, Give<'_, P>) -> T + Sync,
    mut on: impl FnMut(usize, P) -> Option<P>,
    mut sink: impl FnMut(usize, T),
) {
    let results: Vec<Mutex<Option<T>>> = any_thread.iter().map(|_| Mutex::new(None)).collect();
    let job = |item: usize, give: Give<'_, AnyPiece>| {
        let result = job(item, &mut |piece| give(Box::new(piece)).and_then(unpacked));
        if let Some(place) = results.get(item) {
            *place.lock() = Some(result);
        }
    };
    let mut on = |item: usize, parcel: AnyPiece| Some(Box::new(on(item, unpacked(parcel)?)?) as AnyPiece);
    let mut sink = |item: usize| {
        if let Some(result) = results.get(item).and_then(|place| place.lock().take()) {
            sink(item, result);
        }
    };
    let packed = |piece: &P| Box::new(piece.clone()) as AnyPiece;
    let spare = || spare.iter().map(packed).collect();
    serve_all(max, any_thread, &spare, &job, &mut on, &mut sink);
}

/// All of it but for the types of jobs, pieces and results: compiled once, not for each call.
fn serve_all(
    max: usize,
    any_thread: &[bool],
    spare: &dyn Fn() -> Vec<AnyPiece>,
    job: &AnyJob<'_>,
    on: &mut dyn FnMut(usize, AnyPiece) -> Option<AnyPiece>,
    sink: &mut dyn FnMut(usize),
) {
    let limit = if max == 0 { DEFAULT_MAX } else { max };
    let items_where =
        |wanted| any_thread.iter().enumerate().filter(|(_, any)| **any == wanted).map(|(i, _)| i).collect::<Vec<_>>();
    let queue = Queue { items: items_where(true), next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
    if limit == 1 || any_thread.len() <= 1 || queue.items.is_empty() {
        for item in 0..any_thread.len() {
            job(item, &mut |piece| on(item, piece));
            sink(item);
        }
        return;
    }
    let arrivals = Mailbox::new(0, []);
    let back: Vec<Mailbox<Option<AnyPiece>>> =
        any_thread.iter().map(|_| Mailbox::new(1, spare().into_iter().map(Some))).collect();
    let work = || {
        while let Some(item) = queue.take() {
            let mut give = |piece| {
                arrivals.send(Message::Piece(item, piece));
                back.get(item)?.wait().flatten()
            };
            let (result, lines) = log::capture(|| queue.attempt(|| job(item, &mut give)));
            arrivals.send(Message::Done(item, result, lines));
        }
    };
    let outcome = scope(|scope| {
        let mut threads = Vec::new();
        let spawn = || {
            let (stay, work, waiting) = (arrivals.enter(), &work, Waiting::here());
            let thread = Builder::new().name("vfiomig".into()).spawn_scoped(scope, move || {
                waiting.adopt();
                work();
                drop(stay);
            })?;
            threads.push(thread);
            Ok(())
        };
        let made = make_threads(limit.min(queue.items.len()), spawn);
        let caller = Caller { job, on, sink, arrivals: &arrivals, back: &back };
        // It leaves when it is done or panics, so that no worker waits for it.
        let outcome = queue.attempt(|| caller.serve(&queue, &items_where(false), made));
        for thread in threads {
            // Panics of jobs came as messages; there are no others. Joined here, for the end of a scope is nothing that
            // ThreadSanitizer sees.
            let _ = thread.join();
        }
        outcome
    });
    if let Err(panic) | Ok(Err(panic)) = outcome {
        resume_unwind(panic);
    }
}

type AnyJob<'a> = dyn Fn(usize, Give<'_, AnyPiece>) + Sync + 'a;

/// The calling thread while workers are at work.
struct Caller<'a> {
    job: &'a AnyJob<'a>,
    on: &'a mut dyn FnMut(usize, AnyPiece) -> Option<AnyPiece>,
    sink: &'a mut dyn FnMut(usize),
    arrivals: &'a Mailbox<Message>,
    /// By item: where its worker waits for a piece.
    back: &'a [Mailbox<Option<AnyPiece>>],
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.back.iter().for_each(Mailbox::leave);
    }
}

impl Caller<'_> {
    /// Runs what belongs here, and hears the workers out.
    fn serve(mut self, queue: &Queue, own: &[usize], made: Made) -> Result<(), Panic> {
        own.iter().try_for_each(|&item| self.run_here(item))?;
        if !made.tell() {
            while let Some(item) = queue.take() {
                self.run_here(item)?;
            }
        }
        // Ends when the last worker has left.
        while let Some(message) = self.arrivals.wait() {
            self.hear(message)?;
        }
        Ok(())
    }

    /// One job. Workers are served between its pieces, so that they never stand still for it.
    fn run_here(&mut self, item: usize) -> Result<(), Panic> {
        let mut failed = Ok(());
        let job = self.job;
        job(item, &mut |piece| {
            let next = (self.on)(item, piece);
            if failed.is_ok() {
                failed = self.hear_arrived();
            }
            next.filter(|_| failed.is_ok())
        });
        failed?;
        (self.sink)(item);
        self.hear_arrived()
    }

    fn hear_arrived(&mut self) -> Result<(), Panic> {
        while let Some(message) = self.arrivals.poll() {
            self.hear(message)?;
        }
        Ok(())
    }

    fn hear(&mut self, message: Message) -> Result<(), Panic> {
        match message {
            Message::Piece(item, piece) => {
                let next = (self.on)(item, piece);
                if let Some(back) = self.back.get(item) {
                    back.send(next);
                }
            }
            Message::Done(item, result, lines) => {
                log::replay(lines);
                result?;
                (self.sink)(item);
            }
        }
        Ok(())
    }
}

/// As [`run_each`], with the results in the order of the items.
///
/// # Panics
/// As `run_each`.
pub fn run<T: Send>(max: usize, any_thread: &[bool], job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results: Vec<Option<T>> = any_thread.iter().map(|_| None).collect();
    run_each(max, any_thread, job, |item, result| {
        if let Some(place) = results.get_mut(item) {
            *place = Some(result);
        }
    });
    // run_each gave one result for each item, or has panicked.
    results.into_iter().flatten().collect()
}

/// What came of making threads, and what the log is to be told of it.
#[must_use]
struct Made {
    all: bool,
    news: Option<(Level, String)>,
}

impl Made {
    /// Tells the log; whether all were made. Else the calling thread does their work.
    fn tell(self) -> bool {
        if let Some((level, text)) = &self.news {
            log::write(*level, format_args!("{text}"));
        }
        self.all
    }
}

/// How many threads of this process could not be had at once; 0: there were always enough. It lasts, as the limit does that is met,
/// so it is told when it begins, and when a call gets as many again.
static MISSED: AtomicUsize = AtomicUsize::new(0);

/// Makes `count` threads.
fn make_threads(count: usize, mut spawn: impl FnMut() -> std::io::Result<()>) -> Made {
    // A new thread begins with the mask of the one that makes it.
    let _blocked = Blocked::new();
    for made in 0..count {
        let result =
            if made < AVAILABLE.get() { spawn() } else { Err(std::io::Error::from_raw_os_error(libc::EAGAIN)) };
        let Err(error) = result else { continue };
        let why = error.raw_os_error().map_or_else(|| error.to_string(), |errno| Errno::new(errno).to_string());
        let text =
            format!("only {made} of {count} threads could be made ({why}): the calling thread does their work too");
        let least = |missed: usize| if missed == 0 { count } else { missed.min(count) };
        let is_news = MISSED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |missed| Some(least(missed))) == Ok(0);
        return Made { all: false, news: Some((if is_news { Level::Warning } else { Level::Debug }, text)) };
    }
    let missed = MISSED.load(Ordering::Relaxed);
    let is_over = missed > 0
        && count >= missed
        && MISSED.compare_exchange(missed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    let news = is_over.then(|| (Level::Info, format!("{count} threads can be made again")));
    Made { all: true, news }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::log;
    use std::collections::HashSet;
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
        log::set_sink(Some(Arc::new(sink)), Level::Debug as i32);
        let result = run();
        log::set_sink(None, 0);
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
    fn lines_are_told_here_and_in_the_order_of_each_job() {
        let ((), lines) = with_log(|| {
            run_each(0, &[true, false, true, true], |i| (0..3).for_each(|n| log!(Info, "{i}.{n}")), |_, ()| ());
        });
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
    fn a_panic_of_the_sink_is_told_too() {
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
    fn a_worker_that_calls_back_is_told_not_kept_waiting() {
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
        run_pieces(max, any, &vec![0; spare], job, on, |item, count| given[item] = count);
        for (seen, given) in seen.iter().zip(given) {
            assert_eq!(seen.len(), given, "every piece arrives before its job's result");
        }
        seen
    }

    #[test]
    fn pieces_arrive_in_order_and_no_job_runs_ahead() {
        for (max, any) in
            [(1, vec![true; 3]), (0, vec![true; 3]), (2, vec![true; 5]), (0, vec![false, true, false, true])]
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
                let outcome = catch_unwind(AssertUnwindSafe(|| run_pieces(0, &any, &[0], job, on, |_, ()| ())));
                assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&who));
            }
        }
    }
}
