//! Offers memory for the log that it does not have.

#![no_std]
#![no_main]

rt::program!(main);

/// The exit status that says that nothing has happened.
const UNPUNISHED: i32 = 99;

fn main(_: rt::Args) -> i32 {
    // SAFETY: there is none. That is the crime.
    unsafe {
        rt::hypercall::raw(rt::abi::HYPERCALL_LOG, [rt::abi::LOG_LEVEL_INFO as u64, 0, 64, 0, 0, 0]);
    }
    UNPUNISHED
}
