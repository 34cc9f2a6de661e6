//! What clients hold: the requests about handles, positions and locks, which need no disk.

use crate::erofs::Inode;
use crate::sessions::{Place, Sessions};
use protocols::fs::{self, CloseArgs, LockArgs, ReadNextArgs, ReadNextReturns, SeekArgs, SeekReturns, UnlockArgs};
use rt::alloc::vec::Vec;
use rt::state::RequestId;
use rt::time::{ms_to_ticks, ticks};
use rt::{abi, Answer, Call, ClientId, Error, ServerPort, Ticket};

const NOBODY: usize = usize::MAX;

/// A request that the disk has to be asked for, and that changes what its client holds.
#[derive(Clone, Copy)]
pub struct Pending {
    ticket: Ticket,
    id: RequestId,
    handle: u32,
    /// Bytes of the file that are read, where the position has moved over them; none: it is opened.
    pub range: Option<(u64, u64)>,
}

/// A request for a lock that others hold.
struct Waiter {
    ticket: Ticket,
    id: RequestId,
    place: Place,
    kind: u32,
    until: u64,
}

pub struct Desk {
    pub sessions: Sessions,
    /// The number of each channel's client.
    numbers: [usize; abi::CHANNELS],
    pending: Vec<Pending>,
    waiters: Vec<Waiter>, // in the order they came
    /// A lock may have been given up since the waiters were looked at.
    freed: bool,
}

impl Desk {
    /// Sessions that were left by an instance before go on, or are said to have ended.
    pub fn new(sessions: Sessions, port: &mut ServerPort) -> Desk {
        let mut numbers = [NOBODY; abi::CHANNELS];
        for number in sessions.clients() {
            match port.expect(number as u32) {
                Some(client) => numbers[client.0 as usize] = number,
                None => sessions.end(number),
            }
        }
        Desk { sessions, numbers, pending: Vec::new(), waiters: Vec::new(), freed: false }
    }

    /// The clients that have a session, each with its number.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, usize)> + '_ {
        let known = self.numbers.iter().enumerate().filter(|(_, number)| **number != NOBODY);
        known.map(|(channel, number)| (ClientId(channel as u32), *number))
    }

    /// A request has come. True: the session there was before has ended by that, when nobody was here to see it.
    pub fn begin(&mut self, call: &Call<'_>) -> bool {
        let id = call.id();
        let is_new = self.sessions.is_new(&id);
        if is_new {
            self.session_ended(call.client());
        }
        self.sessions.begin(&id);
        self.numbers[call.client().0 as usize] = id.client as usize;
        is_new
    }

    pub fn session_ended(&mut self, client: ClientId) {
        let number = core::mem::replace(&mut self.numbers[client.0 as usize], NOBODY);
        if number != NOBODY {
            self.sessions.end(number);
        }
        self.pending.retain(|pending| pending.ticket.client() != client);
        self.waiters.retain(|waiter| waiter.ticket.client() != client);
        self.freed = true;
    }

    /// The answer a request has been given before. What was read has to be read again.
    pub fn answered(&self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        self.sessions.answered(call).filter(|_| call.op() != fs::READ_NEXT.id)
    }

    // -- requests that wait for the disk ----------------------------------------------------------------

    /// A file is to be opened. False: the handle is open, as its client only makes sure of.
    pub fn open(&mut self, call: &Call<'_>, handle: u32) -> bool {
        let id = call.id();
        if self.sessions.needs_no_repeat(&id) {
            return false;
        }
        self.pending.push(Pending { ticket: call.ticket(), id, handle, range: None });
        true
    }

    pub fn opened(&mut self, ticket: Ticket, handle: u32, inode: &Inode, answer: [u64; 5]) {
        if let Some(pending) = self.pending.iter().find(|pending| pending.ticket == ticket) {
            self.sessions.opened(pending.id, handle, inode.to_words(), answer);
            self.freed = true;
        }
    }

    /// What is to be read from the position on, which is moved: this request reads those bytes and no others, whoever
    /// answers it. `size`: of the file; `room`: for an answer.
    pub fn read_next(&mut self, call: &Call<'_>, args: &ReadNextArgs, size: u64, room: usize) -> Result<(u64, u64), Error> {
        let id = call.id();
        let (from, to) = match self.sessions.answered(call) {
            Some(Answer::Done(words)) => {
                let kept = ReadNextReturns::unpack(&words);
                (kept.offset, kept.offset + u64::from(kept.bytes))
            }
            Some(Answer::Failed(error)) => return Err(error),
            _ => {
                let from = self.sessions.position(Place { client: id.client as usize, handle: args.handle })?;
                let bytes = size.saturating_sub(from).min(u64::from(args.bytes)).min(room as u64);
                let answer = ReadNextReturns { bytes: bytes as u32, reserved: 0, offset: from };
                self.sessions.moved(id, args.handle, from + bytes, &Answer::Done(answer.pack()))?;
                (from, from + bytes)
            }
        };
        self.pending.push(Pending { ticket: call.ticket(), id, handle: args.handle, range: Some((from, to)) });
        Ok((from, to))
    }

    /// The disk is done with a request, if it was one that is pending.
    pub fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.ticket == ticket)?;
        Some(self.pending.swap_remove(at))
    }

    pub fn not_read(&mut self, pending: &Pending, error: Error) {
        if let Some(range) = pending.range {
            self.sessions.not_read(pending.id, pending.handle, range, error);
        }
    }

    // -- requests that do not ---------------------------------------------------------------------------

    pub fn close(&mut self, call: &Call<'_>, args: &CloseArgs) -> Answer<()> {
        self.freed = true;
        self.sessions.closed(call.id(), args.handle).into()
    }

    pub fn seek(&mut self, call: &Call<'_>, args: &SeekArgs, size: u64) -> Answer<SeekReturns> {
        let place = Place { client: call.id().client as usize, handle: args.handle };
        let from = match args.whence {
            fs::WHENCE_START => Ok(0),
            fs::WHENCE_CURRENT => self.sessions.position(place),
            fs::WHENCE_END => Ok(size),
            _ => Err(Error::INVAL),
        };
        let to = from.and_then(|from| {
            let to = i128::from(from) + i128::from(args.offset);
            if (0..=i128::from(i64::MAX)).contains(&to) {
                Ok(to as u64)
            } else {
                Err(Error::INVAL)
            }
        });
        to.and_then(|position| {
            let returns = SeekReturns { position };
            self.sessions.moved(call.id(), args.handle, position, &Answer::Done(returns.pack()))?;
            Ok(returns)
        })
        .into()
    }

    pub fn lock(&mut self, call: &mut Call<'_>, args: &LockArgs) -> Answer<()> {
        let (id, ticket) = (call.id(), call.ticket());
        let place = Place { client: id.client as usize, handle: args.handle };
        if !matches!(args.kind, fs::LOCK_SHARED | fs::LOCK_EXCLUSIVE) || args.wait_ms > fs::WAIT_MAX_MS {
            return Answer::Failed(Error::INVAL);
        }
        match self.may_have(place, args.kind, self.waiters.len()) {
            Ok(true) => self.sessions.locked(id, args.handle, args.kind).into(),
            Ok(false) if args.wait_ms > 0 => {
                // It waits on purpose: nobody hangs.
                let _ = call.port().park(ticket);
                let until = ticks() + ms_to_ticks(u64::from(args.wait_ms));
                self.waiters.push(Waiter { ticket, id, place, kind: args.kind, until });
                Answer::Later
            }
            Ok(false) => Answer::Failed(Error::AGAIN),
            Err(error) => Answer::Failed(error),
        }
    }

    pub fn unlock(&mut self, call: &Call<'_>, args: &UnlockArgs) -> Answer<()> {
        self.freed = true;
        self.sessions.locked(call.id(), args.handle, 0).into()
    }

    /// May it have the lock, beside those who hold one and the first `before` waiters? Who holds one already goes before
    /// those who wait.
    fn may_have(&self, place: Place, kind: u32, before: usize) -> Result<bool, Error> {
        let waits = |waiter: &Waiter| waiter.place != place && self.sessions.same_file(waiter.place, place);
        let is_first = self.sessions.lock(place)? != 0 || !self.waiters[..before].iter().any(waits);
        Ok(is_first && self.sessions.may_lock(place, kind)?)
    }

    /// When a waiter is to be told that it has waited long enough.
    pub fn deadline(&self) -> Option<u64> {
        self.waiters.iter().map(|waiter| waiter.until).min()
    }

    /// Answer those who have waited for a lock that is free now, or long enough.
    pub fn settle(&mut self, port: &mut ServerPort) {
        let now = ticks();
        if !core::mem::take(&mut self.freed) && self.deadline().map_or(true, |deadline| now < deadline) {
            return;
        }
        let mut at = 0;
        while at < self.waiters.len() {
            let waiter = &self.waiters[at];
            let answer = match self.may_have(waiter.place, waiter.kind, at) {
                Ok(true) => self.sessions.locked(waiter.id, waiter.place.handle, waiter.kind),
                Ok(false) if now < waiter.until => {
                    at += 1;
                    continue;
                }
                Ok(false) => Err(Error::AGAIN),
                Err(error) => Err(error),
            };
            fs::answer_lock(port, waiter.ticket, answer.into());
            self.waiters.remove(at);
            // A downgrade, or one fewer in the way of those before.
            at = 0;
        }
    }
}
