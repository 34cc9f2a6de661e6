//! Waits for something that never comes.

#![no_std]
#![no_main]

rt::program!(main);

fn main(_: rt::Args) -> i32 {
    loop {
        rt::hypercall::wait(None);
    }
}
