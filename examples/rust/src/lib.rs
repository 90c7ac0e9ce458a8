//! A device's state into any writer and out of any reader, in a format of its own.
//!
//! The library hands out bytes and has no file format. One needs three things: the length of the stream, for some drivers accept
//! one that was cut off (F7), the lengths of the segments of v1 and the draft, which have to stay as they are (V1-10), and an end.
//!
//! A record is a number, a length and so many bytes: 8 and 4 bytes in little endian, then the bytes. The number is what is left
//! of the segment, or all ones where there is none (v2). The record of length 0 is the last one; its number is the
//! length of the stream.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use vfiomig::Device;
use vfiomig::device::OnFailure;
use vfiomig::dialect::State;
use vfiomig::window::StreamFlags;

const NO_SEGMENT: u64 = u64::MAX;
/// Most bytes of a record, which the reader need not have memory for.
const RECORD: usize = 1 << 20;

/// Saves a device whose guest stands still, and leaves it in STOP. Returns the length of its stream.
///
/// If it fails the device is in STOP_COPY, or where the error says, and holds its state still:
/// `set_state(State::Running, ..)` lets it go on.
pub fn save(device: &Device, out: &mut impl Write) -> io::Result<u64> {
    device.set_state(State::StopCopy, OnFailure::Keep, false)?;
    loop {
        let chunk = device.peek(RECORD)?;
        if chunk.flags().contains(StreamFlags::END) {
            break;
        }
        write_record(out, chunk.segment_left().unwrap_or(NO_SEGMENT), &chunk)?;
        let len = chunk.len();
        device.consume(chunk, len)?;
    }
    let total = device.info().saved_bytes;
    write_record(out, total, &[])?;
    device.set_state(State::Stop, OnFailure::Keep, false)?;
    Ok(total)
}

/// Loads a device and lets it run. If it fails only `device.reset()` makes it of use again. Returns the length of the stream.
pub fn load(device: &Device, input: &mut impl Read) -> io::Result<u64> {
    device.set_state(State::Resuming, OnFailure::Keep, false)?;
    loop {
        let (number, mut left) = read_header(input)?;
        if left == 0 {
            device.finish(Some(number))?;
            break;
        }
        let mut segment_left = (number != NO_SEGMENT).then_some(number);
        while left > 0 {
            let mut room = device.reserve(segment_left)?;
            let len = room.len().min(left);
            let (place, _) = room.split_at_mut(len);
            input.read_exact(place)?;
            device.commit(&mut room, len, segment_left == Some(len as u64))?;
            left -= len;
            segment_left = segment_left.map(|bytes| bytes.saturating_sub(len as u64));
        }
    }
    device.set_state(State::Running, OnFailure::Keep, false)?;
    Ok(device.info().loaded_bytes)
}

fn write_record(out: &mut impl Write, number: u64, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&number.to_le_bytes())?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(bytes)
}

fn read_header(input: &mut impl Read) -> io::Result<(u64, usize)> {
    let (mut number, mut len) = ([0; 8], [0; 4]);
    input.read_exact(&mut number)?;
    input.read_exact(&mut len)?;
    Ok((u64::from_le_bytes(number), u32::from_le_bytes(len) as usize))
}

/// The device in software that stands for the hardware: `seed` makes its state.
pub fn hardware(seed: u64) -> simdev::Device {
    simdev::Device::new(simdev::Config::v1(simdev::Window::Area).state_size(500_000).seeded(seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simdev::{Config, DraftForm, Window};
    use vfiomig::device::DeviceOptions;
    use vfiomig::dialect::Caps;

    #[test]
    fn every_dialect_comes_back_as_it_was() {
        let configs = [
            Config::v2(Caps { p2p: true, pre_copy: true }),
            Config::v1(Window::Trapped),
            Config::v1_ndma(Window::Area),
            Config::draft(DraftForm::Sticky),
        ];
        for config in configs {
            let [one, other] = [1, 2].map(|seed| simdev::Device::new(config.clone().state_size(300_000).seeded(seed)));
            let [from, to] = [&one, &other].map(|sim| Device::new(sim.transport(), DeviceOptions::default()).unwrap());
            let mut file = Vec::new();
            let total = save(&from, &mut file).unwrap();
            assert_eq!(load(&to, &mut &file[..]).unwrap(), total);
            assert!(one.same_content(&other), "{config:?}");
        }
    }

    #[test]
    fn a_file_that_was_cut_is_refused() {
        let (one, other) = (hardware(1), hardware(2));
        let [from, to] = [&one, &other].map(|sim| Device::new(sim.transport(), DeviceOptions::default()).unwrap());
        let mut file = Vec::new();
        save(&from, &mut file).unwrap();
        file.truncate(file.len() / 2);
        assert_eq!(load(&to, &mut &file[..]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        to.reset().unwrap();
    }
}
