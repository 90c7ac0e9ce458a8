//! load FILE: what `save` has written, into another device in software.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufReader};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig_examples::{hardware, load};

fn main() -> io::Result<()> {
    let file = std::env::args().nth(1).ok_or(io::Error::other("usage: load FILE"))?;
    let hardware = hardware(8);
    let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
    let total = load(&device, &mut BufReader::new(File::open(&file)?))?;
    println!("{file}: {total} bytes of state, checksum {:016x}", hardware.checksum());
    Ok(())
}
