//! A device that a guest uses: it changes its state and writes to RAM, at a pace.

use super::handle::Device;
use crate::content::mix;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

impl Device {
    /// A thread that changes `len` bytes of the state and writes `pages` to RAM every `period`, until dropped.
    pub fn run(&self, period: Duration, len: usize, pages: Range<u64>) -> Runner {
        let (device, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut round, mut done) = (0u64, 0u64);
            while !stopped.load(Ordering::Relaxed) {
                let size = device.state_size().max(1) as u64;
                let at = mix(round) % size;
                // Refusals are the device's answer in states where it rests.
                let touched = device.touch(at as usize, len, round).is_ok();
                let wrote =
                    pages.is_empty() || device.dma_write(pages.start + round % (pages.end - pages.start)).is_ok();
                done += u64::from(touched && wrote);
                round += 1;
                std::thread::sleep(period);
            }
            done
        });
        Runner { stop, thread: Some(thread) }
    }
}

/// A running device; dropping it stops the thread.
pub struct Runner {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Runner {
    /// Stops; how many rounds were not refused.
    pub fn stop(mut self) -> u64 {
        self.join()
    }

    fn join(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.join();
    }
}
