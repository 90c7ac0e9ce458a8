//! What a test sees of a device, and the faults that it sets.

use super::handle::Device;
use crate::base::judge::Violation;
use crate::config::Config;
use crate::machine::{Access, Fault, FaultId, Level, Transition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vfiomig::dialect::State;

/// What a test sees.
impl Device {
    /// The abstract state.
    pub fn state(&self) -> State {
        self.level().state()
    }

    /// The bits.
    pub fn level(&self) -> Level {
        self.0.machine.lock().level
    }

    /// What it was made of.
    pub fn config(&self) -> Config {
        self.0.machine.lock().config.clone()
    }

    /// Whether its state says that it runs although it stands still (K3).
    pub fn stands_still(&self) -> bool {
        self.0.machine.lock().frozen
    }

    /// A copy of the internal state.
    pub fn content(&self) -> Vec<u8> {
        self.0.machine.lock().content.bytes.clone()
    }

    /// A sum over the internal state.
    pub fn checksum(&self) -> u64 {
        self.0.machine.lock().content.checksum()
    }

    /// Bytes of the internal state.
    pub fn state_size(&self) -> usize {
        self.0.machine.lock().content.bytes.len()
    }

    /// Whether two devices have the same state.
    pub fn same_content(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.content() == other.content()
    }

    /// What the client did wrong (at most the first 1000).
    pub fn violations(&self) -> Vec<Violation> {
        self.0.machine.lock().judge.list.clone()
    }

    /// How often it did.
    pub fn violation_count(&self) -> u64 {
        self.0.machine.lock().judge.count
    }

    /// The violations; afterwards there are none.
    pub fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.0.machine.lock().judge).list
    }

    /// # Panics
    /// If there is a violation.
    pub fn assert_clean(&self) {
        let list: Vec<String> = self.violations().iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "violations:\n{}", list.join("\n"));
    }

    /// Every step so far.
    pub fn transitions(&self) -> Vec<Transition> {
        self.0.machine.lock().transitions.clone()
    }

    /// Every access so far.
    pub fn calls(&self) -> Vec<Access> {
        self.0.machine.lock().faults.calls.clone()
    }

    /// How many accesses of a kind; `Any`: of all.
    pub fn count(&self, access: Access) -> u64 {
        self.0.machine.lock().faults.count(access)
    }

    /// v2: data sessions for which a descriptor was handed out.
    pub fn sessions_opened(&self) -> u64 {
        self.0.machine.lock().sessions.opened
    }

    /// v2: data fds closed; not known with a real descriptor.
    pub fn sessions_closed(&self) -> u64 {
        self.0.machine.lock().sessions.closed
    }

    /// v1, draft: mappings that are not undone.
    pub fn mappings(&self) -> usize {
        self.0.machine.lock().region.as_ref().map_or(0, |region| region.maps.len())
    }

    /// Resets that were done.
    pub fn resets(&self) -> u64 {
        self.0.machine.lock().resets
    }

    /// (touches, DMA writes) refused because of the state.
    pub fn refused(&self) -> (u64, u64) {
        let m = self.0.machine.lock();
        (m.touch_refused, m.dma.refused)
    }

    /// The pages written since this was called last.
    pub fn take_dma_log(&self) -> BTreeSet<u64> {
        std::mem::take(&mut self.0.machine.lock().dma.exact)
    }

    /// Guest RAM: page → how often this device wrote it.
    pub fn ram(&self) -> BTreeMap<u64, u64> {
        self.0.machine.lock().dma.ram.clone()
    }

    /// Whether DMA logging is on.
    pub fn dma_logging(&self) -> bool {
        self.0.machine.lock().dma.tracker.is_some()
    }

    /// The ranges {iova, size} that DMA logging was started for.
    pub fn dma_ranges(&self) -> Vec<(u64, u64)> {
        self.0.machine.lock().dma.tracker.as_ref().map_or_else(Vec::new, |tracker| tracker.ranges())
    }

    /// Something goes wrong.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.0.machine.lock().faults.inject(fault)
    }

    /// How often the fault was met.
    pub fn fault_reached(&self, id: FaultId) -> u64 {
        self.0.machine.lock().faults.reached(id)
    }

    /// No fault goes on; what was reached stays known.
    pub fn clear_faults(&self) {
        self.0.machine.lock().faults.clear();
    }

    /// From here on SAVING may be left with data unread.
    pub fn allow_abort(&self, allowed: bool) {
        self.0.machine.lock().config.abort_allowed = allowed;
    }
}
