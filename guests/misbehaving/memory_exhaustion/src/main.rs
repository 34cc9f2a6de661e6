//! Wants more and more memory.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

rt::program!(main);

fn main(_: rt::Args) -> i32 {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 64 * 1024]);
        // SAFETY: it has just been pushed. What is looked at has to exist.
        unsafe { core::ptr::read_volatile(&hoard[hoard.len() - 1][0]) };
    }
}
