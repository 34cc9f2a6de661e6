//! Generated from components/protocols/fs.toml by `python -m components.protocols.generate`. Do not edit.
//!
//! Files of a subtree: paths are bytes, handles are numbers the client chooses.

use rt::server::{Event, Request};
use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};

pub const PROTOCOL: Protocol = Protocol { name: "fs", number: 2, version: 1 };

pub const HANDLES: u32 = 64;
pub const PATH_MAX: u32 = 4095;
pub const NAME_MAX: u32 = 255;
pub const OPEN_NO_FOLLOW: u32 = 1;
pub const OPEN_DIRECTORY: u32 = 2;
pub const WAIT_MAX_MS: u32 = 3600000;
pub const STAT_NO_FOLLOW: u32 = 1;

// kind
pub const KIND_UNKNOWN: u32 = 0;
pub const KIND_FIFO: u32 = 1;
pub const KIND_CHARACTER_DEVICE: u32 = 2;
pub const KIND_DIRECTORY: u32 = 4;
pub const KIND_BLOCK_DEVICE: u32 = 6;
pub const KIND_REGULAR: u32 = 8;
pub const KIND_SYMBOLIC_LINK: u32 = 10;
pub const KIND_SOCKET: u32 = 12;

// whence
pub const WHENCE_START: u32 = 0;
pub const WHENCE_CURRENT: u32 = 1;
pub const WHENCE_END: u32 = 2;

// lock
pub const LOCK_SHARED: u32 = 1;
pub const LOCK_EXCLUSIVE: u32 = 2;

/// Open the file named by the input under `handle`, at position 0; a handle in use is given up for it.
pub static OPEN: Operation = Operation {
    id: 1,
    name: "open",
    idempotent: false,
    exactly_once: true,
    sticky: true,
    ends: None,
    key_mask: 0xffffffff,
    input_max: 4095,
    output_max: 0,
};

/// Give the handle up, and its lock.
pub static CLOSE: Operation = Operation {
    id: 2,
    name: "close",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: Some(1),
    key_mask: 0xffffffff,
    input_max: 0,
    output_max: 0,
};

/// Up to `bytes` bytes from `offset`; fewer only at the end of the file.
pub static READ: Operation = Operation {
    id: 3,
    name: "read",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: usize::MAX,
};

/// Metadata of the file named by the input, as a stat record.
pub static STAT: Operation = Operation {
    id: 4,
    name: "stat",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 4095,
    output_max: 80,
};

/// Entries after `cookie` (0: the first): entry records, each with its name, padded to 8 bytes. `end`: no
/// more.
pub static READDIR: Operation = Operation {
    id: 5,
    name: "readdir",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: usize::MAX,
};

/// The target of the symbolic link named by the input.
pub static READLINK: Operation = Operation {
    id: 6,
    name: "readlink",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 4095,
    output_max: 4095,
};

/// The file system as a whole.
pub static STATFS: Operation = Operation {
    id: 7,
    name: "statfs",
    idempotent: true,
    exactly_once: false,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// As `read`, from the handle's position, which moves behind what is read when it is; `offset`: where that
/// was.
pub static READ_NEXT: Operation = Operation {
    id: 8,
    name: "read_next",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: usize::MAX,
};

/// Move the handle's position to `offset` from `whence`, a whence; where it is now.
pub static SEEK: Operation = Operation {
    id: 9,
    name: "seek",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Hold a lock of `kind`, a lock, in place of the handle's present one; wait so long if others hold it, 0:
/// not at all.
pub static LOCK: Operation = Operation {
    id: 10,
    name: "lock",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// Give the handle's lock up; it may have none.
pub static UNLOCK: Operation = Operation {
    id: 11,
    name: "unlock",
    idempotent: false,
    exactly_once: true,
    sticky: false,
    ends: None,
    key_mask: 0,
    input_max: 0,
    output_max: 0,
};

/// All of them, by id.
pub static OPERATIONS: [&Operation; 11] = [&OPEN, &CLOSE, &READ, &STAT, &READDIR, &READLINK, &STATFS, &READ_NEXT, &SEEK, &LOCK, &UNLOCK];

/// Arguments of `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenArgs {
    pub handle: u32,
    pub flags: u32,
}

impl OpenArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle) | u64::from(self.flags) << 32,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> OpenArgs {
        OpenArgs {
            handle: args[0] as u32,
            flags: (args[0] >> 32) as u32,
        }
    }
}

/// Returned values of `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenReturns {
    pub size: u64,
    pub inode: u64,
    pub mode: u32,
    pub kind: u32,
}

impl OpenReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.size,
            self.inode,
            u64::from(self.mode) | u64::from(self.kind) << 32,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> OpenReturns {
        OpenReturns {
            size: args[0],
            inode: args[1],
            mode: args[2] as u32,
            kind: (args[2] >> 32) as u32,
        }
    }
}

/// Arguments of `close`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseArgs {
    pub handle: u32,
}

impl CloseArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> CloseArgs {
        CloseArgs {
            handle: args[0] as u32,
        }
    }
}

/// Arguments of `read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadArgs {
    pub offset: u64,
    pub handle: u32,
    pub bytes: u32,
}

impl ReadArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.offset,
            u64::from(self.handle) | u64::from(self.bytes) << 32,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadArgs {
        ReadArgs {
            offset: args[0],
            handle: args[1] as u32,
            bytes: (args[1] >> 32) as u32,
        }
    }
}

/// Returned values of `read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadReturns {
    pub bytes: u32,
}

impl ReadReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadReturns {
        ReadReturns {
            bytes: args[0] as u32,
        }
    }
}

/// Arguments of `stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatArgs {
    pub flags: u32,
}

impl StatArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.flags),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> StatArgs {
        StatArgs {
            flags: args[0] as u32,
        }
    }
}

/// Arguments of `readdir`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaddirArgs {
    pub cookie: u64,
    pub handle: u32,
}

impl ReaddirArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.cookie,
            u64::from(self.handle),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReaddirArgs {
        ReaddirArgs {
            cookie: args[0],
            handle: args[1] as u32,
        }
    }
}

/// Returned values of `readdir`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaddirReturns {
    pub bytes: u32,
    pub end: u32,
}

impl ReaddirReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes) | u64::from(self.end) << 32,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReaddirReturns {
        ReaddirReturns {
            bytes: args[0] as u32,
            end: (args[0] >> 32) as u32,
        }
    }
}

/// Returned values of `readlink`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadlinkReturns {
    pub bytes: u32,
}

impl ReadlinkReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadlinkReturns {
        ReadlinkReturns {
            bytes: args[0] as u32,
        }
    }
}

/// Returned values of `statfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatfsReturns {
    pub blocks: u64,
    pub inodes: u64,
    pub block_bytes: u32,
    pub name_max: u32,
}

impl StatfsReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.blocks,
            self.inodes,
            u64::from(self.block_bytes) | u64::from(self.name_max) << 32,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> StatfsReturns {
        StatfsReturns {
            blocks: args[0],
            inodes: args[1],
            block_bytes: args[2] as u32,
            name_max: (args[2] >> 32) as u32,
        }
    }
}

/// Arguments of `read_next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadNextArgs {
    pub handle: u32,
    pub bytes: u32,
}

impl ReadNextArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle) | u64::from(self.bytes) << 32,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadNextArgs {
        ReadNextArgs {
            handle: args[0] as u32,
            bytes: (args[0] >> 32) as u32,
        }
    }
}

/// Returned values of `read_next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadNextReturns {
    pub bytes: u32,
    pub reserved: u32,
    pub offset: u64,
}

impl ReadNextReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.bytes) | u64::from(self.reserved) << 32,
            self.offset,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> ReadNextReturns {
        ReadNextReturns {
            bytes: args[0] as u32,
            reserved: (args[0] >> 32) as u32,
            offset: args[1],
        }
    }
}

/// Arguments of `seek`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeekArgs {
    pub handle: u32,
    pub whence: u32,
    pub offset: i64,
}

impl SeekArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle) | u64::from(self.whence) << 32,
            (self.offset as u64),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SeekArgs {
        SeekArgs {
            handle: args[0] as u32,
            whence: (args[0] >> 32) as u32,
            offset: args[1] as i64,
        }
    }
}

/// Returned values of `seek`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeekReturns {
    pub position: u64,
}

impl SeekReturns {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            self.position,
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> SeekReturns {
        SeekReturns {
            position: args[0],
        }
    }
}

/// Arguments of `lock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockArgs {
    pub handle: u32,
    pub kind: u32,
    pub wait_ms: u32,
}

impl LockArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle) | u64::from(self.kind) << 32,
            u64::from(self.wait_ms),
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> LockArgs {
        LockArgs {
            handle: args[0] as u32,
            kind: (args[0] >> 32) as u32,
            wait_ms: args[1] as u32,
        }
    }
}

/// Arguments of `unlock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnlockArgs {
    pub handle: u32,
}

impl UnlockArgs {
    /// As a slot carries it.
    pub fn pack(&self) -> [u64; 5] {
        [
            u64::from(self.handle),
            0,
            0,
            0,
            0,
        ]
    }

    pub fn unpack(args: &[u64; 5]) -> UnlockArgs {
        UnlockArgs {
            handle: args[0] as u32,
        }
    }
}

/// Metadata of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatRecord {
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub size: u64,
    pub inode: u64,
    /// since 1970, UTC
    pub modified_s: i64,
    pub modified_ns: u32,
    /// preferred size of a read
    pub block_bytes: u32,
    /// of 512 bytes
    pub blocks: u64,
    /// of a device file: major and minor as Linux packs them in 32 bits
    pub device: u32,
    pub kind: u32,
    pub file_system: u64,
    pub reserved: u64,
}

impl StatRecord {
    pub const SIZE: usize = 80;

    pub fn pack(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[0..4].copy_from_slice(&self.mode.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.links.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.user.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.group.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.inode.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.modified_s.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.modified_ns.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.block_bytes.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.device.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.kind.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.file_system.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.reserved.to_le_bytes());
        bytes
    }

    /// From the first bytes; None if there are too few.
    pub fn unpack(bytes: &[u8]) -> Option<StatRecord> {
        if bytes.len() < 80 {
            return None;
        }
        Some(StatRecord {
            mode: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            links: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            user: u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            group: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            size: u64::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19], bytes[20], bytes[21], bytes[22], bytes[23]]),
            inode: u64::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27], bytes[28], bytes[29], bytes[30], bytes[31]]),
            modified_s: i64::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35], bytes[36], bytes[37], bytes[38], bytes[39]]),
            modified_ns: u32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]),
            block_bytes: u32::from_le_bytes([bytes[44], bytes[45], bytes[46], bytes[47]]),
            blocks: u64::from_le_bytes([bytes[48], bytes[49], bytes[50], bytes[51], bytes[52], bytes[53], bytes[54], bytes[55]]),
            device: u32::from_le_bytes([bytes[56], bytes[57], bytes[58], bytes[59]]),
            kind: u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]),
            file_system: u64::from_le_bytes([bytes[64], bytes[65], bytes[66], bytes[67], bytes[68], bytes[69], bytes[70], bytes[71]]),
            reserved: u64::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75], bytes[76], bytes[77], bytes[78], bytes[79]]),
        })
    }
}

/// One directory entry; the name follows, without a NUL, and the whole is padded to 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryRecord {
    /// continues after this entry
    pub next_cookie: u64,
    pub inode: u64,
    pub kind: u8,
    pub reserved: u8,
    pub name_length: u16,
}

impl EntryRecord {
    pub const SIZE: usize = 20;

    pub fn pack(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0..8].copy_from_slice(&self.next_cookie.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..17].copy_from_slice(&self.kind.to_le_bytes());
        bytes[17..18].copy_from_slice(&self.reserved.to_le_bytes());
        bytes[18..20].copy_from_slice(&self.name_length.to_le_bytes());
        bytes
    }

    /// From the first bytes; None if there are too few.
    pub fn unpack(bytes: &[u8]) -> Option<EntryRecord> {
        if bytes.len() < 20 {
            return None;
        }
        Some(EntryRecord {
            next_cookie: u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]),
            inode: u64::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]),
            kind: u8::from_le_bytes([bytes[16]]),
            reserved: u8::from_le_bytes([bytes[17]]),
            name_length: u16::from_le_bytes([bytes[18], bytes[19]]),
        })
    }
}

/// A service that speaks fs@1; what it does not do answers `nosys`.
#[allow(unused_variables)]
pub trait Server {
    /// Open the file named by the input under `handle`, at position 0; a handle in use is given up for it.
    /// Errors: noent, notdir, isdir, access, loop, nametoolong, badf, inval, io, corrupt.
    fn open(&mut self, call: &mut Call<'_>, args: OpenArgs) -> Answer<OpenReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Give the handle up, and its lock.
    /// Errors: badf, stale.
    fn close(&mut self, call: &mut Call<'_>, args: CloseArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Up to `bytes` bytes from `offset`; fewer only at the end of the file.
    /// Errors: badf, stale, isdir, inval, io, corrupt.
    fn read(&mut self, call: &mut Call<'_>, args: ReadArgs) -> Answer<ReadReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Metadata of the file named by the input, as a stat record.
    /// Errors: noent, notdir, access, loop, nametoolong, inval, io, corrupt.
    fn stat(&mut self, call: &mut Call<'_>, args: StatArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Entries after `cookie` (0: the first): entry records, each with its name, padded to 8 bytes. `end`: no
    /// more.
    /// Errors: badf, stale, notdir, inval, io, corrupt.
    fn readdir(&mut self, call: &mut Call<'_>, args: ReaddirArgs) -> Answer<ReaddirReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// The target of the symbolic link named by the input.
    /// Errors: noent, notdir, access, loop, nametoolong, inval, io, corrupt.
    fn readlink(&mut self, call: &mut Call<'_>) -> Answer<ReadlinkReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// The file system as a whole.
    /// Errors: io.
    fn statfs(&mut self, call: &mut Call<'_>) -> Answer<StatfsReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// As `read`, from the handle's position, which moves behind what is read when it is; `offset`: where
    /// that was.
    /// Errors: badf, stale, isdir, inval, io, corrupt.
    fn read_next(&mut self, call: &mut Call<'_>, args: ReadNextArgs) -> Answer<ReadNextReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Move the handle's position to `offset` from `whence`, a whence; where it is now.
    /// Errors: badf, stale, inval.
    fn seek(&mut self, call: &mut Call<'_>, args: SeekArgs) -> Answer<SeekReturns> {
        Answer::Failed(Error::NOSYS)
    }

    /// Hold a lock of `kind`, a lock, in place of the handle's present one; wait so long if others hold it,
    /// 0: not at all.
    /// Errors: badf, stale, inval, again.
    fn lock(&mut self, call: &mut Call<'_>, args: LockArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// Give the handle's lock up; it may have none.
    /// Errors: badf, stale.
    fn unlock(&mut self, call: &mut Call<'_>, args: UnlockArgs) -> Answer<()> {
        Answer::Failed(Error::NOSYS)
    }

    /// The answer that a request which must be done exactly once has been given before, if it has:
    /// `replies.find(call)` of the state, where `replies.keep` has put it.
    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>>;

    /// A client is gone: drop what belongs to it. Its tickets are stale.
    fn session_ended(&mut self, client: ClientId) {}
}

/// Serves one bounded round of requests; how many events there were.
pub fn serve<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S) -> usize {
    port.begin_round();
    let mut events = 0;
    while let Some(event) = port.next() {
        events += 1;
        match event {
            Event::Request(request) => dispatch(port, service, request),
            Event::Ended(client) => service.session_ended(client),
        }
    }
    events
}

/// Hands one request to the service, and its answer to the client.
pub fn dispatch<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S, request: Request) {
    let ticket = request.ticket;
    let operation = match OPERATIONS.iter().find(|operation| operation.id == request.op) {
        Some(operation) => operation,
        None => return port.answer(ticket, Answer::Failed(Error::NOSYS)),
    };
    if request.length as usize > operation.input_max {
        return port.answer(ticket, Answer::Failed(Error::TOOBIG));
    }
    let mut call = Call::new(port, request, operation);
    match request.op {
        1 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.open(&mut call, OpenArgs::unpack(&request.args));
            answer_open(port, ticket, answer)
        }
        2 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.close(&mut call, CloseArgs::unpack(&request.args));
            answer_close(port, ticket, answer)
        }
        3 => {
            let answer = service.read(&mut call, ReadArgs::unpack(&request.args));
            answer_read(port, ticket, answer)
        }
        4 => {
            let answer = service.stat(&mut call, StatArgs::unpack(&request.args));
            answer_stat(port, ticket, answer)
        }
        5 => {
            let answer = service.readdir(&mut call, ReaddirArgs::unpack(&request.args));
            answer_readdir(port, ticket, answer)
        }
        6 => {
            let answer = service.readlink(&mut call);
            answer_readlink(port, ticket, answer)
        }
        7 => {
            let answer = service.statfs(&mut call);
            answer_statfs(port, ticket, answer)
        }
        8 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.read_next(&mut call, ReadNextArgs::unpack(&request.args));
            answer_read_next(port, ticket, answer)
        }
        9 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.seek(&mut call, SeekArgs::unpack(&request.args));
            answer_seek(port, ticket, answer)
        }
        10 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.lock(&mut call, LockArgs::unpack(&request.args));
            answer_lock(port, ticket, answer)
        }
        11 => {
            if let Some(answer) = service.answered(&call) {
                return port.answer(ticket, answer);
            }
            let answer = service.unlock(&mut call, UnlockArgs::unpack(&request.args));
            answer_unlock(port, ticket, answer)
        }
        _ => {}
    }
}

/// Answers a `open` kept for later; nothing happens if its client is gone.
pub fn answer_open(port: &mut ServerPort, ticket: Ticket, answer: Answer<OpenReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `close` kept for later; nothing happens if its client is gone.
pub fn answer_close(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `read` kept for later; nothing happens if its client is gone.
pub fn answer_read(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReadReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `stat` kept for later; nothing happens if its client is gone.
pub fn answer_stat(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `readdir` kept for later; nothing happens if its client is gone.
pub fn answer_readdir(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReaddirReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `readlink` kept for later; nothing happens if its client is gone.
pub fn answer_readlink(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReadlinkReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `statfs` kept for later; nothing happens if its client is gone.
pub fn answer_statfs(port: &mut ServerPort, ticket: Ticket, answer: Answer<StatfsReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `read_next` kept for later; nothing happens if its client is gone.
pub fn answer_read_next(port: &mut ServerPort, ticket: Ticket, answer: Answer<ReadNextReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `seek` kept for later; nothing happens if its client is gone.
pub fn answer_seek(port: &mut ServerPort, ticket: Ticket, answer: Answer<SeekReturns>) {
    port.answer(ticket, answer.map(|values| values.pack()))
}

/// Answers a `lock` kept for later; nothing happens if its client is gone.
pub fn answer_lock(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// Answers a `unlock` kept for later; nothing happens if its client is gone.
pub fn answer_unlock(port: &mut ServerPort, ticket: Ticket, answer: Answer<()>) {
    port.answer(ticket, answer.map(|()| [0; 5]))
}

/// A client of fs@1. Everything `rt::Client` can do, and a pair of
/// methods per operation: one that waits (for programs), one that only submits.
pub struct Client(rt::Client);

impl core::ops::Deref for Client {
    type Target = rt::Client;

    fn deref(&self) -> &rt::Client {
        &self.0
    }
}

impl core::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut rt::Client {
        &mut self.0
    }
}

impl Client {
    /// The client end of this interface. Requests wait until it has a server.
    pub fn connect(interface: &str) -> Result<Client, Error> {
        rt::Client::open(&PROTOCOL, interface).map(Client)
    }

    /// The client end that is channel `index`.
    pub fn attach(index: u32) -> Result<Client, Error> {
        rt::Client::attach(&PROTOCOL, index).map(Client)
    }

    /// Open the file named by the input under `handle`, at position 0; a handle in use is given up for it.
    pub fn open(&mut self, args: &OpenArgs, input: &[u8]) -> Result<OpenReturns, Error> {
        let reply = self.0.call(&OPEN, args.pack(), input, &mut [])?;
        Ok(OpenReturns::unpack(&reply.args))
    }

    /// Submits `open`: `poll` tells when it is done.
    pub fn submit_open(&mut self, args: &OpenArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&OPEN, args.pack(), input)
    }

    /// Give the handle up, and its lock.
    pub fn close(&mut self, args: &CloseArgs) -> Result<(), Error> {
        self.0.call(&CLOSE, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `close`: `poll` tells when it is done.
    pub fn submit_close(&mut self, args: &CloseArgs) -> Result<Tag, Error> {
        self.0.submit(&CLOSE, args.pack(), &[])
    }

    /// Up to `bytes` bytes from `offset`; fewer only at the end of the file.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn read(&mut self, args: &ReadArgs, output: &mut [u8]) -> Result<(ReadReturns, usize), Error> {
        let reply = self.0.call(&READ, args.pack(), &[], output)?;
        let length = output.len().min(reply.length as usize);
        Ok((ReadReturns::unpack(&reply.args), length))
    }

    /// Submits `read`: `poll` tells when it is done.
    pub fn submit_read(&mut self, args: &ReadArgs) -> Result<Tag, Error> {
        self.0.submit(&READ, args.pack(), &[])
    }

    /// Metadata of the file named by the input, as a stat record.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn stat(&mut self, args: &StatArgs, input: &[u8], output: &mut [u8]) -> Result<usize, Error> {
        let reply = self.0.call(&STAT, args.pack(), input, output)?;
        let length = output.len().min(reply.length as usize);
        Ok(length)
    }

    /// Submits `stat`: `poll` tells when it is done.
    pub fn submit_stat(&mut self, args: &StatArgs, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&STAT, args.pack(), input)
    }

    /// Entries after `cookie` (0: the first): entry records, each with its name, padded to 8 bytes. `end`: no
    /// more.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn readdir(&mut self, args: &ReaddirArgs, output: &mut [u8]) -> Result<(ReaddirReturns, usize), Error> {
        let reply = self.0.call(&READDIR, args.pack(), &[], output)?;
        let length = output.len().min(reply.length as usize);
        Ok((ReaddirReturns::unpack(&reply.args), length))
    }

    /// Submits `readdir`: `poll` tells when it is done.
    pub fn submit_readdir(&mut self, args: &ReaddirArgs) -> Result<Tag, Error> {
        self.0.submit(&READDIR, args.pack(), &[])
    }

    /// The target of the symbolic link named by the input.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn readlink(&mut self, input: &[u8], output: &mut [u8]) -> Result<(ReadlinkReturns, usize), Error> {
        let reply = self.0.call(&READLINK, [0; 5], input, output)?;
        let length = output.len().min(reply.length as usize);
        Ok((ReadlinkReturns::unpack(&reply.args), length))
    }

    /// Submits `readlink`: `poll` tells when it is done.
    pub fn submit_readlink(&mut self, input: &[u8]) -> Result<Tag, Error> {
        self.0.submit(&READLINK, [0; 5], input)
    }

    /// The file system as a whole.
    pub fn statfs(&mut self) -> Result<StatfsReturns, Error> {
        let reply = self.0.call(&STATFS, [0; 5], &[], &mut [])?;
        Ok(StatfsReturns::unpack(&reply.args))
    }

    /// Submits `statfs`: `poll` tells when it is done.
    pub fn submit_statfs(&mut self) -> Result<Tag, Error> {
        self.0.submit(&STATFS, [0; 5], &[])
    }

    /// As `read`, from the handle's position, which moves behind what is read when it is; `offset`: where
    /// that was.
    /// Output goes to `output` as far as it fits; how many bytes that were is returned last.
    pub fn read_next(&mut self, args: &ReadNextArgs, output: &mut [u8]) -> Result<(ReadNextReturns, usize), Error> {
        let reply = self.0.call(&READ_NEXT, args.pack(), &[], output)?;
        let length = output.len().min(reply.length as usize);
        Ok((ReadNextReturns::unpack(&reply.args), length))
    }

    /// Submits `read_next`: `poll` tells when it is done.
    pub fn submit_read_next(&mut self, args: &ReadNextArgs) -> Result<Tag, Error> {
        self.0.submit(&READ_NEXT, args.pack(), &[])
    }

    /// Move the handle's position to `offset` from `whence`, a whence; where it is now.
    pub fn seek(&mut self, args: &SeekArgs) -> Result<SeekReturns, Error> {
        let reply = self.0.call(&SEEK, args.pack(), &[], &mut [])?;
        Ok(SeekReturns::unpack(&reply.args))
    }

    /// Submits `seek`: `poll` tells when it is done.
    pub fn submit_seek(&mut self, args: &SeekArgs) -> Result<Tag, Error> {
        self.0.submit(&SEEK, args.pack(), &[])
    }

    /// Hold a lock of `kind`, a lock, in place of the handle's present one; wait so long if others hold it,
    /// 0: not at all.
    pub fn lock(&mut self, args: &LockArgs) -> Result<(), Error> {
        self.0.call(&LOCK, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `lock`: `poll` tells when it is done.
    pub fn submit_lock(&mut self, args: &LockArgs) -> Result<Tag, Error> {
        self.0.submit(&LOCK, args.pack(), &[])
    }

    /// Give the handle's lock up; it may have none.
    pub fn unlock(&mut self, args: &UnlockArgs) -> Result<(), Error> {
        self.0.call(&UNLOCK, args.pack(), &[], &mut []).map(drop)
    }

    /// Submits `unlock`: `poll` tells when it is done.
    pub fn submit_unlock(&mut self, args: &UnlockArgs) -> Result<Tag, Error> {
        self.0.submit(&UNLOCK, args.pack(), &[])
    }
}
