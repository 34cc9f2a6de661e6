//! Rings its server's doorbell as fast as it can, without any request.

#![no_std]
#![no_main]

#[path = "../../common/raw_channel.rs"]
mod raw_channel;

use protocols::fs;
use raw_channel::RawChannel;
use rt::info::Role;

rt::program!(main);

fn main(_: rt::Args) -> i32 {
    let raw = RawChannel::open(&fs::PROTOCOL, "fs", Role::Client);
    loop {
        raw.channel.ring();
    }
}
