//! A server port: all channels of one interface, served in bounded rounds.
//!
//! A round takes at most `BUDGET` requests from each client in turn, so that no client starves another, nor the
//! service's own background work. The generated `serve` of a protocol makes a round:
//!
//!     port.begin_round();
//!     while let Some(event) = port.next() { ... }

use crate::channel::Protocol;
use crate::error::Error;
use crate::info::{self, Role};
use crate::request::Operation;
use crate::session::Session;
use crate::shared::Shared;
use crate::state::RequestId;
use crate::telemetry;
use crate::wait::Source;
use alloc::string::String;
use alloc::vec::Vec;

/// Requests one client may have taken in one round.
pub const BUDGET: u32 = 16;

/// Names a client of this VM: the channel's index. A client that is replaced keeps it, its session ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u32);

/// A request in progress: what a service keeps to answer it later. Stale once the client is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    pub(crate) client: ClientId,
    pub(crate) epoch: u32,
    pub(crate) tag: u32,
}

impl Ticket {
    pub fn client(self) -> ClientId {
        self.client
    }
}

/// A request as it was taken from the ring: a private copy.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub ticket: Ticket,
    pub op: u16,
    pub args: [u64; 5],
    /// Input bytes in the data buffer.
    pub length: u32,
    pub id: RequestId,
}

/// What `next` finds.
#[derive(Debug)]
pub enum Event {
    Request(Request),
    /// A client's session has ended: drop what belongs to it.
    Ended(ClientId),
}

/// A service's answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<R> {
    /// The returned values.
    Done(R),
    /// The returned values, and so many bytes written to `output`.
    Data(R, u32),
    Failed(Error),
    /// The service has kept the ticket and answers another time.
    Later,
}

impl<R> Answer<R> {
    /// The same answer with its values in another form.
    pub fn map<T>(self, f: impl FnOnce(R) -> T) -> Answer<T> {
        match self {
            Answer::Done(values) => Answer::Done(f(values)),
            Answer::Data(values, bytes) => Answer::Data(f(values), bytes),
            Answer::Failed(error) => Answer::Failed(error),
            Answer::Later => Answer::Later,
        }
    }
}

impl<R> From<Result<R, Error>> for Answer<R> {
    fn from(result: Result<R, Error>) -> Answer<R> {
        match result {
            Ok(values) => Answer::Done(values),
            Err(error) => Answer::Failed(error),
        }
    }
}

/// All channels of one interface this VM serves.
pub struct ServerPort {
    protocol: Protocol,
    interface: String,
    sessions: Vec<Session>,
    /// Channel entries looked at so far.
    scanned: u32,
    /// Session the present round began with; sessions done with; requests taken from the present one.
    first: usize,
    done: usize,
    taken: u32,
    /// The name of the request that is not to be done, because the predecessor has died of it; 0: none.
    quarantined: u64,
}

impl ServerPort {
    /// The port of interface `interface`. Clients that are not there yet are served when they come.
    pub fn open(protocol: &Protocol, interface: &str) -> ServerPort {
        let mut port = ServerPort {
            protocol: *protocol,
            interface: String::from(interface),
            sessions: Vec::new(),
            scanned: 0,
            first: 0,
            done: 0,
            taken: 0,
            quarantined: info::quarantined(),
        };
        port.scan();
        port
    }

    /// Takes in channel entries that were not there before.
    fn scan(&mut self) {
        while let Some(channel) = info::channel(self.scanned) {
            self.scanned += 1;
            if channel.role() != Some(Role::Server) || channel.name() != self.interface {
                continue;
            }
            // One that makes no sense is left alone: its client waits for a server of the right kind.
            if let Ok(session) = Session::attach(channel.index, &self.protocol) {
                self.sessions.push(session);
            }
        }
    }

    /// Begins a round, with another client than the last one.
    pub fn begin_round(&mut self) {
        self.scan();
        self.first = (self.first + 1) % self.sessions.len().max(1);
        self.done = 0;
        self.taken = 0;
    }

    /// The next event of this round; None when it is over.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Event> {
        while self.done < self.sessions.len() {
            let at = (self.first + self.done) % self.sessions.len();
            let session = &mut self.sessions[at];
            if session.follow() {
                return Some(Event::Ended(session.client()));
            }
            if self.taken < BUDGET {
                if let Some(request) = session.take() {
                    self.taken += 1;
                    let name = request.id.name();
                    let error = if !session.allows(request.op) {
                        Error::PERM
                    } else if name == self.quarantined {
                        let peer = info::channel(session.client().0);
                        let peer = peer.as_ref().map_or("?", |channel| channel.peer());
                        crate::log!(error, "request {:#x} quarantined: operation {} of {}", name, request.op, peer);
                        Error::QUARANTINED
                    } else {
                        telemetry::work_on(name);
                        return Some(Event::Request(request));
                    };
                    let _ = session.reply(request.ticket, Err(error));
                    continue;
                }
            }
            self.done += 1;
            self.taken = 0;
        }
        telemetry::work_on(0);
        None
    }

    fn session(&self, client: ClientId) -> Result<&Session, Error> {
        self.sessions.iter().find(|session| session.client() == client).ok_or(Error::STALE)
    }

    fn session_mut(&mut self, client: ClientId) -> Result<&mut Session, Error> {
        self.sessions.iter_mut().find(|session| session.client() == client).ok_or(Error::STALE)
    }

    /// Answers a request; nothing happens if its client is gone. The generated `answer_...` functions are the
    /// typed form.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer<[u64; 5]>) {
        let result = match answer {
            Answer::Done(args) => Ok((args, 0)),
            Answer::Data(args, bytes) => Ok((args, bytes)),
            Answer::Failed(error) => Err(error),
            Answer::Later => return,
        };
        // Stale: the client does not wait for it any more.
        let _ = self.reply(ticket, result);
    }

    /// The same with the result as it travels; `STALE` if the request is not in progress (any more).
    pub fn reply(&mut self, ticket: Ticket, result: Result<([u64; 5], u32), Error>) -> Result<(), Error> {
        self.session_mut(ticket.client)?.reply(ticket, result)
    }

    /// Says that a request is held on purpose (a long poll), so that waiting for it is not taken for hanging.
    pub fn park(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.session_mut(ticket.client)?.park(ticket)
    }

    /// The data buffer of a request in progress, to write output to.
    pub fn data(&self, ticket: Ticket) -> Result<Shared, Error> {
        self.session(ticket.client)?.data(ticket)
    }

    /// Is the request still in progress?
    pub fn is_live(&self, ticket: Ticket) -> bool {
        self.data(ticket).is_ok()
    }

    /// What the policy says about a client.
    pub fn parameter(&self, client: ClientId) -> &[u8] {
        self.session(client).map_or(&[], Session::parameter)
    }

    /// Name of the component at the other end.
    pub fn peer(&self, client: ClientId) -> String {
        info::channel(client.0).map_or_else(String::new, |channel| String::from(channel.peer()))
    }

    /// Clients that will never come back, by their number in a `RequestId`.
    pub fn gone(&self) -> impl Iterator<Item = u32> + '_ {
        self.sessions.iter().filter(|session| session.is_gone()).map(Session::number)
    }

    /// For a service whose state has a session of the client that is server end `number` of this component: the
    /// client, whose session goes on, or is said to have ended. None: there is no such end.
    pub fn expect(&mut self, number: u32) -> Option<ClientId> {
        let session = self.sessions.iter_mut().find(|session| session.number() == number)?;
        session.expect();
        Some(session.client())
    }

    /// Every client this port may ever have had.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.sessions.iter().map(Session::client)
    }
}

impl Source for ServerPort {
    fn ready(&mut self) -> bool {
        self.sessions.iter().any(Session::ready)
    }

    fn may_rest(&self) -> Option<bool> {
        Some(!self.sessions.iter().any(Session::is_busy))
    }

    fn announce_sleep(&mut self) {
        self.sessions.iter().for_each(Session::announce_sleep);
    }

    fn announce_awake(&mut self) {
        self.sessions.iter().for_each(Session::announce_awake);
    }

    fn before_idle(&mut self) {
        self.sessions.iter_mut().for_each(Session::before_idle);
    }
}

/// A request being dispatched to a service.
pub struct Call<'a> {
    port: &'a mut ServerPort,
    request: Request,
    operation: &'static Operation,
}

impl<'a> Call<'a> {
    pub fn new(port: &'a mut ServerPort, request: Request, operation: &'static Operation) -> Call<'a> {
        Call { port, request, operation }
    }

    pub fn client(&self) -> ClientId {
        self.request.ticket.client
    }

    pub fn op(&self) -> u16 {
        self.operation.id
    }

    /// Keep it and answer `Later`.
    pub fn ticket(&self) -> Ticket {
        self.request.ticket
    }

    /// What names this request for ever, for the answers and requests that are part of a state.
    pub fn id(&self) -> RequestId {
        self.request.id
    }

    /// Input bytes the client says there are, within what the operation takes.
    pub fn input_length(&self) -> usize {
        (self.request.length as usize).min(self.operation.input_max)
    }

    /// A private copy of the input, made once: what is checked is what is used.
    pub fn input(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.resize(self.input_length(), 0);
        match self.port.data(self.request.ticket).and_then(|data| data.copy_out(0, &mut bytes)) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }

    /// Copies the first `into.len()` input bytes; `RANGE` if there are fewer.
    pub fn copy_input(&self, into: &mut [u8]) -> Result<(), Error> {
        if into.len() > self.input_length() {
            return Err(Error::RANGE);
        }
        self.port.data(self.request.ticket)?.copy_out(0, into)
    }

    /// Where output goes. The client may read and write there at any time.
    pub fn output(&self) -> Result<Shared, Error> {
        let data = self.port.data(self.request.ticket)?;
        data.part(0, data.len().min(self.operation.output_max))
    }

    /// What the policy says about this client.
    pub fn parameter(&self) -> &[u8] {
        self.port.parameter(self.client())
    }

    /// The port, to answer other requests or park this one.
    pub fn port(&mut self) -> &mut ServerPort {
        self.port
    }
}
