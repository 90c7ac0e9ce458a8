//! docs/faults.md, walked: all combinations of results of a phase; cancel, resets by others and missing threads at every point.
//! Each is shown to have been reached. A fault at the k-th access of device d, for every k and d, is tests/campaign.
//!
//! What holds after each: the guest can run on the source unless the report names the device that cannot; the source is never
//! reset; no device runs while another is loading; sessions are closed; what the handles know is true.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[path = "group_faults/hooks.rs"]
mod hooks;
#[path = "group_faults/results.rs"]
mod results;
#[path = "common/rig.rs"]
mod rig;

use rig::{Hooked, Rig, Stream, caps, kind, kinds};
use simdev::{Access, Config, Effect, Fault};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use vfiomig::dialect::{DialectKind, State};
use vfiomig::error::{Action, DeviceResult, ErrorKind};
use vfiomig::internals::refuse_threads_beyond;
use vfiomig::migration::{AbortTo, Migration, Phase};

/// Short streams, so that every access of a migration is soon walked.
fn small(config: Config) -> Config {
    config.state_size(450).segments(256)
}

/// Groups of 1 to 4: each kind alone and in pairs, and mixes of all dialects.
fn groups() -> Vec<Vec<Config>> {
    let kinds: Vec<Config> = kinds().into_iter().map(small).collect();
    let pick = |indexes: &[usize]| indexes.iter().map(|&i| kinds[i].clone()).collect::<Vec<_>>();
    let alone = (0..7).map(|i| pick(&[i]));
    let pairs = [[3, 3], [0, 3], [4, 6], [5, 3]].iter().map(|pair| pick(pair));
    alone.chain(pairs).chain([pick(&[3, 5, 6]), pick(&[1, 2, 4, 5])]).collect()
}

fn save_rig(configs: &[Config], max_workers: usize) -> Rig {
    let rig = Rig::source(configs, max_workers);
    rig.allow_abort();
    rig
}

/// The streams of a group, made once for each.
fn streams_of(configs: &[Config]) -> Vec<Stream> {
    let source = Rig::source(configs, 1);
    source.save_all(&source.save()).unwrap()
}

#[test]
fn missing_threads_cost_time_and_nothing_else() {
    for configs in groups().into_iter().filter(|configs| configs.len() > 1) {
        for threads in 0..configs.len() {
            refuse_threads_beyond(threads);
            let rig = save_rig(&configs, 0);
            let streams = rig.save_all(&rig.save()).unwrap();
            let target = Rig::target(&configs, 0);
            target.load_all(&target.load(), &streams).unwrap();
            refuse_threads_beyond(usize::MAX);
            assert!(target.fakes.iter().zip(&rig.fakes).all(|(a, b)| a.same_content(b)));
            rig.assert_clean("threads");
        }
    }
}

#[test]
fn a_dirty_log_that_fails_at_any_call_costs_pages_and_not_the_migration() {
    let configs = &groups()[11];
    for fails_at in 0.. {
        let rig = save_rig(configs, 0);
        *rig.log.fails_at.lock() = Some(fails_at);
        let save = rig.save();
        save.advance(Phase::SavePreCopy).unwrap();
        let mut streams = vec![Stream::default(); configs.len()];
        rig.drain_all(&mut streams).unwrap();
        save.advance(Phase::SaveStopCopy).unwrap();
        rig.drain_all(&mut streams).unwrap();
        let dirty = rig.harvest();
        save.advance(Phase::SaveHalted).unwrap();
        let calls = rig.log.calls.lock().clone();
        match calls.get(fails_at) {
            // P13: no error is ever "no dirt".
            Some(&"stop") => assert!(dirty.is_empty()),
            Some(_) => assert_eq!(dirty.len(), 64, "{calls:?}"),
            None => {
                assert!(dirty.is_empty() && fails_at >= 4);
                break;
            }
        }
    }
}
