//! What a client does when its server dies and comes back. The only place where this is done.
//!
//! 1. The status page says `dead`: nothing is sent any more, deadlines stand still.
//! 2. It says `reopen`: output bytes that the program has not released are saved, the rings are exchanged.
//! 3. Requests that were sent, not answered, and may not be repeated, fail with `dead`; where there is a pool, those
//!    not sent yet, too: what they speak of is no longer in it.
//! 4. Sticky requests are sent, and answered, first: the new server gets back what it has forgotten. Those that are done
//!    exactly once it remembers; should it have lost its state, it answers what depends on them with `STALE`. Then
//!    everything under way is waited for, they are sent, and after them what was answered so, once per server.
//! 5. Everything unanswered is sent again in the order of submission, then what was queued meanwhile.

use crate::abi::Slot;
use crate::channel::{State, Violation};
use crate::client::{Client, Connection};
use crate::request::{Entry, Operation, Phase, Reply, Tag};
use crate::error::Error;
use crate::info;
use crate::kill_point;
use crate::ring::ClientRing;
use crate::telemetry;
use alloc::vec::Vec;

/// A sticky request that has succeeded.
struct Kept {
    operation: &'static Operation,
    args: [u64; 5],
    input: Vec<u8>,
}

impl Kept {
    fn key(&self) -> u64 {
        self.args[0] & self.operation.key_mask
    }
}

/// The sticky requests of a client, and how far their replay has come.
pub(crate) struct Restore {
    kept: Vec<Kept>,
    /// How many of them have been sent to the present server.
    sent: usize,
    /// (tag, index in `kept`) of those it has not answered.
    unanswered: Vec<(u32, usize)>,
    /// Tags of this round: sequence numbers from 0, which ordinary requests reach only after 2^24.
    sequence: u32,
    /// The present server has said that it has forgotten what it should remember.
    forgotten: bool,
    /// Nothing is sent until everything under way is answered; then the rest is replayed.
    pub draining: bool,
}

impl Restore {
    pub fn new() -> Restore {
        Restore {
            kept: Vec::new(),
            sent: 0,
            unanswered: Vec::new(),
            sequence: 0,
            forgotten: false,
            draining: false,
        }
    }

    /// Is anything to be sent to the present server before everything else?
    fn is_wanted(&self) -> bool {
        self.kept.iter().any(|kept| kept.operation.exactly_once == self.forgotten)
    }

    /// The server has answered `STALE`: does that mean that it is to be told again what it knew?
    pub fn must_repeat(&mut self) -> bool {
        if !self.forgotten {
            self.draining = self.kept.iter().any(|kept| kept.operation.exactly_once);
            self.forgotten = self.draining;
        }
        self.draining
    }

    /// Takes note of an answered request: keeps a sticky one, drops what another one ends.
    pub fn answered(&mut self, entry: &mut Entry, result: &Result<Reply, Error>) {
        let operation = entry.operation;
        let key = entry.args[0] & operation.key_mask;
        if operation.sticky && result.is_ok() {
            self.kept.retain(|kept| kept.operation.id != operation.id || kept.key() != key);
            let input = core::mem::take(&mut entry.input);
            self.kept.push(Kept { operation, args: entry.args, input });
        }
        if let Some(ended) = operation.ends {
            self.kept.retain(|kept| kept.operation.id != ended || kept.key() != key);
        }
    }
}

impl Client {
    /// Follows the status page: notices a death, reconnects, gives up. Cheap when nothing has changed.
    pub(crate) fn follow(&mut self) {
        let state = self.channel.state();
        match (self.connection, state) {
            (Connection::Open | Connection::Restoring, State::Open) | (Connection::Gone, _) => {}
            (_, State::Gone) => self.give_up(),
            (_, State::Reopen) => self.reconnect(),
            // The first server, which was not there yet when this client began.
            (Connection::Closed, State::Open) if !self.used => self.begin(),
            _ => self.connection = Connection::Closed,
        }
    }

    fn reconnect(&mut self) {
        self.connection = Connection::Closed;
        self.save_output();
        if self.channel.reconnect().is_err() {
            return; // the server has died again: there will be another offer
        }
        telemetry::add(telemetry::RECONNECTS, 1);
        self.ring = ClientRing::new(self.channel.memory(), self.channel.slots());
        self.used = false;
        self.no_deadlines();
        self.settle_unanswered();
        self.begin();
    }

    /// The old data buffers are about to vanish: keeps what the program may still ask for.
    fn save_output(&mut self) {
        // A pool vanishes too, so that an answer nobody has seen yet may speak of bytes that are no longer
        // there: such a request is done once more.
        let has_pool = info::pool_of(self.channel.index()).is_some();
        for buffer in 0..self.entries.len() {
            let data = self.channel.buffer(buffer);
            let entry = &mut self.entries[buffer];
            let length = match (entry.phase, entry.result) {
                (Phase::Done | Phase::Held, Ok(reply)) => reply.length as usize,
                _ => continue,
            };
            if entry.phase == Phase::Done && has_pool && entry.operation.idempotent && self.channel.replays() {
                entry.phase = Phase::Sent;
                self.done.retain(|done| usize::from(*done) != buffer);
            } else if entry.saved.is_none() && length > 0 {
                let mut saved = Vec::new();
                if saved.try_reserve_exact(length).is_ok() {
                    saved.resize(length, 0);
                    let _ = data.copy_out(0, &mut saved);
                }
                entry.saved = Some(saved);
            }
        }
    }

    /// Decides about each request the dead server has left: again, or failed; frees the buffers of expired ones.
    fn settle_unanswered(&mut self) {
        let replays = self.channel.replays();
        let has_pool = info::pool_of(self.channel.index()).is_some();
        for buffer in 0..self.entries.len() {
            let entry = &mut self.entries[buffer];
            entry.late = false;
            match entry.phase {
                Phase::Sent if replays && entry.operation.replays() => entry.replayed = true,
                Phase::Queued if entry.operation.replays() || !has_pool => {}
                Phase::Sent | Phase::Queued => {
                    telemetry::add(telemetry::FAILED, 1);
                    self.finish(buffer, Err(Error::DEAD));
                }
                Phase::Late => {
                    self.set_free(buffer);
                }
                _ => {}
            }
        }
    }

    /// A server is there that knows nothing of us.
    fn begin(&mut self) {
        self.restore.unanswered.clear();
        self.restore.sequence = 0;
        self.restore.forgotten = false;
        self.restore.draining = false;
        self.restore_kept();
    }

    /// The last answer is in that was waited for: a server that has forgotten is told again.
    pub(crate) fn drained(&mut self) {
        self.restore.draining = false;
        self.save_output(); // their data buffers are used for this
        self.restore_kept();
    }

    fn restore_kept(&mut self) {
        self.restore.sent = 0;
        if self.restore.is_wanted() {
            self.connection = Connection::Restoring;
            self.send_kept();
        } else {
            self.resume();
        }
    }

    /// Sends sticky requests as long as there are data buffers. All are free on the wire: what is unanswered
    /// has not been sent to this server yet, and what was answered has been saved.
    fn send_kept(&mut self) {
        while self.restore.sent < self.restore.kept.len() {
            let in_use = |b: &u32| self.restore.unanswered.iter().any(|(tag, _)| tag & 0xff == *b);
            let buffer = match (0..self.entries.len() as u32).find(|b| !in_use(b)) {
                Some(buffer) => buffer,
                None => break,
            };
            let index = self.restore.sent;
            let kept = &self.restore.kept[index];
            if kept.operation.exactly_once != self.restore.forgotten {
                self.restore.sent += 1;
                continue;
            }
            let tag = self.restore.sequence << 8 | buffer;
            let slot = Slot {
                op: kept.operation.id,
                tag,
                epoch: self.channel.epoch(),
                length: kept.input.len() as u32,
                args: kept.args,
                ..Slot::default()
            };
            // Cannot fail: these bytes have been in such a buffer before.
            let _ = self.channel.buffer(buffer as usize).copy_in(0, &kept.input);
            self.restore.sent += 1;
            self.restore.sequence += 1;
            self.restore.unanswered.push((tag, index));
            telemetry::add(telemetry::REPLAYED, 1);
            self.publish(&slot);
        }
        self.ring_if_needed();
    }

    /// The reply to a sticky request. Whether it succeeded makes no difference: if the file it speaks of is gone,
    /// the server will say so to what depends on it; the next server may have it again.
    pub(crate) fn restored(&mut self, tag: u32, op: u16) -> Result<(), Violation> {
        if Tag(tag).buffer() >= self.entries.len() {
            return Err(Violation::Buffer);
        }
        let position = self.restore.unanswered.iter().position(|(t, _)| *t == tag).ok_or(Violation::Tag)?;
        let (_, index) = self.restore.unanswered[position];
        let kept = &self.restore.kept[index];
        if kept.operation.id != op {
            return Err(Violation::Operation);
        }
        self.restore.unanswered.swap_remove(position);
        telemetry::add(telemetry::REPLIES, 1);
        self.send_kept();
        if self.restore.unanswered.is_empty() {
            self.resume();
        }
        Ok(())
    }

    /// Sends everything unanswered, in order, and goes on.
    fn resume(&mut self) {
        self.connection = Connection::Open;
        let mut waiting: Vec<(u64, usize)> = Vec::with_capacity(self.entries.len());
        for (buffer, entry) in self.entries.iter().enumerate() {
            if matches!(entry.phase, Phase::Queued | Phase::Sent) {
                waiting.push((entry.order, buffer));
            }
        }
        waiting.sort_unstable();
        self.awaits_first_replay = false;
        for (_, buffer) in waiting {
            if self.entries[buffer].phase == Phase::Sent {
                kill_point!("client.before_replay");
                self.awaits_first_replay = true;
                telemetry::add(telemetry::REPLAYED, 1);
            }
            self.send(buffer);
        }
        self.ring_if_needed();
    }

    /// The server will not come back: every request fails.
    fn give_up(&mut self) {
        self.save_output();
        self.connection = Connection::Gone;
        for buffer in 0..self.entries.len() {
            let entry = &mut self.entries[buffer];
            match entry.phase {
                Phase::Queued | Phase::Sent => {
                    telemetry::add(telemetry::FAILED, 1);
                    self.finish(buffer, Err(Error::DEAD));
                }
                Phase::Late => {
                    self.set_free(buffer);
                }
                _ => {}
            }
            self.entries[buffer].late = false;
        }
    }
}
