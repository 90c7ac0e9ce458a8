//! What a device says of itself: VFIO_DEVICE_GET_INFO and VFIO_DEVICE_GET_REGION_INFO.

use crate::config::Dialect;
use crate::machine::Machine;
use vfiomig::dialect::State;

/// Index of the migration region: it follows the nine of PCI.
pub const MIGRATION_REGION: u32 = 9;
pub(crate) const BAR: u32 = 0;
pub(crate) const BAR_SIZE: u64 = 4096;

const FLAGS_RESET: u32 = 1;
const FLAGS_PCI: u32 = 2;
const FLAGS_CCW: u32 = 16;
const REGION_RW: u32 = 3;
const REGION_MMAP: u32 = 4;
const REGION_CAPS: u32 = 8;
const INFO: usize = 32;

impl Machine {
    /// Some servers answer only what a migration needs while the device is stopped.
    pub(crate) fn check_shows(&self) -> Result<(), i32> {
        let hides = self.config.habits.hides_while_stopped;
        let stopped = matches!(self.level.state(), State::Stop | State::StopCopy);
        if hides && stopped { Err(libc::EINVAL) } else { Ok(()) }
    }

    /// {u32 argsz, flags, num_regions, num_irqs, …}
    pub(crate) fn device_info(&mut self, info: &mut [u8]) -> Result<(), i32> {
        if info.len() < 16 {
            self.judge.record("P6", format!("device info of {} bytes", info.len()));
            return Err(libc::EINVAL);
        }
        self.check_shows()?;
        let kind = if self.config.ccw { FLAGS_CCW } else { FLAGS_PCI };
        let flags = kind | if self.config.can_reset { FLAGS_RESET } else { 0 };
        let regions = MIGRATION_REGION + u32::from(!self.config.is_v2());
        info[4..8].copy_from_slice(&flags.to_ne_bytes());
        info[8..12].copy_from_slice(&regions.to_ne_bytes());
        info[12..16].copy_from_slice(&5u32.to_ne_bytes());
        Ok(())
    }

    /// {u32 argsz, flags, index, cap_offset; u64 size, offset} and the capabilities, if there is room for all (P6).
    pub(crate) fn region_info(&mut self, info: &mut [u8]) -> Result<(), i32> {
        if info.len() < INFO {
            self.judge.record("P6", format!("region info of {} bytes", info.len()));
            return Err(libc::EINVAL);
        }
        self.check_shows()?;
        let index = u32::from_ne_bytes(info[8..12].try_into().expect("4 bytes"));
        let (mut flags, mut size, mut caps) = (0, 0, Vec::new());
        if let (MIGRATION_REGION, Some(region)) = (index, &self.region) {
            (flags, size) = (REGION_RW | REGION_CAPS, self.config.habits.region_size.unwrap_or(region.size));
            let kind = match self.config.dialect {
                Dialect::Draft { region_type, .. } => region_type,
                _ => 3,
            };
            let mut list = vec![(2u16, words(&[kind, 1]))];
            if let Some(areas) = &region.areas {
                flags |= REGION_MMAP;
                if region.sparse {
                    let mut sparse = words(&[areas.len() as u32, 0]);
                    areas.iter().for_each(|a| [a.0, a.1].iter().for_each(|v| sparse.extend(v.to_ne_bytes())));
                    list.push((1, sparse));
                }
            }
            if self.config.ndma() {
                list.push((6, Vec::new()));
            }
            for (i, (id, body)) in list.iter().enumerate() {
                let next = INFO + caps.len() + 8 + body.len();
                caps.extend(id.to_ne_bytes());
                caps.extend(1u16.to_ne_bytes());
                caps.extend(if i + 1 == list.len() { 0 } else { next as u32 }.to_ne_bytes());
                caps.extend(body);
            }
        } else if index == BAR {
            (flags, size) = (REGION_RW, BAR_SIZE);
        } else if index >= MIGRATION_REGION + u32::from(self.region.is_some()) {
            return Err(libc::EINVAL);
        }
        let fits = info.len() >= INFO + caps.len();
        info[0..4].copy_from_slice(&((INFO + caps.len()) as u32).to_ne_bytes());
        info[4..8].copy_from_slice(&u32::to_ne_bytes(flags));
        let first = if fits && !caps.is_empty() { INFO as u32 } else { 0 };
        info[12..16].copy_from_slice(&first.to_ne_bytes());
        info[16..24].copy_from_slice(&size.to_ne_bytes());
        info[24..32].copy_from_slice(&(u64::from(index) << 40).to_ne_bytes());
        if fits {
            info[INFO..INFO + caps.len()].copy_from_slice(&caps);
        }
        Ok(())
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}
