//! A server end: one client, its requests in progress, its session.
//!
//! A session begins when the client's rings are open and ends when the client dies, is replaced, or breaks the
//! protocol. Between the two the service may hold things for it (open files); `session_ended` tells it to drop
//! them. A request is answered in the session it came in, or never.

use crate::abi::{self, Slot};
use crate::channel::{Channel, Protocol, State};
use crate::error::Error;
use crate::info::{self, Role};
use crate::kill_point;
use crate::ring::ServerRing;
use crate::server::{ClientId, Request, Ticket};
use crate::shared::Shared;
use crate::state::RequestId;
use crate::telemetry;
use alloc::vec::Vec;

/// A data buffer's request, while it is in progress.
#[derive(Clone, Copy)]
struct InProgress {
    tag: u32,
    op: u16,
    parked: bool,
}

pub(crate) struct Session {
    channel: Channel,
    ring: ServerRing,
    /// Its place among this component's server ends.
    number: u32,
    open: bool,
    /// The service has been given a request of this session: it wants to know when it ends.
    known: bool,
    /// It was begun with this server's predecessor, and goes on when the client offers to reopen.
    awaited: bool,
    parameter: Vec<u8>,
    in_progress: Vec<Option<InProgress>>,
    count: u32,
    parked: u32,
}

impl Session {
    pub fn attach(index: u32, protocol: &Protocol) -> Result<Session, Error> {
        let channel = Channel::attach(index, Role::Server, protocol)?;
        Ok(Session {
            ring: ServerRing::new(channel.memory(), channel.slots()),
            number: (0..index).filter(|at| role_of(*at) == Some(Role::Server)).count() as u32,
            open: channel.state() == State::Open,
            known: false,
            awaited: false,
            parameter: parameter_of(index),
            in_progress: (0..channel.slots()).map(|_| None).collect(),
            count: 0,
            parked: 0,
            channel,
        })
    }

    pub fn client(&self) -> ClientId {
        ClientId(self.channel.index())
    }

    /// As in `RequestId`.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn is_gone(&self) -> bool {
        self.channel.state() == State::Gone
    }

    pub fn parameter(&self) -> &[u8] {
        &self.parameter
    }

    /// The service knows this session already, from the state its predecessor has left.
    pub fn expect(&mut self) {
        self.known = true;
        // During an update nobody is connected until the switch; after a death only who is away himself is not.
        self.awaited = !self.open && info::start() == info::Start::Update;
    }

    /// Is there a request, or news in the status page?
    #[inline]
    pub fn ready(&self) -> bool {
        match self.channel.state() {
            State::Open => !self.open || (self.ring.has_request() && !info::is_to_rest()),
            State::Reopen => true,
            State::Dead => self.open || (self.known && !self.awaited),
            State::Gone | State::Unused => self.open || self.known,
        }
    }

    /// Follows the status page. True: a session the service knows of has ended, and must be told so before
    /// anything else is taken from here.
    pub fn follow(&mut self) -> bool {
        let state = self.channel.state();
        if self.open && state == State::Open {
            return false;
        }
        if self.open {
            self.open = false;
            self.forget();
        }
        if self.awaited && state == State::Dead {
            return false;
        }
        let goes_on = core::mem::replace(&mut self.awaited, false) && matches!(state, State::Open | State::Reopen);
        if !goes_on && core::mem::replace(&mut self.known, false) {
            return true;
        }
        match state {
            State::Reopen if self.channel.reconnect().is_ok() => {
                telemetry::add(telemetry::RECONNECTS, 1);
                self.ring = ServerRing::new(self.channel.memory(), self.channel.slots());
                self.parameter = parameter_of(self.channel.index());
                self.open = true;
            }
            // The first client, which was not there yet when this server began.
            State::Open => self.open = true,
            _ => {}
        }
        false
    }

    /// Drops what is in progress: its tickets are stale from here on.
    fn forget(&mut self) {
        self.in_progress.iter_mut().for_each(|entry| *entry = None);
        self.count = 0;
        self.parked = 0;
    }

    /// The next valid request. Requests that only deserve an error are answered here; a client that breaks the
    /// protocol is complained about, and nothing more is taken from it.
    pub fn take(&mut self) -> Option<Request> {
        if !self.open || info::is_to_rest() {
            return None;
        }
        let slot = match self.ring.take() {
            Ok(slot) => slot?,
            Err(violation) => {
                self.channel.complain(violation);
                return None;
            }
        };
        match self.check(&slot) {
            Ok(buffer) => {
                self.known = true;
                self.count += 1;
                self.in_progress[buffer] = Some(InProgress { tag: slot.tag, op: slot.op, parked: false });
                kill_point!("server.before_dispatch");
                let ticket = Ticket { client: self.client(), epoch: self.channel.epoch(), tag: slot.tag };
                let id = RequestId::new(self.number, slot.session, slot.tag, slot.op, &slot.args);
                Some(Request { ticket, op: slot.op, args: slot.args, length: slot.length, id })
            }
            Err(violation) => {
                self.channel.complain(violation);
                None
            }
        }
    }

    /// The number of the data buffer, if the slot keeps the rules. Everything in it may be a lie.
    fn check(&self, slot: &Slot) -> Result<usize, crate::channel::Violation> {
        use crate::channel::Violation;
        let buffer = (slot.tag & 0xff) as usize;
        if slot.epoch != self.channel.epoch() {
            Err(Violation::Epoch)
        } else if buffer >= self.in_progress.len() {
            Err(Violation::Buffer)
        } else if self.in_progress[buffer].is_some() {
            Err(Violation::Tag)
        } else if slot.length as usize > self.channel.slot_data() {
            Err(Violation::Length)
        } else {
            Ok(buffer)
        }
    }

    pub fn allows(&self, op: u16) -> bool {
        self.channel.allows(op)
    }

    /// The number of the ticket's data buffer while its request is in progress; else `STALE`.
    fn buffer_of(&self, ticket: Ticket) -> Result<usize, Error> {
        let buffer = (ticket.tag & 0xff) as usize;
        match self.in_progress.get(buffer) {
            Some(Some(entry)) if entry.tag == ticket.tag && ticket.epoch == self.channel.epoch() && self.open => {
                Ok(buffer)
            }
            _ => Err(Error::STALE),
        }
    }

    pub fn data(&self, ticket: Ticket) -> Result<Shared, Error> {
        self.buffer_of(ticket).map(|buffer| self.channel.buffer(buffer))
    }

    /// Marks a request as held on purpose: it may take as long as it likes, and nobody takes us for hung.
    pub fn park(&mut self, ticket: Ticket) -> Result<(), Error> {
        let buffer = self.buffer_of(ticket)?;
        if let Some(entry) = &mut self.in_progress[buffer] {
            if !entry.parked {
                entry.parked = true;
                self.parked += 1;
                self.ring.announce_parked(self.parked);
            }
        }
        Ok(())
    }

    /// Answers a request; `STALE` if it is not in progress (any more).
    pub fn reply(&mut self, ticket: Ticket, result: Result<([u64; 5], u32), Error>) -> Result<(), Error> {
        let buffer = self.buffer_of(ticket)?;
        let entry = self.in_progress[buffer].take().ok_or(Error::STALE)?;
        self.count -= 1;
        if entry.parked {
            self.parked -= 1;
            self.ring.announce_parked(self.parked);
        }
        let (status, args, length) = match result {
            Ok((args, length)) => (0, args, length.min(self.channel.slot_data() as u32)),
            Err(error) => (error.number(), [0; 5], 0),
        };
        let epoch = self.channel.epoch();
        let slot = Slot { op: entry.op, tag: entry.tag, epoch, status, length, args, ..Slot::default() };
        telemetry::add(telemetry::SERVED, 1);
        kill_point!("server.before_publish");
        let wants_bell = self.ring.publish(&slot);
        kill_point!("server.before_doorbell");
        if wants_bell {
            self.channel.ring();
        }
        Ok(())
    }

    /// Before the server has nothing to do: wakes a client that has asked to be woken only at several replies,
    /// if no request of it is left that would bring the number up.
    pub fn before_idle(&mut self) {
        if self.open && self.count == self.parked && self.ring.client_lags() {
            self.channel.ring();
        }
    }

    /// Are there requests taken, neither answered nor held on purpose?
    pub fn is_busy(&self) -> bool {
        self.count > self.parked
    }

    pub fn announce_sleep(&self) {
        if self.open {
            self.ring.announce_sleep();
        }
    }

    pub fn announce_awake(&self) {
        if self.open {
            self.ring.announce_awake();
        }
    }
}

fn role_of(index: u32) -> Option<Role> {
    info::channel(index).and_then(|channel| channel.role())
}

fn parameter_of(index: u32) -> Vec<u8> {
    crate::info::channel(index).map_or_else(Vec::new, |channel| channel.parameter())
}

const _: () = assert!(abi::CHANNEL_SLOTS_MAX <= 256, "a tag's low byte is its data buffer");
