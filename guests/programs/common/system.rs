//! What a program may ask of the world around it.
//!
//! Programs are written against this trait alone. In a VM it is implemented over the `fs` and `log` channels
//! (`guest_system.rs`); on a development host over `std` (`tests/programs/host_system.rs`), which is how every
//! line of `ls` is compared with coreutils' own output without starting a VM.

use alloc::vec::Vec;

/// A failed request: Linux's error number, positive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    pub const ENOENT: Errno = Errno(2);
    pub const EIO: Errno = Errno(5);
    pub const ENXIO: Errno = Errno(6);
    pub const ENOTDIR: Errno = Errno(20);
    pub const EISDIR: Errno = Errno(21);
    pub const EINVAL: Errno = Errno(22);
    pub const EMFILE: Errno = Errno(24);
    pub const EFBIG: Errno = Errno(27);
    pub const ENAMETOOLONG: Errno = Errno(36);
    pub const ELOOP: Errno = Errno(40);
}

/// Kinds of files, numbered like `(mode >> 12) & 15`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fifo = 1,
    CharacterDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    Regular = 8,
    SymbolicLink = 10,
    Socket = 12,
    Unknown = 0,
}

impl Kind {
    pub fn of_mode(mode: u32) -> Kind {
        Kind::of_number((mode >> 12) & 15)
    }

    pub fn of_number(number: u32) -> Kind {
        match number {
            1 => Kind::Fifo,
            2 => Kind::CharacterDevice,
            4 => Kind::Directory,
            6 => Kind::BlockDevice,
            8 => Kind::Regular,
            10 => Kind::SymbolicLink,
            12 => Kind::Socket,
            _ => Kind::Unknown,
        }
    }
}

/// What `stat` tells about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    pub device: u64,
    pub inode: u64,
    /// Type and permission bits as in `st_mode`.
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Preferred size of a read, bytes.
    pub block_bytes: u32,
    /// Device number of a special file, in Linux's `dev_t` encoding.
    pub special: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    /// None where the file system does not keep it.
    pub born: Option<Time>,
}

impl Metadata {
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode)
    }

    pub fn is_directory(&self) -> bool {
        self.kind() == Kind::Directory
    }
}

/// A moment: seconds since 1970 (UTC, may be negative) and nanoseconds of that second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    pub kind: Kind,
}

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    pub handle: u32,
    pub kind: Kind,
    /// Bytes, as it was when the file was opened.
    pub size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Output,
    Error,
}

/// The world of a program. Paths are bytes; a relative one starts at the root of the image.
pub trait System {
    /// A request that was sent and whose answer has not been looked at.
    type Ticket;

    /// Asks for metadata of `path`; `follow` decides about a symbolic link at its end.
    fn start_stat(&mut self, path: &[u8], follow: bool) -> Self::Ticket;

    fn finish_stat(&mut self, ticket: Self::Ticket) -> Result<Metadata, Errno>;

    /// Metadata of `path`, waited for.
    fn stat(&mut self, path: &[u8], follow: bool) -> Result<Metadata, Errno> {
        let ticket = self.start_stat(path, follow);
        self.finish_stat(ticket)
    }

    fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Appends every entry of a directory, in the file system's order, `.` and `..` included.
    /// What was read before an error stays in `entries`.
    fn list(&mut self, path: &[u8], entries: &mut Vec<Entry>) -> Result<(), Errno>;

    /// Has the answer come? Does not wait.
    fn is_ready(&mut self, ticket: &Self::Ticket) -> bool;

    /// Sends a request to open a file for reading.
    fn start_open(&mut self, path: &[u8]) -> Self::Ticket;

    fn finish_open(&mut self, ticket: Self::Ticket) -> Result<Open, Errno>;

    /// Sends a request for `bytes` bytes (at most `read_bytes()`) from `offset`.
    fn start_read(&mut self, file: &Open, offset: u64, bytes: u32) -> Self::Ticket;

    /// Waits for a read and hands its bytes to `sink`, once. Returns their number, 0 at the end of the file.
    fn finish_read(&mut self, ticket: Self::Ticket, sink: &mut dyn FnMut(&[u8])) -> Result<u32, Errno>;

    /// Gives the file back. Nothing can fail that a reader would want to know.
    fn close(&mut self, file: Open);

    /// Most bytes that one read can ask for.
    fn read_bytes(&self) -> u32;

    /// How many requests may be under way at once, at least 2.
    fn requests_in_flight(&self) -> usize;

    /// How many files may be open at once, at least 2.
    fn open_files(&self) -> usize;

    /// Writes all of `bytes`. An error means that nobody can see the program's output any more.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Errno>;

    /// The time of day. A host's answer, good for printing dates and for nothing else.
    fn now(&self) -> Time;
}
