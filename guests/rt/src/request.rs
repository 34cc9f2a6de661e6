//! A request as its client sees it: what it is, what became of it, and its entry while it lives.

use crate::error::Error;
use alloc::vec::Vec;

/// What the client must know about an operation. Generated ones are in crate `protocols`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    pub id: u16,
    pub name: &'static str,
    /// Doing it twice is as good as once: it may be replayed.
    pub idempotent: bool,
    /// Its server keeps a log of its replies: it may be replayed, and is done once all the same.
    pub exactly_once: bool,
    /// Remembered after its success, until the operation that `ends` it, and replayed to every new server; one that is
    /// done exactly once, to a server that says by `STALE` that it has lost its state.
    pub sticky: bool,
    /// The sticky operation with the same key that this one ends.
    pub ends: Option<u16>,
    /// The bits of args[0] that are the first argument: the key of sticky operations.
    pub key_mask: u64,
    /// Most bytes of input and of output; usize::MAX: a whole data buffer.
    pub input_max: usize,
    pub output_max: usize,
}

impl Operation {
    /// May it be sent to the successor of a server that has not answered it?
    pub fn replays(&self) -> bool {
        self.idempotent || self.exactly_once
    }
}

/// Names a request of one client. The same before and after a replay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tag(pub u32);

impl Tag {
    pub(crate) fn buffer(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

/// A successful reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    pub args: [u64; 5],
    /// Output bytes in the data buffer.
    pub length: u32,
}

/// A request that is over. Give it back with `Client::release`: until then its data buffer is not used again.
#[must_use = "a completion holds a data buffer until it is released"]
#[derive(PartialEq, Eq, Debug)]
pub struct Completion {
    pub tag: Tag,
    /// The operation that was requested.
    pub op: u16,
    pub result: Result<Reply, Error>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Free,
    /// Accepted while there is no server to send it to.
    Queued,
    Sent,
    /// Over, not yet handed out.
    Done,
    /// Handed out as a `Completion`.
    Held,
    /// Released, but the server may still write to the buffer: its reply is late.
    Late,
}

/// One request, in the entry of its data buffer.
pub(crate) struct Entry {
    pub phase: Phase,
    pub tag: u32,
    /// What the tag is counted in.
    pub session: u32,
    /// Order of submission: tags wrap, this does not.
    pub order: u64,
    pub operation: &'static Operation,
    pub args: [u64; 5],
    /// Kept for a replay.
    pub input: Vec<u8>,
    /// The tick at which it expires, once sent; u64::MAX: never.
    pub deadline: u64,
    /// Ticks it may take.
    pub limit: u64,
    pub replayed: bool,
    /// It was given its time anew, because nobody looked when it was over.
    pub excused: bool,
    /// The server owes a reply although the request has expired.
    pub late: bool,
    pub result: Result<Reply, Error>,
    /// Output bytes, saved when the rings they lay in were exchanged.
    pub saved: Option<Vec<u8>>,
}

static NOTHING: Operation = Operation {
    id: 0,
    name: "nothing",
    idempotent: false,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

impl Entry {
    pub fn free() -> Entry {
        Entry {
            phase: Phase::Free,
            tag: 0,
            session: 0,
            order: 0,
            operation: &NOTHING,
            args: [0; 5],
            input: Vec::new(),
            deadline: u64::MAX,
            limit: u64::MAX,
            replayed: false,
            excused: false,
            late: false,
            result: Err(Error::DEAD),
            saved: None,
        }
    }
}
