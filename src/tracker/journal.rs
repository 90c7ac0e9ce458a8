//! Who wants to know what harvests were: the migration that has started a tracker, for its report.

use super::tally::Harvest;
use std::sync::Arc;
use std::time::Instant;

/// Hears of harvests, on the thread of the harvest. It must not call back.
pub(crate) trait Journal: Send + Sync {
    /// One is over, which began then.
    fn harvested(&self, begun: Instant, harvest: &Harvest);
}

/// A harvest of trackers with these journals is over: each hears of it once.
pub(super) fn note(journals: impl Iterator<Item = Arc<dyn Journal>>, begun: Instant, harvest: &Harvest) {
    let mut noted: Vec<Arc<dyn Journal>> = Vec::new();
    for journal in journals {
        let place = Arc::as_ptr(&journal).cast::<()>();
        if !noted.iter().any(|other| Arc::as_ptr(other).cast::<()>() == place) {
            journal.harvested(begun, harvest);
            noted.push(journal);
        }
    }
}
