//! Sends a request of an epoch that is not its own.
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
    let mut request = raw.slot(fs::STATFS.id, 0);
    request.epoch = request.epoch.wrapping_add(1);
    raw.write_request(0, &request);
    raw.publish_requests(1);
    verdict(&arguments, raw.is_broken_off())
}
