//! What a disk is like, and which requests fit it: pure, and the same for disks of any kind.

use rt::Error;

pub const SECTOR: u64 = 512;

/// The disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub sectors: u64,
    /// Sectors of which every transfer has whole groups, and begins with one.
    pub group: u64,
    /// Best unit of a transfer, bytes.
    pub block_bytes: u32,
    /// Most bytes of one transfer, whole sectors.
    pub max_bytes: u32,
    pub read_only: bool,
    /// It has a volatile cache.
    pub flush: bool,
    /// Most sectors of one discard; 0: it knows none.
    pub discard_sectors: u32,
}

impl Geometry {
    /// Whether `bytes` from `sector` can be transferred in one request.
    pub fn check_transfer(&self, sector: u64, bytes: u32, write: bool) -> Result<(), Error> {
        if write && self.read_only {
            return Err(Error::ROFS);
        }
        if bytes == 0 || u64::from(bytes) % SECTOR != 0 || bytes > self.max_bytes {
            return Err(Error::INVAL);
        }
        self.check_sectors(sector, u64::from(bytes) / SECTOR)
    }

    /// Whether the sectors can be discarded in one request; their number as the device takes it.
    pub fn check_discard(&self, sector: u64, sectors: u64) -> Result<u32, Error> {
        if self.read_only {
            return Err(Error::ROFS);
        }
        if self.discard_sectors == 0 {
            return Err(Error::NOSYS);
        }
        if sectors == 0 || sectors > u64::from(self.discard_sectors) {
            return Err(Error::INVAL);
        }
        self.check_sectors(sector, sectors)?;
        Ok(sectors as u32)
    }

    fn check_sectors(&self, sector: u64, sectors: u64) -> Result<(), Error> {
        if (sector | sectors) % self.group != 0 {
            return Err(Error::INVAL);
        }
        match sector.checked_add(sectors) {
            Some(end) if end <= self.sectors => Ok(()),
            _ => Err(Error::RANGE),
        }
    }
}

/// A client's I/O buffers, which this driver never sees: where the device sees them, and how many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    pub bus_address: u64,
    pub bytes: u64,
}

impl Pool {
    /// Bus address of `bytes` at `offset`; `RANGE` unless they lie within the pool.
    pub fn address(&self, offset: u64, bytes: u32) -> Result<u64, Error> {
        match offset.checked_add(u64::from(bytes)) {
            Some(end) if end <= self.bytes => Ok(self.bus_address + offset),
            _ => Err(Error::RANGE),
        }
    }
}
