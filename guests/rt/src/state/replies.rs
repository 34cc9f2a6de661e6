//! What makes a request be done once and no more, although its server dies: the answers given are part of the state.

use crate::error::Error;
use crate::plain;
use crate::server::{Answer, Call};
use crate::state::layout::mix;
use crate::state::{Bytes, Cell, Plain, Tx};

/// Most output bytes of an answer that is kept, and input bytes of a request in an outbox.
pub const BYTES_MAX: usize = 64;

plain! {
    /// Names a request for ever: it is the same after any death, and no other request ever has it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RequestId {
        /// Which of this component's clients, in the order of its channels.
        pub client: u32,
        /// What the client's tag is counted in.
        pub session: u32,
        pub tag: u32,
        /// Of operation and arguments: a client that went back to an older state may use a tag again.
        pub digest: u32,
    }
}

impl RequestId {
    pub(crate) fn new(client: u32, session: u32, tag: u32, op: u16, args: &[u64; 5]) -> RequestId {
        let digest = args.iter().fold(u64::from(op), |digest, word| mix(*word, digest));
        RequestId { client, session, tag, digest: digest as u32 }
    }

    /// All of it in one number, which is not 0.
    #[inline]
    pub(crate) fn name(&self) -> u64 {
        let (client, session) = (u64::from(self.client) << 32, u64::from(self.session));
        mix(client | session, u64::from(self.tag) << 32 | u64::from(self.digest)).max(1)
    }
}

plain! {
    #[derive(Clone, Copy)]
    struct Head {
        id: RequestId,
        status: i32,
        length: u32,
        args: [u64; 5],
    }
}

#[repr(C)]
struct Kept {
    head: Cell<Head>,
    output: Bytes<BYTES_MAX>,
}

/// The last answer to each of CLIENTS clients in each of SLOTS slots; a part of a state's root. As many clients as the
/// component has server ends, as many slots as its channels have at most: a client uses a slot again only once it has
/// what it got from it.
#[repr(C)]
pub struct Replies<const CLIENTS: usize, const SLOTS: usize> {
    kept: [[Kept; SLOTS]; CLIENTS],
}

// SAFETY: 64 bytes of plain numbers and 64 bytes, in arrays.
unsafe impl<const CLIENTS: usize, const SLOTS: usize> Plain for Replies<CLIENTS, SLOTS> {}
const _: () = assert!(core::mem::size_of::<Kept>() == 128);

impl<const CLIENTS: usize, const SLOTS: usize> Replies<CLIENTS, SLOTS> {
    fn place(&self, id: &RequestId) -> Option<&Kept> {
        self.kept.get(id.client as usize)?.get((id.tag & 0xff) as usize)
    }

    /// The answer this request has been given before, to be given again.
    pub fn find(&self, call: &Call<'_>) -> Option<Answer<[u64; 5]>> {
        let id = call.id();
        let kept = self.place(&id)?;
        let head = kept.head.get();
        if head.id != id || id.session == 0 {
            return None;
        }
        Some(match (head.status, (head.length as usize).min(BYTES_MAX)) {
            (0, 0) => Answer::Done(head.args),
            (0, length) => {
                let mut output = [0; BYTES_MAX];
                let whole = kept.output.copy_to(0, &mut output[..length]);
                match whole.and_then(|()| call.output()?.copy_in(0, &output[..length])) {
                    Ok(()) => Answer::Data(head.args, length as u32),
                    Err(error) => Answer::Failed(error),
                }
            }
            (status, _) => Answer::Failed(Error::from_number(status)),
        })
    }

    /// Takes over the answers kept in a state of another schema, when that is converted.
    pub fn take_over(&self, tx: &mut Tx<'_>, other: &Replies<CLIENTS, SLOTS>) {
        for (kept, old) in self.kept.iter().flatten().zip(other.kept.iter().flatten()) {
            let mut output = [0; BYTES_MAX];
            kept.head.set(tx, old.head.get());
            // Both have BYTES_MAX bytes.
            let _ = old.output.copy_to(0, &mut output).and_then(|()| kept.output.copy_from(tx, 0, &output));
        }
    }

    /// Keeps the answer to a request, in the transaction of the change that the request has made. `output`: the bytes of
    /// `Answer::Data`, else nothing. `RANGE`: more clients or slots than there is room for; `TOOBIG`: too much output;
    /// `INVAL`: an answer that is none yet.
    pub fn keep(
        &self,
        tx: &mut Tx<'_>,
        id: RequestId,
        answer: &Answer<[u64; 5]>,
        output: &[u8],
    ) -> Result<(), Error> {
        let kept = self.place(&id).ok_or(Error::RANGE)?;
        let (status, args) = match answer {
            Answer::Done(args) | Answer::Data(args, _) => (0, *args),
            Answer::Failed(error) => (error.number(), [0; 5]),
            Answer::Later => return Err(Error::INVAL),
        };
        if output.len() > BYTES_MAX {
            return Err(Error::TOOBIG);
        }
        kept.head.set(tx, Head { id, status, length: output.len() as u32, args });
        kept.output.copy_from(tx, 0, output)
    }
}
