//! Finds a bug in itself.

#![no_std]
#![no_main]

rt::program!(main);

fn main(arguments: rt::Args) -> i32 {
    panic!("{} arguments are not what was expected", arguments.len());
}
