//! Which logs of this process are taken: reading one clears it, so two trackers of one log would take each other's bits.

use crate::error::{Error, Result};
use crate::transport::Identity;
use parking_lot::Mutex;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogId {
    /// Of a device handle.
    Device(Identity),
    /// Of a page table: the iommufd, and its id there.
    Hwpt(Identity, u32),
    Container(Identity),
    Functions(Identity),
    /// None, or one that cannot be recognised.
    Nothing,
}

static TAKEN: Mutex<Vec<(LogId, String)>> = Mutex::new(Vec::new());

/// A log is this tracker's as long as the value lives.
pub(crate) struct Claim(LogId);

impl Claim {
    /// Takes a log for the tracker `name`; `what` is the log in words.
    pub fn new(id: LogId, what: &str, name: &str) -> Result<Claim> {
        let mut taken = TAKEN.lock();
        if id != LogId::Nothing {
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == id) {
                return Err(Error::busy(format!(
                    "{name}: {what} is read by tracker {other} already, and each would take what the other has to report: \
                     use that one, a harvest that keeps takes nothing from others; or free it first"
                )));
            }
            taken.push((id, name.to_string()));
        }
        Ok(Claim(id))
    }

    pub fn id(&self) -> LogId {
        self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock();
        if let Some(at) = taken.iter().position(|(id, _)| *id == self.0) {
            taken.swap_remove(at);
        }
    }
}
