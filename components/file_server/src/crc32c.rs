//! CRC32C (RFC 3720's polynomial, all ones in and out), fused with the copy out of I/O memory where there is one.
//!
//! A block in memory that a driver or device may still write is read exactly once: the words that enter the
//! checksum are the words that are stored. Four blocks are treated at a time, since the CPU's instruction takes
//! three cycles but can start every cycle.

use crate::blocks::BLOCK;
use core::arch::x86_64::{__cpuid, __m128i, _mm_crc32_u64, _mm_crc32_u8};
use core::arch::x86_64::{_mm_cvtsi128_si64, _mm_extract_epi64, _mm_storeu_si128};

const WORDS: usize = BLOCK / 8;
const SSE42: u32 = 1 << 20; // CPUID leaf 1, ECX

/// How checksums are made on this CPU.
pub struct Checksum {
    instruction: bool,
    table: [[u32; 256]; 8],
}

impl Checksum {
    /// With the CPU's instruction where there is one. Tests say `portable` to go without.
    pub fn new(portable: bool) -> Checksum {
        // SAFETY: every x86-64 CPU has CPUID with leaf 1. (Newer compilers call it safe.)
        #[allow(unused_unsafe)]
        let instruction = unsafe { __cpuid(1) }.ecx & SSE42 != 0 && !portable;
        Checksum { instruction, table: if instruction { [[0; 256]; 8] } else { slices() } }
    }

    /// The checksum of ordinary memory.
    pub fn of(&self, bytes: &[u8]) -> u32 {
        if self.instruction {
            // SAFETY: `instruction` is set only when CPUID says so.
            return unsafe { of_instruction(bytes) };
        }
        let mut crc = !0;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            crc = self.step(crc, crate::blocks::u64_at(word, 0));
        }
        for byte in words.remainder() {
            crc = crc >> 8 ^ self.table[0][((crc ^ u32::from(*byte)) & 0xff) as usize];
        }
        !crc
    }

    /// Copy `blocks` blocks from `from` to `to` and report the checksum of each copied block.
    ///
    /// # Safety
    /// `from` and `to` are 8-byte aligned and valid for `blocks * BLOCK` bytes; nobody else uses `to`.
    /// `from` may change at any time.
    pub unsafe fn copy_blocks(
        &self,
        from: *const u8,
        to: *mut u8,
        blocks: usize,
        mut report: impl FnMut(usize, u32),
    ) {
        let mut block = 0;
        while block < blocks {
            let (source, target) = (from.add(block * BLOCK) as *const u64, to.add(block * BLOCK) as *mut u64);
            if self.instruction && blocks - block >= 4 {
                for (lane, crc) in copy_four(source, target).iter().enumerate() {
                    report(block + lane, *crc);
                }
                block += 4;
            } else {
                report(block, match self.instruction {
                    true => copy_one(source, target),
                    false => self.copy_portable(source, target),
                });
                block += 1;
            }
        }
    }

    /// Report the checksum of each block of ordinary memory: `bytes` are whole blocks, 8-byte aligned.
    pub fn of_blocks(&self, bytes: &[u8], mut report: impl FnMut(usize, u32)) {
        let blocks = bytes.len() / BLOCK;
        let mut block = 0;
        while self.instruction && blocks - block >= 4 {
            // SAFETY: four blocks from here on are within `bytes`; `instruction` is set only when CPUID says so.
            let sums = unsafe { of_four(bytes.as_ptr().add(block * BLOCK) as *const u64) };
            for (lane, crc) in sums.iter().enumerate() {
                report(block + lane, *crc);
            }
            block += 4;
        }
        for (index, rest) in bytes.chunks_exact(BLOCK).enumerate().skip(block) {
            report(index, self.of(rest));
        }
    }

    unsafe fn copy_portable(&self, from: *const u64, to: *mut u64) -> u32 {
        let mut crc = !0;
        for index in 0..WORDS {
            let word = from.add(index).read_volatile();
            to.add(index).write(word);
            crc = self.step(crc, word);
        }
        !crc
    }

    fn step(&self, crc: u32, word: u64) -> u32 {
        let word = word ^ u64::from(crc);
        let mut next = 0;
        for slice in 0..8 {
            next ^= self.table[7 - slice][(word >> (8 * slice) & 0xff) as usize];
        }
        next
    }
}

/// Table `n` advances the checksum by one byte that is followed by `n` zero bytes.
fn slices() -> [[u32; 256]; 8] {
    let mut table = [[0u32; 256]; 8];
    for byte in 0..256 {
        let mut crc = byte as u32;
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
        table[0][byte] = crc;
    }
    for byte in 0..256 {
        for slice in 1..8 {
            let last = table[slice - 1][byte];
            table[slice][byte] = last >> 8 ^ table[0][(last & 0xff) as usize];
        }
    }
    table
}

#[target_feature(enable = "sse4.2")]
unsafe fn of_instruction(bytes: &[u8]) -> u32 {
    let mut crc = u64::from(!0u32);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        crc = _mm_crc32_u64(crc, crate::blocks::u64_at(word, 0));
    }
    let mut crc = crc as u32;
    for byte in words.remainder() {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

#[target_feature(enable = "sse4.2")]
unsafe fn copy_one(from: *const u64, to: *mut u64) -> u32 {
    let mut crc = u64::from(!0u32);
    for index in 0..WORDS {
        let word = from.add(index).read_volatile();
        to.add(index).write(word);
        crc = _mm_crc32_u64(crc, word);
    }
    !(crc as u32)
}

/// Two words, loaded exactly once: the compiler cannot look into this.
#[inline(always)]
unsafe fn load_pair(from: *const u64) -> __m128i {
    let pair: __m128i;
    core::arch::asm!(
        "movdqu {pair}, [{from}]",
        pair = lateout(xmm_reg) pair, from = in(reg) from, options(nostack, preserves_flags, readonly),
    );
    pair
}

#[target_feature(enable = "sse4.2")]
unsafe fn copy_four(from: *const u64, to: *mut u64) -> [u32; 4] {
    // Written out: with a loop over the lanes, a compiler told to keep code small makes it a third as fast. In pairs,
    // since loads and stores of single words take a fifth of the time.
    let ones = u64::from(!0u32);
    let (mut crc0, mut crc1, mut crc2, mut crc3) = (ones, ones, ones, ones);
    for index in (0..WORDS).step_by(2) {
        let pair0 = load_pair(from.add(index));
        let pair1 = load_pair(from.add(WORDS + index));
        let pair2 = load_pair(from.add(2 * WORDS + index));
        let pair3 = load_pair(from.add(3 * WORDS + index));
        _mm_storeu_si128(to.add(index).cast(), pair0);
        _mm_storeu_si128(to.add(WORDS + index).cast(), pair1);
        _mm_storeu_si128(to.add(2 * WORDS + index).cast(), pair2);
        _mm_storeu_si128(to.add(3 * WORDS + index).cast(), pair3);
        crc0 = _mm_crc32_u64(crc0, _mm_cvtsi128_si64(pair0) as u64);
        crc1 = _mm_crc32_u64(crc1, _mm_cvtsi128_si64(pair1) as u64);
        crc2 = _mm_crc32_u64(crc2, _mm_cvtsi128_si64(pair2) as u64);
        crc3 = _mm_crc32_u64(crc3, _mm_cvtsi128_si64(pair3) as u64);
        crc0 = _mm_crc32_u64(crc0, _mm_extract_epi64(pair0, 1) as u64);
        crc1 = _mm_crc32_u64(crc1, _mm_extract_epi64(pair1, 1) as u64);
        crc2 = _mm_crc32_u64(crc2, _mm_extract_epi64(pair2, 1) as u64);
        crc3 = _mm_crc32_u64(crc3, _mm_extract_epi64(pair3, 1) as u64);
    }
    [!(crc0 as u32), !(crc1 as u32), !(crc2 as u32), !(crc3 as u32)]
}

#[target_feature(enable = "sse4.2")]
unsafe fn of_four(from: *const u64) -> [u32; 4] {
    let ones = u64::from(!0u32);
    let (mut crc0, mut crc1, mut crc2, mut crc3) = (ones, ones, ones, ones);
    for index in 0..WORDS {
        crc0 = _mm_crc32_u64(crc0, *from.add(index));
        crc1 = _mm_crc32_u64(crc1, *from.add(WORDS + index));
        crc2 = _mm_crc32_u64(crc2, *from.add(2 * WORDS + index));
        crc3 = _mm_crc32_u64(crc3, *from.add(3 * WORDS + index));
    }
    [!(crc0 as u32), !(crc1 as u32), !(crc2 as u32), !(crc3 as u32)]
}
