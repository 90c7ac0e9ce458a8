//! Short-lived threads inside one call, joined before it returns (docs/design.md, "Waiting and threads"): a step over several
//! devices costs the slowest of them, not the sum. Threads that a caller has asked for go on between calls (`resident`); what
//! is on its way to them is in a `queue`.
//!
//! May import: transport, error, gate, log. Start reading at `run_each` in `jobs`. All asynchronous signals are blocked in a
//! worker from its first instruction (P1). What a worker logs is logged on the calling thread. A panic in a worker becomes one
//! of the caller, after all were joined.
//!
//! There are two ways to share work, because there are two kinds of it. A **job** (`jobs`) keeps its thread until it is done,
//! for it sleeps in the kernel or holds a lock on the way: a state change, a log that is read range by range. It is one
//! function, and costs one thread. **Turns** (`turns`) are for streams, which wait for descriptors most of the time: an item
//! keeps nothing between two turns, so that few threads serve many devices fairly, and none is kept by a channel that is full.
//! To write a job as turns would give up its lock and its place in a list at each piece; to serve streams by jobs would cost a
//! thread for each of them. `watch` is for what the calling thread says of those that hang. `threads` makes the threads of
//! both, `mailbox` carries what jobs hand over.

mod jobs;
mod mailbox;
mod queue;
mod resident;
mod threads;
pub mod turns;
mod watch;

pub use jobs::{Give, run, run_pieces, run_watched};
pub use queue::{BoundedQueue, Claimed, QueuePlace, TakenItem};
pub use resident::Resident;
pub(crate) use threads::attempt;
pub use threads::{DEFAULT_MAX, refuse_threads_beyond};
pub use watch::Watch;
