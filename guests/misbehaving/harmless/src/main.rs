//! No crime: instructions that look like one and are every program's right. The control of the others.

#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};

rt::program!(main);

fn main(_: rt::Args) -> i32 {
    // SAFETY: CPUID and RDTSC read; the flags are put back as they were.
    #[allow(unused_unsafe)] // newer compilers know the first to be safe
    unsafe {
        let leaves = __cpuid(0).eax;
        let before = _rdtsc();
        asm!("pushfq", "cld", "popfq");
        if leaves == 0 || _rdtsc() < before {
            return 1;
        }
    }
    0
}
