//! Reads from an address that no x86-64 CPU can translate.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

const NON_CANONICAL: u64 = 1 << 63;

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        asm!("mov eax, [{}]", in(reg) NON_CANONICAL, out("eax") _);
    }
    UNPUNISHED
}
