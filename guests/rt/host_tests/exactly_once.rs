//! Requests that are done once: by a server with a log of its replies, by a client with an outbox, with deaths between.

use crate::state::Memory;
use crate::world::*;
use rt::abi::{self, Info};
use rt::server::Request;
use rt::state::{Cell, Outbox, Replies, State};
use rt::{fake, Answer, Call, Client, Error, Operation, ServerPort, Tag};

rt::state::plain! {
    struct Service {
        replies: Replies<1, 4>,
        done: Cell<u64>,
    }
}

rt::state::plain! {
    struct Customer {
        outbox: Outbox<4>,
        seen: Cell<u64>,
    }
}

static ONCE: Operation = Operation { idempotent: false, exactly_once: true, ..READ };
static OPERATIONS: [&Operation; 1] = [&ONCE];
const SIZE: usize = 32 << 10;

fn begin_instance(number: u64) {
    fake::write(Info::OFFSET_INSTANCE, number);
}

/// What a server of `ONCE` does: counts the requests it has done, and answers with that number and three bytes.
fn serve(port: &mut ServerPort, state: &State<Service>, request: Request) -> Answer<[u64; 5]> {
    let call = Call::new(port, request, &ONCE);
    if let Some(answer) = state.replies.find(&call) {
        return answer;
    }
    let number = state.done.get() + 1;
    let bytes = [number as u8; 3];
    let answer = Answer::Data([number, 7, 0, 0, 0], 3);
    call.output().unwrap().copy_in(0, &bytes).unwrap();
    let mut tx = state.begin();
    state.done.set(&mut tx, number);
    state.replies.keep(&mut tx, call.id(), &answer, &bytes).unwrap();
    tx.commit().unwrap();
    answer
}

fn answer_all(port: &mut ServerPort, state: &State<Service>) -> usize {
    let requests = take_all(port);
    for request in &requests {
        let answer = serve(port, state, *request);
        port.answer(request.ticket, answer);
    }
    requests.len()
}

fn open<R: rt::state::Plain>(memory: &Memory) -> State<R> {
    memory.open_as(1, abi::ON_CORRUPTION_OLDER_COPY).0
}

/// The client has died, and its successor's rings are there: this world clears them when the server reconnects.
fn exchange_client(world: &World, server: &mut ServerPort) {
    world.client_dies();
    take_all(server);
    world.client_returns();
    take_all(server);
}

fn results(client: &mut Client) -> Vec<(Tag, u64, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(done) = client.poll() {
        let reply = done.result.unwrap();
        let mut bytes = vec![0; reply.length as usize];
        client.copy_out(&done, 0, &mut bytes).unwrap();
        found.push((done.tag, reply.args[0], bytes));
        client.release(done);
    }
    found
}

#[test]
fn what_was_done_before_a_death_is_answered_from_the_log() {
    let world = World::new(4);
    begin_instance(1);
    let memory = Memory::new(SIZE);
    let (mut client, mut server, mut state) = (world.client(), world.server(), open::<Service>(&memory));
    let tags: Vec<Tag> = (0..3).map(|n| client.submit(&ONCE, [n, 0, 0, 0, 0], b"in").unwrap()).collect();
    // Two are done; the server dies before it can say so.
    for request in take_all(&mut server).into_iter().take(2) {
        serve(&mut server, &state, request);
    }
    for _ in 0..3 {
        world.server_dies();
        world.server_returns();
        assert_eq!(client.poll(), None);
        state = open(&memory);
        server = world.server();
    }
    assert_eq!(answer_all(&mut server, &state), 3);
    assert_eq!(results(&mut client), (0..3).map(|n| (tags[n], n as u64 + 1, vec![n as u8 + 1; 3])).collect::<Vec<_>>());
    assert_eq!(state.done.get(), 3);
}

#[test]
fn a_client_without_state_begins_a_session_of_its_own() {
    let world = World::new(4);
    begin_instance(1);
    let memory = Memory::new(SIZE);
    let (mut server, state) = (world.server(), open::<Service>(&memory));
    for instance in 1..4 {
        begin_instance(instance);
        let mut client = world.client();
        client.submit(&ONCE, [0; 5], &[]).unwrap();
        assert_eq!(answer_all(&mut server, &state), 1);
        assert_eq!(results(&mut client)[0].1, instance);
        exchange_client(&world, &mut server);
    }
}

#[test]
fn errors_and_plain_answers_are_kept_and_strange_ones_refused() {
    let world = World::new(4);
    begin_instance(1);
    let memory = Memory::new(SIZE);
    let (mut client, mut server, state) = (world.client(), world.server(), open::<Service>(&memory));
    client.submit(&ONCE, [5; 5], &[]).unwrap();
    let request = take_all(&mut server)[0];
    for answer in [Answer::Failed(Error::NOSPC), Answer::Done([9; 5])] {
        let mut tx = state.begin();
        let id = Call::new(&mut server, request, &ONCE).id();
        assert_eq!(state.replies.keep(&mut tx, id, &Answer::Later, &[]), Err(Error::INVAL));
        assert_eq!(state.replies.keep(&mut tx, id, &answer, &[0; 65]), Err(Error::TOOBIG));
        let far = rt::state::RequestId { client: 1, ..id };
        assert_eq!(state.replies.keep(&mut tx, far, &answer, &[]), Err(Error::RANGE));
        state.replies.keep(&mut tx, id, &answer, &[]).unwrap();
        tx.commit().unwrap();
        assert_eq!(state.replies.find(&Call::new(&mut server, request, &ONCE)), Some(answer));
    }
    // The same tag of another session, or for another request, is another request.
    for (op, session, args) in [(1, 2, [5; 5]), (1, 1, [6; 5]), (1, 0, [5; 5])] {
        let mut other = request;
        other.id = rt::state::RequestId { session, ..request.id };
        if args != request.args {
            other.id.digest ^= 1;
        }
        other.op = op;
        assert_eq!(state.replies.find(&Call::new(&mut server, other, &ONCE)), None);
    }
}

/// A client with an outbox and a server with a log, either of which dies, at every moment there is between the two.
#[test]
fn a_chain_counts_once_whoever_dies() {
    let mut random = Random(31);
    for round in 0..300 {
        let world = World::new(8);
        let (near, far) = (Memory::new(SIZE), Memory::new(SIZE));
        let mut instance = 1;
        begin_instance(instance);
        let (mut customer, mut service) = (open::<Customer>(&near), open::<Service>(&far));
        let (mut client, mut server) = (world.client(), world.server());
        client.submit_all(&customer.outbox, &OPERATIONS);
        let mut asked = 0;
        let mut waiting: Vec<Request> = Vec::new();
        while customer.seen.get() < 30 {
            match random.below(12) {
                0 => {
                    // The client dies: what it knew is gone, but for its state.
                    exchange_client(&world, &mut server);
                    waiting.clear();
                    instance += 1;
                    begin_instance(instance);
                    customer = open(&near);
                    client = world.client();
                    client.submit_all(&customer.outbox, &OPERATIONS);
                }
                1 => {
                    world.server_dies();
                    waiting.clear();
                    world.server_returns();
                    assert_eq!(client.poll_for(Tag(0)), None); // reconnects
                    service = open(&far);
                    server = world.server();
                }
                2..=4 if asked < 30 && customer.outbox.has_room() => {
                    let mut tx = customer.begin();
                    let cause = rt::state::RequestId { client: 0, session: 0, tag: asked as u32 + 1, digest: 0 };
                    let tag = customer.outbox.put(&mut tx, &ONCE, [asked, 1, 0, 0, 0], &[1, 2], cause).unwrap();
                    if random.below(3) == 0 {
                        drop(tx); // it has not happened, and is asked again
                        continue;
                    }
                    tx.commit().unwrap();
                    asked += 1;
                    assert_eq!(customer.outbox.find(&cause), Some(tag));
                    if random.below(3) > 0 {
                        client.submit_all(&customer.outbox, &OPERATIONS);
                    }
                }
                5..=7 => {
                    waiting.extend(take_all(&mut server));
                    if !waiting.is_empty() {
                        let request = waiting.remove(0);
                        let answer = serve(&mut server, &service, request);
                        if random.below(3) > 0 {
                            server.answer(request.ticket, answer);
                        } else {
                            waiting.insert(0, request); // later; done it is
                        }
                    }
                }
                8..=10 => {
                    client.submit_all(&customer.outbox, &OPERATIONS);
                    if let Some(done) = client.poll() {
                        let mut tx = customer.begin();
                        let reply = done.result.unwrap();
                        let cause = customer.outbox.take(&mut tx, done.tag).unwrap();
                        assert!(cause.tag > 0);
                        assert_eq!(customer.outbox.take(&mut tx, done.tag), Err(Error::NOENT));
                        assert_eq!(reply.args[1], 7);
                        customer.seen.set(&mut tx, customer.seen.get() + 1);
                        tx.commit().unwrap();
                        client.release(done);
                    }
                }
                _ => {}
            }
        }
        assert_eq!((asked, service.done.get()), (30, 30), "round {round}");
        assert!(world.complaints().is_empty());
    }
}

#[test]
fn an_outbox_has_so_many_places() {
    let world = World::new(8);
    begin_instance(1);
    let memory = Memory::new(SIZE);
    let (mut client, customer) = (world.client(), open::<Customer>(&memory));
    client.submit_all(&customer.outbox, &OPERATIONS);
    let cause = rt::state::RequestId { client: 0, session: 1, tag: 256, digest: 0 };
    let mut tx = customer.begin();
    assert_eq!(customer.outbox.put(&mut tx, &ONCE, [0; 5], &[0; 65], cause), Err(Error::TOOBIG));
    for number in 0..4 {
        customer.outbox.put(&mut tx, &ONCE, [number; 5], &[number as u8; 64], cause).unwrap();
    }
    assert_eq!(customer.outbox.put(&mut tx, &ONCE, [0; 5], &[], cause), Err(Error::AGAIN));
    tx.commit().unwrap();
    // Requests that are not in it have the other buffers.
    let other = client.submit(&READ, [9; 5], &[]).unwrap();
    assert!(other.0 & 0xff >= 4);
    client.submit_all(&customer.outbox, &OPERATIONS);
    client.submit_all(&customer.outbox, &OPERATIONS);
    let mut server = world.server();
    let requests = take_all(&mut server);
    let values: Vec<u64> = requests.iter().map(|request| request.args[0]).collect();
    assert_eq!(values, [9, 0, 1, 2, 3]);
    assert!(requests[1..].iter().all(|request| request.length == 64 && request.id.session == 1));
    // A server that is gone for ever answers what is written down, too.
    fake::set_status(CLIENT, abi::CHANNEL_STATE_GONE, 1);
    let mut failed = 0;
    while let Some(done) = client.poll() {
        assert_eq!(done.result, Err(Error::DEAD));
        failed += 1;
        client.release(done);
    }
    assert_eq!(failed, 5);
    client.submit_all(&customer.outbox, &OPERATIONS);
    assert_eq!(client.outstanding(), 4);
}
