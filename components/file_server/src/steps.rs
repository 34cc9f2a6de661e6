//! What the requests do: one attempt at each kind, which stops where a block is missing.

use crate::blocks::{Failure, Stop, BLOCK};
use crate::cache::Want;
use crate::directory::{blocks_of, EntryBlock};
use crate::erofs::{Inode, Kind};
use crate::records;
use crate::service::{Answer, Clients, Pause, Purpose, Report, Request, Service, Work};
use crate::walk::{read_link, PATH_MAX};

/// Reads ahead go out for so many bytes at a time, if so many are wanted: each batch wakes the driver.
const BATCH: u64 = 4 << 20;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

impl<T: Copy> Service<T> {
    /// Attempt a request from where it stopped.
    pub(crate) fn step<C: Clients<Ticket = T>>(
        &mut self,
        request: &mut Request<T>,
        clients: &mut C,
    ) -> Result<Answer, Pause> {
        let (ticket, client) = (request.ticket, request.client);
        match &mut request.work {
            Work::Path { purpose, path, walk, to_subtree } => {
                let index = match *walk {
                    Some(index) => index,
                    None => {
                        let index = self.take_walk().ok_or(Pause::NoWalk)?;
                        *walk = Some(index);
                        *to_subtree = self.begin_walk(index, client, *purpose, path)?;
                        index
                    }
                };
                if *to_subtree {
                    self.find_subtree(index, client, clients)?;
                    *to_subtree = self.begin_walk(index, client, *purpose, path)?;
                }
                let inode = self.walks[index].advance(&self.volume, &mut self.cache)?;
                self.arrive(client, ticket, *purpose, &inode, clients)
            }
            Work::Read { inode, offset, bytes, done, stream } => {
                while *done < *bytes {
                    let place = self.volume.place(&mut self.cache, inode, *offset + *done as u64)?;
                    let left = (*bytes - *done).min(place.bytes.min(usize::MAX as u64) as usize);
                    *done += self.copy_out(place.position, left, *stream, ticket, *done, clients)?;
                }
                Ok(Answer::Read { bytes: *bytes as u32 })
            }
            Work::Entries { directory, is_root, cookie, capacity, done } => {
                let end = self.list(directory, *is_root, cookie, *capacity, done, ticket, clients)?;
                Ok(Answer::Entries { bytes: *done as u32, end })
            }
        }
    }

    /// Start a walk along the client's path, or, while its subtree is not known, to that. True: to the subtree.
    fn begin_walk(&mut self, index: usize, client: usize, purpose: Purpose, path: &[u8]) -> Result<bool, Failure> {
        let known = self.clients.get(client).and_then(Option::as_ref).ok_or(Failure::BadHandle)?;
        let follow = match purpose {
            Purpose::Open { follow, .. } | Purpose::Stat { follow } => follow,
            Purpose::ReadLink { .. } => false,
        };
        match known.root {
            Some(root) => self.walks[index].begin(root, path, follow).map(|_| false),
            None => self.walks[index].begin(self.volume.root, &known.subtree, true).map(|_| true),
        }
    }

    fn find_subtree<C: Clients<Ticket = T>>(
        &mut self,
        index: usize,
        client: usize,
        clients: &mut C,
    ) -> Result<(), Pause> {
        let failure = match self.walks[index].advance(&self.volume, &mut self.cache) {
            Ok(inode) if inode.kind == Kind::Directory => {
                if let Some(Some(known)) = self.clients.get_mut(client) {
                    known.root = Some(inode.number);
                }
                return Ok(());
            }
            Ok(_) => Failure::NotDirectory,
            Err(Stop::Failed(failure)) => failure,
            Err(missing) => return Err(missing.into()),
        };
        clients.report(Report::NoSubtree { client, failure });
        Err(Pause::Failed(failure))
    }

    /// The path has led to an inode.
    fn arrive<C: Clients<Ticket = T>>(
        &mut self,
        client: usize,
        ticket: T,
        purpose: Purpose,
        inode: &Inode,
        clients: &mut C,
    ) -> Result<Answer, Pause> {
        match purpose {
            Purpose::Stat { .. } => {
                clients.write(ticket, 0, &records::stat(inode, self.volume.identity));
                Ok(Answer::Stat { bytes: records::STAT as u32 })
            }
            Purpose::ReadLink { capacity } => {
                let mut target = [0; PATH_MAX];
                let length = read_link(&self.volume, &mut self.cache, inode, &mut target)?;
                if length > capacity {
                    return Err(Failure::Invalid.into());
                }
                clients.write(ticket, 0, &target[..length]);
                Ok(Answer::Target { bytes: length as u32 })
            }
            Purpose::Open { handle, directory, .. } => {
                match inode.kind {
                    Kind::Directory => {}
                    _ if directory => return Err(Failure::NotDirectory.into()),
                    Kind::File => {}
                    Kind::Link => return Err(Failure::Loop.into()),
                    // What a device or pipe does is not in the image.
                    _ => return Err(Failure::Invalid.into()),
                }
                let known = self.clients.get_mut(client).and_then(Option::as_mut).ok_or(Failure::BadHandle)?;
                known.open(handle, *inode)?;
                clients.opened(ticket, handle, inode);
                let (mode, kind) = (u32::from(inode.mode), inode.kind.number());
                Ok(Answer::Opened { size: inode.size, mode, inode: inode.number, kind })
            }
        }
    }

    /// Copy from one place of the disk (none: zeros) as much as is at hand in one piece; how much that was.
    fn copy_out<C: Clients<Ticket = T>>(
        &mut self,
        position: Option<u64>,
        left: usize,
        stream: bool,
        ticket: T,
        at: usize,
        clients: &mut C,
    ) -> Result<usize, Pause> {
        let position = match position {
            Some(position) => position,
            None => {
                clients.write(ticket, at, &ZEROS[..left.min(BLOCK)]);
                return Ok(left.min(BLOCK));
            }
        };
        let (extent, extent_bytes) = (self.cache.extent_of(position / BLOCK as u64), self.cache.extent_bytes());
        let within = (position % extent_bytes as u64) as usize;
        let count = left.min(extent_bytes - within);
        match self.cache.bytes(extent) {
            Some(bytes) => clients.write(ticket, at, &bytes[within..within + count]),
            None => return Err(Pause::Missing(position / BLOCK as u64)),
        }
        if stream && within + count == extent_bytes {
            self.cache.used_up(extent);
        }
        Ok(count)
    }

    /// Write directory entries from `cookie` on until the buffer or the directory ends; whether it was the latter.
    #[allow(clippy::too_many_arguments)]
    fn list<C: Clients<Ticket = T>>(
        &mut self,
        directory: &Inode,
        is_root: bool,
        cookie: &mut u64,
        capacity: usize,
        done: &mut usize,
        ticket: T,
        clients: &mut C,
    ) -> Result<bool, Pause> {
        let mut record = [0; records::ENTRY_MAX];
        loop {
            let (index, mut within) = (*cookie >> 16, (*cookie & 0xffff) as usize);
            if index >= blocks_of(directory) {
                return Ok(true);
            }
            let block = EntryBlock::read(&self.volume, &mut self.cache, directory, index)?;
            while within < block.count() {
                let entry = block.entry(within)?;
                // The way up from the subtree's root leads nowhere, and names no inode above it.
                let inode = if is_root && entry.name == b".." { directory.number } else { entry.inode };
                let next = if within + 1 < block.count() { *cookie + 1 } else { (index + 1) << 16 };
                let bytes = records::entry(&mut record, next, inode, entry.kind.number(), entry.name);
                if *done + bytes > capacity {
                    return if *done == 0 { Err(Failure::Invalid.into()) } else { Ok(false) };
                }
                clients.write(ticket, *done, &record[..bytes]);
                *done += bytes;
                *cookie = next;
                within += 1;
            }
            *cookie = (index + 1) << 16;
        }
    }

    /// Ask the disk for part of a file before somebody waits for it; up to where that was possible.
    pub(crate) fn order(&mut self, inode: &Inode, from: u64, to: u64) -> u64 {
        let extent_bytes = self.cache.extent_bytes() as u64;
        let mut room = self.cache.room_ahead() as u64;
        if room < (BATCH / extent_bytes).min((to - from) / extent_bytes + 1) {
            return from;
        }
        let mut offset = from;
        while offset < to {
            let place = match self.volume.place(&mut self.cache, inode, offset) {
                Ok(place) => place,
                Err(Stop::Missing(block)) => {
                    self.cache.want(self.cache.extent_of(block), true);
                    return offset;
                }
                Err(Stop::Failed(_)) => return to, // whoever reads there will be told
            };
            let end = offset + place.bytes.min(to - offset);
            if let Some(position) = place.position {
                let (first, last) = (position, position + (end - offset) - 1);
                for number in first / extent_bytes..=last / extent_bytes {
                    let extent = self.cache.extent_of(number * extent_bytes / BLOCK as u64);
                    if room == 0 || self.cache.want(extent, true) == Want::Full {
                        return offset + (number * extent_bytes).saturating_sub(first);
                    }
                    room -= 1;
                }
            }
            offset = end;
        }
        offset
    }
}
