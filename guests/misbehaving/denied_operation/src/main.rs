//! Asks for an operation of its server that is not in its manifest.
//! It is refused, and nobody dies.

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
    raw.write_request(0, &raw.slot(fs::OPEN.id, 0));
    raw.publish_requests(1);
    let answered = raw.wait_until(|raw| raw.replies() == 1);
    let refused = raw.read_reply(0).status == rt::Error::PERM.number();
    verdict(&arguments, answered && refused)
}
