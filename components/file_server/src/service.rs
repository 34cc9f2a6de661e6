//! The requests under way: attempted, put aside while a block is missing, attempted again when it came.
//!
//! Knows neither rings nor hypercalls. Whoever drives it hands in requests and ended disk reads, and
//! gives it a `Disk` to read from and `Clients` to answer to.

use crate::blocks::{Failure, Stop, BLOCK};
use crate::cache::{Cache, Disk, Extent, Want, EXTENT};
use crate::clients::{Client, HANDLES};
use crate::directory::{blocks_of, EntryBlock};
use crate::erofs::{Inode, Kind, SuperBlock};
use crate::read_ahead::Stream;
use crate::records;
use crate::walk::{read_link, Walk, PATH_MAX};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Walks at a time, each some 24 KiB; further requests with a path wait for one.
const WALKS: usize = 16;
/// Most extents that one stream reads ahead.
const AHEAD: u64 = 24;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Answers, one per operation of fs@1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Opened { size: u64, mode: u32, inode: u64, kind: u8 },
    Read { bytes: u32 },
    Stat { bytes: u32 },
    Entries { bytes: u32, end: bool },
    Target { bytes: u32 },
    Failed(Failure),
}

/// What the log should say.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// A block could not be read or does not match its checksum, twice.
    BadBlock { block: u64, failure: Failure },
    /// The subtree a client may see is not a directory of this image.
    NoSubtree { client: usize, failure: Failure },
}

pub trait Clients {
    type Ticket: Copy;
    /// Put bytes into the request's data buffer. The service stays within the capacity it was told.
    fn write(&mut self, ticket: Self::Ticket, offset: usize, bytes: &[u8]);
    /// Answer a request: exactly once, unless its client's session ended before.
    fn answer(&mut self, ticket: Self::Ticket, answer: Answer);
    fn report(&mut self, report: Report);
}

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    Open { handle: u32, follow: bool, directory: bool },
    Stat { follow: bool },
    ReadLink { capacity: usize },
}

enum Work {
    Path { purpose: Purpose, path: Vec<u8>, walk: Option<usize>, to_subtree: bool },
    Read { inode: Inode, offset: u64, bytes: usize, done: usize, stream: bool },
    Entries { directory: Inode, is_root: bool, cookie: u64, capacity: usize, done: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    Extent(Extent),
    /// For any frame of the cache.
    Frame,
    Walk,
}

struct Request<T> {
    ticket: T,
    client: usize,
    waiting: Waiting,
    work: Work,
}

/// A step of a request ended without an answer.
enum Pause {
    On(Waiting),
    Failed(Failure),
}

pub struct Service<T> {
    volume: SuperBlock,
    pub cache: Cache,
    clients: Vec<Option<Client>>,
    requests: VecDeque<Request<T>>, // in the order they came
    walks: Vec<Walk>,
    free_walks: Vec<usize>,
}

impl<T: Copy> Service<T> {
    /// At most `clients` sessions at a time, `requests` requests under way.
    pub fn new(volume: SuperBlock, cache: Cache, clients: usize, requests: usize) -> Service<T> {
        Service {
            volume,
            cache,
            clients: (0..clients).map(|_| None).collect(),
            requests: VecDeque::with_capacity(requests),
            walks: (0..WALKS).map(|_| Walk::new()).collect(),
            free_walks: (0..WALKS).rev().collect(),
        }
    }

    pub fn volume(&self) -> &SuperBlock {
        &self.volume
    }

    /// Requests that are not answered yet.
    pub fn under_way(&self) -> usize {
        self.requests.len()
    }

    /// Make a client known that sees what is below `subtree`; a known one is left alone.
    pub fn session(&mut self, client: usize, subtree: &[u8]) {
        if let Some(place @ None) = self.clients.get_mut(client) {
            *place = Some(Client::new(subtree));
        }
    }

    /// Forget a client: its requests, its open files, its subtree.
    pub fn session_ended(&mut self, client: usize) {
        if let Some(place) = self.clients.get_mut(client) {
            *place = None;
        }
        let free_walks = &mut self.free_walks;
        self.requests.retain(|request| {
            if let Work::Path { walk: Some(walk), .. } = request.work {
                if request.client == client {
                    free_walks.push(walk);
                }
            }
            request.client != client
        });
    }

    pub fn path<C: Clients<Ticket = T>>(
        &mut self,
        client: usize,
        ticket: T,
        purpose: Purpose,
        path: &[u8],
        clients: &mut C,
    ) {
        let handle = if let Purpose::Open { handle, .. } = purpose { handle as usize } else { 0 };
        if path.len() > PATH_MAX || handle >= HANDLES {
            let failure = if handle >= HANDLES { Failure::BadHandle } else { Failure::NameTooLong };
            return clients.answer(ticket, Answer::Failed(failure));
        }
        let work = Work::Path { purpose, path: path.to_vec(), walk: None, to_subtree: false };
        self.begin(Request { ticket, client, waiting: Waiting::Nothing, work }, clients);
    }

    pub fn read<C: Clients<Ticket = T>>(
        &mut self,
        client: usize,
        ticket: T,
        handle: u32,
        offset: u64,
        bytes: usize,
        clients: &mut C,
    ) {
        let limit = AHEAD.min(self.cache.data_frames() as u64 / 2);
        let prepared = self.opened(client, handle).and_then(|open| {
            if open.inode.kind != Kind::File {
                return Err(if open.inode.kind == Kind::Directory { Failure::IsDirectory } else { Failure::Invalid });
            }
            let bytes = (bytes as u64).min(open.inode.size.saturating_sub(offset));
            let range = open.stream.note(offset, offset.saturating_add(bytes), limit);
            Ok((open.inode, bytes as usize, range, open.stream.sequential()))
        });
        let (inode, bytes, (from, to), stream) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return clients.answer(ticket, Answer::Failed(failure)),
        };
        let work = Work::Read { inode, offset, bytes, done: 0, stream };
        self.begin(Request { ticket, client, waiting: Waiting::Nothing, work }, clients);
        let reached = self.order(&inode, from, to.min(inode.size));
        if reached < to {
            if let Ok(open) = self.opened(client, handle) {
                open.stream.stopped(reached);
            }
        }
    }

    /// `capacity`: bytes of entries that fit the request's data buffer.
    pub fn entries<C: Clients<Ticket = T>>(
        &mut self,
        client: usize,
        ticket: T,
        handle: u32,
        cookie: u64,
        capacity: usize,
        clients: &mut C,
    ) {
        let root = self.clients.get(client).and_then(Option::as_ref).and_then(|client| client.root);
        let directory = match self.opened(client, handle) {
            Ok(open) if open.inode.kind == Kind::Directory => open.inode,
            Ok(_) => return clients.answer(ticket, Answer::Failed(Failure::NotDirectory)),
            Err(failure) => return clients.answer(ticket, Answer::Failed(failure)),
        };
        let is_root = root == Some(directory.number);
        let work = Work::Entries { directory, is_root, cookie, capacity, done: 0 };
        self.begin(Request { ticket, client, waiting: Waiting::Nothing, work }, clients);
    }

    pub fn close(&mut self, client: usize, handle: u32) -> Result<(), Failure> {
        self.clients.get_mut(client).and_then(Option::as_mut).ok_or(Failure::BadHandle)?.close(handle)
    }

    /// Send reads to the disk, and go on with requests whose blocks have come. Returns how many were answered.
    pub fn run<C: Clients<Ticket = T>>(&mut self, disk: &mut dyn Disk, clients: &mut C) -> usize {
        let before = self.requests.len();
        self.cache.pump(disk);
        while let Some(event) = self.cache.next_event() {
            if let Some(failure) = event.failure {
                clients.report(Report::BadBlock { block: event.block, failure });
            }
            self.wake(|waiting| waiting == Waiting::Extent(event.extent) || waiting == Waiting::Frame, event.failure, clients);
        }
        self.cache.pump(disk);
        before - self.requests.len()
    }

    /// Tell of an ended disk read; `run` goes on from there.
    pub fn disk_completed(&mut self, buffer: usize, good: bool, disk: &dyn Disk) {
        self.cache.completed(buffer, good, disk);
    }

    fn opened(&mut self, client: usize, handle: u32) -> Result<&mut crate::clients::Open, Failure> {
        self.clients.get_mut(client).and_then(Option::as_mut).ok_or(Failure::BadHandle)?.opened(handle)
    }

    /// First attempt at a request.
    fn begin<C: Clients<Ticket = T>>(&mut self, mut request: Request<T>, clients: &mut C) {
        if !self.attempt(&mut request, clients) {
            self.requests.push_back(request);
        }
    }

    /// Attempt every request that waits for the right thing again, oldest first.
    fn wake<C: Clients<Ticket = T>>(
        &mut self,
        concerned: impl Fn(Waiting) -> bool,
        failure: Option<Failure>,
        clients: &mut C,
    ) {
        let mut walk_freed = false;
        for _ in 0..self.requests.len() {
            let mut request = match self.requests.pop_front() {
                Some(request) => request,
                None => return,
            };
            let free_before = self.free_walks.len();
            let over = if !concerned(request.waiting) && !(walk_freed && request.waiting == Waiting::Walk) {
                false
            } else if let (Some(failure), Waiting::Extent(_)) = (failure, request.waiting) {
                self.finish(&mut request, Answer::Failed(failure), clients);
                true
            } else {
                self.attempt(&mut request, clients)
            };
            walk_freed |= self.free_walks.len() > free_before;
            if !over {
                self.requests.push_back(request);
            }
        }
    }

    /// Go on with a request. True: it has been answered.
    fn attempt<C: Clients<Ticket = T>>(&mut self, request: &mut Request<T>, clients: &mut C) -> bool {
        loop {
            let answer = match self.step(request, clients) {
                Ok(answer) => answer,
                Err(Stop::Failed(failure)) => Answer::Failed(failure),
                Err(Stop::Missing(block)) => match self.pause(block) {
                    None => continue,
                    Some(waiting) => {
                        request.waiting = waiting;
                        return false;
                    }
                },
            };
            self.finish(request, answer, clients);
            return true;
        }
    }
}
