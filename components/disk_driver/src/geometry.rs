//! What the disk is like, and which requests fit it: pure functions of the device's features and
//! configuration space (virtio 1.2, 5.2.4), which the hypervisor has copied into the info pages.

use rt::Error;

pub const SECTOR: u64 = 512;

/// The most one request transfers, whatever the device allows: longer ones would hold up the others.
const TRANSFER_MAX: u32 = 4 << 20;

const FEATURE_SIZE_MAX: u64 = 1 << 1;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_BLOCK_SIZE: u64 = 1 << 6;
const FEATURE_FLUSH: u64 = 1 << 9;
const FEATURE_DISCARD: u64 = 1 << 13;
const FEATURE_EVENT_INDEX: u64 = 1 << 29;

const CONFIG_CAPACITY: usize = 0;
const CONFIG_SIZE_MAX: usize = 8;
const CONFIG_BLOCK_SIZE: usize = 20;
const CONFIG_DISCARD_MAX: usize = 36;

/// The disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    pub sectors: u64,
    /// Best unit of a transfer, bytes.
    pub block_bytes: u32,
    /// Most bytes of one transfer, whole sectors.
    pub max_bytes: u32,
    pub read_only: bool,
    /// It has a volatile cache.
    pub flush: bool,
    /// Most sectors of one discard; 0: it knows none.
    pub discard_sectors: u32,
    /// Both sides say at which index they want to be told.
    pub event_index: bool,
}

impl Geometry {
    /// From the negotiated features and the configuration space. Nonsense in it is answered with what any disk has.
    pub fn new(features: u64, config: &[u8; 256]) -> Geometry {
        let has = |feature: u64| features & feature != 0;
        let block_bytes = if has(FEATURE_BLOCK_SIZE) { word(config, CONFIG_BLOCK_SIZE) } else { 0 };
        let size_max = if has(FEATURE_SIZE_MAX) { word(config, CONFIG_SIZE_MAX) } else { 0 };
        // Some devices offer the feature and say zero.
        let max_bytes = if size_max < SECTOR as u32 { TRANSFER_MAX } else { size_max.min(TRANSFER_MAX) };
        Geometry {
            sectors: u64::from(word(config, CONFIG_CAPACITY)) | u64::from(word(config, CONFIG_CAPACITY + 4)) << 32,
            block_bytes: if block_bytes < SECTOR as u32 { SECTOR as u32 } else { block_bytes },
            max_bytes: max_bytes - max_bytes % SECTOR as u32,
            read_only: has(FEATURE_READ_ONLY),
            flush: has(FEATURE_FLUSH),
            discard_sectors: if has(FEATURE_DISCARD) { word(config, CONFIG_DISCARD_MAX) } else { 0 },
            event_index: has(FEATURE_EVENT_INDEX),
        }
    }

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

fn word(config: &[u8; 256], at: usize) -> u32 {
    u32::from_le_bytes([config[at], config[at + 1], config[at + 2], config[at + 3]])
}
