//! Requests and replies while nobody dies.

use crate::world::*;
use rt::{fake, Error, Source};

#[test]
fn a_request_arrives_and_its_answer_returns() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    let tag = client.submit(&READ, [7, 8, 0, 0, 9], b"input").unwrap();
    assert_eq!(client.outstanding(), 1);
    assert_eq!(client.poll(), None);
    let requests = take_all(&mut server);
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].op, requests[0].args, requests[0].length), (1, [7, 8, 0, 0, 9], 5));
    let mut input = [0; 5];
    server.data(requests[0].ticket).unwrap().copy_out(0, &mut input).unwrap();
    assert_eq!(&input, b"input");
    echo(&mut server, &requests[0], 3);
    let done = client.poll().unwrap();
    assert_eq!((done.tag, done.op), (tag, 1));
    assert_eq!(done.result.unwrap().args[0], 7);
    let mut output = [0; 3];
    client.copy_out(&done, 0, &mut output).unwrap();
    assert_eq!(output, [7; 3]);
    assert_eq!(client.copy_out(&done, 1, &mut output), Err(Error::RANGE));
    client.release(done);
    assert_eq!(client.poll(), None);
    assert!(world.complaints().is_empty());
}

#[test]
fn answers_come_in_any_order() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    let tags: Vec<_> = (0..8).map(|n| client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap()).collect();
    let requests = take_all(&mut server);
    for at in [5, 0, 7, 2, 1, 6, 4, 3] {
        echo(&mut server, &requests[at], 1);
    }
    let third = client.poll_for(tags[2]).unwrap();
    assert_eq!(third.result.unwrap().args[0], 2);
    client.release(third);
    let mut seen = Vec::new();
    while let Some(done) = client.poll() {
        assert_eq!(done.tag, tags[done.result.unwrap().args[0] as usize]);
        seen.push(done.result.unwrap().args[0]);
        client.release(done);
    }
    assert_eq!(seen, [5, 0, 7, 1, 6, 4, 3]);
}

#[test]
fn refuses_what_cannot_be_sent() {
    let world = World::new(2);
    let mut client = world.client();
    assert_eq!(client.submit(&FORBIDDEN, [0; 5], &[]), Err(Error::PERM));
    assert_eq!(client.submit(&READ, [0; 5], &vec![0; SLOT_DATA as usize + 1]), Err(Error::TOOBIG));
    client.submit(&READ, [0; 5], &vec![1; SLOT_DATA as usize]).unwrap();
    client.submit(&READ, [0; 5], &[]).unwrap();
    assert!(!client.has_room());
    assert_eq!(client.submit(&READ, [0; 5], &[]), Err(Error::AGAIN));
}

#[test]
fn an_error_is_an_answer() {
    let world = World::new(2);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [0; 5], &[]).unwrap();
    let request = take_all(&mut server)[0];
    server.reply(request.ticket, Err(Error::NOENT)).unwrap();
    assert_eq!(server.reply(request.ticket, Err(Error::NOENT)), Err(Error::STALE));
    let done = client.poll().unwrap();
    assert_eq!(done.result, Err(Error::NOENT));
    assert_eq!(client.copy_out(&done, 0, &mut []), Err(Error::NOENT));
    client.release(done);
}

#[test]
fn a_server_refuses_operations_the_policy_does_not_allow() {
    let world = World::new(2);
    let mut server = world.server();
    // A client of another make: it does not look at the mask itself.
    let slot = rt::abi::Slot { op: 5, tag: 0x100, epoch: 1, ..rt::abi::Slot::default() };
    rt::ring::ClientRing::new(world.raw(), 2).publish(&slot);
    assert!(take_all(&mut server).is_empty());
    let status = world.raw().load_u32(world.replies_at() + rt::abi::Slot::OFFSET_STATUS);
    assert_eq!(status as i32, Error::PERM.number());
    assert!(world.complaints().is_empty());
}

#[test]
fn what_was_answered_in_time_has_not_expired_because_the_client_looks_late() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    // The clock is looked at after every 64th poll, even if that one brought something.
    for count in (0..12).map(|_| 8) {
        for n in 0..count {
            client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
        }
        for request in take_all(&mut server) {
            echo(&mut server, &request, 8);
        }
        fake::advance(600_000_000);
        for _ in 0..count {
            let done = client.poll().unwrap();
            assert!(done.result.is_ok());
            client.release(done);
        }
    }
}

#[test]
fn a_machine_that_was_stopped_is_no_reason_to_give_up() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [1, 0, 0, 0, 0], &[]).unwrap();
    client.submit(&READ, [2, 0, 0, 0, 0], &[]).unwrap();
    fake::advance(40_000_000_000);
    assert_eq!(client.poll(), None, "the server was stopped, too");
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 8);
    let done = client.poll().unwrap();
    assert!(done.result.is_ok());
    client.release(done);
    fake::advance(40_000_000_000);
    assert_eq!(client.poll().unwrap().result, Err(Error::TIMEOUT), "once");
}

#[test]
fn a_deadline_ends_a_request_and_its_late_answer_frees_the_buffer() {
    let world = World::new(1);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [1, 0, 0, 0, 0], &[]).unwrap();
    fake::advance(499_000_000);
    assert_eq!(client.poll(), None);
    fake::advance(2_000_000);
    assert!(client.deadline().unwrap() < rt::time::ticks());
    let done = client.poll().unwrap();
    assert_eq!(done.result, Err(Error::TIMEOUT));
    client.release(done);
    // The server may still write to the buffer: it is not used again yet.
    assert_eq!(client.submit(&READ, [0; 5], &[]), Err(Error::AGAIN));
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 8);
    assert_eq!(client.poll(), None);
    client.submit(&READ, [0; 5], &[]).unwrap();
    assert!(world.complaints().is_empty());
}

#[test]
fn a_late_answer_may_come_before_the_release() {
    let world = World::new(1);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [0; 5], &[]).unwrap();
    fake::advance(501_000_000);
    let done = client.poll().unwrap();
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 0);
    assert_eq!(client.poll(), None);
    client.release(done);
    client.submit(&READ, [0; 5], &[]).unwrap();
}

#[test]
fn a_request_may_have_a_limit_of_its_own() {
    let world = World::new(2);
    let mut client = world.client();
    client.submit_limited(&READ, [1, 0, 0, 0, 0], &[], u64::MAX).unwrap();
    client.submit_limited(&READ, [2, 0, 0, 0, 0], &[], 1_000).unwrap();
    fake::advance(2_000);
    let done = client.poll().unwrap();
    assert_eq!(done.result, Err(Error::TIMEOUT));
    client.release(done);
    fake::advance(u64::MAX / 4);
    assert_eq!(client.poll(), None);
}

#[test]
fn a_blocking_call_gives_up_at_its_deadline_and_keeps_the_others() {
    let world = World::new(2);
    let (mut client, mut server) = (world.client(), world.server());
    let other = client.submit_limited(&READ, [3, 0, 0, 0, 0], &[], u64::MAX).unwrap();
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 4);
    assert_eq!(client.call(&READ, [0; 5], &[], &mut []), Err(Error::TIMEOUT));
    let done = client.poll().unwrap();
    assert_eq!(done.tag, other);
    client.release(done);
}

#[test]
fn there_is_no_client_without_a_fitting_channel() {
    let world = World::new(2);
    let error = |protocol, name| rt::Client::open(protocol, name).err().unwrap();
    assert_eq!(error(&PROTOCOL, "other"), Error::NOENT);
    assert_eq!(error(&rt::Protocol { version: 4, ..PROTOCOL }, "test"), Error::PROTOCOL);
    let entry = rt::info::channel(CLIENT).unwrap().entry;
    for broken in [
        rt::abi::ChannelEntry { slots: 3, ..entry },
        rt::abi::ChannelEntry { slots: 512, ..entry },
        rt::abi::ChannelEntry { data_offset: 4096, ..entry },
        rt::abi::ChannelEntry { size: entry.size - 1, ..entry },
        rt::abi::ChannelEntry { address: 0, ..entry },
        rt::abi::ChannelEntry { slot_data: u32::MAX, ..entry },
    ] {
        fake::set_channel(CLIENT, broken);
        assert_eq!(error(&PROTOCOL, "test"), Error::PROTOCOL);
    }
    drop(world);
}

#[test]
fn sequence_numbers_wrap() {
    let world = World::new(1);
    let (mut client, mut server) = (world.client(), world.server());
    for n in 0..70_000u64 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
        let request = take_all(&mut server)[0];
        echo(&mut server, &request, 0);
        let done = client.poll().unwrap();
        assert_eq!(done.result.unwrap().args[0], n);
        client.release(done);
    }
}
