//! Peers that break every rule: whatever they write, nobody panics, hangs or looks where it must not.

use crate::world::*;
use rt::abi::{self, Slot};
use rt::channel::Violation;
use rt::ring::{ClientRing, ServerRing};
use rt::server::{Event, BUDGET};
use rt::Source;

fn complaint(violation: Violation) -> Vec<(u64, u64)> {
    vec![(u64::from(CLIENT), violation as u64)]
}

/// A reply that keeps all rules, to the first request of a client.
fn good_reply(tag: u32) -> Slot {
    Slot { op: 1, tag, epoch: 1, length: 4, ..Slot::default() }
}

#[test]
fn every_broken_rule_of_a_reply_is_complained_about() {
    type Breaker = fn(&mut Slot);
    let rules: [(Violation, Breaker); 7] = [
        (Violation::Epoch, |slot| slot.epoch = 2),
        (Violation::Tag, |slot| slot.tag += 0x100),
        (Violation::Tag, |slot| slot.tag += 1),
        (Violation::Buffer, |slot| slot.tag = slot.tag & !0xff | 4),
        (Violation::Operation, |slot| slot.op = 2),
        (Violation::Length, |slot| slot.length = SLOT_DATA + 1),
        (Violation::Status, |slot| slot.status = 1),
    ];
    for (violation, break_rule) in rules {
        let world = World::new(4);
        let mut client = world.client();
        let tag = client.submit(&READ, [0; 5], &[]).unwrap();
        let mut slot = good_reply(tag.0);
        break_rule(&mut slot);
        let _ = ServerRing::new(world.raw(), 4).publish(&slot);
        assert_eq!(client.poll(), None, "{violation:?}");
        assert_eq!(world.complaints(), complaint(violation));
        // Broken off: the request waits for better rings, nothing is read from these.
        assert!(!client.ready());
        assert_eq!(client.poll(), None);
        assert_eq!(world.complaints().len(), 1);
        world.server_returns();
        assert_eq!(client.poll(), None);
        assert_eq!(take_all(&mut world.server()).len(), 1);
    }
}

#[test]
fn a_reply_cannot_be_given_twice() {
    let world = World::new(4);
    let mut client = world.client();
    let tag = client.submit(&READ, [0; 5], &[]).unwrap();
    let mut ring = ServerRing::new(world.raw(), 4);
    let _ = ring.publish(&good_reply(tag.0));
    let _ = ring.publish(&good_reply(tag.0));
    let done = client.poll().unwrap();
    assert_eq!(client.poll(), None);
    assert_eq!(world.complaints(), complaint(Violation::Tag));
    client.release(done);
}

#[test]
fn an_index_that_runs_ahead_is_complained_about() {
    for ahead in [5, 1000, 0x8000_0000, u32::MAX] {
        let world = World::new(4);
        let mut client = world.client();
        client.submit(&READ, [0; 5], &[]).unwrap();
        world.raw().store_u32(abi::CHANNEL_REPLY_TAIL, ahead);
        assert_eq!(client.poll(), None);
        assert_eq!(world.complaints(), complaint(Violation::Index));

        let world = World::new(4);
        let mut server = world.server();
        world.raw().store_u32(abi::CHANNEL_REQUEST_TAIL, ahead);
        assert!(take_all(&mut server).is_empty());
        assert_eq!(world.complaints(), [(u64::from(SERVER), Violation::Index as u64)]);
        assert!(take_all(&mut server).is_empty());
        assert!(!server.ready());
    }
}

#[test]
fn every_broken_rule_of_a_request_is_complained_about() {
    type Breaker = fn(&mut Slot);
    let rules: [(Violation, Breaker); 4] = [
        (Violation::Epoch, |slot| slot.epoch = 0),
        (Violation::Buffer, |slot| slot.tag = 0x104),
        (Violation::Tag, |slot| slot.tag = 0x300),
        (Violation::Length, |slot| slot.length = SLOT_DATA + 1),
    ];
    for (violation, break_rule) in rules {
        let world = World::new(4);
        let mut server = world.server();
        let mut ring = ClientRing::new(world.raw(), 4);
        ring.publish(&Slot { op: 1, tag: 0x200, epoch: 1, ..Slot::default() });
        let mut slot = Slot { op: 1, tag: 0x201, epoch: 1, ..Slot::default() };
        break_rule(&mut slot);
        ring.publish(&slot);
        let mut events = Vec::new();
        for _ in 0..3 {
            server.begin_round();
            while let Some(event) = server.next() {
                events.push(event);
            }
        }
        assert!(matches!(events[..], [Event::Request(_), Event::Ended(_)]), "{violation:?}: {events:?}");
        assert_eq!(world.complaints(), [(u64::from(SERVER), violation as u64)]);
        assert!(!server.ready());
    }
}

/// Random garbage over all of the rings, with every now and then something that is nearly right.
fn scribble(world: &World, random: &mut Random, tags: &[u32]) {
    let raw = world.raw();
    for _ in 0..random.below(20) {
        let offset = random.below(abi::CHANNEL_REQUESTS as u64 + 2 * 64 * u64::from(world.slots)) as usize & !7;
        raw.store_u64(offset, random.next());
    }
    let slots = u64::from(world.slots);
    for index in [abi::CHANNEL_REQUEST_TAIL, abi::CHANNEL_REPLY_TAIL, abi::CHANNEL_REQUEST_HEAD] {
        if random.below(2) == 0 {
            raw.store_u32(index, raw.load_u32(index).wrapping_add(random.below(slots + 2) as u32));
        }
    }
    for first in [abi::CHANNEL_REQUESTS, world.replies_at()] {
        for slot in 0..world.slots as usize {
            let at = first + slot * Slot::SIZE;
            let tag = match tags.len() as u64 {
                0 => random.next() as u32,
                count => tags[random.below(count) as usize],
            };
            raw.store_u16(at + Slot::OFFSET_OP, random.below(6) as u16);
            raw.store_u32(at + Slot::OFFSET_TAG, tag);
            raw.store_u32(at + Slot::OFFSET_EPOCH, *world.epoch.borrow());
            raw.store_u32(at + Slot::OFFSET_STATUS, if random.below(8) == 0 { random.next() as u32 } else { 0 });
            raw.store_u32(at + Slot::OFFSET_LENGTH, random.below(u64::from(SLOT_DATA) + 2) as u32);
        }
    }
}

#[test]
fn a_client_survives_any_server() {
    for seed in 1..400u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let world = World::new(1 << random.below(5));
        let mut client = world.client();
        let mut tags = Vec::new();
        for _ in 0..50 {
            for operation in [&READ, &OPEN, &CLOSE, &SEND] {
                if let Ok(tag) = client.submit(operation, [random.below(4), 0, 0, 0, 0], &[1, 2, 3]) {
                    tags.push(tag.0);
                }
            }
            scribble(&world, &mut random, &tags);
            let mut completions = 0;
            while let Some(done) = client.poll() {
                completions += 1;
                assert!(completions <= 2 * world.slots, "a client that is kept busy for ever");
                if let Ok(reply) = done.result {
                    let mut bytes = vec![0; reply.length as usize];
                    client.copy_out(&done, 0, &mut bytes).unwrap();
                }
                client.release(done);
            }
            let _ = client.ready();
            if random.below(4) == 0 {
                world.server_dies();
                let _ = client.poll().map(|done| client.release(done));
                world.server_returns();
            }
        }
    }
}

#[test]
fn a_server_survives_any_client() {
    for seed in 1..400u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let world = World::new(1 << random.below(5));
        let mut server = world.server();
        let mut tickets = Vec::new();
        for _ in 0..50 {
            let tags: Vec<u32> = (0..world.slots).map(|buffer| (random.next() as u32) << 8 | buffer).collect();
            scribble(&world, &mut random, &tags);
            server.begin_round();
            let mut events = 0;
            while let Some(event) = server.next() {
                events += 1;
                assert!(events <= BUDGET + 2, "a server that is kept busy for ever");
                if let Event::Request(request) = event {
                    assert!(request.length <= SLOT_DATA);
                    let mut bytes = vec![0; request.length as usize];
                    server.data(request.ticket).unwrap().copy_out(0, &mut bytes).unwrap();
                    tickets.push(request.ticket);
                }
            }
            while !tickets.is_empty() && random.below(4) > 0 {
                let ticket = tickets.swap_remove(random.below(tickets.len() as u64) as usize);
                let _ = server.park(ticket);
                let _ = server.reply(ticket, Ok(([1; 5], random.next() as u32)));
            }
            server.before_idle();
            if random.below(4) == 0 {
                world.client_dies();
                if random.below(2) == 0 {
                    let _ = take_all(&mut server);
                }
                world.client_returns();
            }
        }
    }
}
