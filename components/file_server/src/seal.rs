//! The checksums behind the file system: a table with one per block, roots with one per table block,
//! and the seal, the last block of the disk, which covers the roots. images/README.md has the format.
//!
//! So a start reads the seal and the roots (4 bytes per 4 MiB of data), and the table is read in pieces,
//! when the data it covers is, and verified like them.

use crate::blocks::{u32_at, u64_at, Block, BLOCK};
use crate::crc32c::Checksum;
use alloc::vec::Vec;

const MAGIC: &[u8; 8] = b"R3S3SUMS";
const VERSION: u32 = 1;
const CHECKSUM: usize = BLOCK - 4;
pub const SUMS: u64 = BLOCK as u64 / 4; // checksums in one table block
/// Roots are kept in memory: 1 MiB of them covers 1 TiB.
pub const ROOTS_BLOCKS_MAX: u64 = 256;

#[derive(Clone, Copy, Debug)]
pub struct Seal {
    pub data_blocks: u64,
    pub table_block: u64,
    pub table_blocks: u64,
    pub roots_block: u64,
    pub roots_blocks: u64,
    /// Of the roots, and so of the whole image.
    pub roots_checksum: u32,
}

impl Seal {
    /// From the last block of the disk. Refuses with a sentence that says what is wrong.
    pub fn parse(block: &Block, device_blocks: u64, checksum: &Checksum) -> Result<Seal, &'static str> {
        if &block[..8] != MAGIC {
            return Err("no checksum table at its end: truncated, or not made by `r3s3 image build`");
        }
        if checksum.of(&block[..CHECKSUM]) != u32_at(block, CHECKSUM) {
            return Err("its last block does not match its checksum");
        }
        if u32_at(block, 8) != VERSION || u32_at(block, 12) != BLOCK as u32 {
            return Err("a checksum table of another version");
        }
        let seal = Seal {
            data_blocks: u64_at(block, 16),
            table_block: u64_at(block, 24),
            table_blocks: u64_at(block, 32),
            roots_block: u64_at(block, 40),
            roots_blocks: u64_at(block, 48),
            roots_checksum: u32_at(block, 56),
        };
        if seal.roots_blocks > ROOTS_BLOCKS_MAX {
            return Err("larger than this file server can keep the checksums of (1 TiB)");
        }
        // The parts lie one behind the other and have the sizes that follow from each other.
        let sound = seal.data_blocks > 0
            && seal.data_blocks < device_blocks
            && seal.table_block == seal.data_blocks
            && seal.table_blocks == (seal.data_blocks + SUMS - 1) / SUMS
            && seal.roots_block == seal.table_block + seal.table_blocks
            && seal.roots_blocks == (seal.table_blocks + SUMS - 1) / SUMS
            && seal.roots_block + seal.roots_blocks + 1 == device_blocks;
        if !sound {
            return Err("truncated: its parts do not add up to its size");
        }
        Ok(seal)
    }

    /// For a state that outlives this instance.
    pub fn to_words(self) -> [u64; 6] {
        let roots = [self.roots_block, self.roots_blocks, u64::from(self.roots_checksum)];
        [self.data_blocks, self.table_block, self.table_blocks, roots[0], roots[1], roots[2]]
    }

    /// What `to_words` has made.
    pub fn from_words(words: &[u64; 6]) -> Seal {
        let [data_blocks, table_block, table_blocks, roots_block, roots_blocks, sum] = *words;
        Seal { data_blocks, table_block, table_blocks, roots_block, roots_blocks, roots_checksum: sum as u32 }
    }

    /// The roots out of their blocks, which must be exactly `roots_blocks` long.
    pub fn roots(&self, bytes: &[u8], checksum: &Checksum) -> Result<Vec<u32>, &'static str> {
        if bytes.len() as u64 != self.roots_blocks * BLOCK as u64 || checksum.of(bytes) != self.roots_checksum {
            return Err("the roots of its checksum table do not match their checksum");
        }
        Ok((0..self.table_blocks as usize).map(|index| u32_at(bytes, 4 * index)).collect())
    }
}
