//! Answers another question than the one that was asked.
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
    let request = raw.read_request(0);
    raw.write_reply(0, &raw.slot(request.op + 1, request.tag));
    raw.publish_replies(1);
}
