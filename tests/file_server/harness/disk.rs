//! A disk in memory whose reads end in any order, fail, or lie, as the test asks.

use crate::blocks::BLOCK;
use crate::cache::{Disk, Outcome, Store, EXTENT};

/// xorshift64*: the same numbers for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// What happens to reads of a block, so many times.
pub struct Mishap {
    pub block: u64,
    pub times: u64,
    pub lie: bool, // a flipped bit; else an error
}

pub struct SimulatedDisk<S> {
    source: S,
    buffers: Vec<*mut u64>,
    buffer_bytes: usize,
    pub pending: Vec<(usize, u64, usize)>,
    pub mishaps: Vec<Mishap>,
    pub reads: u64,
    random: Random,
}

/// Where bytes come from.
pub trait Source {
    fn fill(&self, position: u64, into: &mut [u8]);
    fn bytes(&self) -> u64;
}

impl Source for Vec<u8> {
    fn fill(&self, position: u64, into: &mut [u8]) {
        into.copy_from_slice(&self[position as usize..position as usize + into.len()]);
    }
    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl Source for std::fs::File {
    fn fill(&self, position: u64, into: &mut [u8]) {
        use std::os::unix::fs::FileExt;
        self.read_exact_at(into, position).expect("read of the image");
    }
    fn bytes(&self) -> u64 {
        self.metadata().expect("size of the image").len()
    }
}

impl<S: Source> SimulatedDisk<S> {
    /// Buffers of 128 KiB times `scale`, as long as this lives.
    pub fn new(source: S, buffers: usize, scale: usize, seed: u64) -> SimulatedDisk<S> {
        let buffer = || Box::leak(vec![0u64; scale * EXTENT / 8].into_boxed_slice()).as_mut_ptr();
        SimulatedDisk {
            source,
            buffers: (0..buffers).map(|_| buffer()).collect(),
            buffer_bytes: scale * EXTENT,
            pending: Vec::new(),
            mishaps: Vec::new(),
            reads: 0,
            random: Random::new(seed),
        }
    }

    /// For a cache that keeps what it reads in the buffers.
    pub fn store(&self) -> Store {
        let buffers = self.buffers.iter().map(|buffer| *buffer as *const u8).collect();
        Store::InPlace { buffers, blocks: (self.buffer_bytes / BLOCK) as u64 }
    }

    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// How many reads end before anybody looks.
    pub fn at_once(&mut self) -> u64 {
        1 + self.random.below(8)
    }

    /// End one pending read, any of them: the buffer and how it went.
    pub fn complete_one(&mut self) -> Option<(usize, Outcome)> {
        if self.pending.is_empty() {
            return None;
        }
        let index = self.random.below(self.pending.len() as u64) as usize;
        let (buffer, position, bytes) = self.pending.swap_remove(index);
        let mut contents = vec![0; bytes];
        self.source.fill(position, &mut contents);
        let mut outcome = Outcome::Arrived;
        if self.random.below(16) == 0 {
            // As after the driver's death in strict mode.
            return Some((buffer, Outcome::Undone));
        }
        for mishap in &mut self.mishaps {
            let at = (mishap.block * BLOCK as u64).wrapping_sub(position) as usize;
            if mishap.times > 0 && at < bytes {
                mishap.times -= 1;
                if mishap.lie {
                    contents[at + 77] ^= 4;
                } else {
                    outcome = Outcome::Failed;
                }
            }
        }
        self.put(buffer, &contents);
        Some((buffer, outcome))
    }
}

impl<S> Drop for SimulatedDisk<S> {
    fn drop(&mut self) {
        for buffer in &self.buffers {
            // SAFETY: leaked in `new`, of this length; the cache does not look at it any more.
            drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(*buffer, self.buffer_bytes / 8)) });
        }
    }
}

impl<S> SimulatedDisk<S> {
    fn put(&mut self, buffer: usize, bytes: &[u8]) {
        // SAFETY: a buffer has so many bytes (asserted when the read began), and the cache looks only at those whose
        // reads have ended.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.buffers[buffer] as *mut u8, bytes.len()) };
    }
}

impl<S: Source> Disk for SimulatedDisk<S> {
    fn read(&mut self, buffer: usize, position: u64, bytes: usize) -> bool {
        assert!(bytes <= self.buffer_bytes && bytes % BLOCK == 0 && position % BLOCK as u64 == 0);
        assert!(position + bytes as u64 <= self.source.bytes(), "read behind the end of the disk");
        assert!(!self.pending.iter().any(|pending| pending.0 == buffer), "buffer used twice");
        if self.random.below(8) == 0 && !self.pending.is_empty() {
            return false;
        }
        // From now on the device writes there as it likes: whoever looked would notice.
        self.put(buffer, &vec![0xa5; self.buffer_bytes]);
        self.pending.push((buffer, position, bytes));
        self.reads += 1;
        true
    }

    fn memory(&self, buffer: usize) -> *const u8 {
        self.buffers[buffer] as *const u8
    }
}
