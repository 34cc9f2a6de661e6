//! Computes for ever while a request waits. Its successor does better.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use hostile_server::{serve, RawChannel};
use protocols::blk;
use rt::info::Role;

rt::component! { fresh: hang, restart: serve, update: serve }

fn hang() {
    rt::ready();
    let raw = RawChannel::open(&blk::PROTOCOL, "blk", Role::Server);
    while raw.requests() == 0 {
        raw.wait_until(|raw| raw.requests() > 0);
    }
    loop {
        core::hint::spin_loop();
    }
}
