//! File modes as `ls -l` prints them.

use super::system::{Kind, Metadata};

/// `drwxr-xr-x`: the type letter and three groups of permissions with the set-id and sticky bits.
pub fn text(mode: u32) -> [u8; 10] {
    let bit = |mask: u32, letter: u8| if mode & mask != 0 { letter } else { b'-' };
    let execute = |mask: u32, special: u32, lower: u8, upper: u8| match (mode & special != 0, mode & mask != 0) {
        (true, true) => lower,
        (true, false) => upper,
        (false, true) => b'x',
        (false, false) => b'-',
    };
    [
        letter(Kind::of_mode(mode)),
        bit(0o400, b'r'),
        bit(0o200, b'w'),
        execute(0o100, 0o4000, b's', b'S'),
        bit(0o040, b'r'),
        bit(0o020, b'w'),
        execute(0o010, 0o2000, b's', b'S'),
        bit(0o004, b'r'),
        bit(0o002, b'w'),
        execute(0o001, 0o1000, b't', b'T'),
    ]
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::Regular => b'-',
        Kind::Directory => b'd',
        Kind::SymbolicLink => b'l',
        Kind::CharacterDevice => b'c',
        Kind::BlockDevice => b'b',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
        Kind::Unknown => b'?',
    }
}

/// The words of `stat %F`.
pub fn words(metadata: &Metadata) -> &'static str {
    match metadata.kind() {
        Kind::Regular if metadata.size == 0 => "regular empty file",
        Kind::Regular => "regular file",
        Kind::Directory => "directory",
        Kind::SymbolicLink => "symbolic link",
        Kind::CharacterDevice => "character special file",
        Kind::BlockDevice => "block special file",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::Unknown => "weird file",
    }
}

/// Major number of a device in Linux's `dev_t` encoding.
pub fn major(device: u64) -> u64 {
    (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000)
}

/// Minor number of a device in Linux's `dev_t` encoding.
pub fn minor(device: u64) -> u64 {
    (device & 0xff) | (device >> 12 & 0xffff_ff00)
}
