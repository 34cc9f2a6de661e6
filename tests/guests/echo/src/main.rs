//! Answers empty requests (`flush` of blk@1) at once: the other end of what `caller` measures.
//!
//! As component `echo` it spins for the next request as long as requests come at all; as `echo_asleep` it goes
//! to sleep at once whenever there is none; as `echo_plain` it waits as every server waits.

#![no_std]
#![no_main]

use protocols::blk;
use rt::shared::full_fence;
use rt::{telemetry, Answer, Call, ServerPort, Source};

rt::component! { fresh: serve, restart: serve, update: serve }

/// A client that has not called for so long is not measuring any more.
const SPIN_MS: u64 = 50;

struct Echo;

impl blk::Server for Echo {
    fn flush(&mut self, _: &mut Call<'_>) -> Answer<()> {
        Answer::Done(())
    }
}

fn serve() {
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    let name = rt::info::name();
    let wait = match name.as_str() {
        "echo_asleep" => sleep,
        "echo_plain" => wait,
        _ => spin,
    };
    rt::ready();
    loop {
        blk::serve(&mut port, &mut Echo);
        wait(&mut port);
    }
}

fn wait(port: &mut ServerPort) {
    rt::wait(&mut [port], None);
}

fn sleep(port: &mut ServerPort) {
    port.before_idle();
    port.announce_sleep();
    full_fence();
    if !port.ready() {
        rt::hypercall::wait(None);
    }
    port.announce_awake();
}

fn spin(port: &mut ServerPort) {
    let start = rt::time::ticks();
    let end = start + rt::time::ms_to_ticks(SPIN_MS);
    while !port.ready() {
        core::hint::spin_loop();
        if rt::time::ticks() > end {
            rt::wait(&mut [port], None);
            return; // how long it slept is not spinning
        }
    }
    telemetry::add(telemetry::SPINS, rt::time::ticks().wrapping_sub(start));
}
