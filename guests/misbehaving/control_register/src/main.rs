//! Reads the register that holds the page tables' address.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        asm!("mov {}, cr3", out(reg) _);
    }
    UNPUNISHED
}
