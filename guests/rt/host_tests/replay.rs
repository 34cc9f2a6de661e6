//! Requests that outlive their server.

use crate::world::*;
use rt::telemetry::{self, RECONNECTS, REPLAYED};
use rt::{abi, fake, Error, Source};

fn submit(client: &mut rt::Client, count: u64) -> Vec<rt::Tag> {
    (0..count).map(|n| client.submit(&READ, [n, 0, 0, 0, 0], &[n as u8; 3]).unwrap()).collect()
}

fn values(requests: &[rt::server::Request]) -> Vec<u64> {
    requests.iter().map(|request| request.args[0]).collect()
}

#[test]
fn unanswered_requests_are_replayed_in_order_before_new_ones() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    let tags = submit(&mut client, 6);
    let requests = take_all(&mut server);
    for at in [4, 1] {
        echo(&mut server, &requests[at], 1);
        client.poll().map(|done| client.release(done)).unwrap();
    }
    world.server_dies();
    assert_eq!(client.poll(), None);
    let newer = client.submit(&READ, [100, 0, 0, 0, 0], b"new").unwrap();
    assert_eq!(client.poll(), None);
    world.server_returns();
    assert!(client.ready());
    assert_eq!(client.poll(), None);
    let mut server = world.server();
    let again = take_all(&mut server);
    assert_eq!(values(&again), [0, 2, 3, 5, 100]);
    for request in &again {
        let mut input = [0; 3];
        server.data(request.ticket).unwrap().copy_out(0, &mut input).unwrap();
        assert_eq!(input, if request.args[0] == 100 { *b"new" } else { [request.args[0] as u8; 3] });
    }
    assert_eq!((telemetry::get(REPLAYED), telemetry::get(RECONNECTS)), (4, 1));
    for request in &again {
        echo(&mut server, request, 1);
    }
    let mut seen = Vec::new();
    while let Some(done) = client.poll() {
        assert!(done.result.is_ok());
        seen.push(done.tag);
        client.release(done);
    }
    assert_eq!(seen, [tags[0], tags[2], tags[3], tags[5], newer]);
}

#[test]
fn the_first_replayed_answer_of_an_epoch_is_noted() {
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 2);
    for round in 1..=3u64 {
        world.server_dies();
        world.server_returns();
        assert_eq!(client.poll(), None);
        let mut server = world.server();
        let again = take_all(&mut server);
        client.submit(&READ, [50, 0, 0, 0, 0], &[]).unwrap();
        let newer = *take_all(&mut server).last().unwrap();
        echo(&mut server, &newer, 0);
        client.poll().map(|done| client.release(done)).unwrap();
        let page = fake::telemetry_page().cast::<u64>();
        // SAFETY: the fake telemetry page of this thread.
        let count = || unsafe { page.add(abi::Telemetry::OFFSET_REPLAY_COUNT / 8).read() };
        assert_eq!(count(), round - 1, "an answer to a new request is not a replayed one");
        echo(&mut server, &again[0], 0);
        client.poll().map(|done| client.release(done)).unwrap();
        assert_eq!(count(), round);
        let at = abi::TELEMETRY_REPLAYS / 8 + 2 * (round as usize - 1);
        // SAFETY: as above.
        let (head, tsc) = unsafe { (page.add(at).read(), page.add(at + 1).read()) };
        assert_eq!(head, (1 + round) << 32 | u64::from(CLIENT));
        assert!(tsc > 0);
        client.submit(&READ, [60, 0, 0, 0, 0], &[]).unwrap();
    }
}

#[test]
fn what_may_not_be_repeated_fails_if_it_was_sent() {
    let world = World::new(4);
    let mut client = world.client();
    let sent = client.submit(&SEND, [1, 0, 0, 0, 0], &[]).unwrap();
    world.server_dies();
    assert_eq!(client.poll(), None);
    let queued = client.submit(&SEND, [2, 0, 0, 0, 0], &[]).unwrap();
    world.server_returns();
    let done = client.poll().unwrap();
    assert_eq!((done.tag, done.result), (sent, Err(Error::DEAD)));
    client.release(done);
    let mut server = world.server();
    let requests = take_all(&mut server);
    assert_eq!(values(&requests), [2]);
    echo(&mut server, &requests[0], 0);
    let done = client.poll().unwrap();
    assert_eq!(done.tag, queued);
    client.release(done);
}

#[test]
fn with_fail_every_unanswered_request_fails() {
    let world = World::with(4, |entry| entry.on_restart = abi::ON_RESTART_FAIL);
    let mut client = world.client();
    submit(&mut client, 3);
    world.server_dies();
    world.server_returns();
    for _ in 0..3 {
        let done = client.poll().unwrap();
        assert_eq!(done.result, Err(Error::DEAD));
        client.release(done);
    }
    assert!(take_all(&mut world.server()).is_empty());
    assert_eq!(telemetry::get(REPLAYED), 0);
}

#[test]
fn deadlines_stand_still_while_the_server_is_dead() {
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 2);
    world.server_dies();
    fake::advance(3_600_000_000_000); // an hour
    assert_eq!(client.poll(), None);
    assert_eq!(client.deadline(), None);
    world.server_returns();
    assert_eq!(client.poll(), None);
    fake::advance(400_000_000);
    assert_eq!(client.poll(), None, "the deadline begins anew");
    let mut server = world.server();
    for request in take_all(&mut server) {
        echo(&mut server, &request, 0);
    }
    assert_eq!(client.poll().map(|done| client.release(done)), Some(()));
    assert_eq!(client.poll().map(|done| client.release(done)), Some(()));
}

#[test]
fn a_death_that_is_noticed_late_counts_too() {
    // Asleep all the time between death and return: the first thing it sees is `reopen`.
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 1);
    fake::advance(600_000_000);
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    assert_eq!(values(&take_all(&mut world.server())), [0]);
}

#[test]
fn sticky_requests_are_restored_and_answered_before_anything_else() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    for handle in [10, 11, 12] {
        client.submit(&OPEN, [handle | 7 << 32, 0, 0, 0, 0], format!("/file{handle}").as_bytes()).unwrap();
    }
    client.submit(&CLOSE, [11, 0, 0, 0, 0], &[]).unwrap();
    for request in take_all(&mut server) {
        echo(&mut server, &request, 0);
        client.poll().map(|done| client.release(done)).unwrap();
    }
    // A failed open is not remembered, a repeated one once.
    client.submit(&OPEN, [13, 0, 0, 0, 0], b"/none").unwrap();
    client.submit(&OPEN, [12, 0, 0, 0, 0], b"/file12b").unwrap();
    let requests = take_all(&mut server);
    server.reply(requests[0].ticket, Err(Error::NOENT)).unwrap();
    server.reply(requests[1].ticket, Ok(([0; 5], 0))).unwrap();
    for _ in 0..2 {
        client.poll().map(|done| client.release(done)).unwrap();
    }
    // All slots taken by reads: the restored requests still find room.
    submit(&mut client, 4);
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    let mut server = world.server();
    let opens = take_all(&mut server);
    assert_eq!(opens.iter().map(|r| (r.op, r.args[0])).collect::<Vec<_>>(), [(3, 10 | 7 << 32), (3, 12)]);
    let mut path = vec![0; opens[1].length as usize];
    server.data(opens[1].ticket).unwrap().copy_out(0, &mut path).unwrap();
    assert_eq!(path, b"/file12b");
    echo(&mut server, &opens[1], 0);
    assert_eq!(client.poll(), None);
    assert!(take_all(&mut server).is_empty(), "not before the last sticky request is answered");
    server.reply(opens[0].ticket, Err(Error::NOENT)).unwrap();
    assert_eq!(client.poll(), None);
    let reads = take_all(&mut server);
    assert_eq!(values(&reads), [0, 1, 2, 3]);
    for request in &reads {
        echo(&mut server, request, 0);
    }
    let mut count = 0;
    while let Some(done) = client.poll() {
        client.release(done);
        count += 1;
    }
    assert_eq!(count, 4);
    assert!(world.complaints().is_empty());
}

/// A server that remembers what is open is told of it again only when it says that it has forgotten.
#[test]
fn who_forgot_is_told_again_once() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    for handle in [10, 11] {
        client.submit(&OPEN_ONCE, [handle, 0, 0, 0, 0], b"/file").unwrap();
        let open = take_all(&mut server)[0];
        echo(&mut server, &open, 0);
        client.poll().map(|done| client.release(done)).unwrap();
    }
    // Answered, and looked at only after its data buffer was used for something else.
    let held = client.submit(&READ, [77, 0, 0, 0, 0], &[]).unwrap();
    let read = take_all(&mut server)[0];
    echo(&mut server, &read, 5);
    let held = client.poll_for(held).unwrap();
    submit(&mut client, 3);
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    let mut server = world.server();
    let reads = take_all(&mut server);
    assert_eq!(values(&reads), [0, 1, 2], "it may have forgotten nothing");
    server.reply(reads[0].ticket, Err(Error::STALE)).unwrap();
    echo(&mut server, &reads[1], 0);
    let done = client.poll().unwrap();
    client.release(done);
    let queued = client.submit(&READ, [3, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(client.poll(), None);
    assert!(take_all(&mut server).is_empty(), "not before everything under way is answered");
    server.reply(reads[2].ticket, Err(Error::STALE)).unwrap();
    assert_eq!(client.poll(), None);
    let opens = take_all(&mut server);
    assert_eq!(opens.iter().map(|r| (r.op, r.args[0], r.id.session)).collect::<Vec<_>>(), [(3, 10, 0), (3, 11, 0)]);
    for request in &opens {
        assert_eq!(client.poll(), None);
        echo(&mut server, request, 0);
    }
    assert_eq!(client.poll(), None);
    let reads = take_all(&mut server);
    assert_eq!(values(&reads), [0, 2, 3]);
    // Once per server: what is stale now, is.
    for request in &reads {
        server.reply(request.ticket, Err(Error::STALE)).unwrap();
    }
    let mut last = None;
    while let Some(done) = client.poll() {
        assert_eq!(done.result, Err(Error::STALE));
        last = Some(done.tag);
        client.release(done);
    }
    assert_eq!(last, Some(queued));
    let mut bytes = [0; 5];
    client.copy_out(&held, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [77; 5]);
    client.release(held);
    assert!(world.complaints().is_empty());
}

#[test]
fn more_sticky_requests_than_slots_are_restored() {
    let world = World::new(2);
    let (mut client, mut server) = (world.client(), world.server());
    for handle in 0..7 {
        client.submit(&OPEN, [handle, 0, 0, 0, 0], b"/x").unwrap();
        let request = take_all(&mut server)[0];
        echo(&mut server, &request, 0);
        client.poll().map(|done| client.release(done)).unwrap();
    }
    for _ in 0..3 {
        world.server_dies();
        world.server_returns();
        assert_eq!(client.poll(), None);
        server = world.server();
        let mut handles = Vec::new();
        loop {
            let requests = take_all(&mut server);
            if requests.is_empty() {
                break;
            }
            assert!(requests.len() <= 2);
            for request in requests {
                handles.push(request.args[0]);
                echo(&mut server, &request, 0);
                assert_eq!(client.poll(), None);
            }
        }
        assert_eq!(handles, [0, 1, 2, 3, 4, 5, 6]);
        assert!(client.is_open());
    }
}

#[test]
fn a_death_during_restoration_begins_it_again() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&OPEN, [1, 0, 0, 0, 0], b"/x").unwrap();
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 0);
    client.poll().map(|done| client.release(done)).unwrap();
    submit(&mut client, 2);
    for _ in 0..5 {
        world.server_dies();
        world.server_returns();
        assert_eq!(client.poll(), None);
        assert_eq!(values(&take_all(&mut world.server())), [1]);
    }
    let mut server = world.server();
    assert!(take_all(&mut server).len() == 1);
}

#[test]
fn output_not_yet_released_is_saved() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    submit(&mut client, 2);
    for request in take_all(&mut server) {
        echo(&mut server, &request, 64);
    }
    let held = client.poll().unwrap();
    world.server_dies();
    world.server_returns();
    let other = client.poll();
    assert_eq!(world.count(abi::HYPERCALL_RECONNECT), 1);
    let mut bytes = [0xff; 64];
    client.copy_out(&held, 0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 64]);
    assert_eq!(client.output(&held).err(), Some(Error::DEAD));
    client.release(held);
    // The other had been answered in the ring but not been looked at: it is asked for again.
    assert_eq!(other, None);
    assert_eq!(values(&take_all(&mut world.server())), [1]);
}

#[test]
fn an_answer_about_a_vanished_pool_is_asked_for_again() {
    for has_pool in [false, true] {
        let world = World::new(4);
        if has_pool {
            world.add_pool();
        }
        let (mut client, mut server) = (world.client(), world.server());
        let tags = submit(&mut client, 2);
        for request in take_all(&mut server) {
            echo(&mut server, &request, 8);
        }
        // Looking for the second takes in the first, which then waits to be handed out.
        let second = client.poll_for(tags[1]).unwrap();
        client.release(second);
        world.server_dies();
        world.server_returns();
        let first = client.poll();
        assert_eq!(first.is_none(), has_pool);
        if let Some(first) = first {
            let mut bytes = [1; 8];
            client.copy_out(&first, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 8]);
            client.release(first);
        }
        assert_eq!(values(&take_all(&mut world.server())), if has_pool { vec![0] } else { vec![] });
    }
}

#[test]
fn expired_requests_are_not_replayed_and_their_buffers_return() {
    let world = World::new(2);
    let mut client = world.client();
    submit(&mut client, 2);
    fake::advance(501_000_000);
    let (one, two) = (client.poll().unwrap(), client.poll().unwrap());
    client.release(one);
    assert!(!client.has_room());
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    assert!(client.has_room());
    client.release(two);
    submit(&mut client, 2);
    assert_eq!(take_all(&mut world.server()).len(), 2);
}

#[test]
fn a_server_that_will_not_come_back_fails_everything() {
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 2);
    fake::set_status(CLIENT, abi::CHANNEL_STATE_GONE, 1);
    for _ in 0..2 {
        let done = client.poll().unwrap();
        assert_eq!(done.result, Err(Error::DEAD));
        client.release(done);
    }
    assert_eq!(client.poll(), None);
    assert_eq!(client.submit(&READ, [0; 5], &[]), Err(Error::DEAD));
    assert!(!client.ready());
}

#[test]
fn requests_wait_for_the_first_server() {
    let world = World::new(4);
    fake::set_status(CLIENT, abi::CHANNEL_STATE_DEAD, 1);
    let mut client = world.client();
    submit(&mut client, 2);
    assert!(!client.ready());
    fake::set_status(CLIENT, abi::CHANNEL_STATE_OPEN, 1);
    assert!(client.ready());
    assert_eq!(client.poll(), None);
    assert_eq!(values(&take_all(&mut world.server())), [0, 1]);
    assert_eq!(telemetry::get(REPLAYED), 0);
}

#[test]
fn a_refused_reconnect_is_not_asked_for_again_and_again() {
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 1);
    fake::set_handler(Box::new(|_, _| (-1, 0)));
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    assert!(!client.ready());
    // Another epoch is another chance.
    world.serve_again();
    world.server_returns();
    assert!(client.ready());
    assert_eq!(client.poll(), None);
    assert!(client.is_open());
}

#[test]
fn an_offer_that_is_withdrawn_at_the_last_moment_is_taken_when_it_comes_again() {
    let world = World::new(4);
    let mut client = world.client();
    submit(&mut client, 1);
    world.server_dies();
    world.server_returns();
    fake::set_handler(Box::new(|_, _| {
        fake::set_status(CLIENT, abi::CHANNEL_STATE_DEAD, 2);
        (i64::from(abi::ERROR_AGAIN), 0)
    }));
    assert_eq!(client.poll(), None);
    assert!(!client.ready());
    world.serve_again();
    fake::set_status(CLIENT, abi::CHANNEL_STATE_REOPEN, 2);
    assert!(client.ready());
    assert_eq!(client.poll(), None);
    assert_eq!(values(&take_all(&mut world.server())), [0]);
}

#[test]
fn random_deaths_lose_and_double_nothing() {
    for seed in 1..40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let world = World::new(8);
        let (mut client, mut server) = (world.client(), world.server());
        let (mut submitted, mut completed) = (0u64, std::collections::BTreeSet::new());
        let mut in_server: Vec<rt::server::Request> = Vec::new();
        let mut held: Vec<rt::Completion> = Vec::new();
        for _ in 0..2000 {
            match random.below(10) {
                0..=3 => {
                    if client.submit(&READ, [submitted, 0, 0, 0, 0], &[submitted as u8]).is_ok() {
                        submitted += 1;
                    }
                }
                4..=6 => {
                    in_server.extend(take_all(&mut server));
                    if !in_server.is_empty() {
                        let at = random.below(in_server.len() as u64) as usize;
                        let request = in_server.swap_remove(at);
                        echo(&mut server, &request, 16);
                    }
                }
                7 | 8 => held.extend(client.poll()),
                _ if random.below(8) == 0 => {
                    world.server_dies();
                    in_server.clear();
                    held.extend(if random.below(2) == 0 { client.poll() } else { None });
                    world.server_returns();
                    // Only once the client has taken the new rings: the memory is one and the same.
                    held.extend(client.poll());
                    server = world.server();
                }
                _ => {
                    if let Some(done) = held.pop() {
                        let value = done.result.unwrap().args[0];
                        let mut bytes = [0; 16];
                        client.copy_out(&done, 0, &mut bytes).unwrap();
                        assert_eq!(bytes, [value as u8; 16]);
                        assert!(completed.insert(value), "completed twice");
                        client.release(done);
                    }
                }
            }
        }
        for done in held.drain(..) {
            completed.insert(done.result.unwrap().args[0]);
            client.release(done);
        }
        in_server.extend(take_all(&mut server));
        for request in &in_server {
            echo(&mut server, request, 0);
        }
        while let Some(done) = client.poll() {
            assert!(completed.insert(done.result.unwrap().args[0]));
            client.release(done);
        }
        assert_eq!(completed.len() as u64, submitted, "seed {seed}");
        assert!(world.complaints().is_empty());
    }
}
