//! Writes through a NULL pointer.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        asm!("xor ecx, ecx", "mov [rcx + 8], eax", out("ecx") _);
    }
    UNPUNISHED
}
