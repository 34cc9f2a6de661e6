//! Counters this VM keeps in its telemetry region for whoever wants to look. Nobody trusts them.

use crate::abi::{self, ReplayEntry, Telemetry};
#[cfg(not(host_test))]
use crate::info::{self, RegionKind};
use core::ptr;

/// A counter: its offset in the telemetry region.
#[derive(Clone, Copy)]
pub struct Counter(usize);

pub const CALLS: Counter = Counter(Telemetry::OFFSET_CALLS);
pub const REPLIES: Counter = Counter(Telemetry::OFFSET_REPLIES);
pub const FAILED: Counter = Counter(Telemetry::OFFSET_FAILED);
pub const REPLAYED: Counter = Counter(Telemetry::OFFSET_REPLAYED);
/// Payload read by a program's file calls: programs count it.
pub const BYTES: Counter = Counter(Telemetry::OFFSET_BYTES);
pub const DOORBELLS: Counter = Counter(Telemetry::OFFSET_DOORBELLS);
pub const WAITS: Counter = Counter(Telemetry::OFFSET_WAITS);
/// Ticks burnt spinning.
pub const SPINS: Counter = Counter(Telemetry::OFFSET_SPINS);
pub const RECONNECTS: Counter = Counter(Telemetry::OFFSET_RECONNECTS);
pub const SERVED: Counter = Counter(Telemetry::OFFSET_SERVED);
const REPLAY_COUNT: Counter = Counter(Telemetry::OFFSET_REPLAY_COUNT);
/// The request that a server is working on, as `RequestId::name` has it; 0: none.
const WORKING: Counter = Counter(Telemetry::OFFSET_WORKING);
const START_TSC: Counter = Counter(Telemetry::OFFSET_START_TSC);

#[cfg(host_test)]
pub(crate) use crate::fake::telemetry_page as page;

/// Where the counters are: the telemetry region, or a page of our own where there is none.
#[cfg(not(host_test))]
pub(crate) fn page() -> *mut u8 {
    static mut PAGE: *mut u8 = ptr::null_mut();
    static mut OWN: [u64; abi::PAGE_SIZE / 8] = [0; abi::PAGE_SIZE / 8];
    // SAFETY: one thread; PAGE only ever changes from null to its final value.
    unsafe {
        if PAGE.is_null() {
            let region = info::region(RegionKind::Telemetry, None).filter(|r| r.size() >= abi::PAGE_SIZE);
            PAGE = match region.and_then(|r| r.memory().ok()) {
                Some(memory) => memory.address(),
                None => ptr::addr_of_mut!(OWN).cast(),
            };
        }
        PAGE
    }
}

/// Adds to a counter.
#[inline]
pub fn add(counter: Counter, amount: u64) {
    // SAFETY: counters lie in the page; only this VM writes it.
    unsafe {
        let word = page().add(counter.0).cast::<u64>();
        ptr::write_volatile(word, ptr::read_volatile(word).wrapping_add(amount));
    }
}

/// Notes what a server is working on: should it die of that, its successor is told.
#[inline]
pub(crate) fn work_on(name: u64) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile(page().add(WORKING.0).cast(), name) }
}

/// The present value of a counter.
pub fn get(counter: Counter) -> u64 {
    // SAFETY: as above.
    unsafe { ptr::read_volatile(page().add(counter.0).cast()) }
}

/// Notes when the first instruction ran.
pub(crate) fn record_start(tsc: u64) {
    add(START_TSC, tsc);
}

/// The tick at which the first instruction ran.
pub(crate) fn start_tsc() -> u64 {
    get(START_TSC)
}

/// Notes in the replay ring that the first replayed request of `epoch` has been answered.
pub(crate) fn record_replay(channel: u32, epoch: u32, tsc: u64) {
    let entry = get(REPLAY_COUNT) as usize % abi::TELEMETRY_REPLAY_SLOTS;
    // SAFETY: the ring lies in the page: 0x400 + 128 * 16 bytes.
    unsafe {
        let at = page().add(abi::TELEMETRY_REPLAYS + entry * ReplayEntry::SIZE).cast::<ReplayEntry>();
        ptr::write_volatile(at, ReplayEntry { channel, epoch, tsc });
    }
    add(REPLAY_COUNT, 1);
}
