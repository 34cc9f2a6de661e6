//! A component whose spares do not wait to be needed: before `start` they compute for ever, make a call, or write
//! where nothing is, by turns. The first instance serves honestly, and so does one that comes through alive.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use rt::{hypercall, info};

rt::entry!();

#[no_mangle]
pub extern "C" fn r3s3_start() -> ! {
    if info::start() != info::Start::Fresh {
        match info::instance() % 3 {
            0 => loop {
                core::hint::spin_loop();
            },
            1 => hypercall::log(rt::abi::LOG_LEVEL_INFO, b"from before the start"),
            // SAFETY: there is nothing, which is the crime.
            _ => unsafe { core::ptr::write_volatile(8 as *mut u8, 1) },
        }
    }
    rt::start::begin();
    hostile_server::serve()
}
