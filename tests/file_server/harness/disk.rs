//! A disk in memory whose reads end in any order, fail, or lie, as the test asks.

use crate::blocks::BLOCK;
use crate::cache::{Disk, Outcome, EXTENT};

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
    buffers: Vec<Vec<u64>>,
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
    pub fn new(source: S, buffers: usize, seed: u64) -> SimulatedDisk<S> {
        SimulatedDisk {
            source,
            buffers: (0..buffers).map(|_| vec![0; EXTENT / 8]).collect(),
            pending: Vec::new(),
            mishaps: Vec::new(),
            reads: 0,
            random: Random::new(seed),
        }
    }

    pub fn source(&mut self) -> &mut S {
        &mut self.source
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
        for (word, chunk) in self.buffers[buffer].iter_mut().zip(contents.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().unwrap());
        }
        Some((buffer, outcome))
    }
}

impl<S: Source> Disk for SimulatedDisk<S> {
    fn read(&mut self, buffer: usize, position: u64, bytes: usize) -> bool {
        assert!(bytes <= EXTENT && bytes % BLOCK == 0 && position % BLOCK as u64 == 0);
        assert!(position + bytes as u64 <= self.source.bytes(), "read behind the end of the disk");
        assert!(!self.pending.iter().any(|pending| pending.0 == buffer), "buffer used twice");
        if self.random.below(8) == 0 && !self.pending.is_empty() {
            return false;
        }
        self.pending.push((buffer, position, bytes));
        self.reads += 1;
        true
    }

    fn memory(&self, buffer: usize) -> *const u8 {
        self.buffers[buffer].as_ptr() as *const u8
    }
}
