//! Says that it has published more replies than a ring has slots.
//! The client breaks the connection off, and nobody dies.

#![no_std]
#![no_main]

#[path = "../../common/hostile_server.rs"]
mod hostile_server;

use hostile_server::{serve, serve_after, RawChannel};

rt::component! { fresh: begin, restart: serve, update: serve }

fn begin() {
    serve_after(crime)
}

fn crime(raw: &RawChannel) {
    raw.publish_replies(raw.channel.slots() + 1);
}
