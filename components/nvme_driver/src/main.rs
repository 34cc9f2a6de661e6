//! The NVMe driver: serves blk@1 with an NVMe disk. See README.md.

#![no_std]
#![no_main]

mod controller;
#[path = "../../disk_driver/src/geometry.rs"]
mod geometry;
mod pair;
mod queue;
#[path = "../../disk_driver/src/requests.rs"]
mod requests;
#[path = "../../disk_driver/src/work.rs"]
mod work;

use requests::Disk;
use rt::alloc::vec::Vec;
use rt::info;

// It keeps nothing that outlives it: the device is reset, its queues are new and empty, and its clients send again
// what was not answered. So a restart is a fresh start.
rt::component! { fresh: serve, restart: serve, update: serve }

/// Of the features that the device was set up with: the system file says that nothing is to be written.
const FEATURE_READ_ONLY: u64 = 1 << 5;

fn serve() {
    let device = rt::Device::claim();
    let read_only = info::device_features() & FEATURE_READ_ONLY != 0;
    let (geometry, queue) = controller::start(&device, read_only);
    let mut queues = Vec::new();
    queues.push(queue);
    Disk::new(geometry, queues).serve(|_| ())
}
