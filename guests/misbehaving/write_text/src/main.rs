//! Writes to its own code.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        let code = main as *const () as usize;
        asm!("mov byte ptr [{}], 0xcc", in(reg) code);
    }
    UNPUNISHED
}
