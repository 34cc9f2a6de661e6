//! `publisher COUNT [PAUSE_US]`: sets `in/number` to 1, 2, 3 and so on, several under way at any time, and hears from
//! the component `subscriber` of each as a change of `out/number`, with a pause after each. Then it tells as one line
//! of JSON what it has heard. The exit status is 1 if a request failed.

#![no_std]
#![no_main]

use protocols::store::{self, AcknowledgeArgs, Client, NextArgs, NextReturns, SetArgs, SubscribeArgs};
use rt::time::{ms_to_ticks, ns_to_ticks, ticks};
use rt::{abi, hypercall, telemetry, Completion};

rt::program!(main);

/// Set and not heard of: far fewer than the changes the store keeps.
const AHEAD: u64 = 100;
const NAME: &[u8] = b"in/number";
const LOOK_MS: u64 = 2;

#[derive(Default)]
struct Heard {
    set: u64,
    failed: u64,
    changes: u64,
    in_order: u64,
    doubled: u64,
    highest: u64,
    position: u64,
}

fn main(arguments: rt::Args) -> i32 {
    let word = |index: usize| core::str::from_utf8(arguments.get(index).unwrap_or(b"")).unwrap_or("");
    let count: u64 = word(1).parse().unwrap_or(1000);
    let pause = ns_to_ticks(word(2).parse::<u64>().unwrap_or(0) * 1000);
    let mut client = Client::connect("store").expect("interface store");
    let begun = client.subscribe(&SubscribeArgs { subscription: 0, anew: 1 }, b"out").expect("a subscription");
    while client.status().expect("status").subscriptions < 2 {
        rt::wait(&mut [&mut *client], Some(ticks() + ms_to_ticks(LOOK_MS)));
    }
    let mut heard = Heard { position: begun.position, ..Heard::default() };
    let (mut sent, mut is_asked) = (0, false);
    while heard.failed == 0 && (heard.changes < count || heard.set < count) {
        if !is_asked && heard.changes < count && client.has_room() {
            is_asked = client.submit_next(&NextArgs { after: heard.position, subscription: 0 }).is_ok();
        }
        // A slot is left for the acknowledgement, one for the next question.
        while sent < count && sent < heard.changes + AHEAD && client.outstanding() + 2 < client.capacity() {
            let args = SetArgs { expected: 0, kind: store::KIND_UNSIGNED, name_length: NAME.len() as u32 };
            sent += 1;
            let input = [NAME, &sent.to_le_bytes()].concat();
            heard.failed += u64::from(client.submit_set(&args, &input).is_err());
        }
        match client.poll() {
            Some(completion) => {
                is_asked &= completion.op != store::NEXT.id;
                let is_change = completion.op == store::NEXT.id;
                take_in(&mut client, &mut heard, completion);
                let end = ticks() + if is_change { pause } else { 0 };
                while ticks() < end {
                    core::hint::spin_loop();
                }
            }
            None => {
                rt::wait(&mut [&mut *client], None);
            }
        }
    }
    let text = rt::alloc::format!(
        "{{\"set\": {}, \"failed\": {}, \"changes\": {}, \"in_order\": {}, \"doubled\": {}, \"replayed\": {}}}\n",
        heard.set,
        heard.failed,
        heard.changes,
        heard.in_order,
        heard.doubled,
        telemetry::get(telemetry::REPLAYED),
    );
    let written = hypercall::output(abi::STREAM_STDOUT, 0, text.as_bytes(), 0);
    i32::from(heard.failed > 0 || written.is_err())
}

fn take_in(client: &mut Client, heard: &mut Heard, completion: Completion) {
    match completion.result {
        Err(_) => heard.failed += 1,
        Ok(_) if completion.op == store::SET.id => heard.set += 1,
        Ok(reply) if completion.op == store::NEXT.id => {
            let change = NextReturns::unpack(&reply.args);
            let mut value = [0; 8];
            let copied = client.copy_out(&completion, change.name_length as usize, &mut value);
            let value = u64::from_le_bytes(value);
            heard.failed += u64::from(copied.is_err());
            heard.changes += 1;
            heard.position = change.number;
            heard.in_order += u64::from(value == heard.changes);
            heard.doubled += u64::from(value <= heard.highest);
            heard.highest = heard.highest.max(value);
            client.release(completion);
            let args = AcknowledgeArgs { number: change.number, subscription: 0 };
            heard.failed += u64::from(client.submit_acknowledge(&args).is_err());
            return;
        }
        Ok(_) => {}
    }
    client.release(completion);
}
