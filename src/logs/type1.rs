//! The log of a type1 container (T1 to T9).

use super::log::{Log, Maps, READ_SHIFT, Read};
use super::ranges::Span;
use crate::device::dirty::HarvestPatience;
use crate::error::Errno;
use crate::transport::type1::{self as requests, Ability, Container};
use std::sync::Arc;

/// The container and what it says of its log.
pub(crate) struct Type1 {
    container: Arc<dyn Container>,
    ability: Ability,
    running: bool,
    /// As long as everything is dirty each time (T5), strays of the kernel add nothing.
    all_dirty: bool,
    /// Kernels before 7 read no range that ends at 2^64 (T3).
    top_is_blind: bool,
}

const TOP: Span = Span { first: u64::MAX, last: u64::MAX };

impl Type1 {
    pub fn new(container: Arc<dyn Container>, ability: Ability) -> Self {
        Type1 { container, ability, running: false, all_dirty: false, top_is_blind: false }
    }

    fn shift(&self) -> u32 {
        self.ability.page_size.trailing_zeros()
    }

    /// Mappings are read together up to a size that is good for the caches, and never beyond what one bitmap can hold (T3).
    fn group_shift(ability: Ability) -> u32 {
        let pages = ability.max_bitmap.saturating_mul(8);
        let most = pages.saturating_mul(ability.page_size).max(1);
        READ_SHIFT.min(most.ilog2())
    }
}

/// Mappings within `span` in groups that one bitmap of the container holds. One that ends at 2^64 is alone: where it is refused
/// it takes no other with it. `strays`: false dirt later does not matter.
pub(crate) fn groups(maps: &Maps, span: Span, ability: Ability, strays: bool) -> Vec<Span> {
    let shift = Type1::group_shift(ability);
    // Where a mapping's bits begin within a word of the request Linux shifts them in its own bitmap, and reports strays later.
    let step = if strays { 1 } else { ability.page_size.saturating_mul(64) };
    let Some((top, _)) = maps.overlapping(TOP).next().filter(|(top, _)| top.intersect(span).is_some()) else {
        return maps.reads(span, shift, true, step);
    };
    let below = top.first.checked_sub(1).filter(|&last| span.first <= last);
    let mut groups =
        below.map_or_else(Vec::new, |last| maps.reads(Span { first: span.first, last }, shift, true, step));
    groups.push(top);
    groups
}

impl Log for Type1 {
    fn describe(&self) -> String {
        "log of the type1 container".to_string()
    }

    fn start(&mut self, _maps: &Maps, _page_size: u64) -> Result<(), Errno> {
        requests::start(&*self.container)?;
        (self.running, self.all_dirty, self.top_is_blind) = (true, false, false);
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Errno> {
        if self.running {
            requests::stop(&*self.container)?;
        }
        self.running = false;
        Ok(())
    }

    fn reads(&self, maps: &Maps, within: Option<Span>) -> Vec<Read> {
        let all = Span { first: 0, last: u64::MAX };
        let groups = groups(maps, within.unwrap_or(all), self.ability, self.all_dirty);
        let groups = groups.into_iter().filter(|group| group.last != u64::MAX || !self.top_is_blind);
        groups.map(|span| Read { span, shift: self.shift() }).collect()
    }

    fn begin(&mut self, _patience: &Arc<HarvestPatience>, all_dirty: bool) {
        self.all_dirty = all_dirty;
    }

    fn read(&mut self, read: &Read, _keep: bool, bitmap: &mut [u64]) -> Result<(), Errno> {
        let outcome =
            requests::read(&*self.container, read.span.first, read.span.bytes(), self.ability.page_size, bitmap);
        let refused = |errno: &Errno| matches!(errno.get(), libc::EINVAL | libc::EOVERFLOW);
        self.top_is_blind |= read.span.last == u64::MAX && outcome.as_ref().is_err_and(refused);
        outcome
    }

    fn blind(&self, maps: &Maps) -> Vec<Span> {
        let top = maps.overlapping(TOP).map(|(top, _)| top);
        top.filter(|_| self.top_is_blind).collect()
    }

    fn holds(&self) -> Option<(usize, u64)> {
        self.running.then_some((1, self.ability.page_size))
    }
}
