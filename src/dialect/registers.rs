//! The registers of the migration region, at their native width (D1, V1-1). Draft and v1 share them.

use crate::error::{Errno, Error};
use crate::transport::{RegionInfo, Transport};
use crate::uapi::migration_region as u;

/// Why an access to the region failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The transport says so.
    Errno(Errno),
    /// The device said something that no protocol allows, in words.
    Nonsense(String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault::Errno(errno)
    }
}

impl Fault {
    /// As an error of a request outside a session.
    pub fn into_error(self, what: &str) -> Error {
        match self {
            Fault::Errno(errno) => Error::device(errno, format!("{what} failed: {errno}")),
            Fault::Nonsense(text) => Error::protocol(format!("{what}: {text}")),
        }
    }
}

/// The migration region of a device.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub region: RegionInfo,
    /// Where the registers end: data lies beyond them (V1-13).
    pub data_begins: u64,
}

impl Registers {
    pub fn device_state(&self, transport: &dyn Transport) -> Result<u32, Fault> {
        self.read(transport, u::DEVICE_STATE, "device_state").map(u32::from_ne_bytes)
    }

    pub fn set_device_state(&self, transport: &dyn Transport, value: u32) -> Result<(), Fault> {
        self.write(transport, u::DEVICE_STATE, "device_state", &value.to_ne_bytes())
    }

    /// In v1 it starts a segment, and acknowledges the one before (V1-6); in the draft it only asks (D3).
    pub fn pending_bytes(&self, transport: &dyn Transport) -> Result<u64, Fault> {
        self.read(transport, u::PENDING_BYTES, "pending_bytes").map(u64::from_ne_bytes)
    }

    /// Makes the device stage the segment and choose its place.
    pub fn data_offset(&self, transport: &dyn Transport) -> Result<u64, Fault> {
        self.read(transport, u::DATA_OFFSET, "data_offset").map(u64::from_ne_bytes)
    }

    pub fn data_size(&self, transport: &dyn Transport) -> Result<u64, Fault> {
        self.read(transport, u::DATA_SIZE, "data_size").map(u64::from_ne_bytes)
    }

    /// While loading: hands the segment in the window to the device (V1-9, D6).
    pub fn set_data_size(&self, transport: &dyn Transport, size: u64) -> Result<(), Fault> {
        self.write(transport, u::DATA_SIZE, "data_size", &size.to_ne_bytes())
    }

    /// A register of the draft alone.
    pub fn read_u64(&self, transport: &dyn Transport, at: u64, name: &str) -> Result<u64, Fault> {
        self.read(transport, at, name).map(u64::from_ne_bytes)
    }

    /// A register of the draft alone.
    pub fn write_u64(&self, transport: &dyn Transport, at: u64, name: &str, value: u64) -> Result<(), Fault> {
        self.write(transport, at, name, &value.to_ne_bytes())
    }

    fn read<const N: usize>(&self, transport: &dyn Transport, at: u64, name: &str) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        match transport.region_read(self.region.index, at, &mut bytes)? {
            n if n == N => Ok(bytes),
            n => Err(Fault::Nonsense(format!("reading {name} brought {n} of {N} bytes"))),
        }
    }

    fn write(&self, transport: &dyn Transport, at: u64, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        match transport.region_write(self.region.index, at, bytes)? {
            n if n == bytes.len() => Ok(()),
            n => Err(Fault::Nonsense(format!("writing {name} took {n} of {} bytes", bytes.len()))),
        }
    }

    /// A part of the region that holds a segment: beyond the registers and inside the region, in arithmetic that cannot
    /// overflow (V1-13).
    pub fn check_segment(&self, offset: u64, size: u64) -> Result<(), Fault> {
        let end = offset.checked_add(size);
        let size_of_region = self.region.size;
        let begin = self.data_begins;
        if offset < begin || size >= 1 << 63 || end.is_none_or(|end| end > size_of_region) {
            return Err(Fault::Nonsense(format!(
                "data_offset {offset:#x} with {size:#x} bytes is not within {begin:#x} to {size_of_region:#x}"
            )));
        }
        Ok(())
    }
}
