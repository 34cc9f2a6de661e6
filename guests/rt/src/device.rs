//! A real device that this component drives: its registers, and the memory it shares with its driver.

use crate::abi;
use crate::hypercall;
use crate::info::{self, RegionKind};
use crate::shared::Shared;

/// The component's device, set up for this epoch.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The window on BAR 0.
    pub registers: Shared,
    /// The ring object, all zero at first but for VRING_STARTED.
    pub rings: Shared,
    /// Where the device sees the ring object.
    pub bus_address: u64,
    /// What the manifest gives as `size`.
    pub size: usize,
}

impl Device {
    /// Waits until the device may be touched: it has been reset, reaches this epoch's memory, and interrupts us. Panics
    /// if the manifest gives this component no such device.
    pub fn claim() -> Device {
        let rings = info::region(RegionKind::Vring, None).expect("no [device] in the manifest");
        let registers = info::region(RegionKind::Mmio, None).expect("no bars in [device] of the manifest");
        let device = Device {
            registers: registers.memory().expect("registers are mapped"),
            rings: rings.memory().expect("the ring object is mapped"),
            bus_address: rings.iova(),
            size: rings.unit(),
        };
        while device.rings.load_u64(abi::VRING_STARTED) == 0 {
            hypercall::wait(None); // the first interrupt says that it is there
        }
        device
    }
}
