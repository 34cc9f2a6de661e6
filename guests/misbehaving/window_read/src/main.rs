//! Reads from the read-write window where nothing is mapped.

#![no_std]
#![no_main]

use core::arch::asm;

rt::program!(main);

/// Far behind everything that a program has.
const UNMAPPED: usize = rt::abi::RW_WINDOW + rt::abi::RW_WINDOW_SIZE - 4096;

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        asm!("mov eax, [{}]", in(reg) UNMAPPED, out("eax") _);
    }
    UNPUNISHED
}
