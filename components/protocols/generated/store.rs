//! Generated from components/protocols/store.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! Names with typed values; who subscribes to a prefix is told each change once, in order, whoever dies
//! meanwhile.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "store", number: 9, version: 1 };

pub const NAME_MAX: u32 = 64;
pub const VALUE_MAX: u32 = 256;
pub const NAMES_MAX: u32 = 32;
pub const SUBSCRIPTIONS_MAX: u32 = 4;
pub const CHANGES_MAX: u32 = 512;
pub const ABSENT: u64 = 9223372036854775807;

// kind
pub const KIND_NONE: u32 = 0;
pub const KIND_UNSIGNED: u32 = 1;
pub const KIND_SIGNED: u32 = 2;
pub const KIND_BYTES: u32 = 3;
pub const KIND_STRING: u32 = 4;

/// Give a name a value: the input is the name and then the value. `expected`: nothing is done (`stale`)
/// unless this is the name's version; 0: any or none. A name keeps its kind until it is deleted (`inval`).
/// `nospc`: this client has set as many names as it may.
pub static SET: Operation = Operation {
    id: 1,
    name: "set",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 321,
    output_max: 0,
};

/// Delete the name that is the input; `expected` as above. The version returned is the number of the
/// deletion.
pub static DELETE: Operation = Operation {
    id: 2,
    name: "delete",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 65,
    output_max: 0,
};

/// The value of the name that is the input.
pub static GET: Operation = Operation {
    id: 3,
    name: "get",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 65,
    output_max: 256,
};

/// Names below a prefix in the order of their bytes, with their values: entry records, each with its name,
/// then its value, padded to 8 bytes. The input is the prefix and then a name, after which the page begins
/// (nothing: the first page). `end`: no more. `changes`: so many there had been.
pub static LIST: Operation = Operation {
    id: 4,
    name: "list",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 130,
    output_max: usize::MAX,
};

/// From now on keep a position among the changes below the prefix that is the input; `subscription` (0 to
/// subscriptions_max - 1) is the client's name for it. One that there is already for this prefix keeps its
/// position, unless `anew`. It outlives the client's instances. `position`: changes up to this number are
/// acknowledged.
pub static SUBSCRIBE: Operation = Operation {
    id: 5,
    name: "subscribe",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 65,
    output_max: 0,
};

/// Forget a subscription; those that wait for its changes are told `badf`.
pub static UNSUBSCRIBE: Operation = Operation {
    id: 6,
    name: "unsubscribe",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// The first change after number `after` that is neither acknowledged, the output being the name and then the
/// value; waits until there is one. `gap`: a change that was not acknowledged can be had no more. Then
/// subscribe `anew`, and list.
pub static NEXT: Operation = Operation {
    id: 7,
    name: "next",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 320,
};

/// Changes up to this number will not be asked for again, by no instance of this client.
pub static ACKNOWLEDGE: Operation = Operation {
    id: 8,
    name: "acknowledge",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Changes so far, names there are, names that count for this client, and the subscriptions of all clients.
pub static STATUS: Operation = Operation {
    id: 9,
    name: "status",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 9] = [&SET, &DELETE, &GET, &LIST, &SUBSCRIBE, &UNSUBSCRIBE, &NEXT, &ACKNOWLEDGE, &STATUS];

/// Arguments of `set`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetArgs {
    pub expected: u64,
    pub kind: u32,
    pub name_length: u32,
}

impl SetArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.expected,
            u64::from(self.kind) | u64::from(self.name_length) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SetArgs {
        SetArgs {
            expected: args[0],
            kind: args[1] as u32,
            name_length: (args[1] >> 32) as u32,
        }
    }
}

/// Returned values of `set`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetReturns {
    pub version: u64,
}

impl SetReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.version,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SetReturns {
        SetReturns {
            version: args[0],
        }
    }
}

/// Arguments of `delete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteArgs {
    pub expected: u64,
}

impl DeleteArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.expected,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> DeleteArgs {
        DeleteArgs {
            expected: args[0],
        }
    }
}

/// Returned values of `delete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteReturns {
    pub version: u64,
}

impl DeleteReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.version,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> DeleteReturns {
        DeleteReturns {
            version: args[0],
        }
    }
}

/// Returned values of `get`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetReturns {
    pub version: u64,
    pub kind: u32,
    pub length: u32,
}

impl GetReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.version,
            u64::from(self.kind) | u64::from(self.length) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> GetReturns {
        GetReturns {
            version: args[0],
            kind: args[1] as u32,
            length: (args[1] >> 32) as u32,
        }
    }
}

/// Arguments of `list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListArgs {
    pub prefix_length: u32,
}

impl ListArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.prefix_length),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ListArgs {
        ListArgs {
            prefix_length: args[0] as u32,
        }
    }
}

/// Returned values of `list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListReturns {
    pub changes: u64,
    pub bytes: u32,
    pub end: u32,
}

impl ListReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.changes,
            u64::from(self.bytes) | u64::from(self.end) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ListReturns {
        ListReturns {
            changes: args[0],
            bytes: args[1] as u32,
            end: (args[1] >> 32) as u32,
        }
    }
}

/// Arguments of `subscribe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeArgs {
    pub subscription: u32,
    pub anew: u32,
}

impl SubscribeArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.subscription) | u64::from(self.anew) << 32,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SubscribeArgs {
        SubscribeArgs {
            subscription: args[0] as u32,
            anew: (args[0] >> 32) as u32,
        }
    }
}

/// Returned values of `subscribe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeReturns {
    pub position: u64,
}

impl SubscribeReturns {
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

    pub fn unpack(args: &[u64; 5]) -> SubscribeReturns {
        SubscribeReturns {
            position: args[0],
        }
    }
}

/// Arguments of `unsubscribe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnsubscribeArgs {
    pub subscription: u32,
}

impl UnsubscribeArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.subscription),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> UnsubscribeArgs {
        UnsubscribeArgs {
            subscription: args[0] as u32,
        }
    }
}

/// Arguments of `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextArgs {
    pub after: u64,
    pub subscription: u32,
}

impl NextArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.after,
            u64::from(self.subscription),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> NextArgs {
        NextArgs {
            after: args[0],
            subscription: args[1] as u32,
        }
    }
}

/// Returned values of `next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextReturns {
    pub number: u64,
    pub kind: u32,
    pub name_length: u32,
}

impl NextReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.number,
            u64::from(self.kind) | u64::from(self.name_length) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> NextReturns {
        NextReturns {
            number: args[0],
            kind: args[1] as u32,
            name_length: (args[1] >> 32) as u32,
        }
    }
}

/// Arguments of `acknowledge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcknowledgeArgs {
    pub number: u64,
    pub subscription: u32,
}

impl AcknowledgeArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.number,
            u64::from(self.subscription),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> AcknowledgeArgs {
        AcknowledgeArgs {
            number: args[0],
            subscription: args[1] as u32,
        }
    }
}

/// Returned values of `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusReturns {
    pub changes: u64,
    pub names: u32,
    pub own_names: u32,
    pub subscriptions: u32,
}

impl StatusReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.changes,
            u64::from(self.names) | u64::from(self.own_names) << 32,
            u64::from(self.subscriptions),
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> StatusReturns {
        StatusReturns {
            changes: args[0],
            names: args[1] as u32,
            own_names: (args[1] >> 32) as u32,
            subscriptions: args[2] as u32,
        }
    }
}

/// A name and its value, in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryRecord {
    pub version: u64,
    pub kind: u32,
    pub name_length: u16,
    pub value_length: u16,
}

impl EntryRecord {
    pub const SIZE: usize = 16;

    pub fn pack(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.kind.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.name_length.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.value_length.to_le_bytes());
        bytes
    }

    /// From the first bytes; None if there are too few.
    pub fn unpack(bytes: &[u8]) -> Option<EntryRecord> {
        if bytes.len() < 16 {
            return None;
        }
        Some(EntryRecord {
            version: u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]),
            kind: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            name_length: u16::from_le_bytes([bytes[12], bytes[13]]),
            value_length: u16::from_le_bytes([bytes[14], bytes[15]]),
        })
    }
}

/// A service that speaks store@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// Give a name a value: the input is the name and then the value. `expected`: nothing is done (`stale`)
    /// unless this is the name's version; 0: any or none. A name keeps its kind until it is deleted
    /// (`inval`). `nospc`: this client has set as many names as it may.
    /// Errors: inval, nametoolong, toobig, access, stale, nospc.
    fn set(&mut self, call: &mut Call<'_>, args: SetArgs) -> Answer<SetReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Delete the name that is the input; `expected` as above. The version returned is the number of the
    /// deletion.
    /// Errors: inval, nametoolong, access, stale, noent.
    fn delete(&mut self, call: &mut Call<'_>, args: DeleteArgs) -> Answer<DeleteReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// The value of the name that is the input.
    /// Errors: inval, nametoolong, access, noent.
    fn get(&mut self, call: &mut Call<'_>) -> Answer<GetReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Names below a prefix in the order of their bytes, with their values: entry records, each with its
    /// name, then its value, padded to 8 bytes. The input is the prefix and then a name, after which the page
    /// begins (nothing: the first page). `end`: no more. `changes`: so many there had been.
    /// Errors: inval, nametoolong, access.
    fn list(&mut self, call: &mut Call<'_>, args: ListArgs) -> Answer<ListReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// From now on keep a position among the changes below the prefix that is the input; `subscription` (0 to
    /// subscriptions_max - 1) is the client's name for it. One that there is already for this prefix keeps
    /// its position, unless `anew`. It outlives the client's instances. `position`: changes up to this number
    /// are acknowledged.
    /// Errors: inval, nametoolong, access, badf.
    fn subscribe(&mut self, call: &mut Call<'_>, args: SubscribeArgs) -> Answer<SubscribeReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Forget a subscription; those that wait for its changes are told `badf`.
    /// Errors: badf.
    fn unsubscribe(&mut self, call: &mut Call<'_>, args: UnsubscribeArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// The first change after number `after` that is neither acknowledged, the output being the name and then
    /// the value; waits until there is one. `gap`: a change that was not acknowledged can be had no more.
    /// Then subscribe `anew`, and list.
    /// Errors: badf, gap.
    fn next(&mut self, call: &mut Call<'_>, args: NextArgs) -> Answer<NextReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Changes up to this number will not be asked for again, by no instance of this client.
    /// Errors: badf, range.
    fn acknowledge(&mut self, call: &mut Call<'_>, args: AcknowledgeArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Changes so far, names there are, names that count for this client, and the subscriptions of all
    /// clients.
    fn status(&mut self, call: &mut Call<'_>) -> Answer<StatusReturns> {
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
            let answer = service.set(&mut call, SetArgs::unpack(&request.args));
            answer_set(port, ticket, answer)
        }
        2 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.delete(&mut call, DeleteArgs::unpack(&request.args));
            answer_delete(port, ticket, answer)
        }
        3 => {
            let answer = service.get(&mut call);
            answer_get(port, ticket, answer)
        }
        4 => {
            let answer = service.list(&mut call, ListArgs::unpack(&request.args));
            answer_list(port, ticket, answer)
        }
        5 => {
            let answer = service.subscribe(&mut call, SubscribeArgs::unpack(&request.args));
            answer_subscribe(port, ticket, answer)
        }
        6 => {
            let answer = service.unsubscribe(&mut call, UnsubscribeArgs::unpack(&request.args));
            answer_unsubscribe(port, ticket, answer)
        }
        7 => {
            let answer = service.next(&mut call, NextArgs::unpack(&request.args));
            answer_next(port, ticket, answer)
        }
        8 => {
            let answer = service.acknowledge(&mut call, AcknowledgeArgs::unpack(&request.args));
            answer_acknowledge(port, ticket, answer)
        }
        9 => {
            let answer = service.status(&mut call);
            answer_status(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `set` kept for later; nothing happens if its client is gone.
pub fn answer_set(port: &mut ServerPort, ticket: Ticket, answer: Answer<SetReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `delete` kept for later; nothing happens if its client is gone.
pub fn answer_delete(port: &mut ServerPort, ticket: Ticket, answer: Answer<DeleteReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `get` kept for later; nothing happens if its client is gone.
pub fn answer_get(port: &mut ServerPort, ticket: Ticket, answer: Answer<GetReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `list` kept for later; nothing happens if its client is gone.
pub fn answer_list(port: &mut ServerPort, ticket: Ticket, answer: Answer<ListReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `subscribe` kept for later; nothing happens if its client is gone.
pub fn answer_subscribe(port: &mut ServerPort, ticket: Ticket, answer: Answer<SubscribeReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `unsubscribe` kept for later; nothing happens if its client is gone.
pub fn answer_unsubscribe(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `next` kept for later; nothing happens if its client is gone.
pub fn answer_next(port: &mut ServerPort, ticket: Ticket, answer: Answer<NextReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `acknowledge` kept for later; nothing happens if its client is gone.
pub fn answer_acknowledge(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `status` kept for later; nothing happens if its client is gone.
pub fn answer_status(port: &mut ServerPort, ticket: Ticket, answer: Answer<StatusReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// A client of store@1. Everything `rt::Client` can do, and a pair of
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

    /// Give a name a value: the input is the name and then the value. `expected`: nothing is done (`stale`)
    /// unless this is the name's version; 0: any or none. A name keeps its kind until it is deleted
    /// (`inval`). `nospc`: this client has set as many names as it may.
    pub fn set(&mut self, args: &SetArgs, input: &[u8]) -> Result<SetReturns, Error> {
        let reply = self.0.call(&SET, args.pack(), input, &mut [])?;
        Ok(SetReturns::unpack(&reply.args))
    }

    /// Submits `set`: `poll` tells when it is done.
    pub fn submit_set(&mut self, args: &SetArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&SET, args.pack(), input)
    }

    /// Delete the name that is the input; `expected` as above. The version returned is the number of the
    /// deletion.
    pub fn delete(&mut self, args: &DeleteArgs, input: &[u8]) -> Result<DeleteReturns, Error> {
        let reply = self.0.call(&DELETE, args.pack(), input, &mut [])?;
        Ok(DeleteReturns::unpack(&reply.args))
    }

    /// Submits `delete`: `poll` tells when it is done.
    pub fn submit_delete(&mut self, args: &DeleteArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&DELETE, args.pack(), input)
    }

    /// The value of the name that is the input.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn get(&mut self, input: &[u8], output: &mut [u8]) -> Result<(GetReturns, usize), Error> {
        let reply = self.0.call(&GET, [0; 5], input, output)?;
        let length = output.len().min(reply.length as usize);
        Ok((GetReturns::unpack(&reply.args), length))
    }

    /// Submits `get`: `poll` tells when it is done.
    pub fn submit_get(&mut self, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&GET, [0; 5], input)
    }

    /// Names below a prefix in the order of their bytes, with their values: entry records, each with its
    /// name, then its value, padded to 8 bytes. The input is the prefix and then a name, after which the page
    /// begins (nothing: the first page). `end`: no more. `changes`: so many there had been.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn list(&mut self, args: &ListArgs, input: &[u8], output: &mut [u8]) -> Result<(ListReturns, usize), Error> {
        let reply = self.0.call(&LIST, args.pack(), input, output)?;
        let length = output.len().min(reply.length as usize);
        Ok((ListReturns::unpack(&reply.args), length))
    }

    /// Submits `list`: `poll` tells when it is done.
    pub fn submit_list(&mut self, args: &ListArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&LIST, args.pack(), input)
    }

    /// From now on keep a position among the changes below the prefix that is the input; `subscription` (0 to
    /// subscriptions_max - 1) is the client's name for it. One that there is already for this prefix keeps
    /// its position, unless `anew`. It outlives the client's instances. `position`: changes up to this number
    /// are acknowledged.
    pub fn subscribe(&mut self, args: &SubscribeArgs, input: &[u8]) -> Result<SubscribeReturns, Error> {
        let reply = self.0.call(&SUBSCRIBE, args.pack(), input, &mut [])?;
        Ok(SubscribeReturns::unpack(&reply.args))
    }

    /// Submits `subscribe`: `poll` tells when it is done.
    pub fn submit_subscribe(&mut self, args: &SubscribeArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&SUBSCRIBE, args.pack(), input)
    }

    /// Forget a subscription; those that wait for its changes are told `badf`.
    pub fn unsubscribe(&mut self, args: &UnsubscribeArgs) -> Result<(), Error> {
        self.0.call(&UNSUBSCRIBE, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `unsubscribe`: `poll` tells when it is done.
    pub fn submit_unsubscribe(&mut self, args: &UnsubscribeArgs) -> Result<Tag, Error> {
        self.0.submit(&UNSUBSCRIBE, args.pack(), &[])
    }

    /// The first change after number `after` that is neither acknowledged, the output being the name and then
    /// the value; waits until there is one. `gap`: a change that was not acknowledged can be had no more.
    /// Then subscribe `anew`, and list.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn next(&mut self, args: &NextArgs, output: &mut [u8]) -> Result<(NextReturns, usize), Error> {
        let reply = self.0.call(&NEXT, args.pack(), &[], output)?;
        let length = output.len().min(reply.length as usize);
        Ok((NextReturns::unpack(&reply.args), length))
    }

    /// Submits `next`: `poll` tells when it is done.
    pub fn submit_next(&mut self, args: &NextArgs) -> Result<Tag, Error> {
        self.0.submit(&NEXT, args.pack(), &[])
    }

    /// Changes up to this number will not be asked for again, by no instance of this client.
    pub fn acknowledge(&mut self, args: &AcknowledgeArgs) -> Result<(), Error> {
        self.0.call(&ACKNOWLEDGE, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `acknowledge`: `poll` tells when it is done.
    pub fn submit_acknowledge(&mut self, args: &AcknowledgeArgs) -> Result<Tag, Error> {
        self.0.submit(&ACKNOWLEDGE, args.pack(), &[])
    }

    /// Changes so far, names there are, names that count for this client, and the subscriptions of all
    /// clients.
    pub fn status(&mut self) -> Result<StatusReturns, Error> {
        let reply = self.0.call(&STATUS, [0; 5], &[], &mut [])?;
        Ok(StatusReturns::unpack(&reply.args))
    }

    /// Submits `status`: `poll` tells when it is done.
    pub fn submit_status(&mut self) -> Result<Tag, Error> {
        self.0.submit(&STATUS, [0; 5], &[])
    }
}
