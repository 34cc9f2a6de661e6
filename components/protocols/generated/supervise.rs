//! Generated from components/protocols/supervise.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! What is to happen to a component that failed.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "supervise", number: 4, version: 1 };

pub const STEPS_MAX: u32 = 64;

// policy
pub const POLICY_ALWAYS: u32 = 0;
pub const POLICY_NEVER: u32 = 1;
pub const POLICY_BACKOFF: u32 = 2;

// action
pub const ACTION_RESTART: u32 = 0;
pub const ACTION_RESTART_AFTER_DELAY: u32 = 1;
pub const ACTION_GIVE_UP: u32 = 2;

/// How a component wants to be treated: given up after more than `restarts` restarts within `within_ms` (0:
/// never). The input is the backoff table: `steps` delays, u32 milliseconds each. A repeat replaces.
/// `foreseen`: 1 if the next death, whenever it comes, will be answered by a restart at once, so that nobody
/// has to wait for the verdict on it. `poisoned`: 0, or what to try against poisoned state: bits 0 to 15 up
/// to four numbers of the ABI's `cure`, four bits each, the first lowest; bits 16 to 31 from which death in a
/// row on; bits 32 to 63 within how many milliseconds after a restart a death belongs to the row.
pub static CONFIGURE: Operation = Operation {
    id: 1,
    name: "configure",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 256,
    output_max: 0,
};

/// A component's instance of this epoch has ended. Asked again about the same epoch, the verdict is the same.
/// `foreseen`: of the death after this one, as above. `cure`: what the successor is to do about poisoned
/// state.
pub static FAULT: Operation = Operation {
    id: 2,
    name: "fault",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 2] = [&CONFIGURE, &FAULT];

/// Arguments of `configure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigureArgs {
    pub component: u32,
    pub policy: u32,
    pub restarts: u32,
    pub within_ms: u32,
    pub steps: u32,
    pub reserved: u32,
    pub poisoned: u64,
}

impl ConfigureArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.component) | u64::from(self.policy) << 32,
            u64::from(self.restarts) | u64::from(self.within_ms) << 32,
            u64::from(self.steps) | u64::from(self.reserved) << 32,
            self.poisoned,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ConfigureArgs {
        ConfigureArgs {
            component: args[0] as u32,
            policy: (args[0] >> 32) as u32,
            restarts: args[1] as u32,
            within_ms: (args[1] >> 32) as u32,
            steps: args[2] as u32,
            reserved: (args[2] >> 32) as u32,
            poisoned: args[3],
        }
    }
}

/// Returned values of `configure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigureReturns {
    pub foreseen: u32,
}

impl ConfigureReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.foreseen),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ConfigureReturns {
        ConfigureReturns {
            foreseen: args[0] as u32,
        }
    }
}

/// Arguments of `fault`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultArgs {
    pub component: u32,
    pub kind: u32,
    pub epoch: u32,
    pub reserved: u32,
    pub now_ns: u64,
}

impl FaultArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.component) | u64::from(self.kind) << 32,
            u64::from(self.epoch) | u64::from(self.reserved) << 32,
            self.now_ns,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FaultArgs {
        FaultArgs {
            component: args[0] as u32,
            kind: (args[0] >> 32) as u32,
            epoch: args[1] as u32,
            reserved: (args[1] >> 32) as u32,
            now_ns: args[2],
        }
    }
}

/// Returned values of `fault`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultReturns {
    pub action: u32,
    pub delay_ms: u32,
    pub foreseen: u32,
    pub cure: u32,
}

impl FaultReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.action) | u64::from(self.delay_ms) << 32,
            u64::from(self.foreseen) | u64::from(self.cure) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> FaultReturns {
        FaultReturns {
            action: args[0] as u32,
            delay_ms: (args[0] >> 32) as u32,
            foreseen: args[1] as u32,
            cure: (args[1] >> 32) as u32,
        }
    }
}

/// A service that speaks supervise@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// How a component wants to be treated: given up after more than `restarts` restarts within `within_ms`
    /// (0: never). The input is the backoff table: `steps` delays, u32 milliseconds each. A repeat replaces.
    /// `foreseen`: 1 if the next death, whenever it comes, will be answered by a restart at once, so that
    /// nobody has to wait for the verdict on it. `poisoned`: 0, or what to try against poisoned state: bits 0
    /// to 15 up to four numbers of the ABI's `cure`, four bits each, the first lowest; bits 16 to 31 from
    /// which death in a row on; bits 32 to 63 within how many milliseconds after a restart a death belongs to
    /// the row.
    /// Errors: inval, nospc.
    fn configure(&mut self, call: &mut Call<'_>, args: ConfigureArgs) -> Answer<ConfigureReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// A component's instance of this epoch has ended. Asked again about the same epoch, the verdict is the
    /// same. `foreseen`: of the death after this one, as above. `cure`: what the successor is to do about
    /// poisoned state.
    /// Errors: noent, stale.
    fn fault(&mut self, call: &mut Call<'_>, args: FaultArgs) -> Answer<FaultReturns> {
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
            let answer = service.configure(&mut call, ConfigureArgs::unpack(&request.args));
            answer_configure(port, ticket, answer)
        }
        2 => {
            let answer = service.fault(&mut call, FaultArgs::unpack(&request.args));
            answer_fault(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `configure` kept for later; nothing happens if its client is gone.
pub fn answer_configure(port: &mut ServerPort, ticket: Ticket, answer: Answer<ConfigureReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `fault` kept for later; nothing happens if its client is gone.
pub fn answer_fault(port: &mut ServerPort, ticket: Ticket, answer: Answer<FaultReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// A client of supervise@1. Everything `rt::Client` can do, and a pair of
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

    /// How a component wants to be treated: given up after more than `restarts` restarts within `within_ms`
    /// (0: never). The input is the backoff table: `steps` delays, u32 milliseconds each. A repeat replaces.
    /// `foreseen`: 1 if the next death, whenever it comes, will be answered by a restart at once, so that
    /// nobody has to wait for the verdict on it. `poisoned`: 0, or what to try against poisoned state: bits 0
    /// to 15 up to four numbers of the ABI's `cure`, four bits each, the first lowest; bits 16 to 31 from
    /// which death in a row on; bits 32 to 63 within how many milliseconds after a restart a death belongs to
    /// the row.
    pub fn configure(&mut self, args: &ConfigureArgs, input: &[u8]) -> Result<ConfigureReturns, Error> {
        let reply = self.0.call(&CONFIGURE, args.pack(), input, &mut [])?;
        Ok(ConfigureReturns::unpack(&reply.args))
    }

    /// Submits `configure`: `poll` tells when it is done.
    pub fn submit_configure(&mut self, args: &ConfigureArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&CONFIGURE, args.pack(), input)
    }

    /// A component's instance of this epoch has ended. Asked again about the same epoch, the verdict is the
    /// same. `foreseen`: of the death after this one, as above. `cure`: what the successor is to do about
    /// poisoned state.
    pub fn fault(&mut self, args: &FaultArgs) -> Result<FaultReturns, Error> {
        let reply = self.0.call(&FAULT, args.pack(), &[], &mut [])?;
        Ok(FaultReturns::unpack(&reply.args))
    }

    /// Submits `fault`: `poll` tells when it is done.
    pub fn submit_fault(&mut self, args: &FaultArgs) -> Result<Tag, Error> {
        self.0.submit(&FAULT, args.pack(), &[])
    }
}
