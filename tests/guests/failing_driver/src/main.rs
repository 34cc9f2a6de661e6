//! The disk driver, with one line added: after so many answers it writes to address 0, always while requests are
//! under way. Everything else is the real driver's own code.

#![no_std]
#![no_main]

#[path = "../../../../components/disk_driver/src/attach.rs"]
mod attach;
#[path = "../../../../components/disk_driver/src/config.rs"]
mod config;
#[path = "../../../../components/disk_driver/src/geometry.rs"]
mod geometry;
#[path = "../../../../components/disk_driver/src/queue.rs"]
mod queue;
#[path = "../../../../components/disk_driver/src/requests.rs"]
mod requests;
#[path = "../../../../components/disk_driver/src/work.rs"]
mod work;

use rt::telemetry;

/// 50 MiB of a file that is read 128 KiB at a time.
const ANSWERS: u64 = 400;

rt::component! { fresh: serve, restart: serve, update: serve }

fn serve() {
    attach::attach().serve(|taken| {
        if telemetry::get(telemetry::SERVED) >= ANSWERS && taken > 0 {
            fail();
        }
    })
}

fn fail() -> ! {
    // A driver reads no files: the counter is free, and tells whoever measures when this happened.
    telemetry::add(telemetry::BYTES, rt::time::ticks());
    // SAFETY: there is none: nothing is mapped at 0, and the store ends this VM.
    unsafe { core::arch::asm!("mov byte ptr [0], 0", options(noreturn)) }
}
