//! What only a load has: who has validated its stream, and when.

use super::sequence::{DeviceTraits, Phase};
use crate::dialect::DialectKind;
use crate::group::outcome::DeviceOutcome;

/// v2 devices validate on the way to STOP; v1 and the draft when they leave RESUMING to run (W7, V1-3, N11).
pub(super) fn say_not_validated(phase: Phase, parts: &[DeviceTraits], outcomes: &mut [DeviceOutcome]) {
    if phase != Phase::LoadLoaded {
        return;
    }
    for (part, outcome) in parts.iter().zip(outcomes) {
        if part.kind != DialectKind::V2 && !outcome.failed() {
            outcome.result.message =
                format!("not validated: {} devices judge their stream when they leave RESUMING", part.kind.name());
        }
    }
}
