//! What happens inside the device, by the hand of the test.

use super::handle::Device;
use crate::base::memory::PAGE;
use crate::machine::{Bus, Tracker};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;

/// What happens inside the device.
impl Device {
    /// Changes state bytes, as a guest that uses the device does. EBUSY, counted, while it does not run.
    pub fn touch(&self, offset: usize, len: usize, value: u64) -> Result<(), i32> {
        let mut m = self.0.machine.lock();
        if !m.runs() {
            m.touch_refused += 1;
            return Err(libc::EBUSY);
        }
        m.content.touch(offset, len, value);
        m.feed_real();
        Ok(())
    }

    /// Changes the whole state.
    pub fn redirty(&self, value: u64) -> Result<(), i32> {
        self.touch(0, usize::MAX, value)
    }

    /// The VMM closes the device fd, or opens it again, where the device is reached by functions; a transport does so by
    /// itself. A call on a data fd while it is closed aborts the test.
    pub fn close_fd(&self, closed: bool) {
        if self.0.fd_closed.swap(closed, Ordering::Relaxed) && !closed {
            self.0.machine.lock().open_again();
        }
    }

    /// The device fails by itself: it is in ERROR, and a log that its firmware keeps is gone.
    pub fn fail(&self) {
        let mut m = self.0.machine.lock();
        m.go_to_error();
        m.dma.stop_itself();
    }

    /// A former owner has left DMA logging on, for ranges of {iova, size}.
    pub fn leave_dma_log_on(&self, page_size: u64, ranges: &[(u64, u64)]) {
        let mut m = self.0.machine.lock();
        m.dma.tracker = Some(Tracker::left_over(page_size, ranges));
        m.dma.client_knows = false;
    }

    /// Its DMA goes through `bus` from here on.
    pub(crate) fn attach_to(&self, bus: Box<dyn Bus>) {
        self.0.machine.lock().dma.bus = Some(bus);
    }

    /// Writes one page of guest RAM. EBUSY, counted, in states without DMA; EFAULT where its address space maps nothing.
    pub fn dma_write(&self, page: u64) -> Result<(), i32> {
        self.dma_write_logged(page, true)
    }

    /// As `dma_write`; whether the device's own logs hear of it.
    pub(crate) fn dma_write_logged(&self, page: u64, logged: bool) -> Result<(), i32> {
        if page > u64::MAX / PAGE {
            return Err(libc::EINVAL);
        }
        let mut m = self.0.machine.lock();
        if !m.may_dma() {
            m.dma.refused += 1;
            return Err(libc::EBUSY);
        }
        let result = m.dma.write(page, logged);
        // A device that never rests would keep requests waiting.
        MutexGuard::unlock_fair(m);
        result
    }

    /// The device is configured anew in pre-copy: all of its state is initial data again, and REINIT is reported (C9).
    pub fn reinit(&self) {
        self.0.machine.lock().reinit();
    }
}
