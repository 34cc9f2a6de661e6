//! The records of fs@1 that travel in a request's data buffer, little-endian.

use crate::blocks::BLOCK;
use crate::directory::NAME_MAX;
use crate::erofs::Inode;

pub const STAT: usize = 80;
const ENTRY: usize = 20; // next cookie, inode, kind, reserved, name length; the name follows
pub const ENTRY_MAX: usize = (ENTRY + NAME_MAX + 7) / 8 * 8;

/// Offsets: 0 mode, 4 links, 8 user, 12 group, 16 size, 24 inode, 32 seconds, 40 nanoseconds,
/// 44 bytes of a block, 48 blocks of 512 bytes, 56 device, 60 kind, 64 file system, 72 reserved.
pub fn stat(inode: &Inode, file_system: u64) -> [u8; STAT] {
    let mut record = [0; STAT];
    let mut put = |offset: usize, bytes: &[u8]| record[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, &u32::from(inode.mode).to_le_bytes());
    put(4, &inode.links.to_le_bytes());
    put(8, &inode.user.to_le_bytes());
    put(12, &inode.group.to_le_bytes());
    put(16, &inode.size.to_le_bytes());
    put(24, &inode.number.to_le_bytes());
    put(32, &inode.time.0.to_le_bytes());
    put(40, &inode.time.1.to_le_bytes());
    put(44, &(BLOCK as u32).to_le_bytes());
    put(48, &inode.sectors().to_le_bytes());
    put(56, &inode.device().to_le_bytes());
    put(60, &u32::from(inode.kind.number()).to_le_bytes());
    put(64, &file_system.to_le_bytes());
    record
}

/// A directory entry, padded to 8 bytes; its length. `name` has at most NAME_MAX bytes.
pub fn entry(into: &mut [u8; ENTRY_MAX], next: u64, inode: u64, kind: u8, name: &[u8]) -> usize {
    *into = [0; ENTRY_MAX];
    into[0..8].copy_from_slice(&next.to_le_bytes());
    into[8..16].copy_from_slice(&inode.to_le_bytes());
    into[16] = kind;
    into[18..20].copy_from_slice(&(name.len() as u16).to_le_bytes());
    into[ENTRY..ENTRY + name.len()].copy_from_slice(name);
    (ENTRY + name.len() + 7) / 8 * 8
}
