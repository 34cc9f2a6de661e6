//! What outlives an instance: of each client's session the open files, their positions and locks, and the answers given.
//!
//! A client is here its number among this component's server ends. Every change is one transaction, together with the
//! answer that tells the client of it, so that a request which is repeated changes nothing a second time.

use crate::blocks::{Block, BLOCK};
use crate::erofs::INODE_WORDS;
use crate::mount::MOUNT_WORDS;
use protocols::fs;
use rt::state::{self, Found, RequestId, State, Tx};
use rt::{Answer, Call, Error};

/// As many as the manifest may say: clients, and slots of each.
pub const CLIENTS: usize = 32;
const SLOTS: usize = 32;
const HANDLES: usize = fs::HANDLES as usize;
/// In place of a position that nobody knows any more. No file is that long.
const UNKNOWN: u64 = u64::MAX;

/// The layout of the state. `GAP`: words in front of every handle and session, for builds that are updated to a layout
/// other than theirs.
macro_rules! layout {
    ($module:ident, $gap:expr) => {
        pub mod $module {
            use super::{BLOCK, CLIENTS, HANDLES, INODE_WORDS, MOUNT_WORDS, SLOTS};
            use rt::state::{plain, Bytes, Cell, Replies};

            plain! {
                pub struct Handle {
                    gap: [Cell<u64>; $gap],
                    /// Inode; all zero: nothing is open.
                    pub inode: Cell<[u64; INODE_WORDS]>,
                    pub position: Cell<u64>,
                    /// 0: none, else its kind.
                    pub lock: Cell<u64>,
                }
            }
            plain! {
                pub struct Session {
                    gap: [Cell<u64>; $gap],
                    /// Which instance of the client; 0: none.
                    pub number: Cell<u32>,
                    /// 1: there may have been handles that nobody knows any more.
                    pub forgotten: Cell<u32>,
                    pub handles: [Handle; HANDLES],
                }
            }
            plain! {
                pub struct Root {
                    /// Says which image the inodes are of; 0: none yet.
                    pub image: Cell<u64>,
                    /// What the next version need not read from the disk; all zero: nothing.
                    pub mount: Cell<[u64; MOUNT_WORDS]>,
                    pub roots: Bytes<BLOCK>,
                    pub sessions: [Session; CLIENTS],
                    pub replies: Replies<CLIENTS, SLOTS>,
                }
            }
        }
    };
}

#[cfg(not(layout_b))]
layout!(present, 0);
#[cfg(layout_b)]
layout!(present, 1);
#[cfg(all(not(layout_b), any(layout_a, host_test)))]
layout!(other, 1);
#[cfg(layout_b)]
layout!(other, 0);

use present::{Handle, Root, Session};

/// Panics, with what to do, if there are more clients than sessions.
pub fn check_room(clients: usize) {
    assert!(
        clients <= CLIENTS,
        "{} clients of the file server, which has room for {}: run fewer programs, or route some of them to another one",
        clients,
        CLIENTS
    );
}

/// What may be done with a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub client: usize,
    pub handle: u32,
}

pub struct Sessions(State<Root>);

type Words = [u64; 5];

impl Sessions {
    /// What was left in state region "sessions". What cannot have survived is marked as forgotten.
    pub fn open(is_first: bool) -> Sessions {
        #[cfg(any(layout_a, layout_b, host_test))]
        let (state, found) = state::open_or_convert::<Root>("sessions", convert);
        #[cfg(not(any(layout_a, layout_b, host_test)))]
        let (state, found) = state::open::<Root>("sessions");
        let sessions = Sessions(state);
        if !is_first && matches!(found, Found::Lost | Found::OtherSchema | Found::OlderCopy) {
            sessions.forget_all();
        }
        sessions
    }

    /// The inodes are of this image: handles on files of another are forgotten.
    pub fn is_of(&self, image: u64) {
        let before = self.0.image.get();
        if before == image {
            return;
        }
        if before != 0 {
            for client in 0..CLIENTS {
                self.close_all(client, |_, _| {});
            }
            self.forget_all();
        }
        self.change(|tx| self.0.image.set(tx, image));
    }

    /// What is to be known of the image without reading it, packed.
    pub fn mount(&self) -> Option<([u64; MOUNT_WORDS], Block)> {
        let mut block = [0; BLOCK];
        self.0.roots.copy_to(0, &mut block).ok()?;
        Some((self.0.mount.get(), block)).filter(|(words, _)| *words != [0; MOUNT_WORDS])
    }

    pub fn keep_mount(&self, words: [u64; MOUNT_WORDS], block: &Block) {
        if self.mount() == Some((words, *block)) {
            return;
        }
        self.change(|tx| {
            self.0.mount.set(tx, words);
            self.0.roots.copy_from(tx, 0, block).expect("a block is as long as a block");
        });
    }

    fn forget_all(&self) {
        self.change(|tx| self.0.sessions.iter().for_each(|session| session.forgotten.set(tx, 1)));
    }

    /// Clients that have a session.
    pub fn clients(&self) -> impl Iterator<Item = usize> + '_ {
        (0..CLIENTS).filter(move |client| self.0.sessions[*client].number.get() != 0)
    }

    /// The open handles of a client with the inodes, packed.
    pub fn open_handles(&self, client: usize) -> impl Iterator<Item = (u32, [u64; INODE_WORDS])> + '_ {
        let handles = self.0.sessions[client].handles.iter().enumerate();
        handles.filter(|(_, handle)| is_open(handle)).map(|(number, handle)| (number as u32, handle.inode.get()))
    }

    /// A request has come. True: it is the first of another session than the one known, which has to be ended first.
    pub fn is_new(&self, id: &RequestId) -> bool {
        let known = self.0.sessions[id.client as usize].number.get();
        id.session != 0 && known != 0 && known != id.session
    }

    /// A request has come: from here on its session is known.
    pub fn begin(&self, id: &RequestId) {
        let session = &self.0.sessions[id.client as usize];
        if id.session != 0 && session.number.get() == 0 {
            self.change(|tx| session.number.set(tx, id.session));
        }
    }

    /// The session is over, and with it all it had.
    pub fn end(&self, client: usize) {
        self.close_all(client, |session, tx| {
            session.number.set(tx, 0);
            session.forgotten.set(tx, 0);
        });
    }

    fn close_all(&self, client: usize, more: impl Fn(&Session, &mut Tx<'_>)) {
        let session = &self.0.sessions[client];
        self.change(|tx| {
            session.handles.iter().filter(|handle| is_open(handle)).for_each(|handle| close(handle, tx));
            more(session, tx);
        });
    }

    /// The answer a request has been given before.
    pub fn answered(&self, call: &Call<'_>) -> Option<Answer<Words>> {
        self.0.replies.find(call)
    }

    /// Why a handle cannot be used that is not open.
    pub fn missing(&self, client: usize) -> Error {
        match self.0.sessions[client].forgotten.get() {
            0 => Error::BADF,
            _ => Error::STALE,
        }
    }

    fn handle(&self, place: Place) -> Result<&Handle, Error> {
        let handle = self.0.sessions[place.client].handles.get(place.handle as usize);
        handle.filter(|handle| is_open(handle)).ok_or_else(|| self.missing(place.client))
    }

    // -- changes; each with the answer to the request that made it -------------------------------------

    /// Is this request a client's repetition, for a server that has lost its state, and is there nothing to repeat?
    pub fn needs_no_repeat(&self, id: &RequestId) -> bool {
        id.session == 0 && self.0.sessions[id.client as usize].forgotten.get() == 0
    }

    /// A file is open under a handle. A repetition does not know where it was.
    pub fn opened(&self, id: RequestId, handle: u32, inode: [u64; INODE_WORDS], answer: Words) {
        let place = &self.0.sessions[id.client as usize].handles[handle as usize];
        self.change(|tx| {
            place.inode.set(tx, inode);
            place.position.set(tx, if id.session == 0 { UNKNOWN } else { 0 });
            place.lock.set(tx, 0);
            self.keep(tx, id, &Answer::Done(answer));
        });
    }

    pub fn closed(&self, id: RequestId, handle: u32) -> Result<(), Error> {
        let place = self.handle(Place { client: id.client as usize, handle })?;
        self.change(|tx| {
            close(place, tx);
            self.keep(tx, id, &Answer::Done([0; 5]));
        });
        Ok(())
    }

    /// `STALE`: it was lost.
    pub fn position(&self, place: Place) -> Result<u64, Error> {
        match self.handle(place)?.position.get() {
            UNKNOWN => Err(Error::STALE),
            position => Ok(position),
        }
    }

    pub fn moved(&self, id: RequestId, handle: u32, position: u64, answer: &Answer<Words>) -> Result<(), Error> {
        let place = self.handle(Place { client: id.client as usize, handle })?;
        self.change(|tx| {
            place.position.set(tx, position);
            self.keep(tx, id, answer);
        });
        Ok(())
    }

    /// The bytes from `from` to `to` cannot be read: the position goes back, unless somebody has moved it since.
    pub fn not_read(&self, id: RequestId, handle: u32, (from, to): (u64, u64), error: Error) {
        let place = self.handle(Place { client: id.client as usize, handle });
        self.change(|tx| {
            if let Some(place) = place.ok().filter(|place| place.position.get() == to) {
                place.position.set(tx, from);
            }
            self.keep(tx, id, &Answer::Failed(error));
        });
    }

    /// May the handle have a lock of this kind? Others, also of the same client, must have none on the same file that
    /// excludes it.
    pub fn may_lock(&self, place: Place, kind: u32) -> Result<bool, Error> {
        let file = number_of(self.handle(place)?);
        let excludes = |lock: u64| lock != 0 && u64::from(fs::LOCK_EXCLUSIVE) == lock.max(u64::from(kind));
        Ok(self.clients().all(|client| {
            let handles = self.0.sessions[client].handles.iter().enumerate();
            let mut others = handles.filter(|(handle, _)| *handle != place.handle as usize || client != place.client);
            !others.any(|(_, other)| excludes(other.lock.get()) && number_of(other) == file)
        }))
    }

    /// The kind of lock it has, 0: none.
    pub fn lock(&self, place: Place) -> Result<u32, Error> {
        self.handle(place).map(|handle| handle.lock.get() as u32)
    }

    /// Do two handles mean the same file?
    pub fn same_file(&self, one: Place, other: Place) -> bool {
        match (self.handle(one), self.handle(other)) {
            (Ok(one), Ok(other)) => number_of(one) == number_of(other),
            _ => false,
        }
    }

    /// The handle has a lock of this kind, or none.
    pub fn locked(&self, id: RequestId, handle: u32, kind: u32) -> Result<(), Error> {
        let place = self.handle(Place { client: id.client as usize, handle })?;
        self.change(|tx| {
            place.lock.set(tx, u64::from(kind));
            self.keep(tx, id, &Answer::Done([0; 5]));
        });
        Ok(())
    }

    fn keep(&self, tx: &mut Tx<'_>, id: RequestId, answer: &Answer<Words>) {
        // A repetition has no name: it is never repeated under one.
        if id.session != 0 {
            self.0.replies.keep(tx, id, answer, &[]).expect("as many clients and slots as in the manifest");
        }
    }

    fn change(&self, what: impl FnOnce(&mut Tx<'_>)) {
        let mut tx = self.0.begin();
        what(&mut tx);
        tx.commit().expect("[state.sessions] has room to close all files of a client at once");
    }
}

fn is_open(handle: &Handle) -> bool {
    handle.inode.get() != [0; INODE_WORDS]
}

/// The inode's number comes first.
fn number_of(handle: &Handle) -> u64 {
    handle.inode.get()[0]
}

fn close(handle: &Handle, tx: &mut Tx<'_>) {
    handle.inode.set(tx, [0; INODE_WORDS]);
    handle.lock.set(tx, 0);
}

/// The same state in the other layout.
#[cfg(any(layout_a, layout_b, host_test))]
fn convert(_schema: u32, data: &[u8], new: &Root, tx: &mut Tx<'_>) {
    let words: alloc::vec::Vec<u64> = data.chunks_exact(8).map(|word| crate::blocks::u64_at(word, 0)).collect();
    if data.len() != core::mem::size_of::<other::Root>() {
        return new.sessions.iter().for_each(|session| session.forgotten.set(tx, 1)); // of no layout that is known
    }
    // SAFETY: aligned, as long as a Root, whose every bit pattern is a value.
    let old = unsafe { &*words.as_ptr().cast::<other::Root>() };
    new.image.set(tx, old.image.get());
    new.mount.set(tx, old.mount.get());
    let mut roots = [0; BLOCK];
    // Both have as many bytes.
    let _ = old.roots.copy_to(0, &mut roots).and_then(|()| new.roots.copy_from(tx, 0, &roots));
    new.replies.take_over(tx, &old.replies);
    for (new, old) in new.sessions.iter().zip(&old.sessions) {
        new.number.set(tx, old.number.get());
        new.forgotten.set(tx, old.forgotten.get());
        for (new, old) in new.handles.iter().zip(&old.handles) {
            new.inode.set(tx, old.inode.get());
            new.position.set(tx, old.position.get());
            new.lock.set(tx, old.lock.get());
        }
    }
}
