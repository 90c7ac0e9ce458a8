//! What was read of one device's stream and not taken yet, between the thread that reads and the calls that take.

use super::budget::Share;
use crate::cancel::Cancel;
use crate::log::Lines;
use crate::window::{NO_SEGMENT, Trouble};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often a thread that waits here looks for what does not wake it: a cancel, and memory that other devices give back.
const LOOK: Duration = Duration::from_millis(20);

/// A run of bytes that lie together in the stream, and in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub len: usize,
    /// From its first byte to the end of the segment; `NO_SEGMENT` where there are none.
    pub segment_left: u64,
}

/// Memory that is being filled.
pub(super) struct AheadBlock {
    memory: Vec<u8>,
    filled: usize,
    runs: VecDeque<Fetched>,
}

impl AheadBlock {
    fn new(memory: Vec<u8>) -> Self {
        AheadBlock { memory, filled: 0, runs: VecDeque::new() }
    }

    /// Where the next bytes go.
    pub fn rest(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.filled..).unwrap_or_default()
    }

    pub fn add(&mut self, run: Fetched) {
        let len = run.len.min(self.memory.len().saturating_sub(self.filled));
        self.filled = self.filled.saturating_add(len);
        let goes_on = |last: &&mut Fetched| match last.segment_left {
            NO_SEGMENT => run.segment_left == NO_SEGMENT,
            left => left.checked_sub(last.len as u64).is_some_and(|left| left > 0 && left == run.segment_left),
        };
        match self.runs.back_mut().filter(goes_on) {
            Some(last) => last.len = last.len.saturating_add(len),
            None => self.runs.push_back(Fetched { len, ..run }),
        }
    }

    /// What is left of it is too little for a read: those are to be large (P20).
    pub fn is_full(&self) -> bool {
        self.memory.len().saturating_sub(self.filled) < self.memory.len().div_ceil(4)
    }
}

/// Memory from which is taken.
pub(super) struct Filled {
    pub memory: Arc<Vec<u8>>,
    pub at: usize,
    pub runs: VecDeque<Fetched>,
}

impl Filled {
    /// The next run.
    pub fn run(&self) -> Option<Fetched> {
        self.runs.front().copied()
    }

    pub fn bytes(&self, len: usize) -> &[u8] {
        self.memory.get(self.at..self.at.saturating_add(len)).unwrap_or_default()
    }

    /// `len` bytes of the first run were taken.
    pub fn advance(&mut self, len: usize) {
        self.at = self.at.saturating_add(len);
        let Some(run) = self.runs.front_mut() else { return };
        run.len = run.len.saturating_sub(len);
        if run.segment_left != NO_SEGMENT {
            run.segment_left = run.segment_left.saturating_sub(len as u64);
        }
        if run.len == 0 {
            self.runs.pop_front();
        }
    }
}

/// How a stream goes on behind what is in the queue.
enum Verdict {
    End,
    Failed(Trouble),
}

/// What a call that takes finds.
pub(super) enum Next {
    Filled(Filled),
    End,
    Failed(Trouble),
    /// More will come.
    Wait,
    /// Nothing was read, and no thread reads: what comes next is the device's.
    Direct,
}

struct AheadState {
    filled: VecDeque<Filled>,
    free: Vec<Vec<u8>>,
    share: Share,
    block: usize,
    verdict: Option<Verdict>,
    /// A thread reads.
    reading: bool,
    stop: bool,
    /// What the thread would have logged: the log's sink is called on threads of the VMM only.
    lines: Vec<Lines>,
}

/// Threads are woken after the lock was given back. One that is woken before would be handed the lock, and the thread that woke
/// it would wait for it to run.
pub(super) struct AheadQueue {
    state: Mutex<AheadState>,
    /// Memory was given back, or the reading is to end.
    space: Condvar,
    /// There is something to take, or nothing more will come.
    data: Condvar,
    /// Ends the waits of the thread that reads.
    pub halt: Arc<Cancel>,
}

impl AheadQueue {
    pub fn new(share: Share, buffer: usize) -> Self {
        let block = share.block(buffer);
        let state = AheadState {
            filled: VecDeque::new(),
            free: Vec::new(),
            share,
            block,
            verdict: None,
            reading: false,
            stop: false,
            lines: Vec::new(),
        };
        AheadQueue {
            state: Mutex::new(state),
            space: Condvar::new(),
            data: Condvar::new(),
            halt: Arc::new(Cancel::new()),
        }
    }

    /// A thread will read, unless it may not any more, or one does, or there is nothing to read.
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let may = !state.reading && state.verdict.is_none() && !state.share.is_stopped();
        if may {
            (state.reading, state.stop) = (true, false);
            self.halt.clear();
        }
        may
    }

    /// The thread is to end; `data` is notified when it has.
    pub fn ask_stop(&self) {
        self.state.lock().stop = true;
        self.halt.ask();
        self.space.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        let state = self.state.lock();
        state.stop || state.share.is_stopped()
    }

    /// No thread reads any more.
    pub fn ended(&self) {
        self.state.lock().reading = false;
        self.data.notify_all();
    }

    /// A thread reads, or what one has read is here still.
    pub fn serves(&self) -> bool {
        let state = self.state.lock();
        state.reading || state.verdict.is_some() || !state.filled.is_empty()
    }

    /// Memory for the next bytes. Waits for it until the reading is to end; `None`: it ends, or there is none.
    pub fn block(&self, goes_on: &dyn Fn() -> bool) -> Option<AheadBlock> {
        let mut state = self.state.lock();
        loop {
            if state.stop || state.share.is_stopped() || !goes_on() {
                return None;
            }
            if let Some(memory) = state.free.pop() {
                return Some(AheadBlock::new(memory));
            }
            let size = state.block;
            if state.share.grow(size) {
                let mut memory = Vec::new();
                if memory.try_reserve_exact(size).is_err() {
                    // Then the calls read for themselves.
                    state.share.shrink(size);
                    return None;
                }
                drop(state);
                memory.resize(size, 0);
                return Some(AheadBlock::new(memory));
            }
            self.space.wait_for(&mut state, LOOK);
        }
    }

    /// Whether who takes would find nothing.
    pub fn is_hungry(&self) -> bool {
        self.state.lock().filled.is_empty()
    }

    pub fn publish(&self, block: AheadBlock) {
        let mut state = self.state.lock();
        put(&mut state, block);
        drop(state);
        self.data.notify_all();
    }

    pub fn publish_end(&self, block: AheadBlock) {
        self.close(block, Verdict::End, true);
    }

    /// `for_good`: nothing can come behind it.
    pub fn publish_trouble(&self, block: AheadBlock, trouble: Trouble, for_good: bool) {
        self.close(block, Verdict::Failed(trouble), for_good);
    }

    fn close(&self, block: AheadBlock, verdict: Verdict, for_good: bool) {
        let mut state = self.state.lock();
        put(&mut state, block);
        state.verdict = Some(verdict);
        if for_good {
            let free = std::mem::take(&mut state.free);
            state.share.shrink(free.iter().map(Vec::len).fold(0, usize::saturating_add));
            state.share.end();
        }
        drop(state);
        self.data.notify_all();
    }

    pub fn log(&self, lines: Lines) {
        if !lines.is_empty() {
            self.state.lock().lines.push(lines);
        }
    }

    pub fn take_lines(&self) -> Vec<Lines> {
        std::mem::take(&mut self.state.lock().lines)
    }

    pub fn next(&self) -> Next {
        let mut state = self.state.lock();
        if let Some(filled) = state.filled.pop_front() {
            return Next::Filled(filled);
        }
        match state.verdict.take() {
            Some(Verdict::End) => {
                // It stays the end, however often it is asked for.
                state.verdict = Some(Verdict::End);
                Next::End
            }
            Some(Verdict::Failed(trouble)) => Next::Failed(trouble),
            None if state.reading => Next::Wait,
            None => Next::Direct,
        }
    }

    /// Waits a moment for something to take.
    pub fn wait(&self) {
        let mut state = self.state.lock();
        if state.filled.is_empty() && state.verdict.is_none() && state.reading {
            self.data.wait_for(&mut state, LOOK);
        }
    }

    /// Memory of which all was taken.
    pub fn give_back(&self, filled: Filled) {
        let mut state = self.state.lock();
        recycle(&mut state, filled);
        drop(state);
        self.space.notify_all();
    }

    /// What is in it is not wanted any more.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        let filled = std::mem::take(&mut state.filled);
        filled.into_iter().for_each(|filled| recycle(&mut state, filled));
        let free = std::mem::take(&mut state.free);
        state.share.shrink(free.iter().map(Vec::len).fold(0, usize::saturating_add));
        state.verdict = None;
        state.share.end();
    }
}

fn put(state: &mut AheadState, block: AheadBlock) {
    let AheadBlock { memory, filled, runs } = block;
    if filled == 0 {
        state.free.push(memory);
        return;
    }
    state.filled.push_back(Filled { memory: Arc::new(memory), at: 0, runs });
}

/// A chunk that was dropped late keeps its memory; it is not written to again.
fn recycle(state: &mut AheadState, filled: Filled) {
    let size = filled.memory.len();
    match Arc::try_unwrap(filled.memory) {
        Ok(memory) if !state.share.is_over() => state.free.push(memory),
        _ => state.share.shrink(size),
    }
}
