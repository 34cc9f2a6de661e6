//! A client end: requests with deadlines, many in flight, that outlive the server's death.
//!
//! Every request lives in an entry, one per data buffer:
//!
//!     free -> queued (no server) -> sent -> done (answered, failed or expired) -> held (handed out) -> free
//!                ^                   |
//!                +--- server dies ---+    idempotent: sent again in tag order; else done with `dead`
//!
//! What happens at a death is in `replay`.

use crate::abi::Slot;
use crate::channel::{Channel, Protocol, State, Violation};
use crate::error::Error;
use crate::info::{self, Role};
use crate::kill_point;
use crate::platform;
use crate::replay::Restore;
use crate::request::{Completion, Entry, Operation, Phase, Reply, Tag};
use crate::ring::ClientRing;
use crate::shared::Shared;
use crate::state::Outbox;
use crate::telemetry;
use crate::time;
use crate::wait::{wait, Source};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A request that a streaming client has published waits at most so long for others before the server is rung,
/// provided that the client polls.
const HOLD_BACK_NS: u64 = 1_000_000;

/// Later than this after a deadline nobody looks who has not been stopped.
const LATE_MS: u64 = 100;

/// Where the connection is, as this client has taken note of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connection {
    /// Nothing is sent, deadlines stand still.
    Closed,
    /// Sticky requests are being replayed.
    Restoring,
    Open,
    Gone,
}

/// The client end of one channel.
pub struct Client {
    pub(crate) channel: Channel,
    pub(crate) ring: ClientRing,
    pub(crate) connection: Connection,
    pub(crate) entries: Vec<Entry>,
    /// Free buffers, the last used on top: its memory is warm.
    pub(crate) free: Vec<u8>,
    /// Buffers of entries in phase Done, in the order they got there.
    pub(crate) done: VecDeque<u8>,
    pub(crate) restore: Restore,
    /// The epoch of which no replayed request has been answered yet.
    pub(crate) awaits_first_replay: bool,
    /// Anything sent in this epoch? Then a server that was away cannot simply be gone on with.
    pub(crate) used: bool,
    /// The first buffers are an outbox's, so many.
    reserved: usize,
    /// This instance, in which `sequence` counts.
    session: u32,
    sequence: u32,
    order: u64,
    /// No deadline is earlier.
    next_deadline: u64,
    default_limit: u64,
    wake_after: u32,
    /// Requests published since we last looked whether the server must be rung, and the tick of the first.
    unrung: u32,
    unrung_since: u64,
    polls: u32,
}

impl Client {
    /// The client end of interface `interface`. It need not have a server yet: requests wait for one.
    /// `NOENT`: no such interface in the manifest; `PROTOCOL`: it speaks another protocol.
    pub fn open(protocol: &Protocol, interface: &str) -> Result<Client, Error> {
        let found = info::channel_named(interface, Role::Client).ok_or(Error::NOENT)?;
        Client::attach(protocol, found.index)
    }

    /// The client end that is channel `index`.
    pub fn attach(protocol: &Protocol, index: u32) -> Result<Client, Error> {
        let channel = Channel::attach(index, Role::Client, protocol)?;
        let slots = channel.slots();
        let mut client = Client {
            ring: ClientRing::new(channel.memory(), slots),
            connection: Connection::Closed,
            entries: (0..slots).map(|_| Entry::free()).collect(),
            free: (0..slots).rev().map(|buffer| buffer as u8).collect(),
            done: VecDeque::with_capacity(slots as usize),
            restore: Restore::new(),
            awaits_first_replay: false,
            used: false,
            reserved: 0,
            session: info::instance() as u32,
            sequence: 0,
            order: 0,
            next_deadline: u64::MAX,
            default_limit: limit_of(channel.deadline_ms()),
            wake_after: 1,
            unrung: 0,
            unrung_since: 0,
            polls: 0,
            channel,
        };
        client.follow();
        Ok(client)
    }

    /// Number of requests not yet handed out by `poll` (or returned by `call`).
    pub fn outstanding(&self) -> usize {
        self.entries.iter().filter(|e| matches!(e.phase, Phase::Queued | Phase::Sent | Phase::Done)).count()
    }

    /// Most requests that can be under way at once.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Can a request be submitted now?
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Bytes of a data buffer: the most that one request can carry either way.
    pub fn slot_data(&self) -> usize {
        self.channel.slot_data()
    }

    /// The channel's index, as grants and pools name it.
    pub fn channel(&self) -> u32 {
        self.channel.index()
    }

    /// Changes with every server.
    pub fn epoch(&self) -> u32 {
        self.channel.epoch()
    }

    /// Is there a server right now?
    pub fn is_open(&self) -> bool {
        self.connection == Connection::Open && self.channel.state() == State::Open
    }

    /// Will there never be a server again? Known after `poll` or `submit`.
    pub fn is_gone(&self) -> bool {
        self.connection == Connection::Gone
    }

    /// Exchange doorbells for `replies` requests at a time, for streams with many in flight. Asleep, this client is
    /// woken only when that many replies are there (or all that are outstanding, if fewer); a sleeping server is
    /// rung only for that many requests, or at the next `wait` (or when a `poll` finds nothing and a millisecond
    /// has passed).
    pub fn wake_after(&mut self, replies: u32) {
        self.wake_after = replies.max(1);
    }

    /// Sends a request, or queues it while there is no server. Its completion comes from `poll`, for certain.
    /// `AGAIN`: no free slot, poll first; `TOOBIG`: more input than the operation or a data buffer takes;
    /// `PERM`: not allowed on this channel; `DEAD`: the server will not come back.
    pub fn submit(&mut self, operation: &'static Operation, args: [u64; 5], input: &[u8]) -> Result<Tag, Error> {
        self.submit_limited(operation, args, input, self.default_limit)
    }

    /// The same with a limit of its own, in ticks (u64::MAX: none), for requests that are parked on purpose.
    pub fn submit_limited(
        &mut self,
        operation: &'static Operation,
        args: [u64; 5],
        input: &[u8],
        limit: u64,
    ) -> Result<Tag, Error> {
        if !self.channel.allows(operation.id) {
            return Err(Error::PERM);
        }
        if input.len() > operation.input_max.min(self.slot_data()) {
            return Err(Error::TOOBIG);
        }
        if self.connection == Connection::Gone {
            return Err(Error::DEAD);
        }
        let buffer = self.free.pop().ok_or(Error::AGAIN)?;
        self.sequence = (self.sequence + 1) & 0xff_ffff;
        let tag = self.sequence << 8 | u32::from(buffer);
        self.accept_request(tag, self.session, operation, args, input, limit);
        self.start(usize::from(buffer));
        Ok(Tag(tag))
    }

    /// Fills the entry of a request.
    fn accept_request(
        &mut self,
        tag: u32,
        session: u32,
        operation: &'static Operation,
        args: [u64; 5],
        input: &[u8],
        limit: u64,
    ) {
        let buffer = Tag(tag).buffer();
        self.order += 1;
        let entry = &mut self.entries[buffer];
        entry.phase = Phase::Queued;
        entry.tag = tag;
        entry.session = session;
        entry.order = self.order;
        entry.operation = operation;
        entry.args = args;
        entry.input.clear();
        entry.input.extend_from_slice(input);
        entry.limit = limit;
        entry.replayed = false;
        entry.excused = false;
        telemetry::add(telemetry::CALLS, 1);
    }

    /// Sends an accepted request, if there is a server.
    fn start(&mut self, buffer: usize) {
        self.follow();
        let may_send = self.connection == Connection::Open && !self.restore.draining;
        if may_send && self.entries[buffer].phase == Phase::Queued {
            self.send(buffer);
        }
    }

    /// Submits what is in an outbox and not yet under way: after every commit that has put something in, and first of
    /// all at the start, when it is what the instance before has left. Every request completes, as by `submit`; take it
    /// out in the transaction that uses its answer, commit, then `release`: what is still in is sent again.
    /// `operations`: those of the protocol. Panics if requests were submitted before the first time.
    pub fn submit_all<const N: usize>(&mut self, outbox: &Outbox<N>, operations: &[&'static Operation]) {
        if self.reserved < N {
            assert!(N <= self.entries.len() && self.free.len() == self.entries.len(), "the outbox comes first");
            self.reserved = N;
            self.free.retain(|buffer| usize::from(*buffer) >= N);
        }
        for (request, input) in outbox.in_order() {
            let buffer = Tag(request.tag).buffer();
            if self.entries[buffer].phase != Phase::Free {
                continue;
            }
            let found = operations.iter().find(|operation| u32::from(operation.id) == request.op);
            let operation = *found.expect("an operation of the outbox's protocol");
            self.accept_request(request.tag, outbox.session(), operation, request.args, &input, self.default_limit);
            if !self.channel.allows(operation.id) {
                self.finish(buffer, Err(Error::PERM));
            } else if self.connection == Connection::Gone {
                self.finish(buffer, Err(Error::DEAD));
            } else {
                self.start(buffer);
            }
        }
    }

    /// The next completion, if one is there. Never waits; reconnects and replays when the server was replaced.
    pub fn poll(&mut self) -> Option<Completion> {
        let buffer = self.next_done(None)?;
        let entry = &mut self.entries[buffer];
        entry.phase = Phase::Held;
        Some(Completion { tag: Tag(entry.tag), op: entry.operation.id, result: entry.result })
    }

    /// The completion of one request, if it is over; others are kept for later.
    pub fn poll_for(&mut self, tag: Tag) -> Option<Completion> {
        let buffer = self.next_done(Some(tag))?;
        let entry = &mut self.entries[buffer];
        entry.phase = Phase::Held;
        Some(Completion { tag, op: entry.operation.id, result: entry.result })
    }

    /// Takes in replies until the wanted one (or any) is done; its buffer.
    fn next_done(&mut self, wanted: Option<Tag>) -> Option<usize> {
        self.follow();
        loop {
            let found = match wanted {
                None => self.done.pop_front(),
                Some(tag) => {
                    let is_it = |b: &u8| self.entries[usize::from(*b)].tag == tag.0;
                    let position = self.done.iter().position(is_it);
                    position.and_then(|at| self.done.remove(at))
                }
            };
            if let Some(buffer) = found {
                return Some(usize::from(buffer));
            }
            // Looking at the clock costs more than looking at the ring: only when there is nothing else to do,
            // and now and then, lest a server that answers one request for ever hides that it keeps another.
            self.polls = self.polls.wrapping_add(1);
            let took = self.take_reply();
            if (!took || self.polls % 64 == 0) && !self.expire() && !took {
                self.ring_if_late();
                return None;
            }
        }
    }

    /// Gives a completion's data buffer back.
    pub fn release(&mut self, completion: Completion) {
        let buffer = completion.tag.buffer();
        let entry = &mut self.entries[buffer];
        assert!(entry.tag == completion.tag.0 && entry.phase == Phase::Held, "released twice, or to another client");
        entry.saved = None;
        if entry.late {
            entry.phase = Phase::Late;
        } else {
            self.set_free(buffer);
        }
    }

    /// The request of this buffer is over for everybody.
    pub(crate) fn set_free(&mut self, buffer: usize) {
        self.entries[buffer].phase = Phase::Free;
        if buffer >= self.reserved {
            self.free.push(buffer as u8);
        }
    }

    /// Copies output bytes of a completion, `into.len()` from `offset`; `RANGE` beyond what the server gave.
    pub fn copy_out(&self, completion: &Completion, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        let length = completion.result?.length as usize;
        if offset > length || into.len() > length - offset {
            return Err(Error::RANGE);
        }
        let entry = &self.entries[completion.tag.buffer()];
        match &entry.saved {
            Some(saved) => {
                // A copy that could not be made when the rings were exchanged is shorter: the bytes are lost.
                let bytes = saved.get(offset..offset + into.len()).ok_or(Error::DEAD)?;
                into.copy_from_slice(bytes);
                Ok(())
            }
            None => self.channel.buffer(completion.tag.buffer()).copy_out(offset, into),
        }
    }

    /// Where a completion's output bytes lie, for `Shared::copy_to`; `DEAD` once they were saved privately.
    pub fn output(&self, completion: &Completion) -> Result<Shared, Error> {
        let length = completion.result?.length as usize;
        match self.entries[completion.tag.buffer()].saved {
            Some(_) => Err(Error::DEAD),
            None => self.channel.buffer(completion.tag.buffer()).part(0, length),
        }
    }

    /// Sends a request and waits for its reply; copies as many output bytes as fit. For programs, and for
    /// components before their loop runs. A slot that is not free is waited for.
    pub fn call(
        &mut self,
        operation: &'static Operation,
        args: [u64; 5],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Reply, Error> {
        let tag = loop {
            match self.submit(operation, args, input) {
                Err(Error::AGAIN) if self.is_any_pending() => {
                    if !self.take_in() {
                        wait(&mut [&mut News(self)], None);
                    }
                }
                other => break other?,
            }
        };
        let completion = self.wait_for(tag);
        let result = completion.result;
        if let Ok(reply) = result {
            let length = output.len().min(reply.length as usize);
            if let Err(error) = self.copy_out(&completion, 0, &mut output[..length]) {
                self.release(completion);
                return Err(error);
            }
        }
        self.release(completion);
        result
    }

    /// Waits for one request; completions of others stay for `poll`.
    pub fn wait_for(&mut self, tag: Tag) -> Completion {
        let wake_after = core::mem::replace(&mut self.wake_after, 1);
        let completion = loop {
            if let Some(completion) = self.poll_for(tag) {
                break completion;
            }
            // Others that are done stay done and would make `wait` return at once: only news counts.
            wait(&mut [&mut News(self)], None);
        };
        self.wake_after = wake_after;
        completion
    }

    /// Will a slot become free by itself? Completions that the caller holds do not.
    fn is_any_pending(&self) -> bool {
        self.entries.iter().any(|e| matches!(e.phase, Phase::Queued | Phase::Sent | Phase::Late))
    }

    /// Takes in one reply without handing it out.
    fn take_in(&mut self) -> bool {
        self.follow();
        self.take_reply() || self.expire()
    }

    /// Writes an entry's request to the ring.
    pub(crate) fn send(&mut self, buffer: usize) {
        kill_point!("client.before_submit");
        let entry = &mut self.entries[buffer];
        entry.phase = Phase::Sent;
        entry.deadline = match entry.limit {
            u64::MAX => u64::MAX,
            limit => platform::ticks().saturating_add(limit),
        };
        self.next_deadline = self.next_deadline.min(entry.deadline);
        let slot = Slot {
            op: entry.operation.id,
            tag: entry.tag,
            epoch: self.channel.epoch(),
            length: entry.input.len() as u32,
            session: entry.session,
            args: entry.args,
            ..Slot::default()
        };
        // Cannot fail: the length was checked when the request was accepted.
        let _ = self.channel.buffer(buffer).copy_in(0, &entry.input);
        self.publish(&slot);
    }

    pub(crate) fn publish(&mut self, slot: &Slot) {
        self.used = true;
        self.ring.publish(slot);
        kill_point!("client.before_doorbell");
        self.unrung += 1;
        if self.unrung >= self.wake_after {
            self.ring_if_needed();
        } else if self.unrung == 1 {
            self.unrung_since = platform::ticks();
        }
    }

    /// For programs that poll, do something else, poll again, and never wait.
    fn ring_if_late(&mut self) {
        if self.unrung > 0 && platform::ticks().wrapping_sub(self.unrung_since) > time::ns_to_ticks(HOLD_BACK_NS) {
            self.ring_if_needed();
        }
    }

    /// Wakes a server that sleeps although requests were published.
    pub(crate) fn ring_if_needed(&mut self) {
        if core::mem::replace(&mut self.unrung, 0) > 0 && self.ring.server_wants_bell() {
            self.channel.ring();
        }
    }

    /// Takes one reply from the ring and finishes its request. False: there is none.
    fn take_reply(&mut self) -> bool {
        if !matches!(self.connection, Connection::Open | Connection::Restoring) {
            return false;
        }
        match self.ring.take() {
            Ok(None) => false,
            Ok(Some(slot)) => {
                if let Err(violation) = self.accept(&slot) {
                    self.break_off(violation);
                } else if self.restore.draining && !self.entries.iter().any(|e| e.phase == Phase::Sent || e.late) {
                    self.drained();
                }
                true
            }
            Err(violation) => {
                self.break_off(violation);
                false
            }
        }
    }

    /// Checks a reply against what was requested. Everything in `slot` may be a lie.
    fn accept(&mut self, slot: &Slot) -> Result<(), Violation> {
        if slot.epoch != self.channel.epoch() {
            return Err(Violation::Epoch);
        }
        if slot.status > 0 {
            return Err(Violation::Status);
        }
        if slot.length as usize > self.slot_data() {
            return Err(Violation::Length);
        }
        let result = match slot.status {
            0 => Ok(Reply { args: slot.args, length: slot.length }),
            error => Err(Error::from_number(error)),
        };
        if self.connection == Connection::Restoring {
            return self.restored(slot.tag, slot.op);
        }
        let buffer = Tag(slot.tag).buffer();
        let entry = self.entries.get_mut(buffer).ok_or(Violation::Buffer)?;
        let is_expected = entry.phase == Phase::Sent || entry.late;
        if !is_expected || entry.tag != slot.tag {
            return Err(Violation::Tag);
        }
        if slot.op != entry.operation.id {
            return Err(Violation::Operation);
        }
        telemetry::add(telemetry::REPLIES, 1);
        if entry.late {
            // It was reported as expired long ago; all that is left is to have its buffer back.
            entry.late = false;
            if entry.phase == Phase::Late {
                self.set_free(buffer);
            }
            return Ok(());
        }
        if result == Err(Error::STALE) && self.restore.must_repeat() {
            entry.phase = Phase::Queued;
            return Ok(());
        }
        if result.is_err() {
            telemetry::add(telemetry::FAILED, 1);
        }
        if entry.replayed && self.awaits_first_replay {
            self.awaits_first_replay = false;
            telemetry::record_replay(self.channel.index(), self.channel.epoch(), platform::ticks());
        }
        self.restore.answered(entry, &result);
        self.finish(buffer, result);
        Ok(())
    }

    /// A request is over.
    pub(crate) fn finish(&mut self, buffer: usize, result: Result<Reply, Error>) {
        let entry = &mut self.entries[buffer];
        entry.phase = Phase::Done;
        entry.deadline = u64::MAX;
        entry.result = result;
        self.done.push_back(buffer as u8);
    }

    /// Ends requests whose deadline has passed, unless they have been answered meanwhile. True if any is over.
    fn expire(&mut self) -> bool {
        if self.connection != Connection::Open || self.next_deadline == u64::MAX {
            return false;
        }
        let now = platform::ticks();
        // A server that is known to be dead is not late: what it has not done will be done by its successor.
        if now < self.next_deadline || self.channel.state() != State::Open {
            return false;
        }
        // Late may be we: stopped, or without a CPU. What is in the ring by now was answered.
        let mut any = false;
        for _ in 0..self.entries.len() {
            if !self.take_reply() {
                break;
            }
            any = true;
        }
        if self.connection != Connection::Open {
            return any; // an answer broke the protocol
        }
        self.next_deadline = u64::MAX;
        for buffer in 0..self.entries.len() {
            let entry = &mut self.entries[buffer];
            if entry.phase != Phase::Sent {
                continue;
            }
            // Who sees so late that a deadline has passed was stopped, and perhaps the whole machine with it: the
            // server has had no time either. Once; a program that never looks in time must not wait for ever.
            if !entry.excused && now.saturating_sub(entry.deadline) > time::ms_to_ticks(LATE_MS) {
                entry.excused = true;
                entry.deadline = now.saturating_add(entry.limit);
            }
            if entry.deadline > now {
                self.next_deadline = self.next_deadline.min(entry.deadline);
                continue;
            }
            entry.late = true;
            any = true;
            telemetry::add(telemetry::FAILED, 1);
            self.finish(buffer, Err(Error::TIMEOUT));
        }
        any
    }

    fn break_off(&mut self, violation: Violation) {
        self.channel.complain(violation);
        self.connection = Connection::Closed;
    }

    pub(crate) fn no_deadlines(&mut self) {
        self.next_deadline = u64::MAX;
    }
}

fn limit_of(deadline_ms: u32) -> u64 {
    match deadline_ms {
        0 => u64::MAX,
        ms => time::ms_to_ticks(u64::from(ms)),
    }
}

impl Client {
    /// Something the status page or the ring has that was not looked at.
    fn has_news(&self) -> bool {
        let state = self.channel.state();
        match self.connection {
            Connection::Gone => false,
            Connection::Closed => match state {
                State::Reopen | State::Gone => true,
                State::Open => !self.used,
                _ => false,
            },
            Connection::Open | Connection::Restoring => state != State::Open || self.ring.has_reply(),
        }
    }

    fn announce(&self) {
        if matches!(self.connection, Connection::Open | Connection::Restoring) {
            let sent = self.entries.iter().filter(|e| e.phase == Phase::Sent || e.late).count() as u32;
            // After a death the first answer counts: it may be all that a program has been waiting for.
            let is_streaming = self.connection == Connection::Open && !self.awaits_first_replay;
            let wanted = if is_streaming { self.wake_after.min(sent) } else { 1 };
            self.ring.announce_sleep(wanted.max(1));
            if sent > 0 {
                kill_point!("client.before_sleep");
            }
        }
    }

    fn sleep_deadline(&self) -> Option<u64> {
        Some(self.next_deadline).filter(|d| self.connection == Connection::Open && *d != u64::MAX)
    }
}

impl Source for Client {
    fn ready(&mut self) -> bool {
        !self.done.is_empty() || self.has_news()
    }

    fn announce_sleep(&mut self) {
        self.announce();
    }

    fn announce_awake(&mut self) {
        self.ring.announce_awake();
    }

    fn pass_on(&mut self) {
        self.ring_if_needed();
    }

    fn deadline(&self) -> Option<u64> {
        self.sleep_deadline()
    }

    /// A device may still write to the pool, which the next version gets, too.
    fn may_rest(&self) -> Option<bool> {
        let under_way = self.entries.iter().any(|entry| entry.phase == Phase::Sent || entry.late);
        if under_way && info::pool_of(self.channel.index()).is_some() {
            Some(false)
        } else {
            None
        }
    }
}

/// A client of which only what is new makes ready.
struct News<'a>(&'a mut Client);

impl Source for News<'_> {
    fn ready(&mut self) -> bool {
        self.0.has_news()
    }

    fn announce_sleep(&mut self) {
        self.0.announce();
    }

    fn announce_awake(&mut self) {
        self.0.ring.announce_awake();
    }

    fn pass_on(&mut self) {
        self.0.ring_if_needed();
    }

    fn deadline(&self) -> Option<u64> {
        self.0.sleep_deadline()
    }
}
