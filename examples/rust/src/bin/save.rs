//! save FILE: the state of a device in software into a file. With a device fd of vfio the transport is
//! `Kernel::new(fd)`, and nothing else changes.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use vfiomig::device::{Device, DeviceOptions};
use vfiomig_examples::{hardware, save};

fn main() -> io::Result<()> {
    let file = std::env::args().nth(1).ok_or(io::Error::other("usage: save FILE"))?;
    let hardware = hardware(7);
    let device = Device::new(hardware.transport(), DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() })?;
    let mut out = BufWriter::new(File::create(&file)?);
    let total = save(&device, &mut out)?;
    out.flush()?;
    println!("{file}: {total} bytes of state, checksum {:016x}", hardware.checksum());
    Ok(())
}
