//! Makes empty calls (`flush` of blk@1) and tells how long they took, as one line of JSON.
//!
//! `caller MODE [COUNT [DEPTH]]`, MODE being
//!     plain       call after call, waiting as every program waits
//!     spin        the same, never sleeping
//!     asleep      a pause before each call, so that a server that does not spin is asleep; itself never
//!     both        a pause before each call, and asleep as soon as it has called
//!     state       as `spin`, but `discard` of blk@1, by turns without and with a change of the server's state (its
//!                 manifest is that of `caller_state`)
//!     pipelined   DEPTH calls under way at any time, waiting as every program waits
//!
//! The exit status is 1 if any call failed.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use protocols::blk::{self, DiscardArgs};
use protocols::log::{self, WriteArgs};
use rt::shared::full_fence;
use rt::time::{ns_to_ticks, ticks, ticks_to_ns};
use rt::{telemetry, Source};

rt::program!(main);

/// Long enough for a server to have gone to sleep on any machine.
const PAUSE_NS: u64 = 300_000;
const COUNT: u64 = 1000;
const DEPTH: usize = 64;
/// Calls made before those that count: caches, page faults, adaptive spinning.
const WARM_UP: u64 = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Plain,
    Spin,
    Asleep,
    Both,
    State,
    Pipelined,
}

fn main(arguments: rt::Args) -> i32 {
    let word = |index: usize| core::str::from_utf8(arguments.get(index).unwrap_or(b"")).unwrap_or("");
    let mode = match word(1) {
        "plain" => Mode::Plain,
        "spin" => Mode::Spin,
        "asleep" => Mode::Asleep,
        "both" => Mode::Both,
        "state" => Mode::State,
        "pipelined" => Mode::Pipelined,
        _ => return say("usage: caller plain|spin|asleep|both|state|pipelined [COUNT [DEPTH]]\n", 2),
    };
    let count = word(2).parse().unwrap_or(COUNT);
    let depth = word(3).parse().unwrap_or(DEPTH);
    let mut client = blk::Client::connect("blk").expect("interface blk");
    match mode {
        Mode::Pipelined => pipelined(&mut client, count, depth),
        Mode::State => by_turns(&mut client, count),
        _ => one_by_one(&mut client, mode, count),
    }
}

fn one_by_one(client: &mut blk::Client, mode: Mode, count: u64) -> i32 {
    let mut times: Vec<u32> = Vec::with_capacity(count as usize);
    let mut failed = 0;
    let pause = ns_to_ticks(PAUSE_NS);
    for number in 0..WARM_UP.min(count) + count {
        if matches!(mode, Mode::Asleep | Mode::Both) {
            let end = ticks() + pause;
            while ticks() < end {
                core::hint::spin_loop();
            }
        }
        let start = ticks();
        let answered = call(client, mode, 0);
        let took = ticks_to_ns(ticks() - start);
        failed += u64::from(!answered);
        if number >= WARM_UP.min(count) {
            times.push(took.min(u64::from(u32::MAX)) as u32);
        }
    }
    times.sort_unstable();
    let total: u64 = times.iter().map(|time| u64::from(*time)).sum();
    let at = |part: u64| times.get((times.len() as u64 * part / 1000) as usize).copied().unwrap_or(0);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{{\"mode\": \"{:?}\", \"calls\": {}, \"failed\": {}, \"mean_ns\": {}, \"median_ns\": {}, \"p90_ns\": {}, \
         \"p99_ns\": {}, \"max_ns\": {}, {}}}",
        mode,
        count,
        failed,
        total / count.max(1),
        at(500),
        at(900),
        at(990),
        times.last().copied().unwrap_or(0),
        counters(),
    );
    say(&text, i32::from(failed > 0))
}

/// Calls that change nothing and calls that change 64 bytes of state, side by side.
fn by_turns(client: &mut blk::Client, count: u64) -> i32 {
    let mut times = [Vec::with_capacity(count as usize), Vec::with_capacity(count as usize)];
    let mut failed = 0;
    for number in 0..WARM_UP + count {
        for (changes, times) in times.iter_mut().enumerate() {
            let start = ticks();
            failed += u64::from(!call(client, Mode::State, changes as u64 * (number + 1)));
            if number >= WARM_UP {
                times.push(ticks() - start);
            }
        }
    }
    let [without, with] = times.map(|mut times: Vec<u64>| {
        times.sort_unstable();
        [500, 990].map(|part| ticks_to_ns(times.get((times.len() as u64 * part / 1000) as usize).copied().unwrap_or(0)))
    });
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{{\"mode\": \"{:?}\", \"calls\": {}, \"failed\": {}, \"without_ns\": {}, \"with_ns\": {}, \
         \"without_p99_ns\": {}, \"with_p99_ns\": {}, {}}}",
        Mode::State,
        2 * count,
        failed,
        without[0],
        with[0],
        without[1],
        with[1],
        counters(),
    );
    say(&text, i32::from(failed > 0))
}

/// One call; `sector` is for those that may change something. False: it failed.
fn call(client: &mut blk::Client, mode: Mode, sector: u64) -> bool {
    if mode == Mode::Plain {
        return client.flush().is_ok();
    }
    let tag = match mode {
        Mode::State => client.submit_discard(&DiscardArgs { sector, sectors: 1 }),
        _ => client.submit_flush(),
    };
    let tag = match tag {
        Ok(tag) => tag,
        Err(_) => return false,
    };
    let sent = ticks();
    loop {
        if let Some(completion) = client.poll_for(tag) {
            if mode != Mode::Both {
                telemetry::add(telemetry::SPINS, ticks().wrapping_sub(sent));
            }
            let ok = completion.result.is_ok();
            client.release(completion);
            return ok;
        }
        if mode == Mode::Both {
            client.announce_sleep();
            full_fence();
            if !client.ready() {
                rt::hypercall::wait(None);
            }
            client.announce_awake();
        } else {
            core::hint::spin_loop();
        }
    }
}

fn pipelined(client: &mut blk::Client, count: u64, depth: usize) -> i32 {
    let depth = depth.clamp(1, client.capacity());
    client.wake_after(depth as u32 / 2);
    let (mut sent, mut answered, mut failed) = (0, 0, 0u64);
    let start = ticks();
    while answered < count {
        while sent < count && client.has_room() && sent - answered < depth as u64 {
            if client.submit_flush().is_err() {
                return say("caller: a request was refused\n", 1);
            }
            sent += 1;
        }
        while let Some(completion) = client.poll() {
            failed += u64::from(completion.result.is_err());
            client.release(completion);
            answered += 1;
        }
        // With half of the requests answered there is something to do: sending more.
        if answered < count && (sent == count || sent - answered > depth as u64 / 2) {
            rt::wait(&mut [&mut **client], None);
        }
    }
    let ns = ticks_to_ns(ticks() - start).max(1);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{{\"mode\": \"{:?}\", \"calls\": {}, \"failed\": {}, \"depth\": {}, \"ns\": {}, \"calls_per_s\": {}, {}}}",
        Mode::Pipelined,
        count,
        failed,
        depth,
        ns,
        (u128::from(count) * 1_000_000_000 / u128::from(ns)) as u64,
        counters(),
    );
    say(&text, i32::from(failed > 0))
}

/// What this VM has counted since it began.
fn counters() -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "\"doorbells\": {}, \"waits\": {}, \"spun_ns\": {}, \"replayed\": {}, \"reconnects\": {}",
        telemetry::get(telemetry::DOORBELLS),
        telemetry::get(telemetry::WAITS),
        ticks_to_ns(telemetry::get(telemetry::SPINS)),
        telemetry::get(telemetry::REPLAYED),
        telemetry::get(telemetry::RECONNECTS),
    );
    text
}

/// Prints a text; the status is handed through.
fn say(text: &str, status: i32) -> i32 {
    let mut console = log::Client::connect("log").expect("interface log");
    let args = WriteArgs { position: 0, stream: log::STREAM_STDOUT };
    match console.write(&args, text.as_bytes()) {
        Ok(_) => status,
        Err(_) => 1,
    }
}
