//! What is read before the first request: the seal, the roots of the checksum table, the superblock.

use crate::blocks::{u32_at, Block, BLOCK};
use crate::crc32c::Checksum;
use crate::erofs::SuperBlock;
use crate::seal::{Seal, SUMS};
use alloc::vec;
use alloc::vec::Vec;

pub struct Mount {
    pub volume: SuperBlock,
    pub seal: Seal,
    pub roots: Vec<u32>,
}

/// Words of a mount that is handed over, before its block of roots.
pub const MOUNT_WORDS: usize = 14;

impl Mount {
    /// For the next version, with the most bytes one read brings. None: too large an image (4 GiB), which is read again.
    pub fn pack(&self, unit_bytes: usize) -> Option<([u64; MOUNT_WORDS], Block)> {
        if self.roots.len() as u64 > SUMS {
            return None;
        }
        let mut words = [0; MOUNT_WORDS];
        words[..7].copy_from_slice(&self.volume.to_words());
        words[7..13].copy_from_slice(&self.seal.to_words());
        words[13] = unit_bytes as u64;
        let mut block = [0; BLOCK];
        for (bytes, root) in block.chunks_exact_mut(4).zip(&self.roots) {
            bytes.copy_from_slice(&root.to_le_bytes());
        }
        Some((words, block))
    }

    /// What `pack` has made, with that number; None if it is not that, as its checksums say.
    pub fn unpack(words: &[u64; MOUNT_WORDS], block: &Block, checksum: &Checksum) -> Option<(Mount, usize)> {
        let (mut volume, mut seal) = ([0; 7], [0; 6]);
        volume.copy_from_slice(&words[..7]);
        seal.copy_from_slice(&words[7..13]);
        let seal = Seal::from_words(&seal);
        if seal.roots_blocks != 1 || seal.table_blocks > SUMS {
            return None;
        }
        let roots = seal.roots(block, checksum).ok()?;
        Some((Mount { volume: SuperBlock::from_words(&volume), seal, roots }, words[13] as usize))
    }
}

/// `read` fills a slice of whole blocks from a byte position of the disk, waiting for it, or says why not.
/// The error is a sentence about the image.
pub fn mount(
    device_bytes: u64,
    checksum: &Checksum,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<(), &'static str>,
) -> Result<Mount, &'static str> {
    let device_blocks = device_bytes / BLOCK as u64;
    if device_blocks == 0 {
        return Err("empty: it has no block");
    }
    let last = one_block(device_blocks - 1, read)?;
    let first = one_block(0, read)?;
    // Without the seal the superblock tells best what kind of image this is, so its errors come first.
    let volume = SuperBlock::parse(&first, device_blocks)?;
    let seal = Seal::parse(&last, device_blocks, checksum)?;
    let mut bytes = vec![0; seal.roots_blocks as usize * BLOCK];
    read(seal.roots_block * BLOCK as u64, &mut bytes)?;
    let roots = seal.roots(&bytes, checksum)?;
    let table = one_block(seal.table_block, read)?;
    if checksum.of(&table) != roots[0] || checksum.of(&first) != u32_at(&table, 0) {
        return Err("its first block does not match its checksum");
    }
    if volume.blocks != seal.data_blocks {
        return Err("its superblock and its checksum table disagree about its size");
    }
    Ok(Mount { volume, seal, roots })
}

fn one_block(
    number: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<(), &'static str>,
) -> Result<Block, &'static str> {
    let mut block = [0; BLOCK];
    read(number * BLOCK as u64, &mut block)?;
    Ok(block)
}
