//! Whether a group can be migrated, and what the VMM may set up for its devices (N19, N20, N22).

use super::members::{Group, GroupInner};
use crate::device::{CapFlags, Device};
use crate::dialect::{DialectKind, State};
use crate::error::Result;
use crate::tracker::Tracker;
use std::sync::Arc;

/// What can be done with a group, and a reason for each no.
///
/// ```
/// use std::sync::Arc;
/// use vfiomig::device::{Device, DeviceOptions};
/// use vfiomig::dialect::Caps;
/// use vfiomig::group::{Group, GroupOptions};
///
/// let hardware = simdev::Device::new(simdev::Config::v2(Caps { p2p: true, pre_copy: false }));
/// let options = DeviceOptions { name: "nic0".into(), ..DeviceOptions::default() };
/// let group = Group::new(GroupOptions::default());
/// group.add_device(Arc::new(Device::new(hardware.transport(), options)?))?;
/// let abilities = group.abilities()?;
/// assert!(!abilities.migratable && !abilities.pre_copy && abilities.p2p);
/// assert_eq!(abilities.reasons[0], "nic0: no tracker covers its DMA");
/// # Ok::<(), vfiomig::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// A save can begin.
    pub migratable: bool,
    /// All devices offer data while they run.
    pub pre_copy: bool,
    /// Device memory may be mapped for DMA by other devices (N19).
    pub p2p: bool,
    /// Devices may be set up for page requests, which a vCPU has to answer (N20).
    pub page_requests: bool,
    /// Why something above is no, in words, a device or tracker each.
    pub reasons: Vec<String>,
}

impl Group {
    /// What can be done with the group as it is. Asks no device. *whole.*
    pub fn abilities(&self) -> Result<Abilities> {
        let inner = self.enter()?;
        Ok(inner.abilities(self.options.foreign_initiators))
    }
}

impl GroupInner {
    pub fn abilities(&self, foreign_initiators: u32) -> Abilities {
        let devices: Vec<&Arc<Device>> = self.members.iter().map(|member| &member.device).collect();
        let obstacles = self.save_obstacles();
        let lacking = |cap: CapFlags, what: &str| -> Vec<String> {
            let lacks = devices.iter().filter(|device| !device.info().caps.contains(cap));
            lacks.map(|device| format!("{what}: {} has no such state", device.name())).collect()
        };
        let no_precopy = lacking(CapFlags::PRE_COPY, "pre-copy");
        let initiators = devices.len().saturating_add(foreign_initiators as usize);
        let mut no_p2p = Vec::new();
        if initiators > 1 {
            no_p2p = lacking(CapFlags::P2P, "peer-to-peer mappings");
            if foreign_initiators > 0 {
                no_p2p.push(format!("peer-to-peer mappings: {foreign_initiators} DMA initiators are not in the group"));
            }
        }
        // v2's P2P stops peer-to-peer DMA, not page requests; NDMA was not meant for more than DMA either (W3). Without P2P a
        // device runs on where others are quiet (V2-7).
        let ndma = |device: &&&Arc<Device>| {
            let info = device.info();
            info.dialect == Some(DialectKind::V1) && info.caps.contains(CapFlags::P2P)
        };
        let no_requests: Vec<String> = devices
            .iter()
            .filter(|device| !ndma(device))
            .map(|device| format!("page requests: {} has no NDMA", device.name()))
            .collect();
        Abilities {
            migratable: obstacles.is_empty(),
            pre_copy: no_precopy.is_empty(),
            p2p: no_p2p.is_empty(),
            page_requests: no_requests.is_empty(),
            reasons: [obstacles, no_precopy, no_p2p, no_requests].concat(),
        }
    }

    /// Why a save cannot begin.
    pub fn save_obstacles(&self) -> Vec<String> {
        let mut reasons = self.device_obstacles();
        reasons.extend(self.uncovered());
        reasons
    }

    /// Devices whose writes no tracker would report. One whose handle was freed is found by other means.
    pub fn uncovered(&self) -> Vec<String> {
        let speaks = |tracker: &Tracker, device| tracker.is_everything() || tracker.covers(device);
        let covered = |device| self.trackers.iter().any(|tracker| !tracker.is_closed() && speaks(tracker, device));
        let devices = self.members.iter().map(|member| &member.device);
        let uncovered = devices.filter(|device| !device.is_closed() && !covered(device));
        uncovered.map(|device| format!("{}: no tracker covers its DMA", device.name())).collect()
    }

    /// Why no migration at all can begin.
    pub fn device_obstacles(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for device in self.members.iter().map(|member| &member.device) {
            let name = device.name();
            if device.is_closed() {
                reasons.push(format!("{name}: the device handle was freed"));
            } else if let Err(error) = device.ability() {
                reasons.push(error.to_string());
            } else if !matches!(device.state(), State::Running | State::Stop) {
                reasons.push(format!("{name}: it is in {}, not in RUNNING or STOP", device.state()));
            }
        }
        reasons
    }
}
