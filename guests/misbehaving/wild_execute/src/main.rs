//! Jumps to an address where nothing is.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// Canonical, and far from everything that is mapped.
const NOWHERE: u64 = 0x7f12_3456_7890;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        asm!("jmp {}", in(reg) NOWHERE, options(noreturn));
    }
}
