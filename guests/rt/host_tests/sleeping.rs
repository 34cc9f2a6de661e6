//! Doorbells: as few as possible, and none missing.

use crate::world::*;
use rt::wait::{adapted, after_false_alarm, Outcome};
use rt::{abi, fake, telemetry, wait, Source, Woken};

/// Doorbells rung since the last look: of the client's end, of the server's end.
fn rung() -> (usize, usize) {
    let all = fake::take_doorbells();
    (all.iter().filter(|d| **d == CLIENT).count(), all.iter().filter(|d| **d == SERVER).count())
}

#[test]
fn nobody_rings_for_a_peer_that_is_awake() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [0; 5], &[]).unwrap();
    let request = take_all(&mut server)[0];
    echo(&mut server, &request, 0);
    assert_eq!(rung(), (0, 0));
}

#[test]
fn a_sleeping_server_is_rung_once_until_it_has_taken_something() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    server.announce_sleep();
    for _ in 0..4 {
        client.submit(&READ, [0; 5], &[]).unwrap();
    }
    assert_eq!(rung(), (1, 0));
    server.announce_awake();
    assert_eq!(take_all(&mut server).len(), 4);
    server.announce_sleep();
    client.submit(&READ, [0; 5], &[]).unwrap();
    assert_eq!(rung(), (1, 0));
}

#[test]
fn a_client_is_woken_at_its_threshold_and_once() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.wake_after(4);
    for n in 0..8 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    client.announce_sleep();
    let requests = take_all(&mut server);
    let mut bells = Vec::new();
    for request in &requests {
        echo(&mut server, request, 0);
        bells.push(rung().1);
    }
    assert_eq!(bells, [0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_streaming_client_rings_for_several_requests_at_a_time() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.wake_after(3);
    server.announce_sleep();
    let mut bells = Vec::new();
    for n in 0..7 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
        bells.push(rung().0);
    }
    assert_eq!(bells, [0, 0, 1, 0, 0, 0, 0], "a server that was rung and took nothing yet will see them all");
    server.announce_awake();
    let requests = take_all(&mut server);
    server.announce_sleep();
    client.submit(&READ, [7, 0, 0, 0, 0], &[]).unwrap();
    assert_eq!(rung(), (0, 0));
    assert_eq!(client.poll(), None);
    assert_eq!(rung(), (0, 0));
    fake::advance(1_000_000);
    assert_eq!(client.poll(), None);
    assert_eq!(rung(), (1, 0), "nothing to do for a millisecond");
    server.announce_awake();
    assert_eq!(take_all(&mut server).len(), 1);
    server.announce_sleep();
    echo(&mut server, &requests[0], 0);
    client.poll().map(|done| client.release(done)).unwrap();
    client.submit(&READ, [8, 0, 0, 0, 0], &[]).unwrap();
    echo(&mut server, &requests[1], 0);
    assert_eq!(wait(&mut [&mut client], None), Woken::Ready);
    assert_eq!(rung(), (1, 0), "a wait rings even if something is ready");
}

#[test]
fn the_first_answer_after_a_death_wakes_whatever_the_threshold() {
    let world = World::new(8);
    let mut client = world.client();
    client.wake_after(4);
    for n in 0..8 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    world.server_dies();
    world.server_returns();
    assert_eq!(client.poll(), None);
    let mut server = world.server();
    let requests = take_all(&mut server);
    client.announce_sleep();
    echo(&mut server, &requests[0], 0);
    assert_eq!(rung(), (0, 1));
    client.poll().map(|done| client.release(done)).unwrap();
    client.announce_sleep();
    let bells: Vec<_> = requests[1..].iter().map(|request| (echo(&mut server, request, 0), rung().1).1).collect();
    assert_eq!(bells, [0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_threshold_is_never_more_than_what_is_outstanding() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.wake_after(100);
    client.submit(&READ, [0; 5], &[]).unwrap();
    client.submit(&READ, [0; 5], &[]).unwrap();
    client.announce_sleep();
    for request in take_all(&mut server) {
        echo(&mut server, &request, 0);
    }
    assert_eq!(rung(), (0, 1));
}

#[test]
fn before_a_server_idles_it_wakes_those_who_cannot_get_more() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.wake_after(3);
    for n in 0..3 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    client.announce_sleep();
    let requests = take_all(&mut server);
    echo(&mut server, &requests[0], 0);
    server.before_idle();
    assert_eq!(rung(), (0, 0), "two more answers are to come");
    server.park(requests[1].ticket).unwrap();
    server.park(requests[2].ticket).unwrap();
    server.before_idle();
    server.before_idle();
    assert_eq!(rung(), (0, 1), "these two may take for ever");
}

#[test]
fn a_client_that_sleeps_again_for_the_rest_is_rung_again() {
    let world = World::new(8);
    let (mut client, mut server) = (world.client(), world.server());
    client.wake_after(8);
    for n in 0..3 {
        client.submit(&READ, [n, 0, 0, 0, 0], &[]).unwrap();
    }
    client.announce_sleep();
    let requests = take_all(&mut server);
    echo(&mut server, &requests[0], 0);
    server.park(requests[1].ticket).unwrap();
    server.park(requests[2].ticket).unwrap();
    server.before_idle();
    assert_eq!(rung(), (0, 1));
    // Awake, it takes the one answer and sleeps until the same index as before, and the server sees none of that.
    client.announce_awake();
    client.poll().map(|done| client.release(done)).unwrap();
    client.announce_sleep();
    echo(&mut server, &requests[1], 0);
    server.before_idle();
    assert_eq!(rung(), (0, 1), "the other may take for ever");
    client.announce_awake();
    client.poll().map(|done| client.release(done)).unwrap();
    client.announce_sleep();
    echo(&mut server, &requests[2], 0);
    assert_eq!(rung(), (0, 1), "all that it waits for is there");
}

#[test]
fn wait_returns_what_is_ready_without_sleeping() {
    let world = World::new(4);
    let (mut client, mut server) = (world.client(), world.server());
    client.submit(&READ, [0; 5], &[]).unwrap();
    assert_eq!(wait(&mut [&mut server], None), Woken::Ready);
    assert_eq!(world.count(abi::HYPERCALL_WAIT), 0);
}

#[test]
fn wait_sleeps_until_its_time_and_says_so() {
    let world = World::new(4);
    let mut client = world.client();
    let until = rt::time::ticks() + 10_000;
    assert_eq!(wait(&mut [&mut client], Some(until)), Woken::Timeout);
    assert!(rt::time::ticks() >= until);
    assert_eq!(telemetry::get(telemetry::WAITS), 1);
    // The deadline of a request ends it too.
    client.submit(&READ, [0; 5], &[]).unwrap();
    assert_eq!(wait(&mut [&mut client], None), Woken::Timeout);
    assert!(client.poll().is_some());
}

#[test]
fn wait_tells_the_peer_while_it_sleeps_and_only_then() {
    let world = World::new(4);
    let mut server = world.server();
    let raw = world.raw();
    let asleep = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&asleep);
    fake::set_handler(Box::new(move |number, arguments| {
        if number == abi::HYPERCALL_WAIT {
            seen.set(seen.get() + raw.load_u32(abi::CHANNEL_SERVER_SLEEP));
            fake::advance(arguments[0] / 3);
        }
        (0, 0)
    }));
    // Woken for nothing three times and more, it goes back to sleep each time.
    let until = rt::time::ticks() + 9_000;
    assert_eq!(wait(&mut [&mut server], Some(until)), Woken::Timeout);
    assert!(asleep.get() >= 3);
    assert_eq!(world.raw().load_u32(abi::CHANNEL_SERVER_SLEEP), 0);
}

#[test]
fn who_is_woken_for_nothing_all_the_time_rests() {
    let (mut paid, mut now, mut rested) = (0, 1_000_000_000, 0);
    for _ in 0..1000 {
        let (next, rest) = after_false_alarm(paid, now, 500_000);
        assert_eq!(rest, 0, "a burst is nothing to worry about");
        paid = next;
    }
    for _ in 0..1000 {
        let (next, rest) = after_false_alarm(paid, now, 500_000);
        paid = next;
        now += 1_000 + rest;
        rested += rest;
    }
    assert!((498_000_000..=500_000_000).contains(&rested), "{rested}");
    assert_eq!(after_false_alarm(paid, now + 1_000_000_000, 500_000).1, 0);
    assert_eq!(after_false_alarm(0, 1, 500_000), (500_000, 499_999));
}

#[test]
fn a_storm_of_doorbells_without_requests_is_slept_through() {
    let world = World::new(4);
    let mut server = world.server();
    let rests = std::rc::Rc::new(std::cell::Cell::new(0u64));
    let seen = std::rc::Rc::clone(&rests);
    fake::advance(10_000_000_000);
    fake::set_handler(Box::new(move |_, arguments| {
        seen.set(seen.get() + arguments[1]);
        fake::advance(arguments[1] + 1_000);
        (0, 0)
    }));
    assert_eq!(wait(&mut [&mut server], Some(rt::time::ticks() + 2_000_000_000)), Woken::Timeout);
    assert!(rests.get() > 1_900_000_000, "{}", rests.get());
}

const MOST: u64 = 64_000;
const WAKE: u64 = 40_000;

#[test]
fn spinning_that_does_not_pay_decays_to_nothing() {
    let mut budget = MOST;
    for _ in 0..7 {
        budget = adapted(budget, MOST, WAKE, Outcome::Slept(10_000_000));
    }
    assert_eq!(budget, 0);
    assert_eq!(adapted(0, MOST, WAKE, Outcome::Slept(10_000_000)), 0);
}

#[test]
fn short_sleeps_bring_spinning_back() {
    let mut budget = 0;
    for _ in 0..5 {
        budget = adapted(budget, MOST, WAKE, Outcome::Slept(60_000));
    }
    assert_eq!(budget, MOST);
}

#[test]
fn success_keeps_about_twice_what_it_took() {
    let mut budget = MOST;
    for _ in 0..60 {
        budget = adapted(budget, MOST, WAKE, Outcome::Spun(1_000));
    }
    assert!((2_000..2_300).contains(&budget), "{budget}");
    assert_eq!(adapted(2_000, MOST, WAKE, Outcome::Spun(MOST)), MOST);
}

#[test]
fn there_is_no_spinning_with_one_cpu() {
    for outcome in [Outcome::Spun(5), Outcome::Slept(5), Outcome::Slept(1 << 40)] {
        assert_eq!(adapted(0, 0, WAKE, outcome), 0);
    }
    let world = World::new(4);
    fake::write(abi::Info::OFFSET_SPIN_NS, 50_000u64);
    assert_eq!(rt::info::spin_ns(), 0);
    let mut server = world.server();
    assert_eq!(wait(&mut [&mut server], Some(rt::time::ticks() + 100)), Woken::Timeout);
    assert_eq!(telemetry::get(telemetry::SPINS), 0);
}
