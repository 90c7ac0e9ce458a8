//! Logs that hang are seen: any thread can ask what a tracker waits for, and trackers are started and stopped side by side,
//! watched.

use super::space::Tracker;
use super::vigil::{LogEar, LogVigil, oldest};
use crate::error::Result;
use crate::logs::asked::{LogAsked, LogSlot};
use crate::workers;
use std::sync::Arc;

impl Tracker {
    /// The request to one of its logs that has not been answered for the longest time. *any: asks no log, waits for no call.*
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use vfiomig::tracker::{IovaRange, LogRequest, Mapping, Request, Tracker, TrackerOptions};
    /// # let space = simdev::Space::new(&simdev::Ram::new());
    /// # space.map(simdev::Mapping { iova: 0, size: 1 << 20, ram: 0 }).unwrap();
    /// # let hardware = simdev::Device::new(simdev::Config { dma_log: Some(simdev::DmaLog::default()), ..Default::default() });
    /// # hardware.attach(&space);
    /// # let devices = vec![Arc::new(vfiomig::Device::new(hardware.transport(), Default::default())?)];
    /// # let tracker = Tracker::new(TrackerOptions { name: "ram".into(), devices, ..Default::default() })?;
    /// # tracker.map(&[Mapping { range: IovaRange { iova: 0, size: 1 << 20 }, cookie: 7 }])?;
    /// # tracker.start()?;
    /// let slow = simdev::Effect::Delay(Duration::from_millis(200));
    /// # let nth = hardware.count(simdev::Access::DmaLogReport);
    /// hardware.inject(simdev::Fault::at(simdev::Access::DmaLogReport, nth, slow));
    /// std::thread::scope(|threads| {
    ///     let harvest = threads.spawn(|| tracker.harvest(&mut Request::default()));
    ///     let mut seen = false;
    ///     while !harvest.is_finished() {
    ///         // Another thread sees what the harvest waits for.
    ///         let Some(asked) = tracker.asked() else { continue };
    ///         seen = asked.request == LogRequest::Read && asked.log.starts_with("ram: DMA log");
    ///         std::thread::sleep(Duration::from_millis(20));
    ///     }
    ///     assert!(seen);
    ///     harvest.join().unwrap()
    /// })?;
    /// assert_eq!(tracker.asked(), None);
    /// # Ok::<(), vfiomig::Error>(())
    /// ```
    pub fn asked(&self) -> Option<LogAsked> {
        oldest(&self.slots())
    }
}

/// Something that asks logs of each of these trackers, side by side and watched; results in their order.
pub(crate) fn side_by_side(
    trackers: &[Arc<Tracker>],
    max_workers: usize,
    ear: Option<LogEar<'_>>,
    job: impl Fn(&Tracker) -> Result<()> + Sync,
) -> Vec<Result<()>> {
    let slots: Vec<Vec<Arc<LogSlot>>> = trackers.iter().map(|tracker| tracker.slots()).collect();
    let any: Vec<bool> = slots.iter().map(|slots| slots.iter().all(|slot| slot.any_thread)).collect();
    let mut results: Vec<Option<Result<()>>> = trackers.iter().map(|_| None).collect();
    let mut vigil = LogVigil::new(slots.concat(), true, trackers.len(), ear);
    let job = |index: usize| trackers.get(index).map_or(Ok(()), |tracker| job(tracker));
    workers::run_watched(max_workers, &any, job, &mut vigil, |vigil, index, result| {
        vigil.arrived();
        if let Some(place) = results.get_mut(index) {
            *place = Some(result);
        }
    });
    // One result came for each item, or a job has panicked, and so has this function.
    results.into_iter().flatten().collect()
}
