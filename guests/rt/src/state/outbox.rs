//! Requests to other components that are part of the state: written down with the change that caused them, sent after
//! the commit, sent again under the same tag by whoever comes next.

use crate::error::Error;
use crate::info;
use crate::plain;
use crate::request::{Operation, Tag};
use crate::state::replies::{RequestId, BYTES_MAX};
use crate::state::{Bytes, Cell, Plain, Tx};
use alloc::vec::Vec;

plain! {
    #[derive(Clone, Copy)]
    pub(crate) struct Head {
        /// 0: there is none.
        pub tag: u32,
        pub length: u32,
        pub op: u32,
        reserved: u32,
        pub cause: RequestId,
        pub args: [u64; 5],
    }
}

const NOTHING: Head = Head {
    tag: 0,
    length: 0,
    op: 0,
    reserved: 0,
    cause: RequestId { client: 0, session: 0, tag: 0, digest: 0 },
    args: [0; 5],
};

#[repr(C)]
pub(crate) struct Pending {
    head: Cell<Head>,
    input: Bytes<BYTES_MAX>,
}

/// At most PLACES requests under way on one channel, which has at least as many slots; a part of a state's root.
#[repr(C)]
pub struct Outbox<const PLACES: usize> {
    /// What the tags are counted in: the instance that began this state.
    session: Cell<u32>,
    sequence: Cell<u32>,
    pending: [Pending; PLACES],
}

// SAFETY: plain numbers and bytes; 8 bytes, then 136 for each place.
unsafe impl<const PLACES: usize> Plain for Outbox<PLACES> {}
const _: () = assert!(core::mem::size_of::<Pending>() == 136 && core::mem::size_of::<Outbox<3>>() == 8 + 3 * 136);

impl<const PLACES: usize> Outbox<PLACES> {
    /// Writes a request down; `Client::submit_all` sends it, after the commit. `cause`: the request that has led to it.
    /// `AGAIN`: no place; `TOOBIG`: more input than the operation or a place takes.
    pub fn put(
        &self,
        tx: &mut Tx<'_>,
        operation: &Operation,
        args: [u64; 5],
        input: &[u8],
        cause: RequestId,
    ) -> Result<Tag, Error> {
        if input.len() > operation.input_max.min(BYTES_MAX) {
            return Err(Error::TOOBIG);
        }
        let place = self.pending.iter().position(|each| each.head.get().tag == 0).ok_or(Error::AGAIN)?;
        if self.session.get() == 0 {
            self.session.set(tx, info::instance() as u32);
        }
        let sequence = (self.sequence.get() + 1) & 0xff_ffff;
        self.sequence.set(tx, sequence.max(1));
        let tag = sequence.max(1) << 8 | place as u32;
        let (length, op) = (input.len() as u32, u32::from(operation.id));
        self.pending[place].head.set(tx, Head { tag, length, op, reserved: 0, cause, args });
        self.pending[place].input.copy_from(tx, 0, input)?;
        Ok(Tag(tag))
    }

    /// Takes a request out, in the transaction that makes use of its answer; what has caused it. `NOENT`: it is not there.
    pub fn take(&self, tx: &mut Tx<'_>, tag: Tag) -> Result<RequestId, Error> {
        let pending = self.pending.get(tag.buffer()).filter(|each| each.head.get().tag == tag.0 && tag.0 != 0);
        let pending = pending.ok_or(Error::NOENT)?;
        let cause = pending.head.get().cause;
        pending.head.set(tx, NOTHING);
        Ok(cause)
    }

    /// The request under way that has this cause.
    pub fn find(&self, cause: &RequestId) -> Option<Tag> {
        let heads = self.pending.iter().map(|each| each.head.get());
        heads.filter(|head| head.tag != 0 && head.cause == *cause).map(|head| Tag(head.tag)).next()
    }

    pub fn has_room(&self) -> bool {
        self.pending.iter().any(|each| each.head.get().tag == 0)
    }

    pub(crate) fn session(&self) -> u32 {
        self.session.get()
    }

    /// Everything in it with its input, in the order of `put`.
    pub(crate) fn in_order(&self) -> Vec<(Head, Vec<u8>)> {
        let mut found: Vec<_> = Vec::with_capacity(PLACES);
        for pending in &self.pending {
            let head = pending.head.get();
            if head.tag != 0 {
                let mut input = Vec::new();
                input.resize((head.length as usize).min(BYTES_MAX), 0);
                let _ = pending.input.copy_to(0, &mut input); // as many as there are
                found.push((head, input));
            }
        }
        // Sequence numbers wrap: what was put last has the present one.
        let age = |head: &Head| self.sequence.get().wrapping_sub(head.tag >> 8) & 0xff_ffff;
        found.sort_by_key(|(head, _)| core::cmp::Reverse(age(head)));
        found
    }
}
