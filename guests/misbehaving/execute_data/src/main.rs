//! Jumps to bytes on its own stack, which are a return instruction.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        let code = [0xc3u8; 16];
        asm!("call {}", in(reg) code.as_ptr(), options(preserves_flags));
    }
    UNPUNISHED
}
