//! Calls itself for ever.

#![no_std]
#![no_main]

rt::program!(main);

/// Every level keeps something on the stack that is needed after the call.
#[inline(never)]
fn descend(level: u64) -> u64 {
    let kept = [level; 64];
    // SAFETY: a local variable; the compiler cannot know what is in it.
    let next = unsafe { core::ptr::read_volatile(&kept[level as usize % 64]) } + 1;
    if next == 0 {
        return 0;
    }
    // SAFETY: as above.
    descend(next).wrapping_add(unsafe { core::ptr::read_volatile(&kept[7]) })
}

fn main(_: rt::Args) -> i32 {
    descend(0) as i32
}
