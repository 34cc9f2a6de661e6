//! Tests that need no VM: what is kept of sessions, beside a simple model, over deaths, damage and new layouts. The rest
//! is tested by tests/file_server/harness, over a simulated disk.

#![allow(dead_code)]

extern crate alloc;

mod blocks;
mod crc32c;
mod erofs;
mod mount;
mod seal;
mod sessions;

use erofs::INODE_WORDS;
use protocols::fs::{LOCK_EXCLUSIVE, LOCK_SHARED};
use rt::abi::{self, RegionEntry};
use rt::state::{self, RequestId};
use rt::{fake, Answer, Error};
use sessions::{other, Place, Sessions, CLIENTS};

const SIZE: usize = 1 << 20;
const CLIENTS_USED: usize = 3;
const HANDLES_USED: usize = 4;

/// A state region in the heap.
struct Memory(Vec<u64>);

impl Memory {
    fn new() -> Memory {
        fake::reset();
        Memory(vec![0; SIZE / 8 + 8])
    }

    /// The region of the next instance, with this schema.
    fn offer(&self, schema: u32) {
        let address = (self.0.as_ptr() as u64 + 63) & !63;
        let size = SIZE as u64;
        let mut entry = RegionEntry { kind: abi::REGION_KIND_STATE, address, size, schema, ..RegionEntry::default() };
        entry.on_corruption = abi::ON_CORRUPTION_OLDER_COPY;
        entry.name[..8].copy_from_slice(b"sessions");
        fake::set_region(0, entry);
    }

    fn open(&self) -> Sessions {
        self.offer(1);
        Sessions::open(false)
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn id(client: usize, session: u32, tag: u32) -> RequestId {
    RequestId { client: client as u32, session, tag, digest: 7 }
}

fn file(number: u64) -> [u64; INODE_WORDS] {
    let mut words = [9; INODE_WORDS];
    words[0] = number;
    words
}

const DONE: Answer<[u64; 5]> = Answer::Done([0; 5]);

/// What a handle is: file, position, lock.
type Handle = Option<(u64, u64, u32)>;

fn compare(sessions: &Sessions, model: &[[Handle; HANDLES_USED]; CLIENTS_USED]) {
    for (client, handles) in model.iter().enumerate() {
        let open: Vec<_> = sessions.open_handles(client).map(|(handle, words)| (handle, words[0])).collect();
        let known = handles.iter().enumerate().filter_map(|(handle, known)| known.map(|found| (handle as u32, found.0)));
        assert_eq!(open, known.collect::<Vec<_>>());
        for (handle, known) in handles.iter().enumerate() {
            let place = Place { client, handle: handle as u32 };
            match known {
                Some((number, position, lock)) => {
                    assert_eq!(sessions.position(place), Ok(*position));
                    assert_eq!(sessions.lock(place), Ok(*lock));
                    let others = model.iter().flatten().flatten().filter(|each| each.0 == *number && each.2 != 0);
                    let count = others.clone().count() - usize::from(*lock != 0);
                    let is_excluded = others.clone().any(|each| each.2 == LOCK_EXCLUSIVE) && *lock != LOCK_EXCLUSIVE;
                    assert_eq!(sessions.may_lock(place, LOCK_EXCLUSIVE), Ok(count == 0));
                    assert_eq!(sessions.may_lock(place, LOCK_SHARED), Ok(!is_excluded));
                }
                None => assert_eq!(sessions.position(place), Err(Error::BADF)),
            }
        }
    }
}

#[test]
fn everything_is_there_after_a_death() {
    for seed in 1..40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let memory = Memory::new();
        let mut sessions = memory.open();
        let mut model = [[None; HANDLES_USED]; CLIENTS_USED];
        for tag in 0..400_u32 {
            let (client, handle) = (random.below(CLIENTS_USED), random.below(HANDLES_USED));
            let (id, number) = (id(client, 5, (tag % 32) | tag << 8), handle as u32);
            let place = Place { client, handle: number };
            let known: &mut Handle = &mut model[client][handle];
            sessions.begin(&id);
            match random.below(8) {
                0 => sessions = memory.open(),
                1 | 2 => {
                    let inode = 1 + random.below(3) as u64;
                    sessions.opened(id, number, file(inode), [0; 5]);
                    *known = Some((inode, 0, 0));
                }
                3 => {
                    let result = sessions.closed(id, number);
                    assert_eq!(result, known.take().map(|_| ()).ok_or(Error::BADF));
                }
                4 => {
                    let to = random.below(1000) as u64;
                    let result = sessions.moved(id, number, to, &DONE);
                    assert_eq!(result.is_ok(), known.is_some());
                    *known = known.map(|(inode, _, lock)| (inode, to, lock));
                }
                5 => {
                    // What could not be read is before the position again, unless that was moved by another.
                    let from = random.below(1000) as u64;
                    let to = if random.below(2) == 0 { known.map_or(0, |found| found.1) } else { 5000 };
                    sessions.not_read(id, number, (from, to), Error::IO);
                    *known = known.map(|(inode, at, lock)| (inode, if at == to { from } else { at }, lock));
                }
                6 => {
                    let kind = random.below(3) as u32;
                    if kind == 0 || sessions.may_lock(place, kind) == Ok(true) {
                        assert_eq!(sessions.locked(id, number, kind).is_ok(), known.is_some());
                        *known = known.map(|(inode, at, _)| (inode, at, kind));
                    }
                }
                _ if random.below(4) == 0 => {
                    sessions.end(client);
                    model[client] = [None; HANDLES_USED];
                }
                _ => {}
            }
            compare(&sessions, &model);
        }
    }
}

#[test]
fn a_session_is_known_by_its_instance() {
    let memory = Memory::new();
    let sessions = memory.open();
    sessions.begin(&id(2, 0, 1));
    assert_eq!(sessions.clients().count(), 0, "a repetition begins nothing");
    sessions.begin(&id(2, 8, 1));
    let sessions = memory.open();
    assert_eq!(sessions.clients().collect::<Vec<_>>(), [2]);
    assert!(sessions.is_new(&id(2, 9, 1)) && !sessions.is_new(&id(2, 8, 1)) && !sessions.is_new(&id(2, 0, 1)));
    sessions.end(2);
    assert_eq!(sessions.clients().count(), 0);
    assert!(!sessions.is_new(&id(2, 9, 1)));
}

/// After damage nothing is known, and that is said; a repetition gives the file back, but not its position.
#[test]
fn what_is_lost_is_stale() {
    let mut memory = Memory::new();
    let sessions = memory.open();
    sessions.begin(&id(1, 8, 1));
    sessions.opened(id(1, 8, 1), 3, file(4), [0; 5]);
    assert!(sessions.needs_no_repeat(&id(1, 0, 2)) && !sessions.needs_no_repeat(&id(1, 8, 2)));
    memory.0.iter_mut().for_each(|word| *word ^= 0x5555);
    let sessions = memory.open();
    let place = Place { client: 1, handle: 3 };
    assert_eq!(sessions.position(place), Err(Error::STALE));
    assert!(!sessions.needs_no_repeat(&id(1, 0, 2)));
    sessions.opened(id(1, 0, 2), 3, file(4), [0; 5]);
    assert_eq!(sessions.lock(place), Ok(0));
    assert_eq!(sessions.position(place), Err(Error::STALE));
    sessions.moved(id(1, 8, 3), 3, 70, &DONE).unwrap();
    assert_eq!(sessions.position(place), Ok(70));
    sessions.end(1);
    assert_eq!(sessions.position(place), Err(Error::BADF));
}

#[test]
fn another_image_has_other_files() {
    let memory = Memory::new();
    let sessions = memory.open();
    sessions.is_of(77);
    sessions.begin(&id(0, 8, 1));
    sessions.opened(id(0, 8, 1), 0, file(4), [0; 5]);
    sessions.is_of(77);
    assert_eq!(sessions.position(Place { client: 0, handle: 0 }), Ok(0));
    sessions.is_of(78);
    assert_eq!(sessions.position(Place { client: 0, handle: 0 }), Err(Error::STALE));
}

/// The two layouts of the builds that take turns in the benchmark of updates.
#[test]
fn another_layout_is_converted() {
    let memory = Memory::new();
    memory.offer(1);
    let (old, _) = state::open::<other::Root>("sessions");
    let mut tx = old.begin();
    let session = &old.sessions[CLIENTS - 1];
    session.number.set(&mut tx, 6);
    session.handles[63].inode.set(&mut tx, file(12));
    session.handles[63].position.set(&mut tx, 500);
    session.handles[63].lock.set(&mut tx, u64::from(LOCK_SHARED));
    old.image.set(&mut tx, 77);
    tx.commit().unwrap();
    memory.offer(2);
    let sessions = Sessions::open(false);
    sessions.is_of(77);
    assert_eq!(sessions.clients().collect::<Vec<_>>(), [CLIENTS - 1]);
    assert_eq!(sessions.open_handles(CLIENTS - 1).collect::<Vec<_>>(), [(63, file(12))]);
    let place = Place { client: CLIENTS - 1, handle: 63 };
    assert_eq!((sessions.position(place), sessions.lock(place)), (Ok(500), Ok(LOCK_SHARED)));
}

#[test]
fn more_clients_than_there_is_room_for_are_refused() {
    sessions::check_room(CLIENTS);
    let said = std::panic::catch_unwind(|| sessions::check_room(CLIENTS + 1)).unwrap_err();
    let text = said.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("33 clients of the file server, which has room for 32: run fewer programs"), "{text}");
}
