//! Names a data buffer that the channel does not have.
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
    raw.write_request(0, &raw.slot(fs::STATFS.id, 0xff));
    raw.publish_requests(1);
    verdict(&arguments, raw.is_broken_off())
}
