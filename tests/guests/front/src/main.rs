//! The first of a chain: `front COUNT [PAUSE_US [on [DEPTH]]]` has COUNT amounts counted, 1, 2, 3 and so on, DEPTH or
//! as many as possible under way at any time, with a pause after each answer; then it reads the ledger and tells as one
//! line of JSON what it found. It stops asking at the first error, but for "on". The exit status is 1 if there was one.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::String;
use core::fmt::Write;
use protocols::count::{self, AddArgs, EntryArgs};
use protocols::log::{self, WriteArgs};
use rt::time::{ns_to_ticks, ticks, ticks_to_ns};
use rt::{telemetry, Error};

rt::program!(main);

/// What the ledger says.
struct Finding {
    entries: u64,
    /// Entry N is amount N, for all N.
    in_order: bool,
    /// Entries that were there before.
    doubled: u64,
}

fn main(arguments: rt::Args) -> i32 {
    let word = |index: usize| core::str::from_utf8(arguments.get(index).unwrap_or(b"")).unwrap_or("");
    let count: u64 = word(1).parse().unwrap_or(1000);
    let pause = ns_to_ticks(word(2).parse::<u64>().unwrap_or(0) * 1000);
    let goes_on = word(3) == "on";
    let depth: u64 = word(4).parse().unwrap_or(u64::MAX);
    let mut client = count::Client::connect("count").expect("interface count");
    let (mut sent, mut answered, mut failed, mut longest) = (0, 0, 0, 0);
    let mut error = 0;
    let mut previous = ticks();
    while answered < count && (goes_on || failed == 0 || client.outstanding() > 0) {
        while sent < count && sent - answered < depth && (goes_on || failed == 0) && client.has_room() {
            match client.submit_add(&AddArgs { amount: sent + 1 }) {
                Ok(_) => sent += 1,
                Err(refused) => {
                    (failed, error, answered, sent) = (failed + 1, refused.number(), answered + 1, sent + 1);
                }
            }
        }
        while let Some(completion) = client.poll() {
            answered += 1;
            if let Err(reason) = completion.result {
                error = if failed == 0 { reason.number() } else { error };
                failed += 1;
            }
            client.release(completion);
            longest = longest.max(ticks().wrapping_sub(previous));
            let end = ticks() + pause;
            while ticks() < end {
                core::hint::spin_loop();
            }
            previous = ticks();
        }
        if answered < count && client.outstanding() > 0 {
            rt::wait(&mut [&mut *client], None);
        }
    }
    let found = audit().unwrap_or(Finding { entries: 0, in_order: false, doubled: 0 });
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{{\"answered\": {}, \"failed\": {}, \"error\": {}, \"longest_ms\": {}, \"replayed\": {}, \"entries\": {}, \
         \"in_order\": {}, \"doubled\": {}}}",
        answered,
        failed,
        error,
        ticks_to_ns(longest) / 1_000_000,
        telemetry::get(telemetry::REPLAYED),
        found.entries,
        found.in_order,
        found.doubled,
    );
    let mut console = log::Client::connect("log").expect("interface log");
    let written = console.write(&WriteArgs { position: 0, stream: log::STREAM_STDOUT }, text.as_bytes());
    i32::from(failed > 0 || written.is_err())
}

fn audit() -> Result<Finding, Error> {
    let mut ledger = count::Client::connect("audit")?;
    let mut entry = |number| ledger.entry(&EntryArgs { number }).map(|entry| entry.amount);
    let mut finding = Finding { entries: entry(0)?, in_order: true, doubled: 0 };
    let mut highest = 0;
    for number in 1..=finding.entries {
        let amount = entry(number)?;
        finding.in_order &= amount == number;
        finding.doubled += u64::from(amount <= highest);
        highest = highest.max(amount);
    }
    Ok(finding)
}
