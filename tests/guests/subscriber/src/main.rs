//! A subscriber that acts: for each value of a name below `in` it sets the same name below `out` to the same.
//! Deletions are passed over.
//! Each once, whoever dies: how far it has got and what it is about to say are in one transaction.

#![no_std]
#![no_main]

use protocols::store::{self, AcknowledgeArgs, Client, NextArgs, NextReturns, SetArgs, SubscribeArgs};
use rt::alloc::vec::Vec;
use rt::state::{self, Cell, Outbox, RequestId, State};
use rt::{Completion, Reply};

rt::component! { fresh: republish, restart: republish, update: republish }

const PLACES: usize = 4;
const SUBSCRIPTION: u32 = 2;

state::plain! {
    struct Progress {
        outbox: Outbox<PLACES>,
        /// The last change that is dealt with, or in the outbox.
        seen: Cell<u64>,
    }
}

fn republish() {
    let (progress, _) = state::open::<Progress>("progress");
    let mut store = Client::connect("store").expect("interface store");
    store.submit_all(&progress.outbox, &store::OPERATIONS);
    rt::ready();
    store.subscribe(&SubscribeArgs { subscription: SUBSCRIPTION, anew: 0 }, b"/in").expect("a subscription");
    let mut is_asked = false;
    loop {
        if !is_asked && progress.outbox.has_room() && store.has_room() {
            let args = NextArgs { after: progress.seen.get(), subscription: SUBSCRIPTION };
            is_asked = store.submit_next(&args).is_ok();
        }
        match store.poll() {
            Some(completion) => {
                is_asked &= completion.op != store::NEXT.id;
                take_in(&progress, &mut store, completion);
            }
            None => {
                rt::wait(&mut [&mut *store], None);
            }
        }
    }
}

fn take_in(progress: &State<Progress>, store: &mut Client, completion: Completion) {
    let reply = completion.result.unwrap_or_else(|error| panic!("operation {}: {}", completion.op, error.name()));
    if completion.op == store::NEXT.id {
        let mut change = Vec::new();
        change.resize(reply.length as usize, 0);
        store.copy_out(&completion, 0, &mut change).expect("the change");
        store.release(completion);
        pass_on(progress, store, &reply, &change);
        return;
    }
    if completion.op == store::SET.id {
        let mut tx = progress.begin();
        progress.outbox.take(&mut tx, completion.tag).expect("what was written down");
        tx.commit().expect("a log with room for it");
    }
    store.release(completion);
}

fn pass_on(progress: &State<Progress>, store: &mut Client, reply: &Reply, change: &[u8]) {
    let NextReturns { number, kind, name_length } = NextReturns::unpack(&reply.args);
    let below = change.strip_prefix(b"in").expect("a name below the prefix");
    let input = [b"out", below].concat();
    let args = SetArgs { expected: 0, kind, name_length: name_length + 1 };
    // Nobody has asked for it; that it is sent once is a matter of its tag.
    let cause = RequestId { client: 0, session: 0, tag: 0, digest: 0 };
    let mut tx = progress.begin();
    progress.seen.set(&mut tx, number);
    if kind != store::KIND_NONE {
        progress.outbox.put(&mut tx, &store::SET, args.pack(), &input, cause).expect("a place");
    }
    tx.commit().expect("a log with room for it");
    store.submit_all(&progress.outbox, &store::OPERATIONS);
    // Also what is not acknowledged is not asked for again: the state says how far we are. This only frees the store.
    let _ = store.submit_acknowledge(&AcknowledgeArgs { number, subscription: SUBSCRIPTION });
}
