//! `stat` in a VM: metadata of files. See `program.rs`.

#![no_std]
#![no_main]

extern crate alloc;

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../common/guest_system.rs"]
mod guest_system;
#[path = "program.rs"]
mod program;

rt::program!(main);

fn main(arguments: rt::Args) -> i32 {
    guest_system::run(&arguments, program::run)
}
