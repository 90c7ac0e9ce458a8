//! A channel that is judged as it is read.

use super::reader::{Reader, WireRecord};
use super::table::Table;
use crate::error::{Error, Result};
use std::io::{ErrorKind, Read};

/// Reads one channel, and no byte behind its FINISH.
///
/// ```
/// use vfiomig::error::ErrorKind;
/// use vfiomig::wire::{Input, Output, WireRecord, Table, WireOptions};
///
/// let mut output = Output::new(Vec::new(), WireOptions::default(), Table::new(vec![])?)?;
/// output.vmm(None, 7, b"ram")?;
/// output.finish()?;
/// let mut bytes = output.into_inner();
/// bytes.extend(b"what follows is the VMM's");
///
/// let mut rest = &bytes[..];
/// let mut input = Input::new(&mut rest);
/// assert_eq!(input.next()?, WireRecord::Table);
/// assert_eq!(input.next()?, WireRecord::Vmm { device: None, kind: 7, bytes: b"ram" });
/// assert_eq!(input.next()?, WireRecord::Finish);
/// assert_eq!(rest, b"what follows is the VMM's");
///
/// // A wire that was cut is never taken for a whole one.
/// let mut input = Input::new(&bytes[..100]);
/// while let Ok(record) = input.next() {
///     assert_ne!(record, WireRecord::Finish);
/// }
/// assert_eq!(input.next().unwrap_err().kind(), ErrorKind::Incomplete);
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
pub struct Input<R> {
    reader: Reader,
    from: R,
    failed: Option<Error>,
}

impl<R: Read> Input<R> {
    /// An input for a channel of which nothing was read yet.
    pub fn new(from: R) -> Input<R> {
        Input { reader: Reader::new(), from, failed: None }
    }

    /// The next record. EAGAIN where `R` would block: call again. Behind any other error each call gives that one again.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend what it gives")]
    pub fn next(&mut self) -> Result<WireRecord<'_>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // `filled` would borrow the reader for the whole loop, for it gives a record back.
        loop {
            let place = self.reader.place();
            if place.is_empty() {
                break;
            }
            match self.from.read(place) {
                Ok(0) => {
                    let ended = self.reader.ended();
                    return ended.map(|()| WireRecord::Finish);
                }
                Ok(len) if self.reader.filled_one(len)? => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error.into()),
                Err(error) => {
                    let error = Error::from(error).context(format!("{}: reading", self.reader.here()));
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        self.reader.record()
    }

    /// The record that came last, again.
    pub fn last(&self) -> Result<WireRecord<'_>> {
        self.reader.record()
    }

    /// The devices; `None` until [`WireRecord::Table`] came.
    pub fn table(&self) -> Option<&Table> {
        self.reader.table()
    }

    /// The reader, which knows what has come so far.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Where the bytes come from.
    pub fn get_ref(&self) -> &R {
        &self.from
    }

    /// Where the bytes come from; of a channel that is whole, what follows on it.
    pub fn into_inner(self) -> R {
        self.from
    }
}
