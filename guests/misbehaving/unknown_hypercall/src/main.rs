//! Makes a hypercall that does not exist.

#![no_std]
#![no_main]

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        rt::hypercall::raw(9999, [1, 2, 3, 4, 5, 6]);
    }
    UNPUNISHED
}
