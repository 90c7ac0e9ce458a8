//! The streams of a save that are read ahead of their caller: which devices, when, and until when.
//!
//! Rules: N5, V2-6 and W5: nothing is read before every device that has grace is in it, which is the barrier that counts;
//! whether the others have left it by then says nothing about a device that stands still (W1). So each is read from the moment
//! in which it is in STOP_COPY, beside the state changes of the others.

use crate::device::Device;
use crate::group::GroupInner;
use crate::window::QueueBudget;
use std::sync::Arc;
use std::time::Duration;

/// What a migration has to do with it.
#[derive(Default)]
pub(super) struct Ahead {
    /// For all devices; 0: nothing is read ahead.
    bytes: usize,
    budget: Option<Arc<QueueBudget>>,
}

impl Ahead {
    pub fn new(bytes: usize) -> Self {
        Ahead { bytes, budget: None }
    }

    /// The phase is begun. Who calls the library with `max_workers` 1 wants no threads.
    pub fn begin(&mut self, inner: &GroupInner) {
        if self.bytes == 0 || inner.max_workers == 1 {
            return;
        }
        let devices: Vec<&Device> = inner.members.iter().map(|member| &*member.device).collect();
        let devices: Vec<&Device> = devices.into_iter().filter(|device| device.can_read_ahead()).collect();
        let budget = QueueBudget::new(self.bytes, devices.len());
        devices.iter().for_each(|device| device.read_ahead(budget.share()));
        self.budget = Some(budget);
    }

    /// Nothing more is read. Waits for nothing: what is in progress ends by itself.
    pub fn stop(&self) {
        self.budget.iter().for_each(|budget| budget.stop());
    }

    /// The same, and when it returns no thread is left, but for those in a read that takes longer than `most`: they end with it.
    pub fn end(&mut self, devices: &[Arc<Device>], most: Duration) {
        self.stop();
        if self.budget.is_some() {
            let ends = |device: &&Arc<Device>| device.wait_for_read(most).is_ok();
            let ended = devices.iter().filter(ends).map(|device| device.end_reading_ahead()).count();
            self.budget.take_if(|_| ended == devices.len());
        }
    }
}
