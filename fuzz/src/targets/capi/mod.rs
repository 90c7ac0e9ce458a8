//! Everything through the C functions: devices behind ops tables that may say anything, trackers over functions, a group and a
//! migration, a wire for them, structs of every argsz on the heap, and all that errors and reports lend.

mod call;
mod callbacks;
mod devices;
mod groups;
mod request;
mod trackers;
mod wires;
mod world;

use crate::feed::Feed;
use parking_lot::Mutex;
use std::sync::Arc;
use world::World;

pub fn run(data: &[u8]) {
    let feed = Arc::new(Mutex::new(Feed::new(data)));
    let mut world = World::new(&feed);
    for _ in 0..70 {
        let mut f = feed.lock();
        if f.done() {
            break;
        }
        let (op, a, b) = (f.u8() % 40, f.u8(), f.u16());
        drop(f);
        crate::trace!("op {op} {a} {b}");
        // SAFETY: handles are NULL or live, and each pointer is to memory that is as long as its argsz or length says.
        unsafe {
            match op {
                0..=20 => world.device(op, a, b),
                21..=28 => world.tracker(op, a, b),
                29..=38 => world.migrate(op, a, b),
                _ if a == 0xfe => world.free_device(a),
                _ => world.join(a, b),
            }
        }
        world.after(op == 35 || op == 19 || op == 38);
    }
    world.free();
}
