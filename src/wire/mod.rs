//! A framed format for the streams of a group's devices and for a VMM's own records, for VMMs without one (docs/wire.md).
//!
//! May import: dialect, transport, error. Start reading at `frame` (preamble, headers and checksums, pure), then at `table`
//! (the devices by name) and `ledger` (what may follow what in the stream of a device, for both sides). `writer` and `reader`
//! (`checks`) make and judge the bytes and do no I/O; `output` and `input` bring these bytes to and from anything that can be
//! written and read, `timed` does so for descriptors, with a limit for each wait.
//!
//! A save and a load of a whole group over it: [`Migration::save_to`](crate::migration::Migration::save_to) and
//! [`Migration::load_from`](crate::migration::Migration::load_from).
//!
//! Rules: V1-10 (segments keep their ends), F7 (the length closes a stream).
//!
//! ```
//! use vfiomig::dialect::DialectKind;
//! use vfiomig::wire::{DeviceEntry, Input, Output, WireRecord, Table, WireOptions};
//!
//! let table = Table::new(vec![DeviceEntry::new("nic0", DialectKind::V2)])?;
//! let mut output = Output::new(Vec::new(), WireOptions::default(), table)?;
//! output.data(0, b"state", false)?;
//! output.end(0)?;
//! output.finish()?;
//! let bytes = output.into_inner();
//!
//! let mut input = Input::new(&bytes[..]);
//! let mut state = Vec::new();
//! loop {
//!     match input.next()? {
//!         WireRecord::Data { bytes, .. } => state.extend_from_slice(bytes),
//!         WireRecord::End { total, .. } => assert_eq!(total, 5),
//!         WireRecord::Finish => break,
//!         _ => {}
//!     }
//! }
//! assert_eq!(state, b"state");
//! # Ok::<(), vfiomig::Error>(())
//! ```

mod checks;
mod fault;
mod frame;
mod input;
mod ledger;
mod output;
mod reader;
mod table;
mod timed;
mod writer;

pub use frame::{HEADER_LEN, MAX_CHANNELS, MAX_PAYLOAD, PREAMBLE_LEN};
pub use input::Input;
pub use output::Output;
pub use reader::{Reader, WireRecord};
pub use table::{DeviceEntry, MAX_DEVICES, Table, Word};
pub use timed::Timed;
pub use writer::{WireOptions, Writer};
