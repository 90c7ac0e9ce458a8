//! Items that are worked on in turns, so that few threads serve many devices fairly and none is kept by a descriptor that is not
//! ready. Between its turns an item shows the calling thread something, or asks it for something.
//!
//! There is never more between the threads than one thing per worker and one more: who has a turn, and who brings something for
//! one, takes a place of so many, and gives it back when the thing was used. So memory does not grow with the number of items.

mod courtesy;

use super::threads::{DEFAULT_MAX, Panic, attempt, make_threads};
use super::watch::Watch;
use crate::gate::Waiting;
use crate::log;
use courtesy::Courtesy;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

/// What a turn of an item has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more at once.
    Again,
    /// The calling thread hears of it, and it continues meanwhile.
    Show,
    /// It continues once the calling thread has heard of it.
    Ask,
    /// It continues once [`Work::wait`] says so.
    Wait,
    /// It has no more turns.
    Done,
}

/// What is done in turns: one at a time for each item, on whichever thread.
pub trait Work: Sync {
    /// One turn, as short as it can be.
    fn turn(&self, item: usize) -> Turn;
    /// Which of these items can continue, all of which have to wait; waits a little for one if `patient`.
    fn wait(&self, items: &[usize], patient: bool) -> Vec<usize>;
}

/// Who works, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Crew<'a> {
    /// As of [`run_each`](super::jobs::run_each), but 0 is [`DEFAULT_MAX`].
    pub max: usize,
    /// One per item: whether its turns may be on workers; else they are on the calling thread.
    pub any_thread: &'a [bool],
    /// The item that comes first; the others follow in their order, around.
    pub first: usize,
}

/// While there is work at once, descriptors are looked at this often.
const GLANCE: Duration = Duration::from_millis(10);

/// Takes turns until every item is done. `hear` is called on the calling thread for each `Show` and `Ask`, in the order of each
/// item, and `watch` when it is time. If a thread cannot be made, the calling thread does its work, and the log says so.
///
/// # Panics
/// If a turn or `hear` does: after every worker was joined, and without beginning anything new.
pub fn run_turns(crew: Crew<'_>, work: &dyn Work, watch: &mut dyn Watch, hear: &mut dyn FnMut(usize)) {
    let limit = if crew.max == 0 { DEFAULT_MAX } else { crew.max };
    let free = crew.any_thread.iter().filter(|any| **any).count();
    let alone = limit == 1 || crew.any_thread.len() <= 1;
    let wanted = if alone { 0 } else { limit.min(free) };
    let board = Board::new(crew, wanted);
    let panic = scope(|scope| {
        let mut threads = Vec::new();
        let spawn = || {
            let (board, waiting) = (&board, Waiting::here());
            let thread = Builder::new().name("vfiomig".into()).spawn_scoped(scope, move || {
                waiting.adopt();
                board.labour(work);
            })?;
            threads.push(thread);
            Ok(())
        };
        let made = make_threads(wanted, spawn);
        let helps = !made.report() || wanted == 0;
        board.fewer_workers(wanted.saturating_sub(threads.len()));
        // Whatever happens here, the workers are stopped and joined.
        let outcome = attempt(|| board.serve(work, watch, hear, helps, threads.len()));
        if let Err(panic) = outcome {
            board.state.lock().panic.get_or_insert(panic);
        }
        board.for_workers.notify_all();
        for thread in threads {
            // Panics of turns are kept on the board; there are no others.
            let _ = thread.join();
        }
        board.state.lock().panic.take()
    });
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

struct Board<'a> {
    state: Mutex<TurnsState<'a>>,
    for_workers: Condvar,
    for_caller: Condvar,
}

struct TurnsState<'a> {
    any_thread: &'a [bool],
    /// Items whose next turn is on any thread, and those that belong to the calling one.
    free: VecDeque<usize>,
    pinned: VecDeque<usize>,
    /// Items that wait for a descriptor; and whether a thread looks after them now.
    waiting: Vec<usize>,
    polling: bool,
    polled: Instant,
    /// What the calling thread has not heard.
    news: VecDeque<News>,
    /// What may be taken on its way between the threads.
    places: usize,
    /// By item: the calling thread has brought it something, so it has a place.
    provided: Vec<bool>,
    /// Items that are not done, and how many of them may be on workers.
    left: usize,
    left_free: usize,
    workers: usize,
    panic: Option<Panic>,
}

struct News {
    item: usize,
    turn: Turn,
    lines: log::Lines,
}

impl TurnsState<'_> {
    fn over(&self) -> bool {
        self.left == 0 || self.panic.is_some()
    }

    fn is_free(&self, item: usize) -> bool {
        self.any_thread.get(item).copied().unwrap_or(false)
    }

    fn put_back(&mut self, item: usize) {
        let queue = if self.is_free(item) { &mut self.free } else { &mut self.pinned };
        queue.push_back(item);
    }

    /// The next item of a queue, with a place for what its turn brings or uses. Where no place is left, who has one is next.
    fn take(&mut self, pinned: bool) -> Option<usize> {
        let queue = if pinned { &mut self.pinned } else { &mut self.free };
        let provided = |item: &usize| self.provided.get(*item).copied().unwrap_or(false);
        let at = if self.places > 0 { 0 } else { queue.iter().position(provided)? };
        let item = queue.remove(at)?;
        if !self.provided.get_mut(item).is_some_and(std::mem::take) {
            self.places = self.places.saturating_sub(1);
        }
        Some(item)
    }

    fn settle(&mut self, item: usize, turn: Turn, lines: log::Lines) {
        if turn != Turn::Show {
            self.places = self.places.saturating_add(1);
        }
        match turn {
            Turn::Again | Turn::Show => self.put_back(item),
            Turn::Wait => self.waiting.push(item),
            Turn::Done => {
                self.left = self.left.saturating_sub(1);
                self.left_free = self.left_free.saturating_sub(usize::from(self.is_free(item)));
            }
            Turn::Ask => {}
        }
        if matches!(turn, Turn::Show | Turn::Ask) || !lines.is_empty() {
            self.news.push_back(News { item, turn, lines });
        }
    }

    /// What the calling thread hears next. What it will bring needs a place.
    fn next_news(&mut self) -> Option<News> {
        if self.news.front()?.turn == Turn::Ask {
            self.places = self.places.checked_sub(1)?;
        }
        self.news.pop_front()
    }

    fn heard(&mut self, item: usize, turn: Turn) {
        match turn {
            Turn::Show => self.places = self.places.saturating_add(1),
            Turn::Ask => {
                if let Some(provided) = self.provided.get_mut(item) {
                    *provided = true;
                }
                self.put_back(item);
            }
            Turn::Again | Turn::Wait | Turn::Done => {}
        }
    }

    /// The items that wait, if it is time to look after them and no thread does.
    fn take_waiting(&mut self, patient: bool) -> Option<Vec<usize>> {
        if self.waiting.is_empty() || self.polling || (!patient && self.polled.elapsed() < GLANCE) {
            return None;
        }
        self.polling = true;
        Some(std::mem::take(&mut self.waiting))
    }
}

impl<'a> Board<'a> {
    fn new(crew: Crew<'a>, workers: usize) -> Self {
        let count = crew.any_thread.len();
        let mut state = TurnsState {
            any_thread: crew.any_thread,
            free: VecDeque::new(),
            pinned: VecDeque::new(),
            waiting: Vec::new(),
            polling: false,
            polled: Instant::now(),
            news: VecDeque::new(),
            places: workers.saturating_add(1),
            provided: vec![false; count],
            left: count,
            left_free: crew.any_thread.iter().filter(|any| **any).count(),
            workers,
            panic: None,
        };
        (0..count).cycle().skip(crew.first).take(count).for_each(|item| state.put_back(item));
        Board { state: Mutex::new(state), for_workers: Condvar::new(), for_caller: Condvar::new() }
    }

    /// One turn, with the board free meanwhile.
    fn turn(&self, state: &mut MutexGuard<'_, TurnsState<'a>>, item: usize, work: &dyn Work) {
        let (turn, lines) = MutexGuard::unlocked(state, || log::capture(|| attempt(|| work.turn(item))));
        match turn {
            Ok(turn) => state.settle(item, turn, lines),
            Err(panic) => {
                state.panic.get_or_insert(panic);
            }
        }
        self.for_caller.notify_one();
        if state.over() {
            self.for_workers.notify_all();
        } else if !state.free.is_empty() || !(state.waiting.is_empty() || state.polling) {
            self.for_workers.notify_one();
        }
    }

    fn poll(&self, state: &mut MutexGuard<'_, TurnsState<'a>>, items: &[usize], patient: bool, work: &dyn Work) {
        let ready = MutexGuard::unlocked(state, || attempt(|| work.wait(items, patient)));
        state.polling = false;
        state.polled = Instant::now();
        match ready {
            Ok(ready) => {
                state.waiting.extend(items.iter().filter(|item| !ready.contains(item)));
                ready.into_iter().for_each(|item| state.put_back(item));
            }
            Err(panic) => {
                state.panic.get_or_insert(panic);
            }
        }
        self.for_workers.notify_all();
        self.for_caller.notify_one();
    }

    /// A worker's life. Who finds more workers than items leaves.
    fn labour(&self, work: &dyn Work) {
        let mut state = self.state.lock();
        while !state.over() && state.workers <= state.left_free.max(1) {
            if let Some(items) = state.take_waiting(false) {
                self.poll(&mut state, &items, false, work);
            } else if let Some(item) = state.take(false) {
                self.turn(&mut state, item, work);
            } else if let Some(items) = state.take_waiting(true) {
                self.poll(&mut state, &items, true, work);
            } else {
                self.for_workers.wait(&mut state);
            }
        }
        state.workers = state.workers.saturating_sub(1);
        // What it could have taken another one can.
        self.for_workers.notify_one();
        self.for_caller.notify_one();
    }

    fn fewer_workers(&self, missing: usize) {
        let mut state = self.state.lock();
        state.workers = state.workers.saturating_sub(missing);
    }

    /// The calling thread: hears what comes, and has the turns that belong to it; with `helps` also those of the others.
    fn serve(&self, work: &dyn Work, watch: &mut dyn Watch, hear: &mut dyn FnMut(usize), helps: bool, workers: usize) {
        let mut courtesy = Courtesy::new();
        let mut look_at = watch.look();
        let mut state = self.state.lock();
        while state.panic.is_none() && !(state.left == 0 && state.news.is_empty()) {
            if look_at.is_some_and(|at| at <= Instant::now()) {
                look_at = MutexGuard::unlocked(&mut state, || watch.look());
            }
            if helps {
                if let Some(items) = state.take_waiting(false) {
                    self.poll(&mut state, &items, false, work);
                }
            }
            if courtesy.hears_first() && self.hear_next(&mut state, hear) {
                courtesy.heard();
                continue;
            }
            let holds = workers > 0 && courtesy.holds();
            let own = if holds { None } else { state.take(true) };
            if let Some(item) = own.or_else(|| if helps { state.take(false) } else { None }) {
                let begun = Instant::now();
                self.turn(&mut state, item, work);
                courtesy.owe(begun.elapsed());
            } else if self.hear_next(&mut state, hear) {
                courtesy.heard();
            } else if let Some(items) = self.looks_after(&mut state, helps) {
                self.poll(&mut state, &items, true, work);
            } else if holds && !state.pinned.is_empty() {
                let end = courtesy.end();
                self.for_caller.wait_until(&mut state, look_at.map_or(end, |at| at.min(end)));
            } else if let Some(at) = look_at {
                self.for_caller.wait_until(&mut state, at);
            } else {
                self.for_caller.wait(&mut state);
            }
        }
    }

    /// Whether there was something to hear.
    fn hear_next(&self, state: &mut MutexGuard<'_, TurnsState<'a>>, hear: &mut dyn FnMut(usize)) -> bool {
        let Some(News { item, turn, lines }) = state.next_news() else { return false };
        MutexGuard::unlocked(state, || {
            log::replay(lines);
            if matches!(turn, Turn::Show | Turn::Ask) {
                hear(item);
            }
        });
        state.heard(item, turn);
        self.for_workers.notify_one();
        true
    }

    /// Items that wait are looked after by workers, and here where none is left to do it.
    fn looks_after(&self, state: &mut TurnsState<'a>, helps: bool) -> Option<Vec<usize>> {
        if helps || state.workers == 0 { state.take_waiting(true) } else { None }
    }
}

#[cfg(test)]
mod tests;
