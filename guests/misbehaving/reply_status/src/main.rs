//! Answers with a status that is neither success nor an error.
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
    let mut reply = raw.slot(request.op, request.tag);
    reply.status = 1;
    raw.write_reply(0, &reply);
    raw.publish_replies(1);
}
