//! Sends a request under the tag of one that is still being worked on.
//! The server breaks the connection off, and nobody dies.
//!
//! `tag_reuse stay|leave PATH`: a file of more than a mebibyte that the server has not cached.

#![no_std]
#![no_main]

#[path = "../../common/raw_channel.rs"]
mod raw_channel;

use protocols::fs::{self, OpenArgs, ReadArgs};
use raw_channel::{verdict, RawChannel};
use rt::info::Role;

rt::program!(main);

fn main(arguments: rt::Args) -> i32 {
    let path = arguments.get(2).expect("a path");
    let raw = RawChannel::open(&fs::PROTOCOL, "fs", Role::Client);
    raw.channel.buffer(0).copy_in(0, path).expect("the path fits");
    let mut open = raw.slot(fs::OPEN.id, 0);
    open.args = OpenArgs { handle: 0, flags: 0 }.pack();
    open.length = path.len() as u32;
    raw.write_request(0, &open);
    raw.publish_requests(1);
    if !raw.wait_until(|raw| raw.replies() == 1) {
        return 98;
    }
    // Both are there before the server looks; the first has to wait for the disk.
    for index in 1..3 {
        let mut read = raw.slot(fs::READ.id, 0x100);
        read.args = ReadArgs { offset: 1 << 20, handle: 0, bytes: 4096 }.pack();
        raw.write_request(index, &read);
    }
    raw.publish_requests(3);
    verdict(&arguments, raw.is_broken_off())
}
