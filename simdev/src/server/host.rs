//! What all clients of a server have in common: the device, what the server is like, and the function that gets its offences.

use super::options::ServerOptions;
use crate::base::judge::Violation;
use crate::device::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

type Report = Box<dyn Fn(&Violation) + Send + Sync>;

pub(super) struct Host {
    pub device: Device,
    pub options: ServerOptions,
    pub stop: Arc<AtomicBool>,
    pub report: Option<Report>,
    /// How many offences were reported.
    reported: AtomicUsize,
    /// The longest message that came.
    longest: AtomicU32,
}

impl Host {
    pub fn new(device: &Device, options: ServerOptions) -> Self {
        Host {
            device: device.clone(),
            options,
            stop: Arc::default(),
            report: None,
            reported: AtomicUsize::new(0),
            longest: AtomicU32::new(0),
        }
    }

    pub fn longest_message(&self) -> u32 {
        self.longest.load(Ordering::Relaxed)
    }

    pub fn saw(&self, size: u32) {
        self.longest.fetch_max(size, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Reports the offences that were not reported yet.
    pub fn report_offences(&self) {
        let Some(report) = &self.report else { return };
        let reported = self.reported.load(Ordering::Relaxed);
        if self.device.violation_count() as usize <= reported {
            return;
        }
        let list = self.device.violations();
        list.iter().skip(reported).for_each(report);
        self.reported.store(list.len(), Ordering::Relaxed);
    }
}
