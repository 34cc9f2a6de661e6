//! Answers empty requests (`flush` of blk@1) at once: the other end of what `caller` measures.
//!
//! As component `echo` it spins for the next request as long as requests come at all; as `echo_asleep` it goes
//! to sleep at once whenever there is none; as `echo_plain` it waits as every server waits. As `echo_state` it has a
//! state, and `discard` of sector N of blk@1 changes 64 bytes of it, but for N = 0.

#![no_std]
#![no_main]

use protocols::blk::{self, DiscardArgs};
use rt::shared::full_fence;
use rt::state::{self, Cell, State};
use rt::{telemetry, Answer, Call, ServerPort, Source};

rt::component! { fresh: serve, restart: serve, update: serve }

/// A client that has not called for so long is not measuring any more.
const SPIN_MS: u64 = 50;

state::plain! {
    struct Page {
        words: Cell<[u64; 8]>,
    }
}

struct Echo {
    page: Option<State<Page>>,
}

impl blk::Server for Echo {
    fn flush(&mut self, _: &mut Call<'_>) -> Answer<()> {
        Answer::Done(())
    }

    fn discard(&mut self, _: &mut Call<'_>, args: DiscardArgs) -> Answer<()> {
        match &self.page {
            Some(page) if args.sector > 0 => {
                let mut tx = page.begin();
                page.words.set(&mut tx, [args.sector; 8]);
                tx.commit().into()
            }
            _ => Answer::Done(()),
        }
    }
}

fn serve() {
    let mut port = ServerPort::open(&blk::PROTOCOL, "blk");
    let name = rt::info::name();
    let mut echo = Echo { page: Some("page").filter(|_| name.as_str() == "echo_state").map(|page| state::open(page).0) };
    let wait = match name.as_str() {
        "echo_asleep" => sleep,
        "echo_plain" => wait,
        _ => spin,
    };
    rt::ready();
    loop {
        blk::serve(&mut port, &mut echo);
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
