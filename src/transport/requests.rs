//! Requests one by one, as they are asked, with no table before them and no rule behind: for the conformance check of the command
//! `vfiomig`, which asks what no migration would. No part of the API.

use super::{DataFd, Feature, PrecopyInfo, Returned, Transport};
use crate::error::{Errno, Result};
use crate::uapi::feature as u;

pub use super::dma_log::{report, start, stop};

/// `struct vfio_device_info`: flags and number of regions.
pub fn device_info(transport: &dyn Transport) -> std::result::Result<DeviceFacts, Errno> {
    super::device_info(transport).map(|info| DeviceFacts { can_reset: info.can_reset, num_regions: info.num_regions })
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// It can be reset.
    pub can_reset: bool,
    /// How many regions it has.
    pub num_regions: u32,
}

/// The description of a region.
pub fn region_info(transport: &dyn Transport, index: u32) -> Result<RegionFacts> {
    let info = super::region_info(transport, index)?;
    let mappable = match (&info.bad_areas, info.areas.iter().any(|area| area.size > 0)) {
        (Some(_), _) => Mappable::Wrong,
        (None, true) => Mappable::Yes,
        (None, false) => Mappable::No,
    };
    Ok(RegionFacts { size: info.size, region_type: info.region_type, ndma: info.ndma, mappable })
}

/// What a device says of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionFacts {
    /// In bytes.
    pub size: u64,
    /// Type and subtype of one with an id.
    pub region_type: Option<(u32, u32)>,
    /// The NDMA capability is there (W2).
    pub ndma: bool,
    /// What it says of mappings.
    pub mappable: Mappable,
}

/// What a region says of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mappable {
    /// There are none.
    No,
    /// A part of it at least can be mapped.
    Yes,
    /// Its areas are cut, overlap, or lie beyond its end.
    Wrong,
}

/// VFIO_DEVICE_FEATURE_MIGRATION.
pub fn migration_flags(transport: &dyn Transport) -> std::result::Result<u64, Errno> {
    let mut feature = Feature::new(u::MIGRATION | u::GET, u::MIGRATION_SIZE);
    transport.device_feature(&mut feature)?;
    Ok(feature.u64_at(u::HEADER_SIZE))
}

/// The number of the state, as the kernel counts.
pub fn state(transport: &dyn Transport) -> std::result::Result<u32, Errno> {
    let mut feature = Feature::new(u::MIG_DEVICE_STATE | u::GET, u::MIG_DEVICE_STATE_SIZE);
    transport.device_feature(&mut feature)?;
    Ok(feature.u32_at(u::MIG_STATE))
}

/// What came back of a request for a state.
#[derive(Debug)]
pub struct StateAnswer {
    /// What the field of the data fd says.
    pub number: i32,
    /// What that is, for [`Transport::open_data`].
    pub data_fd: Option<Returned>,
}

/// Asks for the state with that number, which may be none of the uAPI's.
pub fn set_state(transport: &dyn Transport, number: u32) -> std::result::Result<StateAnswer, Errno> {
    let mut feature = Feature::new(u::MIG_DEVICE_STATE | u::SET, u::MIG_DEVICE_STATE_SIZE);
    feature.ask_u32(u::MIG_STATE, number);
    feature.ask_u32(u::MIG_DATA_FD, u32::MAX);
    transport.device_feature(&mut feature)?;
    let answered = feature.into_data_fd();
    let number = answered.as_ref().map_or(-1, |answered| answered.number());
    Ok(StateAnswer { number, data_fd: answered.and_then(|answered| answered.take()) })
}

/// VFIO_DEVICE_FEATURE_MIG_DATA_SIZE.
pub fn data_size(transport: &dyn Transport) -> std::result::Result<u64, Errno> {
    let mut feature = Feature::new(u::MIG_DATA_SIZE | u::GET, u::MIG_DATA_SIZE_SIZE);
    transport.device_feature(&mut feature)?;
    Ok(feature.u64_at(u::HEADER_SIZE))
}

/// Opts in to REINIT (C8).
pub fn opt_in(transport: &dyn Transport) -> std::result::Result<(), Errno> {
    transport.device_feature(&mut Feature::new(u::MIG_PRECOPY_INFO_V2 | u::SET, 0))
}

/// PROBE of the feature with that number, to be got or set: whether there is such a thing. Changes nothing.
pub fn probe(transport: &dyn Transport, index: u16, set: bool) -> std::result::Result<(), Errno> {
    let way = if set { u::SET } else { u::GET };
    transport.device_feature(&mut Feature::new(u32::from(index) | way | crate::uapi::dma_log::PROBE, 0))
}

/// What pre-copy info says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrecopyAnswer {
    /// VFIO_PRECOPY_INFO_*.
    pub flags: u32,
    /// Bytes of initial data that are left.
    pub initial_bytes: u64,
    /// Bytes that changed since they were read.
    pub dirty_bytes: u64,
}

/// Asks for pre-copy info in a struct that holds `preset` in both counts: one that the device does not assign comes back (C7).
pub fn precopy_info(data: &mut dyn DataFd, preset: u64) -> std::result::Result<PrecopyAnswer, Errno> {
    let mut info = PrecopyInfo::new();
    info.answer(0, preset, preset);
    data.precopy_info(&mut info)?;
    Ok(PrecopyAnswer { flags: info.flags(), initial_bytes: info.initial_bytes(), dirty_bytes: info.dirty_bytes() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::Mutex;

    /// Takes every request, says what was asked, and has as data fd the number of the state.
    struct Echo(Mutex<Vec<u32>>);

    impl Transport for Echo {
        fn device_feature(&self, feature: &mut Feature) -> std::result::Result<(), Errno> {
            self.0.lock().unwrap().push(feature.flags());
            let state = feature.u32_at(u::MIG_STATE);
            feature.put_u32(u::MIG_DATA_FD, state);
            Ok(())
        }
        fn open_data(&self, _: Option<Returned>) -> std::result::Result<Box<dyn DataFd>, Error> {
            Err(Errno::new(libc::EPROTO).into())
        }
    }

    #[test]
    fn a_request_is_made_as_it_is_asked() {
        let echo = Echo(Mutex::default());
        assert_eq!(set_state(&echo, 200).unwrap().number, 200);
        let answer = set_state(&echo, u32::MAX).unwrap();
        assert!(answer.number == -1 && answer.data_fd.is_none());
        probe(&echo, 0x1fff, true).unwrap();
        assert_eq!(*echo.0.lock().unwrap(), [0x2_0002, 0x2_0002, 0x6_1fff]);
    }
}
