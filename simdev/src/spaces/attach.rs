//! Devices whose DMA goes through an address space.

use super::space::Space;
use crate::device::Device;
use crate::machine::Bus;

/// An address space, and the page table of it if there is one.
struct Through(Space, Option<u32>);

impl Bus for Through {
    fn write(&self, page: u64) -> Result<(), i32> {
        self.0.write(page, self.1)
    }
}

pub(super) fn through(device: &Device, space: Space, hwpt: Option<u32>) {
    device.attach_to(Box::new(Through(space, hwpt)));
}

impl Device {
    /// Its DMA goes through `space` from here on.
    pub fn attach(&self, space: &Space) {
        through(self, space.clone(), None);
    }
}
