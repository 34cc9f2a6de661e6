//! Generated from components/protocols/blk.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! Blocks of a disk: sectors of 512 bytes, data in the client's pool or in a grant.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "blk", number: 1, version: 1 };

pub const SECTOR_BYTES: u32 = 512;
pub const FEATURE_READ_ONLY: u32 = 1;
pub const FEATURE_FLUSH: u32 = 2;
pub const FEATURE_DISCARD: u32 = 4;

/// What the disk is like; max_bytes is the most that one request may transfer, block_bytes the best unit.
pub static INFO: Operation = Operation {
    id: 1,
    name: "info",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Read `bytes` (a multiple of 512) from `sector` into the pool.
pub static READ: Operation = Operation {
    id: 2,
    name: "read",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Write `bytes` (a multiple of 512) from the pool to `sector`. Durable after the next flush. Not replayed.
pub static WRITE: Operation = Operation {
    id: 3,
    name: "write",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Everything written and answered before is durable when this is answered.
pub static FLUSH: Operation = Operation {
    id: 4,
    name: "flush",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// The contents of these sectors are not needed any more.
pub static DISCARD: Operation = Operation {
    id: 5,
    name: "discard",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Read `bytes` from `sector` into a grant lent for writing.
pub static READ_GRANT: Operation = Operation {
    id: 6,
    name: "read_grant",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Write `bytes` from a grant lent for reading to `sector`.
pub static WRITE_GRANT: Operation = Operation {
    id: 7,
    name: "write_grant",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 7] = [&INFO, &READ, &WRITE, &FLUSH, &DISCARD, &READ_GRANT, &WRITE_GRANT];

/// Returned values of `info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoReturns {
    pub sectors: u64,
    pub block_bytes: u32,
    pub features: u32,
    pub max_bytes: u32,
}

impl InfoReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sectors,
            u64::from(self.block_bytes) | u64::from(self.features) << 32,
            u64::from(self.max_bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> InfoReturns {
        InfoReturns {
            sectors: args[0],
            block_bytes: args[1] as u32,
            features: (args[1] >> 32) as u32,
            max_bytes: args[2] as u32,
        }
    }
}

/// Arguments of `read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadArgs {
    pub sector: u64,
    pub pool_offset: u64,
    pub bytes: u32,
}

impl ReadArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sector,
            self.pool_offset,
            u64::from(self.bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadArgs {
        ReadArgs {
            sector: args[0],
            pool_offset: args[1],
            bytes: args[2] as u32,
        }
    }
}

/// Returned values of `read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadReturns {
    pub bytes: u32,
}

impl ReadReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadReturns {
        ReadReturns {
            bytes: args[0] as u32,
        }
    }
}

/// Arguments of `write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteArgs {
    pub sector: u64,
    pub pool_offset: u64,
    pub bytes: u32,
}

impl WriteArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sector,
            self.pool_offset,
            u64::from(self.bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteArgs {
        WriteArgs {
            sector: args[0],
            pool_offset: args[1],
            bytes: args[2] as u32,
        }
    }
}

/// Returned values of `write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReturns {
    pub bytes: u32,
}

impl WriteReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteReturns {
        WriteReturns {
            bytes: args[0] as u32,
        }
    }
}

/// Arguments of `discard`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscardArgs {
    pub sector: u64,
    pub sectors: u64,
}

impl DiscardArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sector,
            self.sectors,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> DiscardArgs {
        DiscardArgs {
            sector: args[0],
            sectors: args[1],
        }
    }
}

/// Arguments of `read_grant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadGrantArgs {
    pub sector: u64,
    pub grant: u64,
    pub bytes: u32,
}

impl ReadGrantArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sector,
            self.grant,
            u64::from(self.bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadGrantArgs {
        ReadGrantArgs {
            sector: args[0],
            grant: args[1],
            bytes: args[2] as u32,
        }
    }
}

/// Returned values of `read_grant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadGrantReturns {
    pub bytes: u32,
}

impl ReadGrantReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadGrantReturns {
        ReadGrantReturns {
            bytes: args[0] as u32,
        }
    }
}

/// Arguments of `write_grant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteGrantArgs {
    pub sector: u64,
    pub grant: u64,
    pub bytes: u32,
}

impl WriteGrantArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.sector,
            self.grant,
            u64::from(self.bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteGrantArgs {
        WriteGrantArgs {
            sector: args[0],
            grant: args[1],
            bytes: args[2] as u32,
        }
    }
}

/// Returned values of `write_grant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteGrantReturns {
    pub bytes: u32,
}

impl WriteGrantReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> WriteGrantReturns {
        WriteGrantReturns {
            bytes: args[0] as u32,
        }
    }
}

/// A service that speaks blk@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// What the disk is like; max_bytes is the most that one request may transfer, block_bytes the best unit.
    /// Errors: io.
    fn info(&mut self, call: &mut Call<'_>) -> Answer<InfoReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Read `bytes` (a multiple of 512) from `sector` into the pool.
    /// Errors: io, inval, range.
    fn read(&mut self, call: &mut Call<'_>, args: ReadArgs) -> Answer<ReadReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Write `bytes` (a multiple of 512) from the pool to `sector`. Durable after the next flush. Not
    /// replayed.
    /// Errors: io, inval, range, rofs, nospc.
    fn write(&mut self, call: &mut Call<'_>, args: WriteArgs) -> Answer<WriteReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Everything written and answered before is durable when this is answered.
    /// Errors: io.
    fn flush(&mut self, call: &mut Call<'_>) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// The contents of these sectors are not needed any more.
    /// Errors: io, inval, range, rofs, nosys.
    fn discard(&mut self, call: &mut Call<'_>, args: DiscardArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Read `bytes` from `sector` into a grant lent for writing.
    /// Errors: io, inval, range, access.
    fn read_grant(&mut self, call: &mut Call<'_>, args: ReadGrantArgs) -> Answer<ReadGrantReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Write `bytes` from a grant lent for reading to `sector`.
    /// Errors: io, inval, range, access, rofs, nospc.
    fn write_grant(&mut self, call: &mut Call<'_>, args: WriteGrantArgs) -> Answer<WriteGrantReturns> {
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
            let answer = service.info(&mut call);
            answer_info(port, ticket, answer)
        }
        2 => {
            let answer = service.read(&mut call, ReadArgs::unpack(&request.args));
            answer_read(port, ticket, answer)
        }
        3 => {
            let answer = service.write(&mut call, WriteArgs::unpack(&request.args));
            answer_write(port, ticket, answer)
        }
        4 => {
            let answer = service.flush(&mut call);
            answer_flush(port, ticket, answer)
        }
        5 => {
            let answer = service.discard(&mut call, DiscardArgs::unpack(&request.args));
            answer_discard(port, ticket, answer)
        }
        6 => {
            let answer = service.read_grant(&mut call, ReadGrantArgs::unpack(&request.args));
            answer_read_grant(port, ticket, answer)
        }
        7 => {
            let answer = service.write_grant(&mut call, WriteGrantArgs::unpack(&request.args));
            answer_write_grant(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `info` kept for later; nothing happens if its client is gone.
pub fn answer_info(port: &mut ServerPort, ticket: Ticket, answer: Answer<InfoReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `read` kept for later; nothing happens if its client is gone.
pub fn answer_read(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReadReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `write` kept for later; nothing happens if its client is gone.
pub fn answer_write(port: &mut ServerPort, ticket: Ticket, answer: Answer<WriteReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `flush` kept for later; nothing happens if its client is gone.
pub fn answer_flush(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `discard` kept for later; nothing happens if its client is gone.
pub fn answer_discard(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `read_grant` kept for later; nothing happens if its client is gone.
pub fn answer_read_grant(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReadGrantReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `write_grant` kept for later; nothing happens if its client is gone.
pub fn answer_write_grant(port: &mut ServerPort, ticket: Ticket, answer: Answer<WriteGrantReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// A client of blk@1. Everything `rt::Client` can do, and a pair of
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

    /// What the disk is like; max_bytes is the most that one request may transfer, block_bytes the best unit.
    pub fn info(&mut self) -> Result<InfoReturns, Error> {
        let reply = self.0.call(&INFO, [0; 5], &[], &mut [])?;
        Ok(InfoReturns::unpack(&reply.args))
    }

    /// Submits `info`: `poll` tells when it is done.
    pub fn submit_info(&mut self) -> Result<Tag, Error> {
        self.0.submit(&INFO, [0; 5], &[])
    }

    /// Read `bytes` (a multiple of 512) from `sector` into the pool.
    pub fn read(&mut self, args: &ReadArgs) -> Result<ReadReturns, Error> {
        let reply = self.0.call(&READ, args.pack(), &[], &mut [])?;
        Ok(ReadReturns::unpack(&reply.args))
    }

    /// Submits `read`: `poll` tells when it is done.
    pub fn submit_read(&mut self, args: &ReadArgs) -> Result<Tag, Error> {
        self.0.submit(&READ, args.pack(), &[])
    }

    /// Write `bytes` (a multiple of 512) from the pool to `sector`. Durable after the next flush. Not
    /// replayed.
    pub fn write(&mut self, args: &WriteArgs) -> Result<WriteReturns, Error> {
        let reply = self.0.call(&WRITE, args.pack(), &[], &mut [])?;
        Ok(WriteReturns::unpack(&reply.args))
    }

    /// Submits `write`: `poll` tells when it is done.
    pub fn submit_write(&mut self, args: &WriteArgs) -> Result<Tag, Error> {
        self.0.submit(&WRITE, args.pack(), &[])
    }

    /// Everything written and answered before is durable when this is answered.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.0.call(&FLUSH, [0; 5], &[], &mut []).map(drop)
    }

    /// Submits `flush`: `poll` tells when it is done.
    pub fn submit_flush(&mut self) -> Result<Tag, Error> {
        self.0.submit(&FLUSH, [0; 5], &[])
    }

    /// The contents of these sectors are not needed any more.
    pub fn discard(&mut self, args: &DiscardArgs) -> Result<(), Error> {
        self.0.call(&DISCARD, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `discard`: `poll` tells when it is done.
    pub fn submit_discard(&mut self, args: &DiscardArgs) -> Result<Tag, Error> {
        self.0.submit(&DISCARD, args.pack(), &[])
    }

    /// Read `bytes` from `sector` into a grant lent for writing.
    pub fn read_grant(&mut self, args: &ReadGrantArgs) -> Result<ReadGrantReturns, Error> {
        let reply = self.0.call(&READ_GRANT, args.pack(), &[], &mut [])?;
        Ok(ReadGrantReturns::unpack(&reply.args))
    }

    /// Submits `read_grant`: `poll` tells when it is done.
    pub fn submit_read_grant(&mut self, args: &ReadGrantArgs) -> Result<Tag, Error> {
        self.0.submit(&READ_GRANT, args.pack(), &[])
    }

    /// Write `bytes` from a grant lent for reading to `sector`.
    pub fn write_grant(&mut self, args: &WriteGrantArgs) -> Result<WriteGrantReturns, Error> {
        let reply = self.0.call(&WRITE_GRANT, args.pack(), &[], &mut [])?;
        Ok(WriteGrantReturns::unpack(&reply.args))
    }

    /// Submits `write_grant`: `poll` tells when it is done.
    pub fn submit_write_grant(&mut self, args: &WriteGrantArgs) -> Result<Tag, Error> {
        self.0.submit(&WRITE_GRANT, args.pack(), &[])
    }
}
