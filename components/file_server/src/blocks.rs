//! Blocks of the disk, and what happens when one is not there yet.
//!
//! Everything that reads the file system does so through `Blocks`. A block that is not in memory stops
//! the attempt with `Stop::Missing`; the caller has it read and attempts the same step again later.
//! So the parser never waits, and the same code runs in the file server and in the host's tests.

pub const BLOCK: usize = 4096;
pub type Block = [u8; BLOCK];

/// Why a request cannot be answered as asked; `code` gives the number of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    NotFound,
    NotDirectory,
    IsDirectory,
    Invalid,
    NameTooLong,
    Loop,
    BadHandle,
    Range,
    Unsupported,
    /// The disk could not read.
    Disk,
    /// A checksum or a structure is wrong.
    Corrupt,
}

impl Failure {
    /// The error number of hypervisor/abi/abi.toml.
    pub fn code(self) -> i32 {
        match self {
            Failure::NotFound => -2,
            Failure::Disk => -5,
            Failure::BadHandle => -9,
            Failure::NotDirectory => -20,
            Failure::IsDirectory => -21,
            Failure::Invalid => -22,
            Failure::Range => -34,
            Failure::NameTooLong => -36,
            Failure::Unsupported => -38,
            Failure::Loop => -40,
            Failure::Corrupt => -201,
        }
    }
}

/// Why an attempt ended without a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// This block must be read first.
    Missing(u64),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

pub trait Blocks {
    /// The contents of block `number`, verified. Numbers past the end are `Failure::Corrupt`, since
    /// only a wrong structure can name them.
    fn block(&mut self, number: u64) -> Result<&Block, Stop>;
}

/// Copy from byte `position` of the disk on, across as many blocks as it takes (callers ask for few).
pub fn copy(blocks: &mut dyn Blocks, position: u64, into: &mut [u8]) -> Result<(), Stop> {
    let mut done = 0;
    while done < into.len() {
        let at = position.checked_add(done as u64).ok_or(Failure::Corrupt)?;
        let offset = (at % BLOCK as u64) as usize;
        let count = (BLOCK - offset).min(into.len() - done);
        let block = blocks.block(at / BLOCK as u64)?;
        into[done..done + count].copy_from_slice(&block[offset..offset + count]);
        done += count;
    }
    Ok(())
}

/// Little-endian numbers at a byte offset. The caller has checked that they are inside.
pub fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}
