//! What a tracker keeps between calls: its logs and which of them is read, its record, what it owes, and what is known from
//! these.

use super::options::TrackerInfo;
use super::reading::SpaceLogs;
use super::record::Record;
use super::scratch::PagePool;
use super::sections::SectionPass;
use crate::logs::asked::LogSlot;
use crate::logs::choose::{Choice, Members, Source};
use crate::logs::log::LogKind;
use crate::logs::ranges::SpanSet;
use crate::transport::iommufd::Iommufd;
use parking_lot::Mutex;
use std::sync::Arc;

/// What a migration still has to harvest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinalHarvest {
    NotOwed,
    /// STOP_COPY was entered; `read`: every source was read since.
    Owed {
        read: bool,
    },
}

pub(crate) struct TrackerInner {
    pub choices: Vec<Choice>,
    pub active: usize,
    pub record: Record,
    pub pool: PagePool,
    pub page_size: u64,
    pub max_workers: usize,
    pub members: Members,
    pub ioas: Option<(Arc<dyn Iommufd>, u32)>,
    /// Starts that were not stopped.
    pub users: u32,
    /// How many of them are migrations, whose starts only they take back.
    pub holds: u32,
    /// A migration alone has started it, and nothing was asked of it since.
    pub unasked: bool,
    /// Something mapped was read since the start, or could have been: it is known whether the active choice works.
    pub checked: bool,
    pub final_harvest: FinalHarvest,
    pub sections: SectionPass,
    /// Every log that it may ask, for any thread to see; the tracker's getters have it too. Held for a copy only.
    pub slots: Arc<Mutex<Vec<Arc<LogSlot>>>>,
}

impl TrackerInner {
    /// Other logs may be asked from here on.
    pub fn show_logs(&self) {
        let sources = self.choices.iter().flat_map(|choice| &choice.sources);
        *self.slots.lock() = sources.map(|source| Arc::clone(&source.slot)).collect();
    }

    pub fn is_running(&self) -> bool {
        self.users > 0
    }

    /// A migration has started it.
    pub fn is_held(&self) -> bool {
        self.holds > 0
    }

    pub fn current(&self) -> Option<&Choice> {
        self.choices.get(self.active)
    }

    /// The parts of a running tracker that a harvest works with.
    pub fn part(&mut self) -> SpaceLogs<'_> {
        self.unasked = false;
        let TrackerInner { choices, active, record, pool, page_size, final_harvest, .. } = self;
        // A hole that the tracker does not know yet hides what comes after it; the page table keeps that for a later
        // read, if there is one.
        record.maps.all_doubtful = record.reports_afterwards.unwrap_or(*final_harvest != FinalHarvest::NotOwed);
        let sources = choices.get_mut(*active).map_or(&mut [][..], |choice| &mut choice.sources[..]);
        SpaceLogs { sources, pool, record, page_size: *page_size }
    }

    /// Every source was read, or what it holds of `within`.
    pub fn was_read(&mut self, within: Option<&SpanSet>) {
        if let FinalHarvest::Owed { read } = &mut self.final_harvest {
            *read |= within.is_none_or(|within| self.record.maps.mapped.iter().all(|span| within.contains(span)));
        }
    }

    pub fn final_missing(&self) -> Option<String> {
        match self.final_harvest {
            FinalHarvest::NotOwed => None,
            _ if self.users == 0 => Some("the log was stopped, and what it knew is gone".to_string()),
            // With nothing mapped there is nothing to read; what was unmapped was read before.
            FinalHarvest::Owed { read: false } if !self.record.maps.mapped.is_empty() => {
                Some("it was not harvested since STOP_COPY began".to_string())
            }
            FinalHarvest::Owed { .. } => {
                let text = "dirty pages were read that no harvest has asked for";
                let unmapped =
                    "; some belong to ranges that are unmapped or mapped anew: ask without destinations, by run";
                let gone = !self.record.gone.mapped.is_empty() || !self.record.aside.is_empty();
                (!self.record.is_given()).then(|| format!("{text}{}", if gone { unmapped } else { "" }))
            }
        }
    }

    /// What a migration would not hear of if the tracker went now.
    pub fn would_lose(&self) -> bool {
        let nothing = self.record.maps.mapped.is_empty() && self.record.is_given();
        match self.final_harvest {
            FinalHarvest::NotOwed => self.is_held() && !nothing,
            FinalHarvest::Owed { .. } => self.final_missing().is_some(),
        }
    }

    /// Any log may find everything dirty for a while; a container that never found a clean page stays so (T5), and so does a
    /// log that cannot be read again and again.
    pub fn is_perpetual(&self) -> bool {
        let broken =
            |source: &Source| source.failed.is_some() || source.lasting && source.log.lock().restarts_after_error();
        self.current().is_none_or(|choice| match choice.kind {
            LogKind::Everything => true,
            LogKind::Type1 => self.record.all_dirty == Some(true),
            LogKind::Hwpt if self.members.lack_page_tables() => true,
            LogKind::DmaLog | LogKind::Hwpt | LogKind::Draft | LogKind::Ops => choice.sources.iter().any(broken),
        })
    }

    pub fn complaints(&self) -> usize {
        self.current().map_or(0, |choice| choice.sources.iter().filter(|source| source.complains()).count())
    }

    pub fn info(&self) -> TrackerInfo {
        let sources = self.current().map_or(&[][..], |choice| &choice.sources);
        let holds: Vec<(usize, u64)> = sources.iter().filter_map(|source| source.log.lock().holds()).collect();
        let kind = self.current().map_or(LogKind::Everything, |choice| choice.kind);
        let against = self.choices.iter().take(self.active).filter_map(|choice| choice.against.clone());
        let why = self.current().map(|choice| choice.why.clone()).into_iter().chain(against);
        let why = why.chain(
            sources
                .iter()
                .filter_map(Source::complaint)
                .map(|text| text + "; everything is sent again until it comes back"),
        );
        TrackerInfo {
            kind,
            reason: why.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; "),
            starts: self.users,
            perpetual: self.is_perpetual(),
            failed_logs: sources.iter().map(|source| u32::from(source.failed.is_some())).sum(),
            page_size: holds.iter().map(|held| held.1).max().unwrap_or(self.page_size),
            mapped_ranges: self.record.maps.mapped.len() as u64,
            logged_ranges: holds.iter().map(|held| held.0 as u64).min().unwrap_or(0),
            complaints: self.complaints(),
        }
    }
}
