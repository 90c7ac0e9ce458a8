//! What every floor uses and what knows no device: fields of requests, sets of ranges, memory and descriptors that a client
//! sees, and the list of what it did wrong.
//!
//! May import: nothing of the crate. Start reading at `judge` (offences); `bytes` and `ranges` are pure, `user` reaches memory of
//! the client, `bitmap` reports into it as the kernel does, `memory` and `poll` make descriptors.

pub(crate) mod bitmap;
pub(crate) mod bytes;
pub(crate) mod judge;
pub(crate) mod memory;
pub(crate) mod poll;
pub(crate) mod ranges;
pub(crate) mod user;
