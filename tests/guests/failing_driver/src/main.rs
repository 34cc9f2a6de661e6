//! The disk driver, with one line added: after so many answers it writes to address 0, always while requests are
//! under way. Everything else is the real driver's own code.

#![no_std]
#![no_main]

#[path = "../../../../components/disk_driver/src/geometry.rs"]
mod geometry;
#[path = "../../../../components/disk_driver/src/queue.rs"]
mod queue;
#[path = "../../../../components/disk_driver/src/requests.rs"]
mod requests;

use protocols::blk;
use requests::Disk;
use rt::{telemetry, ServerPort};

/// 50 MiB of a file that is read 128 KiB at a time.
const ANSWERS: u64 = 400;

rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    let mut disk = Disk::attach();
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    rt::ready();
    loop {
        let taken = blk::serve(&mut port, &mut disk);
        if telemetry::get(telemetry::SERVED) >= ANSWERS && taken > 0 {
            fail();
        }
        disk.collect(&mut port);
        disk.rings.kick();
        rt::wait(&mut [&mut port, &mut disk.rings], None);
    }
}

fn fail() -> ! {
    // A driver reads no files: the counter is free, and tells whoever measures when this happened.
    telemetry::add(telemetry::BYTES, rt::time::ticks());
    // SAFETY: there is none: nothing is mapped at 0, and the store ends this VM.
    unsafe { core::arch::asm!("mov byte ptr [0], 0", options(noreturn)) }
}
