//! Clients of a server that come, go and are many.

use crate::world::*;
use rt::server::{Event, BUDGET};
use rt::{abi, fake, Error, ServerPort, Source};

/// One round's events, in words.
fn round(port: &mut ServerPort) -> Vec<String> {
    let mut events = Vec::new();
    port.begin_round();
    while let Some(event) = port.next() {
        events.push(match event {
            Event::Request(request) => format!("request {}", request.args[0]),
            Event::Ended(client) => format!("ended {}", client.0),
        });
    }
    events
}

#[test]
fn a_session_ends_with_its_client_and_its_tickets_are_stale() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [1, 0, 0, 0, 0], &[]).unwrap();
    let old = take_all(&mut server)[0];
    assert!(server.is_live(old.ticket));
    world.client_dies();
    assert!(server.ready());
    assert_eq!(round(&mut server), ["ended 1"]);
    assert!(!server.ready());
    assert!(!server.is_live(old.ticket));
    assert_eq!(server.reply(old.ticket, Ok(([0; 5], 0))), Err(Error::STALE));
    world.client_returns();
    assert!(server.ready());
    assert!(round(&mut server).is_empty());
    let mut client = world.client();
    client.submit(&READ, [2, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(round(&mut server), ["request 2"]);
    assert_eq!(server.reply(old.ticket, Ok(([0; 5], 0))), Err(Error::STALE));
    assert_eq!(server.data(old.ticket).err(), Some(Error::STALE));
    assert_eq!(client.poll(), None);
}

/// A successor that knows its clients from its state hears of their ends, whatever it has heard of them itself.
#[test]
fn a_session_outlives_its_server_and_ends_with_its_client() {
    let world = World::new(4);
    let mut server = world.server();
    assert_eq!(server.expect(1), None, "there is no such end");
    assert_eq!(server.expect(0), Some(rt::ClientId(1)));
    assert!(round(&mut server).is_empty());
    world.client_dies();
    assert!(server.ready());
    assert_eq!(round(&mut server), ["ended 1"]);
    // One that is away when the successor comes has ended, except in an update, where all are until the switch.
    for (start, state, ends) in [
        (abi::START_RESTART, abi::CHANNEL_STATE_DEAD, true),
        (abi::START_RESTART, abi::CHANNEL_STATE_GONE, true),
        (abi::START_UPDATE, abi::CHANNEL_STATE_DEAD, false),
        (abi::START_UPDATE, abi::CHANNEL_STATE_GONE, true),
    ] {
        let world = World::new(4);
        fake::write(abi::Info::OFFSET_START, start);
        fake::set_status(SERVER, state, 1);
        let mut server = world.server();
        assert_eq!(server.expect(0), Some(rt::ClientId(1)));
        assert_eq!(server.ready(), ends);
        assert_eq!(round(&mut server).len(), usize::from(ends));
        world.client_returns();
        assert!(round(&mut server).is_empty());
        let mut client = world.client();
        client.submit(&READ, [1, 0, 0, 0, 0], &[]).unwrap();
        assert_eq!(round(&mut server), ["request 1"]);
        world.client_dies();
        assert_eq!(round(&mut server), ["ended 1"]);
    }
}

#[test]
fn a_replaced_client_is_noticed_even_if_its_death_was_not() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [1, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(round(&mut server), ["request 1"]);
    world.client_dies();
    world.client_returns();
    assert_eq!(round(&mut server), ["ended 1"]);
    let mut client = world.client();
    client.submit(&READ, [2, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(round(&mut server), ["request 2"]);
}

#[test]
fn a_client_nobody_has_heard_of_ends_silently() {
    let world = World::new(4);
    let mut server = world.server();
    world.client_dies();
    assert!(round(&mut server).is_empty());
    fake::set_status(SERVER, abi::CHANNEL_STATE_GONE, 1);
    assert!(round(&mut server).is_empty());
    assert!(!server.ready());
}

#[test]
fn parked_requests_are_counted_for_those_who_look_for_hangs() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    for n in 0..3 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    let requests = take_all(&mut server);
    let parked = || world.raw().load_u32(abi::CHANNEL_PARKED);
    server.park(requests[0].ticket).unwrap();
    server.park(requests[0].ticket).unwrap();
    server.park(requests[2].ticket).unwrap();
    assert_eq!(parked(), 2);
    echo(&mut server, &requests[0], 0);
    echo(&mut server, &requests[1], 0);
    assert_eq!(parked(), 1);
    assert_eq!(server.park(requests[0].ticket), Err(Error::STALE));
}

#[test]
fn a_flood_of_requests_is_served_in_bounded_rounds() {
    let world = World::new(256);
    let (mut client, mut server) = (world.client(), world.server());
    for n in 0..200 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    assert_eq!(round(&mut server).len(), BUDGET as usize);
    assert!(server.ready());
    assert_eq!(round(&mut server)[0], format!("request {BUDGET}"));
}

#[test]
fn parameters_come_from_the_policy() {
    let world = World::with(2, |entry| {
        entry.parameter_offset = abi::INFO_PARAMETERS as u16;
        entry.parameter_length = 8;
    });
    fake::write(abi::INFO_PARAMETERS, *b"/usr/bin");
    let server = world.server();
    let client = server.clients().next().unwrap();
    assert_eq!(server.parameter(client), b"/usr/bin");
    assert_eq!(server.peer(client), "peer");
}

#[test]
fn channels_that_appear_later_are_served() {
    let world = World::new(2);
    let entry = rt::info::channel(SERVER).unwrap().entry;
    fake::write(abi::Info::OFFSET_CHANNELS, 1u32);
    let mut server = world.server();
    assert_eq!(server.clients().count(), 0);
    fake::set_channel(SERVER, entry);
    assert!(round(&mut server).is_empty());
    assert_eq!(server.clients().count(), 1);
}
