//! EROFS on disk: superblock, inodes, and where a file's bytes lie.
//!
//! Source: the kernel's Documentation/filesystems/erofs.rst and the headers of erofs-utils. Read are
//! uncompressed images with 4 KiB blocks: plain, inline (the last, partial block of a file beside its
//! inode) and chunk-based files. Everything else is refused by name. No value of the image is trusted:
//! every position is checked against the number of blocks before it is used.

use crate::blocks::{copy, u16_at, u32_at, u64_at, Block, Blocks, Failure, Stop, BLOCK};

const SUPERBLOCK: usize = 1024; // its place in block 0
const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: u8 = 12;
const FEATURE_ZERO_PADDING: u32 = 1; // about compressed data only
const FEATURE_CHUNKED_FILES: u32 = 4;
const INODE_UNIT: u64 = 32; // an inode number counts these from the start of the metadata
const COMPACT: usize = 32;
const EXTENDED: usize = 64;
const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_INLINE: u16 = 2;
const LAYOUT_CHUNKED: u16 = 4;
const CHUNK_BITS: u16 = 0x1f; // added to BLOCK_BITS
const CHUNK_INDEXES: u16 = 0x20; // 8-byte entries instead of 4-byte ones
const NOWHERE: u32 = u32::MAX; // block number of a hole
const SIZE_MAX: u64 = i64::MAX as u64;

/// The file system as a whole.
#[derive(Clone, Copy, Debug)]
pub struct SuperBlock {
    pub blocks: u64,
    pub root: u64,
    pub inodes: u64,
    /// The first 8 bytes of its UUID: tells this file system from others.
    pub identity: u64,
    metadata: u64,
    build_time: (i64, u32),
}

impl SuperBlock {
    /// Refuses with a sentence that says what is wrong.
    pub fn parse(block: &Block, device_blocks: u64) -> Result<SuperBlock, &'static str> {
        let bytes = &block[SUPERBLOCK..];
        if u32_at(bytes, 0) != MAGIC {
            return Err("not an EROFS image: no magic number at byte 1024");
        }
        if bytes[12] != BLOCK_BITS || bytes[90] != 0 {
            return Err("EROFS with blocks of another size than 4096 bytes");
        }
        let features = u32_at(bytes, 80);
        if features & !(FEATURE_ZERO_PADDING | FEATURE_CHUNKED_FILES) != 0 {
            return Err("EROFS with features this file server does not know (compression?)");
        }
        let blocks = u64::from(u32_at(bytes, 36));
        if blocks == 0 || blocks > device_blocks {
            return Err("EROFS superblock names more blocks than the disk has: truncated");
        }
        let metadata = u64::from(u32_at(bytes, 40)) * BLOCK as u64;
        let root = u64::from(u16_at(bytes, 14));
        if metadata + root * INODE_UNIT >= blocks * BLOCK as u64 {
            return Err("EROFS superblock: the root directory lies outside the image");
        }
        let build_time = (u64_at(bytes, 24) as i64, u32_at(bytes, 32));
        Ok(SuperBlock { blocks, root, inodes: u64_at(bytes, 16), identity: u64_at(bytes, 48), metadata, build_time })
    }

    /// For a state that outlives this instance.
    pub fn to_words(self) -> [u64; 7] {
        let (seconds, nanoseconds) = self.build_time;
        let time = [seconds as u64, u64::from(nanoseconds)];
        [self.blocks, self.root, self.inodes, self.identity, self.metadata, time[0], time[1]]
    }

    /// What `to_words` has made.
    pub fn from_words(words: &[u64; 7]) -> SuperBlock {
        let [blocks, root, inodes, identity, metadata, seconds, nanoseconds] = *words;
        SuperBlock { blocks, root, inodes, identity, metadata, build_time: (seconds as i64, nanoseconds as u32) }
    }

    pub fn bytes(&self) -> u64 {
        self.blocks * BLOCK as u64
    }

    /// Read inode `number`.
    pub fn inode(&self, blocks: &mut dyn Blocks, number: u64) -> Result<Inode, Stop> {
        let position = number.checked_mul(INODE_UNIT).and_then(|offset| offset.checked_add(self.metadata));
        let position = position.ok_or(Failure::Corrupt)?;
        self.check(position, COMPACT as u64)?;
        let mut raw = [0u8; EXTENDED];
        copy(blocks, position, &mut raw[..COMPACT])?;
        let format = u16_at(&raw, 0);
        let extended = format & 1 != 0;
        if extended {
            self.check(position, EXTENDED as u64)?;
            copy(blocks, position + COMPACT as u64, &mut raw[COMPACT..])?;
        }
        let mut inode = Inode::unpack(number, &raw, extended, self.build_time)?;
        inode.layout = match format >> 1 & 7 {
            LAYOUT_PLAIN => Layout::Plain,
            LAYOUT_INLINE => Layout::Inline,
            LAYOUT_CHUNKED => Layout::Chunked,
            1 | 3 => return Err(Failure::Unsupported.into()),
            _ => return Err(Failure::Corrupt.into()),
        };
        let attributes = match u64::from(u16_at(&raw, 2)) {
            0 => 0,
            count => 12 + (count - 1) * 4,
        };
        inode.behind = position + if extended { EXTENDED } else { COMPACT } as u64 + attributes;
        self.check_contents(&inode)?;
        Ok(inode)
    }

    /// Where the bytes from `offset` (below the size) lie, and how many of them in one piece.
    pub fn place(&self, blocks: &mut dyn Blocks, inode: &Inode, offset: u64) -> Result<Place, Stop> {
        if offset >= inode.size {
            return Err(Failure::Range.into());
        }
        let left = inode.size - offset;
        let data = u64::from(inode.raw) * BLOCK as u64;
        let place = match inode.layout {
            Layout::Plain => Place { position: Some(data + offset), bytes: left },
            Layout::Inline => {
                let tail = (inode.size - 1) / BLOCK as u64 * BLOCK as u64;
                if offset < tail {
                    Place { position: Some(data + offset), bytes: tail - offset }
                } else {
                    if inode.behind % BLOCK as u64 + (inode.size - tail) > BLOCK as u64 {
                        return Err(Failure::Corrupt.into());
                    }
                    Place { position: Some(inode.behind + (offset - tail)), bytes: left }
                }
            }
            Layout::Chunked => self.chunk(blocks, inode, offset, left)?,
        };
        if let Some(position) = place.position {
            self.check(position, place.bytes)?;
        }
        Ok(place)
    }

    fn chunk(&self, blocks: &mut dyn Blocks, inode: &Inode, offset: u64, left: u64) -> Result<Place, Stop> {
        let format = inode.raw as u16;
        let bits = u32::from(BLOCK_BITS) + u32::from(format & CHUNK_BITS);
        let entry_bytes = if format & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let table = (inode.behind + entry_bytes - 1) / entry_bytes * entry_bytes;
        let index = (offset >> bits).checked_mul(entry_bytes).and_then(|at| at.checked_add(table));
        let index = index.ok_or(Failure::Corrupt)?;
        self.check(index, entry_bytes)?;
        let mut entry = [0u8; 8];
        copy(blocks, index, &mut entry[..entry_bytes as usize])?;
        let (device, block) = match entry_bytes {
            8 => (u16_at(&entry, 2), u32_at(&entry, 4)),
            _ => (0, u32_at(&entry, 0)),
        };
        let within = offset & ((1u64 << bits) - 1);
        let bytes = left.min((1u64 << bits) - within);
        match block {
            NOWHERE => Ok(Place { position: None, bytes }),
            _ if device != 0 => Err(Failure::Corrupt.into()),
            _ => Ok(Place { position: Some(u64::from(block) * BLOCK as u64 + within), bytes }),
        }
    }

    fn check(&self, position: u64, bytes: u64) -> Result<(), Stop> {
        match position.checked_add(bytes) {
            Some(end) if end <= self.bytes() => Ok(()),
            _ => Err(Failure::Corrupt.into()),
        }
    }

    /// Sizes that no honest image has; so nothing later needs to fear a loop of 2^63 steps.
    fn check_contents(&self, inode: &Inode) -> Result<(), Stop> {
        let unknown_chunks = inode.raw & !u32::from(CHUNK_BITS | CHUNK_INDEXES) != 0;
        let holes = inode.layout == Layout::Chunked && inode.kind == Kind::File;
        let sound = match inode.kind {
            Kind::File | Kind::Directory | Kind::Link => inode.size <= if holes { SIZE_MAX } else { self.bytes() },
            _ => true,
        };
        if !sound {
            return Err(Failure::Corrupt.into());
        }
        if inode.layout == Layout::Chunked && unknown_chunks {
            return Err(Failure::Unsupported.into());
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Directory,
    Link,
    Character,
    BlockDevice,
    Pipe,
    Socket,
}

impl Kind {
    fn of_mode(mode: u16) -> Option<Kind> {
        match mode >> 12 {
            0o10 => Some(Kind::File),
            0o04 => Some(Kind::Directory),
            0o12 => Some(Kind::Link),
            0o02 => Some(Kind::Character),
            0o06 => Some(Kind::BlockDevice),
            0o01 => Some(Kind::Pipe),
            0o14 => Some(Kind::Socket),
            _ => None,
        }
    }

    /// The type byte of a directory entry.
    pub fn of_entry(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::File),
            2 => Some(Kind::Directory),
            3 => Some(Kind::Character),
            4 => Some(Kind::BlockDevice),
            5 => Some(Kind::Pipe),
            6 => Some(Kind::Socket),
            7 => Some(Kind::Link),
            _ => None,
        }
    }

    /// Linux's DT_* number (the file type bits of a mode, shifted right by 12).
    pub fn number(self) -> u8 {
        match self {
            Kind::Pipe => 1,
            Kind::Character => 2,
            Kind::Directory => 4,
            Kind::BlockDevice => 6,
            Kind::File => 8,
            Kind::Link => 10,
            Kind::Socket => 12,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    Plain,
    Inline,
    Chunked,
}

/// A run of a file's bytes; no position: a hole, which reads as zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub position: Option<u64>,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Inode {
    pub number: u64,
    pub mode: u16,
    pub kind: Kind,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub size: u64,
    pub time: (i64, u32), // seconds, nanoseconds since 1970
    pub layout: Layout,
    raw: u32,    // first block, device number or chunk format
    behind: u64, // position behind the inode and its attributes: inline data or chunk table
}

/// Words of a packed inode; the first is its number.
pub const INODE_WORDS: usize = 7;

impl Inode {
    /// For a state that outlives this instance. Not all zero: there is a mode.
    pub fn to_words(self) -> [u64; INODE_WORDS] {
        let layout = match self.layout {
            Layout::Plain => 0,
            Layout::Inline => 1,
            Layout::Chunked => 2,
        };
        [
            self.number,
            u64::from(self.mode) | layout << 16 | u64::from(self.links) << 32,
            u64::from(self.user) | u64::from(self.group) << 32,
            self.size,
            self.time.0 as u64,
            u64::from(self.time.1) | u64::from(self.raw) << 32,
            self.behind,
        ]
    }

    /// What `to_words` has made; None if it was not that. Where its bytes lie is checked at every use anyway.
    pub fn from_words(words: &[u64; INODE_WORDS]) -> Option<Inode> {
        let mode = words[1] as u16;
        Some(Inode {
            number: words[0],
            mode,
            kind: Kind::of_mode(mode)?,
            links: (words[1] >> 32) as u32,
            user: words[2] as u32,
            group: (words[2] >> 32) as u32,
            size: words[3],
            time: (words[4] as i64, words[5] as u32),
            layout: match words[1] >> 16 & 3 {
                0 => Layout::Plain,
                1 => Layout::Inline,
                _ => Layout::Chunked,
            },
            raw: (words[5] >> 32) as u32,
            behind: words[6],
        })
    }

    fn unpack(number: u64, raw: &[u8; EXTENDED], extended: bool, build_time: (i64, u32)) -> Result<Inode, Stop> {
        let mode = u16_at(raw, 4);
        let kind = Kind::of_mode(mode).ok_or(Failure::Corrupt)?;
        let mut inode = Inode {
            number,
            mode,
            kind,
            links: u32::from(u16_at(raw, 6)),
            user: u32::from(u16_at(raw, 24)),
            group: u32::from(u16_at(raw, 26)),
            size: u64::from(u32_at(raw, 8)),
            time: build_time,
            layout: Layout::Plain,
            raw: u32_at(raw, 16),
            behind: 0,
        };
        if extended {
            inode.links = u32_at(raw, 44);
            inode.user = u32_at(raw, 24);
            inode.group = u32_at(raw, 28);
            inode.size = u64_at(raw, 8);
            inode.time = (u64_at(raw, 32) as i64, u32_at(raw, 40));
        }
        if !matches!(kind, Kind::File | Kind::Directory | Kind::Link) {
            inode.size = 0;
        }
        Ok(inode)
    }

    /// Device number as Linux encodes it (`new_encode_dev`), 0 for everything that is no device.
    pub fn device(&self) -> u32 {
        match self.kind {
            Kind::Character | Kind::BlockDevice => self.raw,
            _ => 0,
        }
    }

    /// What `stat` calls blocks: units of 512 bytes, holes counted as data.
    pub fn sectors(&self) -> u64 {
        (self.size + BLOCK as u64 - 1) / BLOCK as u64 * (BLOCK as u64 / 512)
    }
}
