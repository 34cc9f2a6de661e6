//! Returns, although it serves. Its successor stays.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use hostile_server::{serve, RawChannel};
use protocols::blk;
use rt::info::Role;

rt::component! { fresh: leave, restart: serve, update: serve }

fn leave() {
    rt::ready();
    let raw = RawChannel::open(&blk::PROTOCOL, "blk", Role::Server);
    while raw.requests() == 0 {
        raw.wait_until(|raw| raw.requests() > 0);
    }
}
