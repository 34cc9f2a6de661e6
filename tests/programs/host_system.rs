//! The programs as one host executable: `host_programs NAME ARGUMENT...`.
//!
//! The same source files that run in VMs, over `std` instead of channels. Reads are answered out of step and
//! in pieces (as the environment asks) to stress what depends on the order and size of answers:
//! `READ_BYTES`, `IN_FLIGHT`, `OPEN_FILES`, `SHORT_READS`, `LATE_OPENS`, `NOW` (seconds since 1970).

#![allow(dead_code)]

extern crate alloc;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};

#[path = "../../guests/programs/cat/src/program.rs"]
mod cat;
#[path = "../../guests/programs/common/mod.rs"]
mod common;
#[path = "../../guests/programs/ls/src/program.rs"]
mod ls;
#[path = "../../guests/programs/sha256sum/src/program.rs"]
mod sha256sum;
#[path = "../../guests/programs/sha256tree/src/program.rs"]
mod sha256tree;
#[path = "../../guests/programs/stat/src/program.rs"]
mod stat;

use common::sha256::{hexadecimal, Sha256};
use common::system::{Entry, Errno, Kind, Metadata, Open, Stream, System, Time};

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// An answer that waits to be looked at.
enum Answer {
    Stat(Result<Metadata, Errno>),
    Open(Result<Open, Errno>),
    Read(Result<Vec<u8>, Errno>),
}

struct Host {
    files: HashMap<u32, fs::File>,
    next_handle: u32,
    in_flight: usize,
    /// How often `is_ready` has said no, to let opens come late.
    refusals: u64,
}

fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(5))
}

fn path(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn kind_of(kind: fs::FileType) -> Kind {
    if kind.is_file() {
        Kind::Regular
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::SymbolicLink
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharacterDevice
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else {
        Kind::Unknown
    }
}

fn metadata(name: &[u8], follow: bool) -> Result<Metadata, Errno> {
    let found = if follow { fs::metadata(path(name)) } else { fs::symlink_metadata(path(name)) };
    let found = found.map_err(errno)?;
    let time = |seconds, nanoseconds: i64| Time { seconds, nanoseconds: nanoseconds as u32 };
    let born = found.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(Metadata {
        device: found.dev(),
        inode: found.ino(),
        mode: found.mode(),
        links: found.nlink() as u32,
        user: found.uid(),
        group: found.gid(),
        size: found.size(),
        blocks: found.blocks(),
        block_bytes: found.blksize() as u32,
        special: found.rdev(),
        accessed: time(found.atime(), found.atime_nsec()),
        modified: time(found.mtime(), found.mtime_nsec()),
        changed: time(found.ctime(), found.ctime_nsec()),
        born: born.map(|since| Time { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }),
    })
}

impl Host {
    fn sent(&mut self) {
        self.in_flight += 1;
        assert!(self.in_flight <= self.requests_in_flight() + 2, "too many requests under way");
    }
}

impl System for Host {
    type Ticket = Answer;

    fn start_stat(&mut self, name: &[u8], follow: bool) -> Answer {
        self.sent();
        Answer::Stat(metadata(name, follow))
    }

    fn finish_stat(&mut self, ticket: Answer) -> Result<Metadata, Errno> {
        self.in_flight -= 1;
        match ticket {
            Answer::Stat(result) => result,
            _ => panic!("not the ticket of a stat"),
        }
    }

    fn read_link(&mut self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(fs::read_link(path(name)).map_err(errno)?.into_os_string().into_vec())
    }

    fn list(&mut self, name: &[u8], entries: &mut Vec<Entry>) -> Result<(), Errno> {
        // The library hides these two.
        for dots in [&b"."[..], b".."] {
            let inode = self.stat(&common::walk::join(name, dots), true)?.inode;
            entries.push(Entry { name: dots.to_vec(), inode, kind: Kind::Directory });
        }
        let hidden = entries.len() - 2;
        for entry in fs::read_dir(path(name)).map_err(|error| {
            entries.truncate(hidden);
            errno(error)
        })? {
            let entry = entry.map_err(errno)?;
            entries.push(Entry {
                name: entry.file_name().into_vec(),
                inode: std::os::unix::fs::DirEntryExt::ino(&entry),
                kind: entry.file_type().map_or(Kind::Unknown, kind_of),
            });
        }
        Ok(())
    }

    fn is_ready(&mut self, ticket: &Answer) -> bool {
        self.refusals += 1;
        !matches!(ticket, Answer::Open(_)) || self.refusals % (setting("LATE_OPENS", 0) + 1) == 0
    }

    fn start_open(&mut self, name: &[u8]) -> Answer {
        self.sent();
        let opened = fs::File::open(path(name)).and_then(|file| Ok((file.metadata()?, file)));
        Answer::Open(opened.map_err(errno).map(|(metadata, file)| {
            self.next_handle += 1;
            self.files.insert(self.next_handle, file);
            assert!(self.files.len() <= self.open_files(), "too many open files");
            Open { handle: self.next_handle, kind: kind_of(metadata.file_type()), size: metadata.len() }
        }))
    }

    fn finish_open(&mut self, ticket: Answer) -> Result<Open, Errno> {
        self.in_flight -= 1;
        match ticket {
            Answer::Open(result) => result,
            _ => panic!("not the ticket of an open"),
        }
    }

    fn start_read(&mut self, file: &Open, offset: u64, bytes: u32) -> Answer {
        self.sent();
        assert!(bytes <= self.read_bytes());
        let short = setting("SHORT_READS", 0);
        let wanted = if short > 0 && bytes > 1 && (offset / 7) % short == 0 { bytes / 2 } else { bytes };
        let mut buffer = vec![0; wanted as usize];
        let got = self.files[&file.handle].read_at(&mut buffer, offset);
        Answer::Read(got.map_err(errno).map(|got| {
            buffer.truncate(got);
            buffer
        }))
    }

    fn finish_read(&mut self, ticket: Answer, sink: &mut dyn FnMut(&[u8])) -> Result<u32, Errno> {
        self.in_flight -= 1;
        match ticket {
            Answer::Read(result) => result.map(|data| {
                sink(&data);
                data.len() as u32
            }),
            _ => panic!("not the ticket of a read"),
        }
    }

    fn close(&mut self, file: Open) {
        assert!(self.files.remove(&file.handle).is_some(), "closed twice");
    }

    fn read_bytes(&self) -> u32 {
        setting("READ_BYTES", 131_072) as u32
    }

    fn requests_in_flight(&self) -> usize {
        setting("IN_FLIGHT", 16) as usize
    }

    fn open_files(&self) -> usize {
        setting("OPEN_FILES", 16) as usize
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Errno> {
        match stream {
            Stream::Output => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()).map_err(errno),
            Stream::Error => io::stderr().write_all(bytes).map_err(errno),
        }
    }

    fn now(&self) -> Time {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Time { seconds: setting("NOW", since.as_secs()) as i64, nanoseconds: since.subsec_nanos() },
            Err(_) => Time::default(),
        }
    }
}

/// `digest portable|usual CHUNK`: the digest of standard input, taken in pieces of CHUNK bytes.
fn digest(arguments: &[&[u8]]) -> i32 {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).expect("standard input can be read");
    let chunk = common::numbers::parse(arguments[1]).expect("a number") as usize;
    let mut sha = if arguments[0] == b"portable" { Sha256::portable() } else { Sha256::new() };
    for piece in input.chunks(chunk.max(1)) {
        sha.update(piece);
    }
    println!("{}", String::from_utf8_lossy(&hexadecimal(&sha.finish())));
    0
}

fn main() {
    let words: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
    let mut host = Host { files: HashMap::new(), next_handle: 0, in_flight: 0, refusals: 0 };
    let (name, arguments) = words.split_first().expect("usage: host_programs NAME ARGUMENT...");
    let status = match *name {
        b"cat" => cat::run(&mut host, arguments),
        b"ls" => ls::run(&mut host, arguments),
        b"sha256sum" => sha256sum::run(&mut host, arguments),
        b"sha256tree" => sha256tree::run(&mut host, arguments),
        b"stat" => stat::run(&mut host, arguments),
        b"digest" => digest(arguments),
        _ => panic!("no such program"),
    };
    assert!(host.files.is_empty(), "files left open");
    assert_eq!(host.in_flight, 0, "requests left unanswered");
    std::process::exit(status);
}
