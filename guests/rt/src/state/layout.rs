//! Where everything lies in a state region, and the sums that tell sound bytes from damaged ones.
//!
//!     header      one page: descriptor, commit word, two seals of copy A, one of copy B
//!     log half 0  undo entries of transactions with an even number
//!     log half 1  of those with an odd one
//!     copy A      the live data
//!     copy B      the data as of the last commit or the one before
//!
//! A seal of a copy as of commit n is {n, sum over the copy, check of both}; A's for n lies in place n % 2, so that the
//! one before is there until the next commit. A log entry is {descriptor, check, old words}. Every check depends on schema and size, so that what was written by another
//! program, or by nobody, is never taken for sound.

use crate::abi::PAGE_SIZE;

pub const MAGIC: u64 = 0x3154_5353_3352_5233;
/// In the magic's place while lost state is being replaced: whoever finds it still knows that it was lost.
pub const MAGIC_LOST: u64 = !MAGIC;
pub const VERSION: u32 = 1;

// Offsets in the header. What one transaction touches lies in two cache lines.
pub const DESCRIPTOR: usize = 0;
pub const DESCRIPTOR_WORDS: usize = 5;
pub const COMMIT: usize = 64;
pub const SEALS: usize = 128;
pub const SEAL_BYTES: usize = 32;

pub const A: usize = 0;
pub const B: usize = 1;


/// The low bits of the commit word.
pub const CHECK_BITS: u32 = 24;

const LOG_HALF_MAX: usize = 64 << 10;
const LINE: usize = 64;

/// Sizes and offsets of one region; all in bytes but `words`.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// 8-byte words of data that are in use, the same in both copies.
    pub words: usize,
    pub log_half: usize,
    /// Offset of copy A, of copy B.
    pub copies: [usize; 2],
    pub schema: u32,
    /// What all checks depend on.
    pub seed: u64,
}

impl Layout {
    /// Most data bytes of a region of this size.
    pub fn room(region: usize) -> usize {
        region.saturating_sub(PAGE_SIZE + 2 * log_half(region)) / 2 / LINE * LINE
    }

    /// The layout for `data` bytes of data; None if the region is too small.
    pub fn of(region: usize, data: usize, schema: u32) -> Option<Layout> {
        let (log_half, room) = (log_half(region), Layout::room(region));
        if data == 0 || data > room || region >> 32 != 0 {
            return None;
        }
        let first = PAGE_SIZE + 2 * log_half;
        Some(Layout::with((data + 7) / 8, log_half, [first, first + room], schema))
    }

    /// The layout that the words of a descriptor speak of, as far as it can be that of this region: its live copy and
    /// its log lie within. None if it cannot.
    pub fn described(words: &[u64], region: usize) -> Option<Layout> {
        let (version, schema) = (words[1] as u32, (words[1] >> 32) as u32);
        let (data, log_half) = (words[2] as usize, words[3] as usize);
        let first = PAGE_SIZE.checked_add(log_half.checked_mul(2)?)?;
        let is_sound = version == VERSION && data > 0 && data % 8 == 0 && log_half <= LOG_HALF_MAX && log_half % 8 == 0;
        let end = first.checked_add(data)?;
        Some(Layout::with(data / 8, log_half, [first, first], schema)).filter(|_| is_sound && end <= region)
    }

    fn with(words: usize, log_half: usize, copies: [usize; 2], schema: u32) -> Layout {
        let seed = mix(u64::from(schema) << 32 | u64::from(VERSION), mix(words as u64, log_half as u64));
        Layout { words, log_half, copies, schema, seed }
    }

    pub fn log(&self, number: u64) -> usize {
        PAGE_SIZE + (number % 2) as usize * self.log_half
    }

    pub fn seal(&self, copy: usize, number: u64) -> usize {
        match copy {
            A => SEALS + (number % 2) as usize * SEAL_BYTES,
            _ => SEALS + 2 * SEAL_BYTES,
        }
    }

    /// The check of a seal.
    pub fn seal_check(&self, copy: usize, number: u64, sum: u64) -> u64 {
        mix(sum, mix(number, self.seed.wrapping_add(copy as u64)))
    }

    /// What the commit word says: the number, and enough of a check that no damage makes it another number.
    pub fn commit_word(&self, number: u64) -> u64 {
        number << CHECK_BITS | mix(number, self.seed) >> (64 - CHECK_BITS)
    }

    /// What the descriptor says, its check last.
    pub fn descriptor(&self) -> [u64; DESCRIPTOR_WORDS] {
        let words = [
            MAGIC,
            u64::from(self.schema) << 32 | u64::from(VERSION),
            8 * self.words as u64,
            self.log_half as u64,
        ];
        [words[0], words[1], words[2], words[3], descriptor_check(&words)]
    }
}

/// The number of the commit after this one. They begin again after 2^40, a day of nothing else.
pub fn following(number: u64) -> u64 {
    (number + 1) & (u64::MAX >> CHECK_BITS)
}

pub fn descriptor_check(words: &[u64]) -> u64 {
    words.iter().fold(0, |check, word| mix(*word, check))
}

fn log_half(region: usize) -> usize {
    LOG_HALF_MAX.min(region / 16 / LINE * LINE)
}

/// The part of a copy's sum that one word at one position has. Sums are differences of these: a changed word changes
/// the sum, two exchanged ones do, too.
#[inline(always)]
pub fn mix(word: u64, salt: u64) -> u64 {
    let product = u128::from(word ^ salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        * u128::from(0xd6e8_feb8_6659_fd93_u64);
    product as u64 ^ (product >> 64) as u64
}
