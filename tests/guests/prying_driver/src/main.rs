//! The NVMe driver, but its first instance reads what lies behind its registers in the BAR, the table of interrupts,
//! and the second writes there. From the third on it is the real driver's own code.

#![no_std]
#![no_main]

#[path = "../../../../components/nvme_driver/src/controller.rs"]
mod controller;
#[path = "../../../../components/disk_driver/src/geometry.rs"]
mod geometry;
#[path = "../../../../components/nvme_driver/src/pair.rs"]
mod pair;
#[path = "../../../../components/nvme_driver/src/queue.rs"]
mod queue;
#[path = "../../../../components/disk_driver/src/requests.rs"]
mod requests;
#[path = "../../../../components/disk_driver/src/work.rs"]
mod work;

use requests::Disk;
use rt::alloc::vec::Vec;
use rt::{info, Device};

rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    let device = Device::claim();
    let behind = device.registers.address().wrapping_add(device.registers.len());
    match info::epoch() {
        // SAFETY: there is none: whether something is mapped there is the question.
        1 => unsafe { core::arch::asm!("mov eax, [{}]", in(reg) behind, out("eax") _) },
        2 => unsafe { core::arch::asm!("mov dword ptr [{}], 0", in(reg) behind) },
        _ => {
            let (geometry, queue) = controller::start(&device, false);
            let mut queues = Vec::new();
            queues.push(queue);
            Disk::new(geometry, queues).serve(|_| ());
        }
    }
}
