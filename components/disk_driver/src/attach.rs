//! The virtio block device of this VM, from the info pages.

use crate::config;
use crate::geometry::Geometry;
use crate::queue::Queue;
use crate::requests::Disk;
use rt::abi;
use rt::info::{self, RegionKind};

/// The disk. Panics if this VM has no device: then its manifest is wrong.
pub fn attach() -> Disk {
    let features = info::device_features();
    let geometry = Geometry::new(features, &info::device_config());
    let vrings = info::region(RegionKind::Vring, None).expect("no [device] in the manifest");
    let memory = vrings.memory().expect("the vring object is mapped");
    let queues = (0..vrings.size() / abi::VRING_STRIDE).map(|index| {
        let offset = index * abi::VRING_STRIDE;
        let part = memory.part(offset, abi::VRING_STRIDE).expect("a whole stride");
        let size = vrings.unit() as u16;
        let address = vrings.iova() + offset as u64;
        Queue::new(part, address, size, config::event_index(features)).expect("a queue size")
    });
    Disk::new(geometry, queues.collect())
}
