//! What holds for each error, whatever a device did.

use vfiomig::device::DevicePending;
use vfiomig::dialect::State;
use vfiomig::error::{Action, Error, ErrorKind};

pub fn check_error(error: &Error) {
    crate::trace!("  error {:?} {}", error.kind(), error);
    assert!(error.kind() != ErrorKind::Panic, "{error}");
    assert!(error.errno() > 0 && error.errno() < 4096, "{error:?}");
    assert!(!error.to_string().is_empty());
    for result in error.results() {
        assert!(State::from_number(result.found).is_some() && State::from_number(result.from).is_some());
        assert!(result.action != Action::Dead || result.found == State::Error.number(), "{result:?}");
    }
}

pub fn check_pending(pending: &DevicePending) {
    for size in [pending.initial_bytes, pending.dirty_bytes, pending.stop_copy_bytes] {
        assert!(size != Some(u64::MAX));
    }
}

/// Looks at an error, if there is one.
pub fn note<T>(outcome: &Result<T, Error>) {
    if let Err(error) = outcome {
        check_error(error);
    }
}
