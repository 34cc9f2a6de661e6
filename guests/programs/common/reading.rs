//! Reads whole files one after the other with many requests under way, across the borders of files.
//!
//! While one file is being consumed the next ones are opened and their first bytes asked for, so that the
//! file server, the disk driver and the disk have work all the time, in a walk over many small files too.

use super::system::{Errno, Kind, Open, System};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What to read next.
pub enum Next {
    /// A file, opened by its path.
    File(Vec<u8>),
    /// Something without bytes, named for the consumer alone: the standard input of a VM.
    Nothing(Vec<u8>),
    End,
}

/// Where the bytes go. Files are consumed in the order in which `next` named them.
pub trait Consumer<S: System> {
    /// Called ahead of consumption, while requests for earlier files are under way.
    fn next(&mut self, system: &mut S) -> Next;

    /// Some bytes of the file at the front. They are only lent.
    fn data(&mut self, bytes: &[u8]);

    /// Called after `data`, when the system may be used. False: stop reading everything.
    fn after_data(&mut self, system: &mut S) -> bool;

    /// All bytes of the file have been consumed, or reading it failed.
    fn finished(&mut self, system: &mut S, path: &[u8], result: Result<(), Errno>);
}

enum State<T> {
    Opening(T),
    Opened(Open),
    Failed(Errno),
    Nothing,
}

struct File<T> {
    path: Vec<u8>,
    state: State<T>,
    /// First byte that has not been asked for.
    asked: u64,
    /// Requests under way in the order of their offsets: offset, bytes, ticket.
    reads: VecDeque<(u64, u32, T)>,
}

struct Reader<'a, S: System, C: Consumer<S>> {
    system: &'a mut S,
    consumer: &'a mut C,
    files: VecDeque<File<S::Ticket>>,
    in_flight: usize,
    limit: usize,
    no_more_files: bool,
}

/// Reads everything that the consumer names.
pub fn read_files<S: System, C: Consumer<S>>(system: &mut S, consumer: &mut C) {
    let limit = system.requests_in_flight();
    let mut reader = Reader { system, consumer, files: VecDeque::new(), in_flight: 0, limit, no_more_files: false };
    let mut going = true;
    while going {
        reader.ask_ahead();
        going = reader.consume();
    }
    reader.abandon();
}

impl<'a, S: System, C: Consumer<S>> Reader<'a, S, C> {
    /// Sends as many requests as may be under way: reads of the files in their order, opens of new files.
    fn ask_ahead(&mut self) {
        for index in 0..self.files.len() {
            self.look_at_open(index, false);
            self.ask_reads(index);
        }
        // Opens may take half of the requests: bytes are what the consumer waits for.
        while !self.no_more_files
            && self.files.len() < self.system.open_files()
            && (self.files.is_empty() || self.in_flight < self.limit / 2 + 1)
        {
            let (path, state) = match self.consumer.next(self.system) {
                Next::File(path) => {
                    let ticket = self.system.start_open(&path);
                    self.in_flight += 1;
                    (path, State::Opening(ticket))
                }
                Next::Nothing(path) => (path, State::Nothing),
                Next::End => {
                    self.no_more_files = true;
                    break;
                }
            };
            self.files.push_back(File { path, state, asked: 0, reads: VecDeque::new() });
        }
    }

    /// Turns an open that was answered (or, with `wait`, will be) into an open file.
    fn look_at_open(&mut self, index: usize, wait: bool) {
        let file = &mut self.files[index];
        let answered = match &file.state {
            State::Opening(ticket) => wait || self.system.is_ready(ticket),
            _ => return,
        };
        if !answered {
            return;
        }
        if let State::Opening(ticket) = core::mem::replace(&mut file.state, State::Nothing) {
            self.in_flight -= 1;
            file.state = match self.system.finish_open(ticket) {
                Ok(open) if open.kind == Kind::Regular => State::Opened(open),
                Ok(open) => {
                    self.system.close(open);
                    State::Failed(if open.kind == Kind::Directory { Errno::EISDIR } else { Errno::ENXIO })
                }
                Err(error) => State::Failed(error),
            };
        }
    }

    fn ask_reads(&mut self, index: usize) {
        let largest = self.system.read_bytes();
        let file = &mut self.files[index];
        if let State::Opened(open) = &file.state {
            // The file at the front gets one request in any case: those behind it may hold all the others.
            while file.asked < open.size && (self.in_flight < self.limit || index == 0 && file.reads.is_empty()) {
                let bytes = u64::from(largest).min(open.size - file.asked) as u32;
                let ticket = self.system.start_read(open, file.asked, bytes);
                file.reads.push_back((file.asked, bytes, ticket));
                file.asked += u64::from(bytes);
                self.in_flight += 1;
            }
        }
    }

    /// Consumes the oldest thing there is. False when nothing is left, or the consumer wants no more.
    fn consume(&mut self) -> bool {
        if self.files.is_empty() {
            return !self.no_more_files;
        }
        self.look_at_open(0, true);
        let file = &mut self.files[0];
        let open = match file.state {
            State::Opened(open) => open,
            State::Failed(error) => return self.finish_front(Err(error)),
            State::Nothing | State::Opening(_) => return self.finish_front(Ok(())),
        };
        let (offset, bytes, ticket) = match file.reads.pop_front() {
            Some(read) => read,
            None if file.asked >= open.size => return self.finish_front(Ok(())),
            // It has just been opened; `ask_ahead` comes first.
            None => return true,
        };
        self.in_flight -= 1;
        match self.take(&open, offset, bytes, ticket) {
            Ok(complete) => {
                if !self.consumer.after_data(self.system) {
                    return false;
                }
                complete || self.finish_front(Ok(()))
            }
            Err(error) => self.finish_front(Err(error)),
        }
    }

    /// Consumes one piece; a short answer is completed. False: the file ends inside it.
    fn take(&mut self, open: &Open, offset: u64, bytes: u32, ticket: S::Ticket) -> Result<bool, Errno> {
        let consumer = &mut *self.consumer;
        let mut got = self.system.finish_read(ticket, &mut |data| consumer.data(data))?;
        while got < bytes {
            let ticket = self.system.start_read(open, offset + u64::from(got), bytes - got);
            let more = self.system.finish_read(ticket, &mut |data| consumer.data(data))?;
            if more == 0 {
                return Ok(false);
            }
            got += more;
        }
        Ok(true)
    }

    /// Ends the file at the front. Always true: there may be more files.
    fn finish_front(&mut self, result: Result<(), Errno>) -> bool {
        if let Some(file) = self.files.pop_front() {
            let path = self.give_back(file);
            self.consumer.finished(self.system, &path, result);
        }
        true
    }

    /// Waits for what is still under way for a file, drops it and closes the file.
    fn give_back(&mut self, file: File<S::Ticket>) -> Vec<u8> {
        for (_, _, ticket) in file.reads {
            self.in_flight -= 1;
            // The consumer has no use for it any more.
            let _ = self.system.finish_read(ticket, &mut |_| {});
        }
        match file.state {
            State::Opened(open) => self.system.close(open),
            State::Opening(ticket) => {
                self.in_flight -= 1;
                if let Ok(open) = self.system.finish_open(ticket) {
                    self.system.close(open);
                }
            }
            State::Failed(_) | State::Nothing => {}
        }
        file.path
    }

    fn abandon(&mut self) {
        while let Some(file) = self.files.pop_front() {
            self.give_back(file);
        }
    }
}

struct WholeFile<'p> {
    path: Option<&'p [u8]>,
    largest: usize,
    bytes: Vec<u8>,
    error: Option<Errno>,
}

impl<'p, S: System> Consumer<S> for WholeFile<'p> {
    fn next(&mut self, _: &mut S) -> Next {
        self.path.take().map_or(Next::End, |path| Next::File(path.to_vec()))
    }

    fn data(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn after_data(&mut self, _: &mut S) -> bool {
        if self.bytes.len() > self.largest {
            self.error = Some(Errno::EFBIG);
        }
        self.error.is_none()
    }

    fn finished(&mut self, _: &mut S, _: &[u8], result: Result<(), Errno>) {
        self.error = result.err();
    }
}

/// The contents of one file of at most `largest` bytes.
pub fn read_whole<S: System>(system: &mut S, path: &[u8], largest: usize) -> Result<Vec<u8>, Errno> {
    let mut file = WholeFile { path: Some(path), largest, bytes: Vec::new(), error: None };
    read_files(system, &mut file);
    file.error.map_or(Ok(file.bytes), Err)
}
