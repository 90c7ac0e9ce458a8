//! Jobs side by side: each is begun once, on one thread, and may exchange pieces with the calling thread until it is done.

use super::mailbox::{Arrival, Mailbox};
use super::threads::{DEFAULT_MAX, Made, Panic, attempt, make_threads};
use super::watch::{Unwatched, Watch};
use crate::gate::Waiting;
use crate::log::{self, Level};
use parking_lot::Mutex;
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, scope};
use std::time::Instant;

/// Most threads of one call that only waits for its devices. There are many, because a device whose thread can begin only after
/// another one's has ended makes the step twice as long.
const MAX_WAITING: usize = 1024;

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
/// of them (0: one per item, at most 1024; 1: no thread is made). `sink` gets each result on the calling thread, in the
/// order in which they come. If a thread cannot be made, the calling thread does its work, and the log says so.
///
/// # Panics
/// If a job or the sink does: after every worker was joined, and without beginning anything new.
pub fn run_each<T: Send>(
    max: usize,
    any_thread: &[bool],
    job: impl Fn(usize) -> T + Sync,
    mut sink: impl FnMut(usize, T),
) {
    run_watched(max, any_thread, job, &mut Unwatched, |_, item, result| sink(item, result));
}

/// As [`run_each`], with a watcher, which `sink` gets too.
///
/// # Panics
/// As `run_each`, and if the watcher does.
pub fn run_watched<W: Watch, T: Send>(
    max: usize,
    any_thread: &[bool],
    job: impl Fn(usize) -> T + Sync,
    watch: &mut W,
    mut sink: impl FnMut(&mut W, usize, T),
) {
    let max = if max == 0 { MAX_WAITING } else { max };
    let results = Places::new(any_thread.len());
    let job = |item: usize, _: Give<'_, AnyPiece>| results.put(item, job(item));
    let mut ears = Ears {
        watch,
        on: |_: &mut W, _, _| None,
        sink: |watch: &mut W, item| results.take(item).into_iter().for_each(|result| sink(watch, item, result)),
    };
    serve_all(max, any_thread, &Vec::new, &job, &mut ears);
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
    /// For the log.
    Line(Level, String),
    /// Its result is where the job has put it.
    Done(usize, Result<(), Panic>),
}

/// Where jobs put their results.
struct Places<T>(Vec<Mutex<Option<T>>>);

impl<T> Places<T> {
    fn new(count: usize) -> Self {
        Places((0..count).map(|_| Mutex::new(None)).collect())
    }

    fn put(&self, item: usize, result: T) {
        if let Some(place) = self.0.get(item) {
            *place.lock() = Some(result);
        }
    }

    fn take(&self, item: usize) -> Option<T> {
        self.0.get(item)?.lock().take()
    }
}

/// What the calling thread does with what it hears, and while it hears nothing.
trait Hear {
    fn on(&mut self, item: usize, piece: AnyPiece) -> Option<AnyPiece>;
    fn sink(&mut self, item: usize);
    fn look(&mut self) -> Option<Instant>;
    fn wants_free_hands(&self) -> bool;
}

struct Ears<'w, W, O, S> {
    watch: &'w mut W,
    on: O,
    sink: S,
}

impl<W: Watch, O: FnMut(&mut W, usize, AnyPiece) -> Option<AnyPiece>, S: FnMut(&mut W, usize)> Hear
    for Ears<'_, W, O, S>
{
    fn on(&mut self, item: usize, piece: AnyPiece) -> Option<AnyPiece> {
        (self.on)(self.watch, item, piece)
    }
    fn sink(&mut self, item: usize) {
        (self.sink)(self.watch, item);
    }
    fn look(&mut self) -> Option<Instant> {
        self.watch.look()
    }
    fn wants_free_hands(&self) -> bool {
        self.watch.wants_free_hands()
    }
}

/// As [`run_watched`], with jobs that exchange pieces with the calling thread while they run: `on` gets each piece there, in the
/// order of its job, and gives another one back. Each job begins with copies of `spare` on the way to it, so that it is
/// never more than that many pieces ahead of the calling thread.
///
/// # Panics
/// As `run_each`.
pub fn run_pieces<W: Watch, P: Clone + Send + 'static, T: Send>(
    max: usize,
    any_thread: &[bool],
    spare: &[P],
    job: impl Fn(usize, Give<'_, P>) -> T + Sync,
    watch: &mut W,
    mut on: impl FnMut(usize, P) -> Option<P>,
    mut sink: impl FnMut(usize, T),
) {
    if is_alone(max, any_thread, watch.wants_free_hands()) {
        // A harvest may have a million pieces, so none of them is packed for a way that it does not go.
        for item in 0..any_thread.len() {
            let result = job(item, &mut |piece| on(item, piece));
            sink(item, result);
            watch.look();
        }
        return;
    }
    let results = Places::new(any_thread.len());
    let job = |item: usize, give: Give<'_, AnyPiece>| {
        results.put(item, job(item, &mut |piece| give(Box::new(piece)).and_then(unpacked)));
    };
    let mut ears = Ears {
        watch,
        on: |_: &mut W, item, parcel| Some(Box::new(on(item, unpacked(parcel)?)?) as AnyPiece),
        sink: |_: &mut W, item| results.take(item).into_iter().for_each(|result| sink(item, result)),
    };
    let packed = |piece: &P| Box::new(piece.clone()) as AnyPiece;
    let spare = || spare.iter().map(packed).collect();
    serve_all(max, any_thread, &spare, &job, &mut ears);
}

/// Whether all is done on the calling thread.
fn is_alone(max: usize, any_thread: &[bool], wants_free_hands: bool) -> bool {
    max == 1 || !any_thread.contains(&true) || any_thread.len() == 1 && !wants_free_hands
}

/// All of it but for the types of jobs, pieces and results: compiled once, not for each call.
fn serve_all(
    max: usize,
    any_thread: &[bool],
    spare: &dyn Fn() -> Vec<AnyPiece>,
    job: &AnyJob<'_>,
    ears: &mut dyn Hear,
) {
    let limit = if max == 0 { DEFAULT_MAX } else { max };
    let items_where =
        |wanted| any_thread.iter().enumerate().filter(|(_, any)| **any == wanted).map(|(i, _)| i).collect::<Vec<_>>();
    let queue = Queue { items: items_where(true), next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
    if is_alone(max, any_thread, ears.wants_free_hands()) {
        for item in 0..any_thread.len() {
            job(item, &mut |piece| ears.on(item, piece));
            ears.sink(item);
            ears.look();
        }
        return;
    }
    let arrivals: Arc<Mailbox<Message>> = Arc::new(Mailbox::new(0, []));
    let back: Vec<Mailbox<Option<AnyPiece>>> =
        any_thread.iter().map(|_| Mailbox::new(1, spare().into_iter().map(Some))).collect();
    let work = || work(&queue, job, &arrivals, &back);
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
        let caller = Caller { job, ears, arrivals: &arrivals, back: &back };
        // It leaves when it is done or panics, so that no worker waits for it.
        let outcome = queue.attempt(|| caller.serve(&queue, &items_where(false), made));
        for thread in threads {
            // Panics of jobs came as messages; there are no others. Joined here, because the end of a scope is nothing that
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

/// A worker's life: one job after the other, as long as there are some.
fn work(queue: &Queue, job: &AnyJob<'_>, arrivals: &Arc<Mailbox<Message>>, back: &[Mailbox<Option<AnyPiece>>]) {
    while let Some(item) = queue.take() {
        let mut give = |piece| {
            arrivals.send(Message::Piece(item, piece));
            back.get(item)?.wait().flatten()
        };
        let lines = Arc::clone(arrivals);
        let messenger = Arc::new(move |level, text| lines.send(Message::Line(level, text)));
        let result = log::send(messenger, || queue.attempt(|| job(item, &mut give)));
        arrivals.send(Message::Done(item, result));
    }
}

/// The calling thread while workers are at work.
struct Caller<'a> {
    job: &'a AnyJob<'a>,
    ears: &'a mut dyn Hear,
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
        if !made.report() {
            while let Some(item) = queue.take() {
                self.run_here(item)?;
            }
        }
        loop {
            let until = self.ears.look();
            match self.arrivals.wait_until(until) {
                Arrival::Message(message) => self.hear(message)?,
                Arrival::Late => {}
                // The last worker has left.
                Arrival::Gone => return Ok(()),
            }
        }
    }

    /// One job. Workers are served between its pieces, so that they never stand still for it.
    fn run_here(&mut self, item: usize) -> Result<(), Panic> {
        let mut failed = Ok(());
        let job = self.job;
        job(item, &mut |piece| {
            let next = self.ears.on(item, piece);
            if failed.is_ok() {
                failed = self.hear_arrived();
            }
            next.filter(|_| failed.is_ok())
        });
        failed?;
        self.ears.sink(item);
        self.ears.look();
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
                let next = self.ears.on(item, piece);
                if let Some(back) = self.back.get(item) {
                    back.send(next);
                }
            }
            Message::Line(level, text) => log::write(level, format_args!("{text}")),
            Message::Done(item, result) => {
                result?;
                self.ears.sink(item);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
