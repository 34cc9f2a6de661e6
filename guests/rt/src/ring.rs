//! The two rings of a channel, one half for each side. Nothing in here trusts the other side: an index is
//! only compared, a slot is copied once and handed up as it is, to be validated.
//!
//! Sleeping: a side sets its sleep flag, fences, looks at everything once more, and only then blocks. The other
//! publishes, fences, and rings if the flag is set. Whatever the order, one of them sees the other.

use crate::abi::{self, Slot};
use crate::channel::Violation;
use crate::shared::{full_fence, Shared};

const WORDS: usize = Slot::SIZE / 8;

fn read_slot(memory: Shared, offset: usize) -> Slot {
    let mut words = [0u64; WORDS];
    for (number, word) in words.iter_mut().enumerate() {
        *word = memory.load_u64(offset + 8 * number);
    }
    // SAFETY: Slot is 64 bytes of integers without padding.
    unsafe { core::mem::transmute(words) }
}

fn write_slot(memory: Shared, offset: usize, slot: &Slot) {
    // SAFETY: as above.
    let words: [u64; WORDS] = unsafe { core::mem::transmute(*slot) };
    for (number, word) in words.iter().enumerate() {
        memory.store_u64(offset + 8 * number, *word);
    }
}

/// One direction seen by its consumer: how far it has read.
#[derive(Clone, Copy)]
struct Consumer {
    head: u32,
    slots: u32,
    first: usize,
}

impl Consumer {
    /// The next entry, copied once. An index that is more than a ring ahead is a violation.
    fn take(&mut self, memory: Shared, tail_at: usize, head_at: usize) -> Result<Option<Slot>, Violation> {
        let ahead = memory.load_acquire(tail_at).wrapping_sub(self.head);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > self.slots {
            return Err(Violation::Index);
        }
        let offset = self.first + (self.head & (self.slots - 1)) as usize * Slot::SIZE;
        let slot = read_slot(memory, offset);
        self.head = self.head.wrapping_add(1);
        memory.store_release(head_at, self.head);
        Ok(Some(slot))
    }
}

/// One direction seen by its producer: how far it has written.
#[derive(Clone, Copy)]
struct Producer {
    tail: u32,
    slots: u32,
    first: usize,
}

impl Producer {
    fn publish(&mut self, memory: Shared, tail_at: usize, slot: &Slot) {
        let offset = self.first + (self.tail & (self.slots - 1)) as usize * Slot::SIZE;
        write_slot(memory, offset, slot);
        self.tail = self.tail.wrapping_add(1);
        memory.store_release(tail_at, self.tail);
    }
}

fn replies_at(slots: u32) -> usize {
    abi::CHANNEL_REQUESTS + slots as usize * Slot::SIZE
}

/// The client's half: publishes requests, takes replies.
pub struct ClientRing {
    memory: Shared,
    requests: Producer,
    replies: Consumer,
    /// The server's head when we last rang: until it moves, it is on its way and need not be rung again.
    rung_at: Option<u32>,
}

impl ClientRing {
    /// Over rings that nobody has used yet. `memory` was checked to hold rings of `slots`.
    pub fn new(memory: Shared, slots: u32) -> ClientRing {
        ClientRing {
            memory,
            requests: Producer { tail: 0, slots, first: abi::CHANNEL_REQUESTS },
            replies: Consumer { head: 0, slots, first: replies_at(slots) },
            rung_at: None,
        }
    }

    /// Publishes a request; `server_wants_bell` afterwards, at the latest when there is nothing else to do. The
    /// caller keeps at most `slots` requests unanswered, so there is always room.
    pub fn publish(&mut self, slot: &Slot) {
        self.requests.publish(self.memory, abi::CHANNEL_REQUEST_TAIL, slot);
    }

    /// Does the server sleep although there are requests? Then it must be rung.
    #[must_use]
    pub fn server_wants_bell(&mut self) -> bool {
        full_fence();
        if self.memory.load_u32(abi::CHANNEL_SERVER_SLEEP) != 1 {
            self.rung_at = None;
            return false;
        }
        // A server that was rung and has not taken anything since will see all requests when it wakes: it looks
        // at all rings before it sleeps again. One that has taken everything was woken by somebody else.
        let head = self.memory.load_u32(abi::CHANNEL_REQUEST_HEAD);
        if head == self.requests.tail || self.rung_at == Some(head) {
            return false;
        }
        self.rung_at = Some(head);
        true
    }

    /// The next reply.
    pub fn take(&mut self) -> Result<Option<Slot>, Violation> {
        self.replies.take(self.memory, abi::CHANNEL_REPLY_TAIL, abi::CHANNEL_REPLY_HEAD)
    }

    /// Is there something to take (or to complain about)?
    #[inline]
    pub fn has_reply(&self) -> bool {
        self.memory.load_u32(abi::CHANNEL_REPLY_TAIL) != self.replies.head
    }

    /// Announces sleep, to be woken when `replies` more are there. Fence and look again before blocking.
    pub fn announce_sleep(&self, replies: u32) {
        self.memory.store_u32(abi::CHANNEL_CLIENT_WAKE_AT, self.replies.head.wrapping_add(replies));
        self.memory.store_release(abi::CHANNEL_CLIENT_SLEEP, 1);
    }

    pub fn announce_awake(&self) {
        self.memory.store_u32(abi::CHANNEL_CLIENT_SLEEP, 0);
    }
}

/// The server's half: takes requests, publishes replies.
pub struct ServerRing {
    memory: Shared,
    requests: Consumer,
    replies: Producer,
    /// The client's head when we last rang: a client that was rung takes what is there before it sleeps again, so
    /// that its head has moved. (Its `wake_at` may be the same again: it took one and wants one fewer.)
    rung_at: Option<u32>,
}

impl ServerRing {
    /// Over rings that no server has used yet. `memory` was checked to hold rings of `slots`.
    pub fn new(memory: Shared, slots: u32) -> ServerRing {
        ServerRing {
            memory,
            requests: Consumer { head: 0, slots, first: abi::CHANNEL_REQUESTS },
            replies: Producer { tail: 0, slots, first: replies_at(slots) },
            rung_at: None,
        }
    }

    /// The next request.
    pub fn take(&mut self) -> Result<Option<Slot>, Violation> {
        self.requests.take(self.memory, abi::CHANNEL_REQUEST_TAIL, abi::CHANNEL_REQUEST_HEAD)
    }

    /// Is there something to take (or to complain about)?
    #[inline]
    pub fn has_request(&self) -> bool {
        self.memory.load_u32(abi::CHANNEL_REQUEST_TAIL) != self.requests.head
    }

    /// Publishes a reply. True: the client sleeps and now has as many replies as it wanted: ring.
    #[must_use]
    pub fn publish(&mut self, slot: &Slot) -> bool {
        self.replies.publish(self.memory, abi::CHANNEL_REPLY_TAIL, slot);
        full_fence();
        self.client_wants_bell(true)
    }

    /// Does the client sleep with replies it has not seen? For the moment before the server has nothing to do.
    #[must_use]
    pub fn client_lags(&mut self) -> bool {
        self.client_wants_bell(false)
    }

    fn client_wants_bell(&mut self, only_at_threshold: bool) -> bool {
        if self.memory.load_u32(abi::CHANNEL_CLIENT_SLEEP) != 1 {
            self.rung_at = None;
            return false;
        }
        let wake_at = self.memory.load_u32(abi::CHANNEL_CLIENT_WAKE_AT);
        let head = self.memory.load_u32(abi::CHANNEL_REPLY_HEAD);
        let reached = self.replies.tail.wrapping_sub(wake_at) as i32 >= 0;
        if (only_at_threshold && !reached) || head == self.replies.tail || self.rung_at == Some(head) {
            return false;
        }
        self.rung_at = Some(head);
        true
    }

    pub fn announce_sleep(&self) {
        self.memory.store_release(abi::CHANNEL_SERVER_SLEEP, 1);
    }

    pub fn announce_awake(&self) {
        self.memory.store_u32(abi::CHANNEL_SERVER_SLEEP, 0);
    }

    /// Says how many requests are held on purpose.
    pub fn announce_parked(&self, count: u32) {
        self.memory.store_u32(abi::CHANNEL_PARKED, count);
    }
}
