//! Named points in the life of a request at which a test can make this VM die: `kill_point!("client.before_submit")`.
//!
//! They exist in builds with `--cfg kill_points` only; in every other build the macro is nothing. What a test
//! wants stands in the last part of the telemetry page before the instance starts: the number of a point, and
//! at which passage of it to die. Death is a store to the address that is the point's number (all lie below
//! NULL_GUARD_END), so that the fault record says where it was. Every passage is noted, too: a trail of the last
//! ones, by which a test can tell what a request has passed.

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
    const PLANTED: usize = 0xf00;
    const PASSAGES: usize = 0xf04;

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
            let slot = TRAIL + 2 * (count % TRAIL_SLOTS) as usize;
            ptr::write_volatile(page().add(slot).cast::<u16>(), number);
            ptr::write_volatile(word(TRAIL_COUNT), count.wrapping_add(1));
            if ptr::read_volatile(word(PLANTED)) != u32::from(number) {
                return;
            }
            let left = ptr::read_volatile(word(PASSAGES));
            if left > 1 {
                ptr::write_volatile(word(PASSAGES), left - 1);
                return;
            }
            // There is nothing at this address, on purpose.
            core::arch::asm!("mov byte ptr [{}], 0", in(reg) u64::from(number), options(noreturn));
        }
    }
}
