//! Generated from components/protocols/edu.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! QEMU's device for teaching: factorials, and DMA within the memory that the client has lent.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "edu", number: 5, version: 1 };

pub const COPY_MAX: u32 = 2048;

/// The device's identification register, after a look whether it is alive.
pub static IDENTIFY: Operation = Operation {
    id: 1,
    name: "identify",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// number! modulo 2^32, computed by the device, which interrupts at its end.
pub static FACTORIAL: Operation = Operation {
    id: 2,
    name: "factorial",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Copy within the client's pool, by DMA into the device and out of it.
pub static COPY: Operation = Operation {
    id: 3,
    name: "copy",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Write `word` to the beginning of a grant by DMA.
pub static FILL: Operation = Operation {
    id: 4,
    name: "fill",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// For tests: have the device access an I/O address that is not in its windows (direction 0: read, 1: write).
pub static OUTSIDE: Operation = Operation {
    id: 5,
    name: "outside",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// For tests: open the window on a grant and close it again, then have the device write there.
pub static FILL_CLOSED: Operation = Operation {
    id: 6,
    name: "fill_closed",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// For tests: open the window on a grant and leave it open.
pub static KEEP: Operation = Operation {
    id: 7,
    name: "keep",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// For tests: write `word` to where the window on the kept grant is, or was.
pub static FILL_KEPT: Operation = Operation {
    id: 8,
    name: "fill_kept",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 8] = [&IDENTIFY, &FACTORIAL, &COPY, &FILL, &OUTSIDE, &FILL_CLOSED, &KEEP, &FILL_KEPT];

/// Returned values of `identify`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentifyReturns {
    pub identification: u32,
}

impl IdentifyReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.identification),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> IdentifyReturns {
        IdentifyReturns {
            identification: args[0] as u32,
        }
    }
}

/// Arguments of `factorial`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactorialArgs {
    pub number: u32,
}

impl FactorialArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.number),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FactorialArgs {
        FactorialArgs {
            number: args[0] as u32,
        }
    }
}

/// Returned values of `factorial`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactorialReturns {
    pub value: u32,
}

impl FactorialReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.value),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FactorialReturns {
        FactorialReturns {
            value: args[0] as u32,
        }
    }
}

/// Arguments of `copy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyArgs {
    pub source: u64,
    pub target: u64,
    pub bytes: u32,
}

impl CopyArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.source,
            self.target,
            u64::from(self.bytes),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> CopyArgs {
        CopyArgs {
            source: args[0],
            target: args[1],
            bytes: args[2] as u32,
        }
    }
}

/// Arguments of `fill`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillArgs {
    pub grant: u64,
    pub word: u64,
}

impl FillArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.grant,
            self.word,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FillArgs {
        FillArgs {
            grant: args[0],
            word: args[1],
        }
    }
}

/// Arguments of `outside`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutsideArgs {
    pub address: u64,
    pub direction: u32,
}

impl OutsideArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.address,
            u64::from(self.direction),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> OutsideArgs {
        OutsideArgs {
            address: args[0],
            direction: args[1] as u32,
        }
    }
}

/// Arguments of `fill_closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillClosedArgs {
    pub grant: u64,
    pub word: u64,
}

impl FillClosedArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.grant,
            self.word,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FillClosedArgs {
        FillClosedArgs {
            grant: args[0],
            word: args[1],
        }
    }
}

/// Arguments of `keep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepArgs {
    pub grant: u64,
}

impl KeepArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.grant,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> KeepArgs {
        KeepArgs {
            grant: args[0],
        }
    }
}

/// Arguments of `fill_kept`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillKeptArgs {
    pub word: u64,
}

impl FillKeptArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.word,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FillKeptArgs {
        FillKeptArgs {
            word: args[0],
        }
    }
}

/// A service that speaks edu@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// The device's identification register, after a look whether it is alive.
    /// Errors: io.
    fn identify(&mut self, call: &mut Call<'_>) -> Answer<IdentifyReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// number! modulo 2^32, computed by the device, which interrupts at its end.
    /// Errors: io.
    fn factorial(&mut self, call: &mut Call<'_>, args: FactorialArgs) -> Answer<FactorialReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Copy within the client's pool, by DMA into the device and out of it.
    /// Errors: io, inval, range.
    fn copy(&mut self, call: &mut Call<'_>, args: CopyArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Write `word` to the beginning of a grant by DMA.
    /// Errors: io, noent, perm, busy.
    fn fill(&mut self, call: &mut Call<'_>, args: FillArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// For tests: have the device access an I/O address that is not in its windows (direction 0: read, 1:
    /// write).
    /// Errors: io.
    fn outside(&mut self, call: &mut Call<'_>, args: OutsideArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// For tests: open the window on a grant and close it again, then have the device write there.
    /// Errors: io, noent, perm, busy.
    fn fill_closed(&mut self, call: &mut Call<'_>, args: FillClosedArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// For tests: open the window on a grant and leave it open.
    /// Errors: noent, perm, busy.
    fn keep(&mut self, call: &mut Call<'_>, args: KeepArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// For tests: write `word` to where the window on the kept grant is, or was.
    /// Errors: io, inval.
    fn fill_kept(&mut self, call: &mut Call<'_>, args: FillKeptArgs) -> Answer<()> {
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
            let answer = service.identify(&mut call);
            answer_identify(port, ticket, answer)
        }
        2 => {
            let answer = service.factorial(&mut call, FactorialArgs::unpack(&request.args));
            answer_factorial(port, ticket, answer)
        }
        3 => {
            let answer = service.copy(&mut call, CopyArgs::unpack(&request.args));
            answer_copy(port, ticket, answer)
        }
        4 => {
            let answer = service.fill(&mut call, FillArgs::unpack(&request.args));
            answer_fill(port, ticket, answer)
        }
        5 => {
            let answer = service.outside(&mut call, OutsideArgs::unpack(&request.args));
            answer_outside(port, ticket, answer)
        }
        6 => {
            let answer = service.fill_closed(&mut call, FillClosedArgs::unpack(&request.args));
            answer_fill_closed(port, ticket, answer)
        }
        7 => {
            let answer = service.keep(&mut call, KeepArgs::unpack(&request.args));
            answer_keep(port, ticket, answer)
        }
        8 => {
            let answer = service.fill_kept(&mut call, FillKeptArgs::unpack(&request.args));
            answer_fill_kept(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `identify` kept for later; nothing happens if its client is gone.
pub fn answer_identify(port: &mut ServerPort, ticket: Ticket, answer: Answer<IdentifyReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `factorial` kept for later; nothing happens if its client is gone.
pub fn answer_factorial(port: &mut ServerPort, ticket: Ticket, answer: Answer<FactorialReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `copy` kept for later; nothing happens if its client is gone.
pub fn answer_copy(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `fill` kept for later; nothing happens if its client is gone.
pub fn answer_fill(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `outside` kept for later; nothing happens if its client is gone.
pub fn answer_outside(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `fill_closed` kept for later; nothing happens if its client is gone.
pub fn answer_fill_closed(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `keep` kept for later; nothing happens if its client is gone.
pub fn answer_keep(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `fill_kept` kept for later; nothing happens if its client is gone.
pub fn answer_fill_kept(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// A client of edu@1. Everything `rt::Client` can do, and a pair of
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

    /// The device's identification register, after a look whether it is alive.
    pub fn identify(&mut self) -> Result<IdentifyReturns, Error> {
        let reply = self.0.call(&IDENTIFY, [0; 5], &[], &mut [])?;
        Ok(IdentifyReturns::unpack(&reply.args))
    }

    /// Submits `identify`: `poll` tells when it is done.
    pub fn submit_identify(&mut self) -> Result<Tag, Error> {
        self.0.submit(&IDENTIFY, [0; 5], &[])
    }

    /// number! modulo 2^32, computed by the device, which interrupts at its end.
    pub fn factorial(&mut self, args: &FactorialArgs) -> Result<FactorialReturns, Error> {
        let reply = self.0.call(&FACTORIAL, args.pack(), &[], &mut [])?;
        Ok(FactorialReturns::unpack(&reply.args))
    }

    /// Submits `factorial`: `poll` tells when it is done.
    pub fn submit_factorial(&mut self, args: &FactorialArgs) -> Result<Tag, Error> {
        self.0.submit(&FACTORIAL, args.pack(), &[])
    }

    /// Copy within the client's pool, by DMA into the device and out of it.
    pub fn copy(&mut self, args: &CopyArgs) -> Result<(), Error> {
        self.0.call(&COPY, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `copy`: `poll` tells when it is done.
    pub fn submit_copy(&mut self, args: &CopyArgs) -> Result<Tag, Error> {
        self.0.submit(&COPY, args.pack(), &[])
    }

    /// Write `word` to the beginning of a grant by DMA.
    pub fn fill(&mut self, args: &FillArgs) -> Result<(), Error> {
        self.0.call(&FILL, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `fill`: `poll` tells when it is done.
    pub fn submit_fill(&mut self, args: &FillArgs) -> Result<Tag, Error> {
        self.0.submit(&FILL, args.pack(), &[])
    }

    /// For tests: have the device access an I/O address that is not in its windows (direction 0: read, 1:
    /// write).
    pub fn outside(&mut self, args: &OutsideArgs) -> Result<(), Error> {
        self.0.call(&OUTSIDE, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `outside`: `poll` tells when it is done.
    pub fn submit_outside(&mut self, args: &OutsideArgs) -> Result<Tag, Error> {
        self.0.submit(&OUTSIDE, args.pack(), &[])
    }

    /// For tests: open the window on a grant and close it again, then have the device write there.
    pub fn fill_closed(&mut self, args: &FillClosedArgs) -> Result<(), Error> {
        self.0.call(&FILL_CLOSED, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `fill_closed`: `poll` tells when it is done.
    pub fn submit_fill_closed(&mut self, args: &FillClosedArgs) -> Result<Tag, Error> {
        self.0.submit(&FILL_CLOSED, args.pack(), &[])
    }

    /// For tests: open the window on a grant and leave it open.
    pub fn keep(&mut self, args: &KeepArgs) -> Result<(), Error> {
        self.0.call(&KEEP, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `keep`: `poll` tells when it is done.
    pub fn submit_keep(&mut self, args: &KeepArgs) -> Result<Tag, Error> {
        self.0.submit(&KEEP, args.pack(), &[])
    }

    /// For tests: write `word` to where the window on the kept grant is, or was.
    pub fn fill_kept(&mut self, args: &FillKeptArgs) -> Result<(), Error> {
        self.0.call(&FILL_KEPT, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `fill_kept`: `poll` tells when it is done.
    pub fn submit_fill_kept(&mut self, args: &FillKeptArgs) -> Result<Tag, Error> {
        self.0.submit(&FILL_KEPT, args.pack(), &[])
    }
}
