//! The world of a VM on the development host: info and status pages in the heap, a clock that tests move, and
//! hypercalls and doorbells that are written down. One per thread.

extern crate std;

use crate::abi::{self, ChannelEntry, Info, RegionEntry};
use std::boxed::Box;
use std::cell::RefCell;
use std::vec::Vec;

/// What serves hypercalls: (number, arguments) -> (RAX, RDX).
pub type Handler = Box<dyn FnMut(u64, [u64; 6]) -> (i64, u64)>;

struct World {
    info: Vec<u64>,
    status: Vec<u64>,
    telemetry: Vec<u64>,
    ticks: u64,
    /// Ticks the clock advances each time it is read.
    step: u64,
    doorbells: Vec<u32>,
    handler: Option<Handler>,
}

std::thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World {
        info: std::vec![0; abi::INFO_PAGES * abi::PAGE_SIZE / 8],
        status: std::vec![0; abi::PAGE_SIZE / 8],
        telemetry: std::vec![0; abi::PAGE_SIZE / 8],
        ticks: 1,
        step: 1,
        doorbells: Vec::new(),
        handler: None,
    });
}

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| f(&mut world.borrow_mut()))
}

/// Begins a new world: one tick is one nanosecond.
pub fn reset() {
    with(|world| {
        world.info.iter_mut().for_each(|word| *word = 0);
        world.status.iter_mut().for_each(|word| *word = 0);
        world.telemetry.iter_mut().for_each(|word| *word = 0);
        world.doorbells.clear();
        world.handler = None;
        world.ticks = 1;
    });
    write(
        0,
        Info { magic: abi::INFO_MAGIC, abi_version: abi::ABI_VERSION, cpus: 1, tsc_khz: 1_000_000, ..Info::default() },
    );
}

std::thread_local! {
    static STORED: RefCell<Option<Box<dyn FnMut()>>> = RefCell::new(None);
}

/// Calls `hook` after every store to a state region, in place of the one before.
pub fn after_stores(hook: Option<Box<dyn FnMut()>>) {
    STORED.with(|stored| *stored.borrow_mut() = hook);
}

/// There was a store to a state region.
pub fn stored() {
    STORED.with(|stored| {
        if let Some(hook) = stored.borrow_mut().as_mut() {
            hook();
        }
    });
}

/// Writes to the info pages.
pub fn write<T: Copy>(offset: usize, value: T) {
    assert!(offset + core::mem::size_of::<T>() <= abi::INFO_PAGES * abi::PAGE_SIZE);
    // SAFETY: within the fake info pages of this thread.
    unsafe { ((info_page() + offset) as *mut T).write_unaligned(value) }
}

/// Sets a channel entry and counts it.
pub fn set_channel(index: u32, entry: ChannelEntry) {
    write(abi::INFO_CHANNELS + index as usize * ChannelEntry::SIZE, entry);
    write(Info::OFFSET_CHANNELS, crate::info::channels().count().max(index as usize + 1) as u32);
}

/// Sets a region entry and counts it.
pub fn set_region(index: u32, entry: RegionEntry) {
    write(abi::INFO_REGIONS + index as usize * RegionEntry::SIZE, entry);
    write(Info::OFFSET_REGIONS, crate::info::regions().count().max(index as usize + 1) as u32);
}

/// Writes an entry of the status page.
pub fn set_status(channel: u32, state: u32, epoch: u32) {
    with(|world| world.status[channel as usize * 2] = u64::from(epoch) << 32 | u64::from(state));
}

/// Writes the time of the start into the status page.
pub fn set_wall_clock(ns: u64) {
    with(|world| world.status[abi::STATUS_WALL_CLOCK / 8] = ns);
}

/// Moves the clock.
pub fn advance(ticks: u64) {
    with(|world| world.ticks += ticks);
}

/// The doorbells rung since the last call.
pub fn take_doorbells() -> Vec<u32> {
    with(|world| core::mem::take(&mut world.doorbells))
}

/// Serves hypercalls from now on.
pub fn set_handler(handler: Handler) {
    with(|world| world.handler = Some(handler));
}

/// # Safety
/// As safe as the handler.
pub unsafe fn hypercall(number: u64, arguments: [u64; 6]) -> (i64, u64) {
    // The handler may use the world itself: it is not borrowed meanwhile.
    let mut handler = match with(|world| world.handler.take()) {
        Some(handler) => handler,
        None => return (0, 0),
    };
    let result = handler(number, arguments);
    with(|world| {
        if world.handler.is_none() {
            world.handler = Some(handler);
        }
    });
    result
}

pub fn doorbell(index: u32) {
    with(|world| world.doorbells.push(index));
}

pub fn info_page() -> usize {
    with(|world| world.info.as_ptr() as usize)
}

pub fn status_page() -> usize {
    with(|world| world.status.as_ptr() as usize)
}

pub fn telemetry_page() -> *mut u8 {
    with(|world| world.telemetry.as_mut_ptr().cast())
}

pub fn ticks() -> u64 {
    with(|world| {
        world.ticks += world.step;
        world.ticks
    })
}
