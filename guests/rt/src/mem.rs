//! The memory functions the compiler calls. Written in assembly where a loop would be turned back into a call
//! of the very function it is in. On the development host they are ordinary functions, for their tests.

use core::arch::asm;
use core::ptr;

/// From here on `rep movsb` is faster than a loop of 16-byte moves.
const REP_FROM: usize = 512;

/// # Safety
/// As C's memcpy.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn memcpy(into: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if length >= REP_FROM {
        asm!(
            "rep movsb",
            inout("rcx") length => _, inout("rdi") into => _, inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    } else if length >= 16 {
        // Whole blocks upwards, then the last 16 bytes once more from the end.
        let last = length - 16;
        asm!(
            "2:",
            "movups {block}, [{from} + {at}]",
            "movups [{into} + {at}], {block}",
            "add {at}, 16",
            "cmp {at}, {last}",
            "jb 2b",
            "movups {block}, [{from} + {last}]",
            "movups [{into} + {last}], {block}",
            block = out(xmm_reg) _, at = inout(reg) 0usize => _,
            from = in(reg) from, into = in(reg) into, last = in(reg) last,
            options(nostack),
        );
    } else {
        copy_small(into, from, length);
    }
    into
}

/// Fewer than 16 bytes; everything is loaded before anything is stored, so overlap does no harm.
#[inline(always)]
unsafe fn copy_small(into: *mut u8, from: *const u8, length: usize) {
    macro_rules! ends {
        ($t:ty, $n:expr) => {{
            let first = ptr::read_unaligned(from.cast::<$t>());
            let last = ptr::read_unaligned(from.add(length - $n).cast::<$t>());
            ptr::write_unaligned(into.cast(), first);
            ptr::write_unaligned(into.add(length - $n).cast(), last);
        }};
    }
    if length >= 8 {
        ends!(u64, 8)
    } else if length >= 4 {
        ends!(u32, 4)
    } else if length >= 2 {
        ends!(u16, 2)
    } else if length == 1 {
        *into = *from;
    }
}

/// # Safety
/// As C's memmove.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn memmove(into: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if length < 16 {
        copy_small(into, from, length);
    } else if (into as usize).wrapping_sub(from as usize) >= length {
        // The destination begins outside the source, or below it: upwards is right. In the second case
        // blocks may overlap, which `rep movsb` copes with and the last-16-bytes trick of memcpy does not.
        asm!(
            "rep movsb",
            inout("rcx") length => _, inout("rdi") into => _, inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    } else {
        // Whole blocks downwards; what a store destroys has been loaded. Then the first bytes.
        let mut rest = length;
        asm!(
            "2:",
            "sub {rest}, 16",
            "movups {block}, [{from} + {rest}]",
            "movups [{into} + {rest}], {block}",
            "cmp {rest}, 16",
            "jae 2b",
            block = out(xmm_reg) _, rest = inout(reg) rest, from = in(reg) from, into = in(reg) into,
            options(nostack),
        );
        copy_small(into, from, rest);
    }
    into
}

/// # Safety
/// As C's memset.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn memset(into: *mut u8, byte: i32, length: usize) -> *mut u8 {
    if length < 16 {
        let mut at = 0;
        while at < length {
            ptr::write_volatile(into.add(at), byte as u8);
            at += 1;
        }
    } else {
        asm!(
            "rep stosb",
            inout("rcx") length => _, inout("rdi") into => _, in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    into
}

/// # Safety
/// As C's memcmp.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= length {
        let a = ptr::read_unaligned(left.add(at).cast::<u64>());
        let b = ptr::read_unaligned(right.add(at).cast::<u64>());
        if a != b {
            // The first byte that differs decides: compare as big-endian numbers.
            return if a.swap_bytes() < b.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < length {
        let (a, b) = (*left.add(at), *right.add(at));
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// # Safety
/// As BSD's bcmp.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    memcmp(left, right, length)
}

/// # Safety
/// As C's strlen.
#[cfg_attr(not(host_test), no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    while ptr::read_volatile(text.add(length)) != 0 {
        length += 1;
    }
    length
}
