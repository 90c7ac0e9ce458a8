//! A channel that is written as it is made.

use super::table::Table;
use super::writer::{WireOptions, Writer};
use crate::error::{Error, Result};
use std::io::{ErrorKind, IoSlice, Write};

/// Writes one channel.
///
/// What takes the bytes may be in non-blocking mode. A record that it takes in part is kept here, at most one, and written by
/// [`flush`](Self::flush) or before the next record; a record that finds another one still here is refused with EAGAIN, and
/// nothing of it was taken. Any other failure to write is the end of the channel: a reader would look for the next record at the
/// wrong place.
///
/// ```
/// use std::io::Write;
/// use vfiomig::dialect::DialectKind;
/// use vfiomig::wire::{DeviceEntry, Output, Table, WireOptions};
///
/// let table = Table::new(vec![DeviceEntry::new("gpu0", DialectKind::V1)])?;
/// let mut output = Output::new(Vec::new(), WireOptions::default(), table)?;
/// output.vmm(Some(0), 1, b"configuration space")?;
/// output.data(0, b"a segment", true)?;
/// output.end(0)?;
/// output.finish()?;
/// output.flush()?;
/// assert!(output.data(0, b"more", true).is_err());
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Debug)]
pub struct Output<W> {
    writer: Writer,
    to: W,
    /// A record that was taken in part, and how many of its bytes were written.
    kept: Vec<u8>,
    gone: usize,
    failed: Option<Error>,
}

impl<W: Write> Output<W> {
    /// The preamble and the table are written with the first record, or by `flush`.
    pub fn new(to: W, options: WireOptions, table: Table) -> Result<Output<W>> {
        let writer = Writer::new(options, table)?;
        let kept = writer.beginning();
        Ok(Output { writer, to, kept, gone: 0, failed: None })
    }

    /// The devices, in the order of their numbers.
    pub fn table(&self) -> &Table {
        self.writer.table()
    }

    /// Which channel of which wire this is.
    pub fn options(&self) -> WireOptions {
        self.writer.options()
    }

    /// Bytes of a device's stream so far.
    pub fn position(&self, device: usize) -> u64 {
        self.writer.position(device)
    }

    /// The next bytes of a device's stream, in as many records as they need. `segment_end`: a segment ends with them (v1, draft).
    ///
    /// More than [`MAX_PAYLOAD`](super::MAX_PAYLOAD) bytes are only for a `W` that never says that it would block.
    pub fn data(&mut self, device: usize, bytes: &[u8], segment_end: bool) -> Result<()> {
        let mut parts = bytes.chunks(super::MAX_PAYLOAD).peekable();
        if parts.peek().is_none() {
            return self.put(b"", |writer| writer.data(device, b"", segment_end));
        }
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            self.put(part, |writer| writer.data(device, part, segment_end && last))?;
        }
        Ok(())
    }

    /// A device's stream is whole.
    pub fn end(&mut self, device: usize) -> Result<()> {
        self.put(b"", |writer| writer.end(device))
    }

    /// What was written of a device's stream is thrown away: it begins anew.
    pub fn void(&mut self, device: usize) -> Result<()> {
        self.put(b"", |writer| writer.void(device))
    }

    /// A record of the VMM.
    pub fn vmm(&mut self, device: Option<usize>, kind: u64, bytes: &[u8]) -> Result<()> {
        self.put(bytes, |writer| writer.vmm(device, kind, bytes))
    }

    /// The channel is whole: nothing follows.
    pub fn finish(&mut self) -> Result<()> {
        self.put(b"", Writer::finish)
    }

    /// The source side gives up, with the reason; nothing follows.
    pub fn fail(&mut self, text: &str) -> Result<()> {
        self.settle()?;
        let (header, text) = self.writer.fail(text)?;
        self.send(&header, text)
    }

    /// Writes what is kept here. EAGAIN: not all of it was taken.
    pub fn flush(&mut self) -> Result<()> {
        self.settle()?;
        loop {
            match self.to.flush() {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What it has is in its own order, and goes on by the next flush.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error.into()),
                Err(error) => return Err(self.broken(error.into())),
            }
        }
    }

    /// What takes the bytes.
    pub fn get_ref(&self) -> &W {
        &self.to
    }

    /// What takes the bytes. What was kept here is lost.
    pub fn into_inner(self) -> W {
        self.to
    }

    fn put(&mut self, payload: &[u8], make: impl FnOnce(&mut Writer) -> Result<[u8; super::HEADER_LEN]>) -> Result<()> {
        self.settle()?;
        let header = make(&mut self.writer)?;
        self.send(&header, payload)
    }

    /// Writes what is kept, before anything else is written.
    fn settle(&mut self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while let Some(rest) = self.kept.get(self.gone..).filter(|rest| !rest.is_empty()) {
            match self.to.write(rest) {
                Ok(0) => return Err(self.broken(std::io::Error::from(ErrorKind::WriteZero).into())),
                Ok(len) => self.gone = self.gone.saturating_add(len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error.into()),
                Err(error) => return Err(self.broken(error.into())),
            }
        }
        self.kept.clear();
        self.gone = 0;
        Ok(())
    }

    /// Writes a record that was made; what the other side does not take now is kept.
    fn send(&mut self, header: &[u8], payload: &[u8]) -> Result<()> {
        let (mut head, mut rest) = (header, payload);
        while !(head.is_empty() && rest.is_empty()) {
            match self.to.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]) {
                Ok(0) => return Err(self.broken(std::io::Error::from(ErrorKind::WriteZero).into())),
                Ok(len) => {
                    let of_head = len.min(head.len());
                    head = head.get(of_head..).unwrap_or_default();
                    rest = rest.get(len.saturating_sub(of_head)..).unwrap_or_default();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.kept.extend_from_slice(head);
                    self.kept.extend_from_slice(rest);
                    return Ok(());
                }
                Err(error) => return Err(self.broken(error.into())),
            }
        }
        Ok(())
    }

    /// Ends the channel: a reader could not find the next record any more.
    fn broken(&mut self, error: Error) -> Error {
        let error = error.context(format!("wire: channel {}: writing", self.writer.options().channel));
        self.failed = Some(error.clone());
        error
    }
}
