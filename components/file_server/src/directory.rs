//! Directories: blocks of entries sorted by name, within a block and from block to block.
//!
//! A block begins with an array of 12-byte entries (inode number, offset of the name, type), whose
//! names follow in the same order. The offset of the first name therefore says how many entries there are.

use crate::blocks::{u16_at, u64_at, Blocks, Failure, Stop, BLOCK};
use crate::erofs::{Inode, Kind, SuperBlock};
use core::cmp::Ordering;

const ENTRY: usize = 12;
pub const NAME_MAX: usize = 255;

pub struct Entry<'a> {
    pub inode: u64,
    pub kind: Kind,
    pub name: &'a [u8],
}

/// One directory block. It never crosses a block of the disk, not even as an inline tail.
pub struct EntryBlock<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> EntryBlock<'a> {
    /// Block `index` of the directory; `Failure::Range` behind the end.
    pub fn read(
        volume: &SuperBlock,
        blocks: &'a mut dyn Blocks,
        directory: &Inode,
        index: u64,
    ) -> Result<EntryBlock<'a>, Stop> {
        let offset = index.checked_mul(BLOCK as u64).ok_or(Failure::Range)?;
        let place = volume.place(blocks, directory, offset)?;
        let length = (directory.size - offset).min(BLOCK as u64) as usize;
        let position = place.position.ok_or(Failure::Corrupt)?;
        let start = (position % BLOCK as u64) as usize;
        if place.bytes < length as u64 || length < ENTRY || start + length > BLOCK {
            return Err(Failure::Corrupt.into());
        }
        let bytes = &blocks.block(position / BLOCK as u64)?[start..start + length];
        let mut block = EntryBlock { bytes, count: 0 };
        let names = block.name_offset(0);
        if names < ENTRY || names % ENTRY != 0 || names >= block.bytes.len() {
            return Err(Failure::Corrupt.into());
        }
        block.count = names / ENTRY;
        Ok(block)
    }

    /// Always at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Entry `index`, which is below `count`.
    pub fn entry(&self, index: usize) -> Result<Entry<'a>, Failure> {
        let start = self.name_offset(index);
        let end = if index + 1 < self.count { self.name_offset(index + 1) } else { self.bytes.len() };
        if start < self.count * ENTRY || start >= end || end > self.bytes.len() {
            return Err(Failure::Corrupt);
        }
        let mut name = &self.bytes[start..end];
        if index + 1 == self.count {
            // Only the last name of a block may end before its space does.
            let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            name = &name[..length];
        }
        if name.is_empty() || name.len() > NAME_MAX || name.iter().any(|byte| *byte == 0 || *byte == b'/') {
            return Err(Failure::Corrupt);
        }
        let kind = Kind::of_entry(self.bytes[index * ENTRY + 10]).ok_or(Failure::Corrupt)?;
        Ok(Entry { inode: u64_at(self.bytes, index * ENTRY), kind, name })
    }

    fn name_offset(&self, index: usize) -> usize {
        usize::from(u16_at(self.bytes, index * ENTRY + 8))
    }
}

/// Blocks of a directory.
pub fn blocks_of(directory: &Inode) -> u64 {
    (directory.size + BLOCK as u64 - 1) / BLOCK as u64
}

/// A binary search for one name, a directory block per step. Whoever gets `Stop::Missing` calls `step`
/// again later, and only the step is repeated.
#[derive(Clone, Copy)]
pub struct Search {
    low: u64,
    high: u64,
}

pub enum Found {
    Inode(u64),
    Nothing,
    NotYet,
}

impl Search {
    pub fn new(directory: &Inode) -> Search {
        Search { low: 0, high: blocks_of(directory) }
    }

    /// At most 64 steps lead to an answer: each halves what is left.
    pub fn step(
        &mut self,
        volume: &SuperBlock,
        blocks: &mut dyn Blocks,
        directory: &Inode,
        name: &[u8],
    ) -> Result<Found, Stop> {
        if self.low >= self.high {
            return Ok(Found::Nothing);
        }
        let middle = self.low + (self.high - self.low) / 2;
        let block = EntryBlock::read(volume, blocks, directory, middle)?;
        if name < block.entry(0)?.name {
            self.high = middle;
        } else if name > block.entry(block.count() - 1)?.name {
            self.low = middle + 1;
        } else {
            return Ok(match find(&block, name)? {
                Some(inode) => Found::Inode(inode),
                None => Found::Nothing,
            });
        }
        Ok(Found::NotYet)
    }
}

fn find(block: &EntryBlock<'_>, name: &[u8]) -> Result<Option<u64>, Failure> {
    let (mut low, mut high) = (0, block.count());
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = block.entry(middle)?;
        match name.cmp(entry.name) {
            Ordering::Equal => return Ok(Some(entry.inode)),
            Ordering::Less => high = middle,
            Ordering::Greater => low = middle + 1,
        }
    }
    Ok(None)
}
