//! Named points in the life of a request at which a test can make this VM die: `kill_point!("client.before_submit")`.
//!
//! They exist in builds with `--cfg kill_points` only; in every other build the macro is nothing. What a test
//! wants stands in the last part of the telemetry page before the instance starts: the number of a point, and
//! at which passage of it to die, or to hang in an endless loop. Death is a store to the address that is the point's number (all lie below
//! NULL_GUARD_END), so that the fault record says where it was. Passages are noted, too (of many in a row at one
//! point the first): the last ones as a trail, and which points were passed at all, by
//! which a test can tell what way a request has gone.

/// Passes a point. Allowed wherever a statement is.
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        #[cfg(kill_points)]
        {
            const NUMBER: u16 = $crate::kill_point::number($name);
            $crate::kill_point::pass(NUMBER);
        }
    };
}

#[cfg(kill_points)]
pub use planted::{number, pass};

#[cfg(kill_points)]
mod planted {
    use crate::telemetry::page;
    use core::ptr;

    // Offsets in the telemetry page, behind the replay ring. Only tests know them.
    const TRAIL_COUNT: usize = 0xc00;
    const TRAIL: usize = 0xc10;
    const TRAIL_SLOTS: u32 = 256;
    const SEEN: usize = 0xe10;
    const SEEN_SLOTS: usize = 64;
    const PLANTED: usize = 0xf00;
    const PASSAGES: usize = 0xf04;
    /// Beside the number of passages: do not die, but never go on.
    const HANG: u32 = 1 << 31;

    /// The number of a point: FNV-1a of its name, folded to 16 bits. 0 is no point.
    pub const fn number(name: &str) -> u16 {
        let bytes = name.as_bytes();
        let mut hash = 0x811c_9dc5_u32;
        let mut index = 0;
        while index < bytes.len() {
            hash = (hash ^ bytes[index] as u32).wrapping_mul(0x0100_0193);
            index += 1;
        }
        (hash ^ hash >> 16) as u16
    }

    /// Notes the passage, and dies if it is the one.
    pub fn pass(number: u16) {
        // SAFETY: all offsets lie in the page, aligned; this VM is its only writer once it runs.
        unsafe {
            let word = |offset: usize| page().add(offset).cast::<u32>();
            let count = ptr::read_volatile(word(TRAIL_COUNT));
            let slot = |count: u32| page().add(TRAIL + 2 * (count % TRAIL_SLOTS) as usize).cast::<u16>();
            if count == 0 || ptr::read_volatile(slot(count - 1)) != number {
                ptr::write_volatile(slot(count), number);
                ptr::write_volatile(word(TRAIL_COUNT), count.wrapping_add(1));
                let seen = |at: usize| page().add(SEEN + 2 * at).cast::<u16>();
                let place = |at: &usize| matches!(ptr::read_volatile(seen(*at)), old if old == 0 || old == number);
                if let Some(at) = (0..SEEN_SLOTS).find(place) {
                    ptr::write_volatile(seen(at), number);
                }
            }
            if ptr::read_volatile(word(PLANTED)) != u32::from(number) {
                return;
            }
            let left = ptr::read_volatile(word(PASSAGES));
            if left & !HANG > 1 {
                ptr::write_volatile(word(PASSAGES), left - 1);
                return;
            }
            while left & HANG != 0 {
                core::hint::spin_loop();
            }
            // There is nothing at this address, on purpose.
            core::arch::asm!("mov byte ptr [{}], 0", in(reg) u64::from(number), options(noreturn));
        }
    }
}
