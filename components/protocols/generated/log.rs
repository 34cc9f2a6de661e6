//! Generated from components/protocols/log.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! Output of programs and lines for the structured log.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "log", number: 3, version: 1 };

pub const RECORD_MAX: u32 = 900;

// stream
pub const STREAM_STDOUT: u32 = 1;
pub const STREAM_STDERR: u32 = 2;

/// Bytes of a stream at an absolute position, counted per client and stream from 0; a repeat is harmless.
/// Returns the position reached.
pub static WRITE: Operation = Operation {
    id: 1,
    name: "write",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: usize::MAX,
    output_max: 0,
};

/// A line for the structured log (levels as in the ABI). A replay may write it twice, which a log can bear.
pub static RECORD: Operation = Operation {
    id: 2,
    name: "record",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 900,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 2] = [&WRITE, &RECORD];

/// Arguments of `write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteArgs {
    pub position: u64,
    pub stream: u32,
}

impl WriteArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            u64::from(self.stream),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteArgs {
        WriteArgs {
            position: args[0],
            stream: args[1] as u32,
        }
    }
}

/// Returned values of `write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReturns {
    pub position: u64,
}

impl WriteReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteReturns {
        WriteReturns {
            position: args[0],
        }
    }
}

/// Arguments of `record`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordArgs {
    pub level: u32,
}

impl RecordArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.level),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> RecordArgs {
        RecordArgs {
            level: args[0] as u32,
        }
    }
}

/// A service that speaks log@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// Bytes of a stream at an absolute position, counted per client and stream from 0; a repeat is harmless.
    /// Returns the position reached.
    /// Errors: inval, io, gap.
    fn write(&mut self, call: &mut Call<'_>, args: WriteArgs) -> Answer<WriteReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// A line for the structured log (levels as in the ABI). A replay may write it twice, which a log can
    /// bear.
    /// Errors: inval.
    fn record(&mut self, call: &mut Call<'_>, args: RecordArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

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
            let answer = service.write(&mut call, WriteArgs::unpack(&request.args));
            answer_write(port, ticket, answer)
        }
        2 => {
            let answer = service.record(&mut call, RecordArgs::unpack(&request.args));
            answer_record(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `write` kept for later; nothing happens if its client is gone.
pub fn answer_write(port: &mut ServerPort, ticket: Ticket, answer: Answer<WriteReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `record` kept for later; nothing happens if its client is gone.
pub fn answer_record(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// A client of log@1. Everything `rt::Client` can do, and a pair of
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

    /// Bytes of a stream at an absolute position, counted per client and stream from 0; a repeat is harmless.
    /// Returns the position reached.
    pub fn write(&mut self, args: &WriteArgs, input: &[u8]) -> Result<WriteReturns, Error> {
        let reply = self.0.call(&WRITE, args.pack(), input, &mut [])?;
        Ok(WriteReturns::unpack(&reply.args))
    }

    /// Submits `write`: `poll` tells when it is done.
    pub fn submit_write(&mut self, args: &WriteArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&WRITE, args.pack(), input)
    }

    /// A line for the structured log (levels as in the ABI). A replay may write it twice, which a log can
    /// bear.
    pub fn record(&mut self, args: &RecordArgs, input: &[u8]) -> Result<(), Error> {
        self.0.call(&RECORD, args.pack(), input, &mut []).map(drop)
    }

    /// Submits `record`: `poll` tells when it is done.
    pub fn submit_record(&mut self, args: &RecordArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&RECORD, args.pack(), input)
    }
}
