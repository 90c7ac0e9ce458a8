//! Which records may follow each other in the stream of a device (docs/wire.md, "Streams"), for the side that writes and for the
//! one that reads. Pure.

use super::fault::{WireFault, bytes};
use super::table::Table;
use crate::dialect::DialectKind;

/// The streams of one channel.
#[derive(Debug)]
pub(super) struct Ledger {
    channel: u16,
    streams: Vec<StreamRow>,
}

#[derive(Debug)]
struct StreamRow {
    channel: u16,
    segments: bool,
    bytes: u64,
    /// The last DATA did not end its segment.
    within: bool,
    ended: bool,
}

impl Ledger {
    pub fn new(table: &Table, channel: u16) -> Self {
        let row = |device: &super::table::DeviceEntry| StreamRow {
            channel: device.channel,
            segments: device.dialect != DialectKind::V2,
            bytes: 0,
            within: false,
            ended: false,
        };
        Ledger { channel, streams: table.devices().iter().map(row).collect() }
    }

    /// The stream of a device of this channel, by its number in the table.
    fn stream(&mut self, device: usize) -> Result<&mut StreamRow, WireFault> {
        let (count, channel) = (self.streams.len(), self.channel);
        let row = self.streams.get_mut(device);
        let row = row.ok_or_else(|| WireFault::format(format!("device {device} of a table of {count}")))?;
        if row.channel != channel {
            return Err(WireFault::differs("channel of the device", row.channel, channel));
        }
        Ok(row)
    }

    /// How many bytes of the stream there are so far.
    pub fn position(&self, device: usize) -> u64 {
        self.streams.get(device).map_or(0, |row| row.bytes)
    }

    /// Checks that `len` bytes can be next, and gives the position behind them. The ledger changes only by [`data`](Self::data),
    /// once the payload was judged.
    pub fn check_data(
        &mut self,
        device: usize,
        position: u64,
        len: usize,
        segment_end: bool,
    ) -> Result<u64, WireFault> {
        let row = self.stream(device)?;
        if row.ended {
            return Err(WireFault::format("DATA behind the END of its stream"));
        }
        if position != row.bytes {
            return Err(WireFault::differs("position in the stream", row.bytes, position));
        }
        if segment_end && !row.segments {
            return Err(WireFault::format("SEGMENT_END in a stream of v2, which has no segments"));
        }
        row.bytes.checked_add(len as u64).ok_or_else(|| WireFault::format("the stream is longer than 2^64 bytes"))
    }

    /// Counts bytes that have come; `after` is what [`check_data`](Self::check_data) gave.
    pub fn data(&mut self, device: usize, after: u64, segment_end: bool) {
        if let Some(row) = self.streams.get_mut(device) {
            row.bytes = after;
            row.within = row.segments && !segment_end;
        }
    }

    pub fn end(&mut self, device: usize, total: u64) -> Result<(), WireFault> {
        let row = self.stream(device)?;
        if row.ended {
            return Err(WireFault::format("the stream has its END already"));
        }
        if total != row.bytes {
            return Err(WireFault::differs("length of the stream", row.bytes, total));
        }
        if row.within {
            return Err(WireFault::format("END in the middle of a segment"));
        }
        row.ended = true;
        Ok(())
    }

    pub fn void(&mut self, device: usize, position: u64) -> Result<(), WireFault> {
        let row = self.stream(device)?;
        if position != row.bytes {
            return Err(WireFault::differs("bytes of the void stream", row.bytes, position));
        }
        (row.bytes, row.within, row.ended) = (0, false, false);
        Ok(())
    }

    /// The number of devices of the channel, if each has its END.
    pub fn check_finished(&self, table: &Table) -> Result<u64, WireFault> {
        let mine = || self.streams.iter().zip(table.devices()).filter(|(row, _)| row.channel == self.channel);
        match mine().find(|(row, _)| !row.ended) {
            Some((row, device)) => {
                Err(WireFault::format(format!("{} has {} of its stream, and no END", device.label(), bytes(row.bytes))))
            }
            None => Ok(mine().count() as u64),
        }
    }

    /// The devices of the channel that have no END, for a text.
    pub fn missing(&self, table: &Table) -> String {
        let open = |(row, _): &(&StreamRow, _)| row.channel == self.channel && !row.ended;
        let rows = self.streams.iter().zip(table.devices()).filter(open);
        let names: Vec<String> = rows
            .map(|(row, device)| format!("the END of {} ({} of its stream came)", device.label(), bytes(row.bytes)))
            .collect();
        names.join(", ")
    }
}
