//! Devices that never rest: threads that write to RAM without a pause.

use super::handle::Device;
use crate::content::mix;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread for each device; dropping it stops them.
pub struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Each device writes single pages of `ranges` (page numbers, as `Device::dma_write`), in an order of its own.
    ///
    /// # Panics
    /// If there is no page.
    pub fn start(devices: &[Device], ranges: &[Range<u64>], seed: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let ranges: Arc<[Range<u64>]> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
        assert!(!ranges.is_empty(), "nothing to write to");
        let thread = |(i, device): (usize, &Device)| {
            let (device, ranges) = (device.clone(), Arc::clone(&ranges));
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut round = mix(seed ^ (i as u64) << 32);
                while !stop.load(Ordering::Relaxed) {
                    round = mix(round);
                    let range = &ranges[(round >> 32) as usize % ranges.len()];
                    // Refusals are what happens to a device that rests, or whose page is not mapped.
                    let written = device.dma_write(range.start + round % (range.end - range.start)).is_ok();
                    done.fetch_add(u64::from(written), Ordering::Relaxed);
                }
            })
        };
        let threads = devices.iter().enumerate().map(thread).collect();
        Writers { stop, done, threads }
    }

    /// Writes that were not refused.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Returns when `more` writes were done from now on.
    ///
    /// # Panics
    /// If that takes a minute: no writer writes.
    pub fn wait(&self, more: u64) {
        let (target, begin) = (self.done() + more, Instant::now());
        while self.done() < target {
            assert!(begin.elapsed() < Duration::from_secs(60), "no device writes");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Stops; the writes that were not refused.
    pub fn stop(mut self) -> u64 {
        self.join();
        self.done()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread has been reported already, and this may run while another unwinds.
            let _ = thread.join();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.join();
    }
}
