//! Computes for ever.

#![no_std]
#![no_main]

rt::program!(main);

fn main(_: rt::Args) -> i32 {
    let mut number = 1u64;
    loop {
        number = number.wrapping_mul(3);
        // SAFETY: a local variable. The compiler may not skip this.
        unsafe { core::ptr::read_volatile(&number) };
    }
}
