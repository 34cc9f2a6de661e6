//! SHA-256 (FIPS 180-4): portable, and with the SHA instructions of x86-64 where the CPU has them.

use super::sha256_instructions;

pub const BLOCK_BYTES: usize = 64;
pub const DIGEST_BYTES: usize = 32;

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
pub static ROUND_CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

const INITIAL_STATE: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Mixes whole blocks into the state.
type Compress = fn(&mut [u32; 8], &[u8]);

/// A digest being computed.
#[derive(Clone)]
pub struct Sha256 {
    state: [u32; 8],
    compress: Compress,
    pending: [u8; BLOCK_BYTES],
    pending_bytes: usize,
    /// Bytes taken so far.
    total: u64,
}

impl Sha256 {
    /// Uses the CPU's SHA instructions if it has them.
    pub fn new() -> Self {
        Self::with(sha256_instructions::compress_if_available().unwrap_or(compress_portable))
    }

    /// Never uses them.
    pub fn portable() -> Self {
        Self::with(compress_portable)
    }

    fn with(compress: Compress) -> Self {
        Sha256 { state: INITIAL_STATE, compress, pending: [0; BLOCK_BYTES], pending_bytes: 0, total: 0 }
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if self.pending_bytes > 0 {
            let taken = bytes.len().min(BLOCK_BYTES - self.pending_bytes);
            self.pending[self.pending_bytes..self.pending_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.pending_bytes += taken;
            bytes = &bytes[taken..];
            if self.pending_bytes < BLOCK_BYTES {
                return;
            }
            let block = self.pending;
            (self.compress)(&mut self.state, &block);
        }
        let whole = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
        (self.compress)(&mut self.state, &bytes[..whole]);
        let rest = &bytes[whole..];
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_bytes = rest.len();
    }

    pub fn finish(mut self) -> [u8; DIGEST_BYTES] {
        let bits = self.total.wrapping_mul(8);
        let mut tail = [0u8; 2 * BLOCK_BYTES];
        tail[..self.pending_bytes].copy_from_slice(&self.pending[..self.pending_bytes]);
        tail[self.pending_bytes] = 0x80;
        let blocks = if self.pending_bytes < BLOCK_BYTES - 8 { 1 } else { 2 };
        let end = blocks * BLOCK_BYTES;
        tail[end - 8..end].copy_from_slice(&bits.to_be_bytes());
        (self.compress)(&mut self.state, &tail[..end]);
        let mut digest = [0; DIGEST_BYTES];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }
}

/// A digest in lower-case hexadecimal.
pub fn hexadecimal(digest: &[u8; DIGEST_BYTES]) -> [u8; 2 * DIGEST_BYTES] {
    let mut text = [0; 2 * DIGEST_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

/// `blocks` is a multiple of 64 bytes.
fn compress_portable(state: &mut [u32; 8], blocks: &[u8]) {
    for block in blocks.chunks_exact(BLOCK_BYTES) {
        let mut schedule = [0u32; 64];
        for (word, bytes) in schedule.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for index in 16..64 {
            let early = schedule[index - 15];
            let late = schedule[index - 2];
            let sigma0 = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
            let sigma1 = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
            schedule[index] =
                schedule[index - 16].wrapping_add(sigma0).wrapping_add(schedule[index - 7]).wrapping_add(sigma1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for (word, constant) in schedule.iter().zip(&ROUND_CONSTANTS) {
            let sum1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let first = h.wrapping_add(sum1).wrapping_add(choice).wrapping_add(*constant).wrapping_add(*word);
            let sum0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            let second = sum0.wrapping_add(majority);
            h = g;
            g = f;
            f = e;
            e = d.wrapping_add(first);
            d = c;
            c = b;
            b = a;
            a = first.wrapping_add(second);
        }
        for (word, mixed) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(mixed);
        }
    }
}
