//! A virtio block device's features and configuration space (virtio 1.2, 5.2.4), which the hypervisor has copied into
//! the info pages.

use crate::geometry::{Geometry, SECTOR};

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

/// Both sides say at which index they want to be told.
pub fn event_index(features: u64) -> bool {
    features & FEATURE_EVENT_INDEX != 0
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
            group: 1,
            block_bytes: if block_bytes < SECTOR as u32 { SECTOR as u32 } else { block_bytes },
            max_bytes: max_bytes - max_bytes % SECTOR as u32,
            read_only: has(FEATURE_READ_ONLY),
            flush: has(FEATURE_FLUSH),
            discard_sectors: if has(FEATURE_DISCARD) { word(config, CONFIG_DISCARD_MAX) } else { 0 },
        }
    }
}

fn word(config: &[u8; 256], at: usize) -> u32 {
    u32::from_le_bytes([config[at], config[at + 1], config[at + 2], config[at + 3]])
}
