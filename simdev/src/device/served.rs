//! What a server of vfio-user needs of a device beside the requests of a driver.

use super::handle::Device;
use crate::base::judge::Judge;
use crate::machine::Access;
use std::os::fd::OwnedFd;

impl Device {
    pub(crate) fn is_v2(&self) -> bool {
        self.0.v2
    }

    /// A client has come.
    pub(crate) fn opened(&self) {
        self.0.opened();
    }

    /// A client has gone.
    pub(crate) fn closed(&self) {
        self.0.closed();
    }

    /// A request that the server answers by itself is counted; `Err` if a fault makes it fail.
    pub(crate) fn note(&self, access: Access) -> Result<(), i32> {
        self.0.begin(access).map(drop)
    }

    pub(crate) fn with_judge<T>(&self, f: impl FnOnce(&mut Judge) -> T) -> T {
        f(&mut self.0.machine.lock().judge)
    }

    /// A read from a BAR of `size` bytes that is a window onto the state.
    pub(crate) fn bar_read(&self, size: u64, offset: u64, bytes: &mut [u8]) -> Result<(), i32> {
        self.0.bar(size, offset, bytes.len())?;
        self.0.machine.lock().content.peek(offset as usize, bytes);
        Ok(())
    }

    /// A write to it. A device that stands still takes nothing.
    pub(crate) fn bar_write(&self, size: u64, offset: u64, bytes: &[u8]) -> Result<(), i32> {
        self.0.bar(size, offset, bytes.len())?;
        let mut m = self.0.machine.lock();
        if m.runs() {
            m.content.poke(offset as usize, bytes);
            m.feed_real();
        }
        Ok(())
    }

    /// A descriptor of the migration region, where it can be mapped.
    pub(crate) fn share_region(&self, empty: bool) -> Option<OwnedFd> {
        self.0.machine.lock().region.as_mut()?.share(empty)
    }
}
