//! The requests under way: attempted, put aside while a block is missing, attempted again when it came.
//!
//! Knows neither rings nor hypercalls. Whoever drives it hands in requests and ended disk reads, and
//! gives it a `Disk` to read from and `Clients` to answer to.

use crate::blocks::{Failure, Stop};
use crate::cache::{Cache, Disk, Extent, Outcome, Want};
use crate::clients::{Client, HANDLES};
use crate::erofs::{Inode, Kind, SuperBlock};
use crate::kill_point;
use crate::walk::{Walk, PATH_MAX};
use alloc::vec::Vec;

/// Walks at a time, each some 24 KiB; further requests with a path wait for one.
const WALKS: usize = 16;
/// Most bytes that one stream reads ahead.
const AHEAD: u64 = 8 << 20;

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
    /// A file is about to be open under a handle, of which `Opened` then tells.
    fn opened(&mut self, _ticket: Self::Ticket, _handle: u32, _inode: &Inode) {}
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

/// What a request does, and how far it has come.
pub(crate) enum Work {
    Path { purpose: Purpose, path: Vec<u8>, walk: Option<usize>, to_subtree: bool },
    Read { inode: Inode, offset: u64, bytes: usize, done: usize, stream: bool },
    Entries { directory: Inode, is_root: bool, cookie: u64, capacity: usize, done: usize },
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nothing,
    Extent(Extent),
    /// For any frame of the cache.
    Frame,
    Walk,
}

pub(crate) struct Request<T> {
    pub ticket: T,
    pub client: usize,
    pub waiting: Waiting,
    pub work: Work,
}

/// Why a step of a request ended without an answer.
pub(crate) enum Pause {
    Missing(u64),
    NoWalk,
    Failed(Failure),
}

impl From<Stop> for Pause {
    fn from(stop: Stop) -> Pause {
        match stop {
            Stop::Missing(block) => Pause::Missing(block),
            Stop::Failed(failure) => Pause::Failed(failure),
        }
    }
}

impl From<Failure> for Pause {
    fn from(failure: Failure) -> Pause {
        Pause::Failed(failure)
    }
}

pub struct Service<T> {
    pub(crate) volume: SuperBlock,
    pub cache: Cache,
    pub(crate) clients: Vec<Option<Client>>,
    requests: Vec<Request<T>>, // in the order they came
    pub(crate) walks: Vec<Walk>,
    free_walks: Vec<usize>,
    walk_freed: bool, // since requests that wait for one were last looked at
}

impl<T: Copy> Service<T> {
    /// At most `clients` sessions at a time, `requests` requests under way.
    pub fn new(volume: SuperBlock, cache: Cache, clients: usize, requests: usize) -> Service<T> {
        Service {
            volume,
            cache,
            clients: (0..clients).map(|_| None).collect(),
            requests: Vec::with_capacity(requests),
            walks: Vec::with_capacity(WALKS),
            free_walks: Vec::with_capacity(WALKS),
            walk_freed: false,
        }
    }

    pub fn volume(&self) -> &SuperBlock {
        &self.volume
    }

    /// A handle that was open in an instance before.
    pub fn reopen(&mut self, client: usize, handle: u32, inode: Inode) {
        if let Some(Some(client)) = self.clients.get_mut(client) {
            let _ = client.open(handle, inode); // there are no more handles than there were
        }
    }

    /// What a handle is open on, which must be a file.
    pub fn file(&mut self, client: usize, handle: u32) -> Result<Inode, Failure> {
        let inode = self.opened(client, handle)?.inode;
        match inode.kind {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Failure::IsDirectory),
            _ => Err(Failure::Invalid),
        }
    }

    /// The tickets of requests that are not answered yet.
    pub fn tickets(&self) -> impl Iterator<Item = T> + '_ {
        self.requests.iter().map(|request| request.ticket)
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
        let mut requests = core::mem::take(&mut self.requests);
        requests.retain(|request| {
            if request.client == client {
                self.give_walk_back(&request.work);
            }
            request.client != client
        });
        self.requests = requests;
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
        let limit = AHEAD.min((self.cache.ahead_max() * self.cache.extent_bytes()) as u64);
        let prepared = self.file(client, handle).and_then(|_| {
            let open = self.opened(client, handle)?;
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
        let to = to.min(inode.size);
        let reached = if from < to { self.order(&inode, from, to) } else { to };
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
        let mut frame_freed = false;
        while let Some(event) = self.cache.next_event() {
            if let Some(failure) = event.failure {
                clients.report(Report::BadBlock { block: event.block, failure });
            }
            self.wake(|waiting| waiting == Waiting::Extent(event.extent), event.failure, clients);
            self.cache.noticed(event.extent);
            frame_freed = true;
        }
        // Only now: whoever waits for a frame would evict what has come for others before their turn.
        if frame_freed {
            self.wake(|waiting| waiting == Waiting::Frame, None, clients);
        }
        while core::mem::take(&mut self.walk_freed) {
            self.wake(|waiting| waiting == Waiting::Walk, None, clients);
        }
        self.cache.pump(disk);
        before - self.requests.len()
    }

    /// Every request under way fails: the disk is gone.
    pub fn give_up<C: Clients<Ticket = T>>(&mut self, clients: &mut C) {
        for mut request in core::mem::take(&mut self.requests) {
            self.finish(&mut request, Answer::Failed(Failure::Disk), clients);
        }
    }

    /// Tell of an ended disk read; `run` goes on from there.
    pub fn disk_completed(&mut self, buffer: usize, outcome: Outcome, disk: &dyn Disk) {
        self.cache.completed(buffer, outcome, disk);
    }

    fn opened(&mut self, client: usize, handle: u32) -> Result<&mut crate::clients::Open, Failure> {
        self.clients.get_mut(client).and_then(Option::as_mut).ok_or(Failure::BadHandle)?.opened(handle)
    }

    /// First attempt at a request.
    fn begin<C: Clients<Ticket = T>>(&mut self, mut request: Request<T>, clients: &mut C) {
        kill_point!("files.before_attempt");
        if !self.attempt(&mut request, clients) {
            self.requests.push(request);
        }
    }

    /// Attempt every request that waits for the right thing again, oldest first. With a failure, those
    /// that wait for an extent fail.
    fn wake<C: Clients<Ticket = T>>(
        &mut self,
        concerned: impl Fn(Waiting) -> bool,
        failure: Option<Failure>,
        clients: &mut C,
    ) {
        let mut requests = core::mem::take(&mut self.requests);
        requests.retain_mut(|request| {
            if !concerned(request.waiting) {
                return true;
            }
            match (failure, request.waiting) {
                (Some(failure), Waiting::Extent(_)) => {
                    self.finish(request, Answer::Failed(failure), clients);
                    false
                }
                _ => !self.attempt(request, clients),
            }
        });
        self.requests = requests;
    }

    /// Go on with a request. True: it has been answered.
    fn attempt<C: Clients<Ticket = T>>(&mut self, request: &mut Request<T>, clients: &mut C) -> bool {
        loop {
            let answer = match self.step(request, clients) {
                Ok(answer) => answer,
                Err(Pause::Failed(failure)) => Answer::Failed(failure),
                Err(Pause::NoWalk) => {
                    request.waiting = Waiting::Walk;
                    return false;
                }
                Err(Pause::Missing(block)) => {
                    let extent = self.cache.extent_of(block);
                    request.waiting = match self.cache.want(extent, false) {
                        Want::Ready => continue,
                        Want::Coming => Waiting::Extent(extent),
                        Want::Full => Waiting::Frame,
                    };
                    return false;
                }
            };
            self.finish(request, answer, clients);
            return true;
        }
    }

    fn finish<C: Clients<Ticket = T>>(&mut self, request: &mut Request<T>, answer: Answer, clients: &mut C) {
        self.give_walk_back(&request.work);
        clients.answer(request.ticket, answer);
    }

    /// A walk nobody uses, made at first need; None if all are in use.
    pub(crate) fn take_walk(&mut self) -> Option<usize> {
        if self.free_walks.is_empty() && self.walks.len() < WALKS {
            self.walks.push(Walk::new());
            return Some(self.walks.len() - 1);
        }
        self.free_walks.pop()
    }

    fn give_walk_back(&mut self, work: &Work) {
        if let Work::Path { walk: Some(walk), .. } = work {
            self.free_walks.push(*walk);
            self.walk_freed = true;
        }
    }
}
