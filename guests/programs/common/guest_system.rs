//! The world of a program in a VM: files over the `fs` channel, output over the `log` channel.
//!
//! Requests are answered in any order; answers that nobody has asked for yet wait in `arrived`. While the
//! program waits for one, it is woken only when half of what is under way has been answered, which saves
//! wake-ups of both sides and never delays anything for long: the rest is under way too.

use crate::common::system::{Entry, Errno, Kind, Metadata, Open, Stream, System, Time};
use alloc::vec;
use alloc::vec::Vec;
use protocols::fs::{self, CloseArgs, EntryRecord, OpenArgs, OpenReturns, ReadArgs, ReaddirArgs};
use protocols::fs::{ReaddirReturns, StatArgs, StatRecord};
use protocols::log::{self, WriteArgs};
use rt::{telemetry, Completion, Error, Tag};

/// Requests of a program that asks ahead, under way at once, if the channel has as many slots.
const REQUESTS: usize = 24;
/// Slots kept free of them, for what a program waits for at once: directories, links, closes.
const SPARE_SLOTS: usize = 4;
/// Handles used at once; the others may belong to directories being listed or files being closed.
const FILES: usize = 32;

/// A request under way, or the reason why it could not be sent.
pub enum Ticket {
    Sent(Tag),
    Opening(Tag, u32),
    Failed(Errno),
}

pub struct GuestSystem {
    files: fs::Client,
    log: log::Client,
    /// Answers that came before anybody asked for them. Each holds a data buffer.
    arrived: Vec<Completion>,
    /// Closes under way, with the handles that are free when they are answered.
    closing: Vec<(Tag, u32)>,
    free_handles: Vec<u32>,
    /// Private copy of the bytes just read: what is in the channel may still change.
    data: Vec<u8>,
    /// Bytes written to standard output and error.
    positions: [u64; 2],
    output_lost: bool,
}

fn errno(error: Error) -> Errno {
    match error {
        // The only thing of ours that can be too long for a request is a path.
        Error::TOOBIG => Errno::ENAMETOOLONG,
        error => Errno(-error.number()),
    }
}

/// Runs a program on the VM's arguments and sees to it that all its output has arrived.
pub fn run(arguments: &rt::Args, program: fn(&mut GuestSystem, &[&[u8]]) -> i32) -> i32 {
    let words: Vec<&[u8]> = arguments.iter().skip(1).collect();
    let mut system = GuestSystem::new();
    let status = program(&mut system, &words);
    system.settle_output();
    if system.output_lost {
        status.max(1)
    } else {
        status
    }
}

impl GuestSystem {
    /// The interfaces are in the manifest of every program; without them it cannot run.
    fn new() -> Self {
        let files = fs::Client::connect("fs").expect("interface fs");
        let log = log::Client::connect("log").expect("interface log");
        let data = vec![0; files.slot_data()];
        GuestSystem {
            files,
            log,
            arrived: Vec::new(),
            closing: Vec::new(),
            free_handles: (0..fs::HANDLES).rev().collect(),
            data,
            positions: [0; 2],
            output_lost: false,
        }
    }

    /// Takes in every answer that is there.
    fn take_in(&mut self) {
        while let Some(completion) = self.files.poll() {
            match self.closing.iter().position(|(tag, _)| *tag == completion.tag) {
                Some(at) => {
                    // Whatever the answer: nobody uses the handle any more.
                    self.free_handles.push(self.closing.swap_remove(at).1);
                    self.files.release(completion);
                }
                None => self.arrived.push(completion),
            }
        }
        while let Some(completion) = self.log.poll() {
            self.output_lost |= completion.result.is_err();
            self.log.release(completion);
        }
    }

    /// Waits until something new has come.
    fn wait(&mut self) {
        let half = (self.files.outstanding() + 1) / 2;
        self.files.wake_after(half as u32);
        rt::wait(&mut [&mut *self.files, &mut *self.log], None);
    }

    fn take(&mut self, tag: Tag) -> Option<Completion> {
        let at = self.arrived.iter().position(|completion| completion.tag == tag)?;
        Some(self.arrived.swap_remove(at))
    }

    fn finish(&mut self, tag: Tag) -> Completion {
        loop {
            self.take_in();
            if let Some(completion) = self.take(tag) {
                return completion;
            }
            self.wait();
        }
    }

    /// Sends a request to the file server, as soon as there is a free slot.
    fn submit(&mut self, mut send: impl FnMut(&mut fs::Client) -> Result<Tag, Error>) -> Result<Tag, Errno> {
        loop {
            match send(&mut self.files) {
                // Slots that hold answers nobody has asked for yet do not become free by waiting.
                Err(Error::AGAIN) if self.files.outstanding() > 0 => {
                    self.take_in();
                    if !self.files.has_room() {
                        self.wait();
                    }
                }
                sent => return sent.map_err(errno),
            }
        }
    }

    /// Sends a request, waits for its answer and hands it to `look` with its bytes.
    fn call<T>(
        &mut self,
        send: impl FnMut(&mut fs::Client) -> Result<Tag, Error>,
        look: impl FnOnce(&rt::Reply, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let tag = self.submit(send)?;
        self.look_at(tag, look)
    }

    /// Waits for an answer and hands it to `look` with its bytes.
    fn look_at<T>(&mut self, tag: Tag, look: impl FnOnce(&rt::Reply, &[u8]) -> Result<T, Errno>) -> Result<T, Errno> {
        let completion = self.finish(tag);
        let result = completion.result.and_then(|reply| {
            let bytes = self.data.get_mut(..reply.length as usize).ok_or(Error::PROTOCOL)?;
            self.files.copy_out(&completion, 0, bytes)?;
            Ok(reply)
        });
        self.files.release(completion);
        let reply = result.map_err(errno)?;
        look(&reply, &self.data[..reply.length as usize])
    }

    /// A handle of which nobody else knows; waits for a close if all are in use.
    fn handle(&mut self) -> Result<u32, Errno> {
        loop {
            if let Some(handle) = self.free_handles.pop() {
                return Ok(handle);
            }
            if self.closing.is_empty() {
                return Err(Errno::EMFILE);
            }
            self.take_in();
            if self.free_handles.is_empty() {
                self.wait();
            }
        }
    }

    fn close_handle(&mut self, handle: u32) {
        match self.submit(|files| files.submit_close(&CloseArgs { handle })) {
            Ok(tag) => self.closing.push((tag, handle)),
            // The server keeps it open; nothing else will use it.
            Err(_) => {}
        }
    }

    /// Waits until the last byte of output was acknowledged.
    fn settle_output(&mut self) {
        loop {
            self.take_in();
            if self.log.outstanding() == 0 {
                return;
            }
            rt::wait(&mut [&mut *self.files, &mut *self.log], None);
        }
    }

    fn list_open(&mut self, handle: u32, entries: &mut Vec<Entry>) -> Result<(), Errno> {
        let mut cookie = 0;
        loop {
            let args = ReaddirArgs { cookie, handle };
            let (next, end) = self.call(
                |files| files.submit_readdir(&args),
                |reply, bytes| {
                    let next = unpack_entries(bytes, entries)?;
                    Ok((next, ReaddirReturns::unpack(&reply.args).end != 0))
                },
            )?;
            match next {
                _ if end => return Ok(()),
                Some(next) if next != cookie => cookie = next,
                // An answer that does not get anywhere.
                _ => return Err(Errno::EIO),
            }
        }
    }
}

/// Appends the entries in an answer; returns the last one's cookie.
fn unpack_entries(mut bytes: &[u8], entries: &mut Vec<Entry>) -> Result<Option<u64>, Errno> {
    let mut cookie = None;
    while !bytes.is_empty() {
        let record = EntryRecord::unpack(bytes).ok_or(Errno::EIO)?;
        let end = EntryRecord::SIZE + usize::from(record.name_length);
        let name = bytes.get(EntryRecord::SIZE..end).ok_or(Errno::EIO)?;
        // A name with a slash in it would lead somewhere else.
        if name.is_empty() || name.contains(&b'/') {
            return Err(Errno::EIO);
        }
        entries.push(Entry { name: name.to_vec(), inode: record.inode, kind: Kind::of_number(u32::from(record.kind)) });
        cookie = Some(record.next_cookie);
        bytes = bytes.get((end + 7) / 8 * 8..).unwrap_or(&[]);
    }
    Ok(cookie)
}

impl System for GuestSystem {
    type Ticket = Ticket;

    fn start_stat(&mut self, path: &[u8], follow: bool) -> Ticket {
        if path.is_empty() {
            return Ticket::Failed(Errno::ENOENT);
        }
        let args = StatArgs { flags: if follow { 0 } else { fs::STAT_NO_FOLLOW } };
        match self.submit(|files| files.submit_stat(&args, path)) {
            Ok(tag) => Ticket::Sent(tag),
            Err(error) => Ticket::Failed(error),
        }
    }

    fn finish_stat(&mut self, ticket: Ticket) -> Result<Metadata, Errno> {
        let tag = match ticket {
            Ticket::Sent(tag) | Ticket::Opening(tag, _) => tag,
            Ticket::Failed(error) => return Err(error),
        };
        self.look_at(tag, |_, bytes| StatRecord::unpack(bytes).map(|record| metadata(&record)).ok_or(Errno::EIO))
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.call(|files| files.submit_readlink(path), |_, bytes| Ok(bytes.to_vec()))
    }

    fn list(&mut self, path: &[u8], entries: &mut Vec<Entry>) -> Result<(), Errno> {
        let handle = self.handle()?;
        let args = OpenArgs { handle, flags: fs::OPEN_DIRECTORY };
        match self.call(|files| files.submit_open(&args, path), |_, _| Ok(())) {
            Ok(()) => {
                let result = self.list_open(handle, entries);
                self.close_handle(handle);
                result
            }
            Err(error) => {
                self.free_handles.push(handle);
                Err(error)
            }
        }
    }

    fn is_ready(&mut self, ticket: &Ticket) -> bool {
        match ticket {
            Ticket::Sent(tag) | Ticket::Opening(tag, _) => {
                self.take_in();
                self.arrived.iter().any(|completion| completion.tag == *tag)
            }
            Ticket::Failed(_) => true,
        }
    }

    fn start_open(&mut self, path: &[u8]) -> Ticket {
        if path.is_empty() {
            return Ticket::Failed(Errno::ENOENT);
        }
        let handle = match self.handle() {
            Ok(handle) => handle,
            Err(error) => return Ticket::Failed(error),
        };
        let args = OpenArgs { handle, flags: 0 };
        match self.submit(|files| files.submit_open(&args, path)) {
            Ok(tag) => Ticket::Opening(tag, handle),
            Err(error) => {
                self.free_handles.push(handle);
                Ticket::Failed(error)
            }
        }
    }

    fn finish_open(&mut self, ticket: Ticket) -> Result<Open, Errno> {
        let (tag, handle) = match ticket {
            Ticket::Opening(tag, handle) => (tag, handle),
            Ticket::Sent(tag) => return self.look_at(tag, |_, _| Err(Errno::EINVAL)),
            Ticket::Failed(error) => return Err(error),
        };
        let opened = self.look_at(tag, |reply, _| {
            let returns = OpenReturns::unpack(&reply.args);
            Ok(Open { handle, kind: Kind::of_number(returns.kind), size: returns.size })
        });
        if opened.is_err() {
            self.free_handles.push(handle);
        }
        opened
    }

    fn start_read(&mut self, file: &Open, offset: u64, bytes: u32) -> Ticket {
        let args = ReadArgs { offset, handle: file.handle, bytes };
        match self.submit(|files| files.submit_read(&args)) {
            Ok(tag) => Ticket::Sent(tag),
            Err(error) => Ticket::Failed(error),
        }
    }

    fn finish_read(&mut self, ticket: Ticket, sink: &mut dyn FnMut(&[u8])) -> Result<u32, Errno> {
        let tag = match ticket {
            Ticket::Sent(tag) | Ticket::Opening(tag, _) => tag,
            Ticket::Failed(error) => return Err(error),
        };
        self.look_at(tag, |_, bytes| {
            telemetry::add(telemetry::BYTES, bytes.len() as u64);
            sink(bytes);
            Ok(bytes.len() as u32)
        })
    }

    fn close(&mut self, file: Open) {
        self.close_handle(file.handle);
    }

    fn read_bytes(&self) -> u32 {
        self.data.len() as u32
    }

    fn requests_in_flight(&self) -> usize {
        REQUESTS.min(self.files.capacity().saturating_sub(SPARE_SLOTS)).max(2)
    }

    fn open_files(&self) -> usize {
        FILES
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Errno> {
        let (number, counter) = match stream {
            Stream::Output => (log::STREAM_STDOUT, 0),
            Stream::Error => (log::STREAM_STDERR, 1),
        };
        for piece in bytes.chunks(self.log.slot_data()) {
            let args = WriteArgs { position: self.positions[counter], stream: number };
            loop {
                match self.log.submit_write(&args, piece) {
                    Ok(_) => break,
                    Err(Error::AGAIN) => {
                        self.take_in();
                        if !self.log.has_room() {
                            self.wait();
                        }
                    }
                    Err(error) => {
                        self.output_lost = true;
                        return Err(errno(error));
                    }
                }
            }
            self.positions[counter] += piece.len() as u64;
        }
        if self.output_lost {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    fn now(&self) -> Time {
        let ns = rt::time::wall_clock_ns();
        Time { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }
}

/// A read-only file system keeps one time for each file.
fn metadata(record: &StatRecord) -> Metadata {
    let time = Time { seconds: record.modified_s, nanoseconds: record.modified_ns };
    Metadata {
        device: device_number(record.file_system),
        inode: record.inode,
        mode: record.mode,
        links: record.links,
        user: record.user,
        group: record.group,
        size: record.size,
        blocks: record.blocks,
        block_bytes: record.block_bytes,
        special: u64::from(record.device),
        accessed: time,
        modified: time,
        changed: time,
        born: None,
    }
}

/// A file system without a device of its own, as `stat` shows it: major number 0 and 20 bits that tell one
/// image from another, in Linux's `dev_t` encoding.
fn device_number(file_system: u64) -> u64 {
    let minor = (file_system ^ file_system >> 20 ^ file_system >> 40) & 0xf_ffff;
    (minor & 0xff) | (minor & 0xf_ff00) << 12
}
