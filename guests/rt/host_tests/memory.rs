//! The memory functions against plain loops, at every small length and alignment and at some large ones.

use crate::world::Random;
use rt::mem;

fn lengths() -> impl Iterator<Item = usize> {
    (0..100).chain([127, 128, 255, 256, 511, 512, 513, 1000, 4096, 5000])
}

fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}

#[test]
fn memcpy_and_memset_touch_exactly_their_bytes() {
    let mut random = Random(1);
    for length in lengths() {
        for shift in [0, 1, 7, 8, 15] {
            let from = noise(&mut random, length + 64);
            let before = noise(&mut random, length + 64);
            let mut into = before.clone();
            // SAFETY: both vectors have room for `shift + length` bytes.
            unsafe { mem::memcpy(into.as_mut_ptr().add(shift), from.as_ptr().add(3), length) };
            assert_eq!(into[..shift], before[..shift]);
            assert_eq!(into[shift..shift + length], from[3..3 + length]);
            assert_eq!(into[shift + length..], before[shift + length..]);
            // SAFETY: as above.
            unsafe { mem::memset(into.as_mut_ptr().add(shift), 0x15a, length) };
            assert!(into[shift..shift + length].iter().all(|byte| *byte == 0x5a));
            assert_eq!(into[..shift], before[..shift]);
            assert_eq!(into[shift + length..], before[shift + length..]);
        }
    }
}

#[test]
fn memmove_copes_with_any_overlap() {
    let mut random = Random(2);
    for length in lengths() {
        for (from, into) in [(0, 0), (0, 1), (1, 0), (0, 8), (8, 0), (0, 17), (17, 0), (3, 40), (40, 3)] {
            let mut bytes = noise(&mut random, length + 64);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + length, into);
            // SAFETY: the vector has room for both ranges.
            unsafe { mem::memmove(bytes.as_mut_ptr().add(into), bytes.as_ptr().add(from), length) };
            assert_eq!(bytes, expected, "{length} bytes from {from} to {into}");
        }
    }
}

#[test]
fn memcmp_orders_like_slices() {
    let mut random = Random(3);
    for length in lengths() {
        let left = noise(&mut random, length);
        for place in (0..length).chain([length]) {
            let mut right = left.clone();
            if place < length {
                right[place] ^= 1 << random.below(8);
            }
            // SAFETY: both have `length` bytes.
            let order = unsafe { mem::memcmp(left.as_ptr(), right.as_ptr(), length) };
            assert_eq!(order.cmp(&0), left.cmp(&right));
            // SAFETY: as above.
            assert_eq!(unsafe { mem::bcmp(left.as_ptr(), right.as_ptr(), length) } == 0, left == right);
        }
    }
    // SAFETY: ends with a NUL.
    assert_eq!(unsafe { mem::strlen(b"four\0more\0".as_ptr()) }, 4);
}
