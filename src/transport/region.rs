//! Device and region descriptions over any transport: the argsz grow pattern (P6, P7) and typed results.

use super::feature::{Aligned, field, put};
use super::{Transport, caps};
use crate::error::{Errno, Error, Result};
use crate::uapi::{device as ud, region as ur};

/// No real chain comes near it; it bounds what a broken device can make the library allocate.
const MAX_ARGSZ: usize = 64 << 10;
/// A device may say a larger argsz once; one that grows at each call is broken.
const MAX_TRIES: usize = 4;

/// What the library uses of `struct vfio_device_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceInfo {
    pub num_regions: u32,
    /// FLAGS_RESET; mtty leaves it unset although its reset works.
    pub can_reset: bool,
}

/// What the library uses of `struct vfio_region_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Length in bytes.
    pub size: u64,
    /// Where the region starts on the device fd.
    pub offset: u64,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub flags: u32,
    /// Type and subtype of a device-specific region.
    pub region_type: Option<(u32, u32)>,
}

pub(crate) fn device_info(transport: &dyn Transport) -> std::result::Result<DeviceInfo, Errno> {
    let mut info = Aligned([0u8; ud::INFO_SIZE]);
    put(&mut info.0, 0, &(ud::INFO_SIZE as u32).to_ne_bytes());
    transport.device_info(&mut info.0)?;
    let u32_at = |offset| field(&info.0, offset).map_or(0, u32::from_ne_bytes);
    Ok(DeviceInfo {
        num_regions: u32_at(ud::INFO_NUM_REGIONS),
        can_reset: u32_at(ud::INFO_FLAGS) & ud::FLAG_RESET != 0,
    })
}

/// The description of region `index`. Device errors come with the kernel's errno, a broken answer as PROTOCOL.
pub(crate) fn region_info(transport: &dyn Transport, index: u32) -> Result<RegionInfo> {
    let info = grow(transport, index)?;
    let u32_at = |offset| field(&info, offset).map_or(0, u32::from_ne_bytes);
    let u64_at = |offset| field(&info, offset).map_or(0, u64::from_ne_bytes);
    let flags = u32_at(ur::INFO_FLAGS);
    let first = if flags & ur::FLAG_CAPS != 0 { u32_at(ur::INFO_CAP_OFFSET) } else { 0 };
    let chain = caps::walk(&info, first).map_err(|bad| {
        Error::protocol(format!("region {index}: bad capability chain at offset {} of {}", bad.offset, info.len()))
    })?;
    let region_type = chain
        .iter()
        .filter(|cap| cap.id == ur::CAP_TYPE)
        .find_map(|cap| Some((cap.u32_at(ur::CAP_TYPE_TYPE)?, cap.u32_at(ur::CAP_TYPE_SUBTYPE)?)));
    Ok(RegionInfo { size: u64_at(ur::INFO_REGION_SIZE), offset: u64_at(ur::INFO_REGION_OFFSET), flags, region_type })
}

/// Asks until the device's own argsz fits into the buffer; returns the bytes that the device says are valid.
fn grow(transport: &dyn Transport, index: u32) -> Result<Vec<u8>> {
    let mut argsz = ur::INFO_SIZE;
    for _ in 0..MAX_TRIES {
        let mut info = vec![0u8; argsz];
        put(&mut info, 0, &u32::try_from(argsz).unwrap_or(u32::MAX).to_ne_bytes());
        put(&mut info, ur::INFO_INDEX, &index.to_ne_bytes());
        transport
            .region_info(&mut info)
            .map_err(|errno| Error::device(errno, format!("region {index}: GET_REGION_INFO failed: {errno}")))?;
        let needed = field(&info, 0).map_or(0, u32::from_ne_bytes) as usize;
        if needed <= argsz {
            return Ok(info);
        }
        if needed > MAX_ARGSZ {
            return Err(Error::protocol(format!("region {index}: argsz {needed} is beyond {MAX_ARGSZ}")));
        }
        argsz = needed;
    }
    Err(Error::protocol(format!("region {index}: argsz grows at each call")))
}
