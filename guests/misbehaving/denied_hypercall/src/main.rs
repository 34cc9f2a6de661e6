//! Makes a hypercall that exists, but is not in its manifest.

#![no_std]
#![no_main]

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        rt::hypercall::raw(rt::abi::HYPERCALL_GRANT, [0; 6]);
    }
    UNPUNISHED
}
