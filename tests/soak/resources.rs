//! What the process has: descriptors, threads, shared mappings, memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

static HEAP: AtomicI64 = AtomicI64::new(0);

struct Counting;

// SAFETY: everything is the system allocator's; counting touches an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the contract of this function.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HEAP.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the contract of this function.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One arena, and large buffers given back: what malloc keeps of many threads would look like a leak.
pub fn make_malloc_plain() {
    // SAFETY: both only set a number of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

const MIB: i64 = 1 << 20;

/// What must be the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub descriptors: usize,
    pub threads: usize,
    /// Of the data window and of shared memory; private ones are the allocator's, which `Memory` has.
    pub mappings: usize,
}

impl Held {
    pub fn now() -> Held {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
        Held {
            // Less the one that reads the list.
            descriptors: entries("/proc/self/fd") - 1,
            threads: entries("/proc/self/task"),
            mappings: maps
                .lines()
                .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.ends_with('s')))
                .count(),
        }
    }

    /// A thread that was joined is in the list for a moment longer.
    pub fn settled(as_many_as: Option<Held>) -> Held {
        for _ in 0..200 {
            let now = Held::now();
            if as_many_as.is_none_or(|before| now.threads <= before.threads) {
                return now;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Held::now()
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What the program has allocated.
    pub heap: i64,
    /// What the system has given it.
    pub resident: i64,
}

impl Memory {
    pub fn now() -> Memory {
        // SAFETY: it gives unused pages back and touches nothing else.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::malloc_trim(0);
        }
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: Vec<i64> = statm.split_whitespace().map(|word| word.parse().unwrap()).collect();
        // Without what is mapped of files: the program's own code comes in as it is used.
        Memory { heap: HEAP.load(Ordering::Relaxed), resident: (pages[1] - pages[2]) * 4096 }
    }

    /// What is a MiB more than it was.
    pub fn grown_since(self, before: Memory) -> Option<String> {
        let grown = |what: &str, now: i64, was: i64| {
            (now - was > MIB).then(|| format!("{what}: {now} bytes, and {was} after the tenth migration"))
        };
        grown("heap", self.heap, before.heap).or(grown("resident", self.resident, before.resident))
    }
}
