//! The internal state of a device: its bytes, what of them has to be sent, and the segments that carry them. The same form of
//! segment serves every dialect, so that a byte which came late, twice or not at all shows in all of them.
//!
//! May import: nothing of the crate. Start reading at `stream` (the state, a save out of it and a load into it); `segment` is the
//! form, `granules` the set of what is left, `mix` makes bytes up. Each save begins with everything to be sent (N7).

mod granules;
mod mix;
mod segment;
mod stream;

pub(crate) use mix::mix;
pub(crate) use segment::{HEADER, Header};
pub(crate) use stream::{Content, Form};
