//! Guest RAM, the address spaces over it, and the logs of written pages that a kernel keeps there: of a type1 container, and of
//! an iommufd's page tables.
//!
//! May import: device, machine, config, base. Start reading at `ram` and `space`; `type1` and `iommufd` are the requests of each, with
//! `type1_log`, `hwpt` and `walk` for what they know; `tables` and `piece` are what is mapped, `watch` is the judge and the faults of
//! both, `attach` sends a device's DMA through a space.

mod attach;
mod hwpt;
mod iommufd;
mod piece;
mod ram;
mod space;
mod tables;
mod type1;
mod type1_log;
mod walk;
mod watch;

pub use iommufd::{Iommufd, IommufdConfig};
pub use ram::Ram;
pub use space::{Mapping, Space};
pub use type1::{Type1, Type1Config};
pub use watch::Watch;
