//! Generated from components/protocols/count.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! A ledger of amounts. Appending twice is wrong, so it is done exactly once whoever dies.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "count", number: 8, version: 1 };


/// Append an amount; its number in the ledger, from 1.
pub static ADD: Operation = Operation {
    id: 1,
    name: "add",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// An entry by its number; entry 0 is how many there are.
pub static ENTRY: Operation = Operation {
    id: 2,
    name: "entry",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 2] = [&ADD, &ENTRY];

/// Arguments of `add`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddArgs {
    pub amount: u64,
}

impl AddArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.amount,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> AddArgs {
        AddArgs {
            amount: args[0],
        }
    }
}

/// Returned values of `add`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddReturns {
    pub number: u64,
}

impl AddReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.number,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> AddReturns {
        AddReturns {
            number: args[0],
        }
    }
}

/// Arguments of `entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryArgs {
    pub number: u64,
}

impl EntryArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.number,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> EntryArgs {
        EntryArgs {
            number: args[0],
        }
    }
}

/// Returned values of `entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryReturns {
    pub amount: u64,
}

impl EntryReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.amount,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> EntryReturns {
        EntryReturns {
            amount: args[0],
        }
    }
}

/// A service that speaks count@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// Append an amount; its number in the ledger, from 1.
    /// Errors: nospc, again.
    fn add(&mut self, call: &mut Call<'_>, args: AddArgs) -> Answer<AddReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// An entry by its number; entry 0 is how many there are.
    /// Errors: range.
    fn entry(&mut self, call: &mut Call<'_>, args: EntryArgs) -> Answer<EntryReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// The answer that a request which must be done exactly once has been given before, if it has:
    /// `replies.find(call)` of the state, where `replies.keep` has put it.
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>>;

    /// A client is gone: drop what belongs to it. Its tickets are stale.
    fn session_ended(&mut self, client: ClientId) {}
}

/// Serves one bounded round of requests; how many events there were.
pub fn serve<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S) -> usize {
    port.begin_round();
    let mut events = 0;
    while let Some(event) = port.next() {
        events += 1;
        match event {
            Event::Request(request) => dispatch(port, service, request),
            Event::Ended(client) => service.session_ended(client),
        }
    }
    events
}

/// Hands one request to the service, and its answer to the client.
pub fn dispatch<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S, request: Request) {
    let ticket = request.ticket;
    let operation = match OPERATIONS.iter().find(|operation| operation.id == request.op) {
        Some(operation) => operation,
        None => return port.answer(ticket, Answer::Failed(Error::NOSYS)),
    };
    if request.length as usize > operation.input_max {
        return port.answer(ticket, Answer::Failed(Error::TOOBIG));
    }
    let mut call = Call::new(port, request, operation);
    match request.op {
        1 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.add(&mut call, AddArgs::unpack(&request.args));
            answer_add(port, ticket, answer)
        }
        2 => {
            let answer = service.entry(&mut call, EntryArgs::unpack(&request.args));
            answer_entry(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `add` kept for later; nothing happens if its client is gone.
pub fn answer_add(port: &mut ServerPort, ticket: Ticket, answer: Answer<AddReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `entry` kept for later; nothing happens if its client is gone.
pub fn answer_entry(port: &mut ServerPort, ticket: Ticket, answer: Answer<EntryReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// A client of count@1. Everything `rt::Client` can do, and a pair of
/// methods per operation: one that waits (for programs), one that only submits.
pub struct Client(rt::Client);

impl core::ops::Deref for Client {
    type Target = rt::Client;

    fn deref(&self) -> &rt::Client {
        &self.0
    }
}

impl core::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut rt::Client {
        &mut self.0
    }
}

impl Client {
    /// The client end of this interface. Requests wait until it has a server.
    pub fn connect(interface: &str) -> Result<Client, Error> {
        rt::Client::open(&PROTOCOL, interface).map(Client)
    }

    /// The client end that is channel `index`.
    pub fn attach(index: u32) -> Result<Client, Error> {
        rt::Client::attach(&PROTOCOL, index).map(Client)
    }

    /// Append an amount; its number in the ledger, from 1.
    pub fn add(&mut self, args: &AddArgs) -> Result<AddReturns, Error> {
        let reply = self.0.call(&ADD, args.pack(), &[], &mut [])?;
        Ok(AddReturns::unpack(&reply.args))
    }

    /// Submits `add`: `poll` tells when it is done.
    pub fn submit_add(&mut self, args: &AddArgs) -> Result<Tag, Error> {
        self.0.submit(&ADD, args.pack(), &[])
    }

    /// An entry by its number; entry 0 is how many there are.
    pub fn entry(&mut self, args: &EntryArgs) -> Result<EntryReturns, Error> {
        let reply = self.0.call(&ENTRY, args.pack(), &[], &mut [])?;
        Ok(EntryReturns::unpack(&reply.args))
    }

    /// Submits `entry`: `poll` tells when it is done.
    pub fn submit_entry(&mut self, args: &EntryArgs) -> Result<Tag, Error> {
        self.0.submit(&ENTRY, args.pack(), &[])
    }
}
