//! SHA-256 with the SHA extensions of x86-64.
//!
//! They work on XMM registers alone, whose state every VM has switched on, so the CPU's own feature bits decide
//! (no look at XCR0 is needed).

use super::sha256::{BLOCK_BYTES, ROUND_CONSTANTS};
use core::arch::x86_64::*;

/// The compression function, if this CPU can execute it.
pub fn compress_if_available() -> Option<fn(&mut [u32; 8], &[u8])> {
    if available() {
        Some(compress)
    } else {
        None
    }
}

fn available() -> bool {
    const SSSE3: u32 = 1 << 9; // leaf 1, ECX
    const SSE4_1: u32 = 1 << 19; // leaf 1, ECX
    const SHA: u32 = 1 << 29; // leaf 7, EBX
                              // SAFETY: every x86-64 CPU has CPUID; leaf 7 is asked for only where it exists.
    #[allow(unused_unsafe)] // newer compilers know it to be safe
    unsafe {
        __cpuid(0).eax >= 7 && __cpuid(1).ecx & (SSSE3 | SSE4_1) == SSSE3 | SSE4_1 && __cpuid_count(7, 0).ebx & SHA != 0
    }
}

fn compress(state: &mut [u32; 8], blocks: &[u8]) {
    // SAFETY: only `compress_if_available` hands this function out, after looking at the CPU's feature bits.
    unsafe { compress_blocks(state, blocks) }
}

/// Four rounds: adds the round constants from `round` to four schedule words and mixes them into the state.
///
/// The state's halves are (c, d, g, h) and (a, b, e, f), as `sha256rnds2` wants them.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
unsafe fn four_rounds(cdgh: &mut __m128i, abef: &mut __m128i, words: __m128i, round: usize) {
    // SAFETY: `round` is at most 60, so 16 bytes of the 64 constants can be read; the load needs no alignment.
    let constants = _mm_loadu_si128(ROUND_CONSTANTS.as_ptr().add(round) as *const __m128i);
    let sum = _mm_add_epi32(words, constants);
    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

/// The next four schedule words from the last sixteen, oldest first.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
unsafe fn next_words(w0: __m128i, w1: __m128i, w2: __m128i, w3: __m128i) -> __m128i {
    let partial = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4));
    _mm_sha256msg2_epu32(partial, w3)
}

/// # Safety
/// The CPU must have SHA, SSSE3 and SSE4.1. `blocks` is a multiple of 64 bytes; a rest is ignored.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
unsafe fn compress_blocks(state: &mut [u32; 8], blocks: &[u8]) {
    let byte_order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    // SAFETY (all loads and stores): two halves of eight words; four quarters of a 64-byte block; unaligned forms.
    let halves = state.as_mut_ptr() as *mut __m128i;
    let abcd = _mm_shuffle_epi32(_mm_loadu_si128(halves), 0xb1);
    let efgh = _mm_shuffle_epi32(_mm_loadu_si128(halves.add(1)), 0x1b);
    let mut abef = _mm_alignr_epi8(abcd, efgh, 8);
    let mut cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
    for block in blocks.chunks_exact(BLOCK_BYTES) {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let quarters = block.as_ptr() as *const __m128i;
        let mut w0 = _mm_shuffle_epi8(_mm_loadu_si128(quarters), byte_order);
        let mut w1 = _mm_shuffle_epi8(_mm_loadu_si128(quarters.add(1)), byte_order);
        let mut w2 = _mm_shuffle_epi8(_mm_loadu_si128(quarters.add(2)), byte_order);
        let mut w3 = _mm_shuffle_epi8(_mm_loadu_si128(quarters.add(3)), byte_order);
        for sixteen in 0..4 {
            let round = 16 * sixteen;
            four_rounds(&mut cdgh, &mut abef, w0, round);
            four_rounds(&mut cdgh, &mut abef, w1, round + 4);
            four_rounds(&mut cdgh, &mut abef, w2, round + 8);
            four_rounds(&mut cdgh, &mut abef, w3, round + 12);
            if sixteen < 3 {
                w0 = next_words(w0, w1, w2, w3);
                w1 = next_words(w1, w2, w3, w0);
                w2 = next_words(w2, w3, w0, w1);
                w3 = next_words(w3, w0, w1, w2);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    let feba = _mm_shuffle_epi32(abef, 0x1b);
    let dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128(halves, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(halves.add(1), _mm_alignr_epi8(dchg, feba, 8));
}
