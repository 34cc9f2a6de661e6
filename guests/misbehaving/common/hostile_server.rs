//! A server that commits one crime against its first client, and serves honestly once it was broken off.
//!
//! It speaks `blk` and answers `flush`: what counts is that the client gets its answer in the end.

#![allow(dead_code)]

#[path = "raw_channel.rs"]
mod raw_channel;

pub use raw_channel::RawChannel;

use protocols::blk;
use rt::info::Role;
use rt::{Answer, Call, ServerPort};

struct Honest;

impl blk::Server for Honest {
    fn flush(&mut self, _: &mut Call<'_>) -> Answer<()> {
        Answer::Done(())
    }
}

/// Waits for a request, commits the crime, waits to be found out, and goes on as an honest server.
/// A crime that goes unpunished ends the component with a panic.
pub fn serve_after(crime: fn(&RawChannel)) -> ! {
    rt::ready();
    let raw = RawChannel::open(&blk::PROTOCOL, "blk", Role::Server);
    while raw.requests() == 0 {
        raw.wait_until(|raw| raw.requests() > 0);
    }
    crime(&raw);
    assert!(raw.is_broken_off(), "nobody has noticed");
    go_on_serving()
}

/// Serves honestly.
pub fn serve() -> ! {
    rt::ready();
    go_on_serving()
}

fn go_on_serving() -> ! {
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    loop {
        blk::serve(&mut port, &mut Honest);
        rt::wait(&mut [&mut port], None);
    }
}
