//! Says that it has published more requests than a ring has slots.
//! The server breaks the connection off, and nobody dies.

#![no_std]
#![no_main]

#[path = "../../common/raw_channel.rs"]
mod raw_channel;

use protocols::fs;
use raw_channel::{verdict, RawChannel};
use rt::info::Role;

rt::program!(main);

fn main(arguments: rt::Args) -> i32 {
    let raw = RawChannel::open(&fs::PROTOCOL, "fs", Role::Client);
    raw.publish_requests(raw.channel.slots() + 1);
    verdict(&arguments, raw.is_broken_off())
}
