//! One split virtqueue (virtio 1.2, 2.7) as its driver sees it: pure logic over a piece of shared memory.
//!
//! The device can write all of that memory at any time and is not trusted. So nothing it could have changed is
//! ever read back except the used ring and the status bytes; what is read there is read once, compared with the
//! private record of what is outstanding, and a value that no honest device writes is a `Violation`.
//!
//! Request `slot` always has descriptors 3 * slot (header), 3 * slot + 1 (data) and 3 * slot + 2 (status), and
//! a place of `PLACE` bytes in the driver's private part of the vring object: the header at +0, the status
//! byte at +16, the range of a discard at +32.

pub use crate::work::{Completion, Data, Outcome, Work};
use core::sync::atomic::{fence, Ordering};
use rt::alloc::vec::Vec;
use rt::shared::{full_fence, Shared};
use rt::{abi, hypercall, telemetry};

const DESCRIPTORS_PER_REQUEST: u16 = 3;
pub const PLACE: usize = 64;
const STATUS: usize = 16;
const RANGE: usize = 32;
const RANGE_BYTES: u32 = 16;

pub const NEXT: u16 = 1;
pub const DEVICE_WRITES: u16 = 2;

pub const AVAILABLE_FLAGS: usize = abi::VRING_AVAILABLE;
pub const AVAILABLE_INDEX: usize = abi::VRING_AVAILABLE + 2;
pub const AVAILABLE_RING: usize = abi::VRING_AVAILABLE + 4;
pub const USED_FLAGS: usize = abi::VRING_USED;
pub const USED_INDEX: usize = abi::VRING_USED + 2;
pub const USED_RING: usize = abi::VRING_USED + 4;

pub const NO_INTERRUPT: u16 = 1;
pub const NO_NOTIFY: u16 = 1;

/// A status byte the device has not written yet: no status has this value.
const STATUS_UNSET: u8 = 0xff;
const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;

/// VIRTIO_BLK_T_*
fn code(work: Work) -> u32 {
    match work {
        Work::Read(_) => 0,
        Work::Write(_) => 1,
        Work::Flush => 4,
        Work::Discard { .. } => 11,
    }
}

/// Something the device did that no honest device does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The used index ran ahead of what was submitted.
    UsedIndex(u16),
    /// A used element names no request that is outstanding.
    UsedId(u32),
    /// A used element says that more was written than there was room for.
    UsedLength(u32),
    /// A completed request has no status the specification knows.
    Status(u8),
}

struct Outstanding<T> {
    token: T,
    /// The most the device can have written: data and status byte.
    room: u64,
}

/// The queue. `T` is what the service remembers of a request while the device has it.
pub struct Queue<T> {
    memory: Shared,
    bus_address: u64,
    size: u16,
    event_index: bool,
    slots: Vec<Option<Outstanding<T>>>,
    free: Vec<u16>,
    /// Free-running: requests submitted, requests the device has been told of, completions taken.
    submitted: u16,
    announced: u16,
    taken: u16,
    /// Most completions to sleep for: doubles with every sleep, so that a fresh driver answers at once.
    patience: u16,
}

impl<T> Queue<T> {
    /// A queue of `size` descriptors (a power of two, 4 to VRING_SIZE_MAX) over zeroed `memory` (VRING_STRIDE
    /// bytes), which the device sees at `bus_address`. None if the numbers do not fit.
    pub fn new(memory: Shared, bus_address: u64, size: u16, event_index: bool) -> Option<Queue<T>> {
        let fits = size.is_power_of_two() && (4..=abi::VRING_SIZE_MAX as u16).contains(&size);
        if !fits || memory.len() < abi::VRING_STRIDE {
            return None;
        }
        let slots = size / DESCRIPTORS_PER_REQUEST;
        let mut queue = Queue {
            memory,
            bus_address,
            size,
            event_index,
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            patience: 1,
            submitted: 0,
            announced: 0,
            taken: 0,
        };
        queue.announce_awake();
        Some(queue)
    }

    /// Requests that the device has.
    pub fn outstanding(&self) -> u16 {
        self.submitted.wrapping_sub(self.taken)
    }

    /// Requests that can still be submitted.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Puts a request into the queue; `Err` gives the token back if the queue is full. The device may see the
    /// request at once, but is told of it only by `must_kick`. `sector`: where on the disk (not for a flush).
    pub fn submit(&mut self, work: Work, sector: u64, token: T) -> Result<(), T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => return Err(token),
        };
        let place = abi::VRING_PRIVATE + slot as usize * PLACE;
        let bus_place = self.bus_address + place as u64;
        // A discard says where in its range, which is its data.
        let (header_sector, data, device_writes) = match work {
            Work::Read(data) => (sector, Some(data), true),
            Work::Write(data) => (sector, Some(data), false),
            Work::Flush => (0, None, false),
            Work::Discard { sectors } => {
                self.memory.store_u64(place + RANGE, sector);
                self.memory.store_u64(place + RANGE + 8, u64::from(sectors));
                (0, Some(Data { address: bus_place + RANGE as u64, bytes: RANGE_BYTES }), false)
            }
        };
        self.memory.store_u64(place, u64::from(code(work)));
        self.memory.store_u64(place + 8, header_sector);
        self.memory.store_u64(place + STATUS, u64::from(STATUS_UNSET));

        let header = slot * DESCRIPTORS_PER_REQUEST;
        let status = header + 2;
        self.describe(header, bus_place, 16, NEXT, if data.is_some() { header + 1 } else { status });
        let mut room = 1;
        if let Some(data) = data {
            let flags = NEXT | if device_writes { DEVICE_WRITES } else { 0 };
            self.describe(header + 1, data.address, data.bytes, flags, status);
            room += if device_writes { u64::from(data.bytes) } else { 0 };
        }
        self.describe(status, bus_place + STATUS as u64, 1, DEVICE_WRITES, 0);
        self.slots[slot as usize] = Some(Outstanding { token, room });

        self.memory.store_u16(AVAILABLE_RING + usize::from(self.submitted % self.size) * 2, header);
        self.submitted = self.submitted.wrapping_add(1);
        fence(Ordering::Release); // the request before the index that covers it
        self.memory.store_u16(AVAILABLE_INDEX, self.submitted);
        rt::kill_point!("driver.before_kick");
        Ok(())
    }

    /// Tells the device of what was submitted since the last call, where it wants to be told; it is queue `index`.
    pub fn kick(&mut self, index: usize) {
        if self.must_kick() {
            telemetry::add(telemetry::DOORBELLS, 1);
            hypercall::doorbell((abi::DOORBELL_QUEUE + index) as u32);
        }
    }

    /// Whether the device wants to be told of what was submitted since the last call; if so, ring its doorbell.
    pub fn must_kick(&mut self) -> bool {
        let (before, now) = (self.announced, self.submitted);
        if before == now {
            return false;
        }
        self.announced = now;
        full_fence(); // the available index before the device's wish
        if !self.event_index {
            return self.memory.load_u16(USED_FLAGS) & NO_NOTIFY == 0;
        }
        let event = self.memory.load_u16(USED_RING + usize::from(self.size) * 8);
        crossed(event, before, now)
    }

    /// The next request that has ended, if there is one.
    pub fn take(&mut self) -> Result<Option<Completion<T>>, Violation> {
        let used = self.used_index()?;
        if used == self.taken {
            return Ok(None);
        }
        let element = USED_RING + usize::from(self.taken % self.size) * 8;
        let id = self.memory.load_u32(element);
        let length = self.memory.load_u32(element + 4);
        let slot = id / u32::from(DESCRIPTORS_PER_REQUEST);
        let known = id % u32::from(DESCRIPTORS_PER_REQUEST) == 0 && (slot as usize) < self.slots.len();
        let request = if known { self.slots[slot as usize].take() } else { None };
        let request = request.ok_or(Violation::UsedId(id))?;
        self.taken = self.taken.wrapping_add(1);
        self.free.push(slot as u16);
        if u64::from(length) > request.room {
            return Err(Violation::UsedLength(length));
        }
        // The device writes one byte; what it puts beside it is of no interest.
        let status = self.memory.load_u64(abi::VRING_PRIVATE + slot as usize * PLACE + STATUS) as u8;
        let outcome = match status {
            STATUS_OK => Outcome::Done,
            STATUS_UNSUPPORTED => Outcome::Unsupported,
            STATUS_UNSET => return Err(Violation::Status(status)),
            _ => Outcome::Failed,
        };
        Ok(Some(Completion { outcome, token: request.token }))
    }

    /// Whether a request has ended that `take` has not given out (or the device has broken the rules).
    pub fn has_ended(&self) -> bool {
        self.used_index() != Ok(self.taken)
    }

    /// Asks for an interrupt when all that is outstanding has ended (the first times earlier): few wake-ups, and a
    /// bounded wait. Then comes a fence, and `has_ended` says whether it is too late to sleep.
    pub fn announce_sleep(&mut self) {
        if !self.event_index {
            self.memory.store_u16(AVAILABLE_FLAGS, 0);
        } else if self.outstanding() > 0 {
            let event = self.taken.wrapping_add(self.wake_after() - 1);
            self.patience = self.patience.saturating_mul(2);
            self.memory.store_u16(AVAILABLE_RING + usize::from(self.size) * 2, event);
        }
    }

    /// Takes the wish for interrupts back while the driver is awake. With EVENT_IDX the wish is used up when
    /// it is fulfilled, so there is nothing to take back.
    pub fn announce_awake(&mut self) {
        if !self.event_index {
            self.memory.store_u16(AVAILABLE_FLAGS, NO_INTERRUPT);
        }
    }

    /// Completions after which a sleeping driver is woken.
    fn wake_after(&self) -> u16 {
        self.outstanding().clamp(1, self.patience)
    }

    fn used_index(&self) -> Result<u16, Violation> {
        let used = self.memory.load_u16(USED_INDEX);
        fence(Ordering::Acquire); // the index before the elements it covers; no instruction on x86-64
        if used.wrapping_sub(self.taken) > self.outstanding() {
            return Err(Violation::UsedIndex(used));
        }
        Ok(used)
    }

    fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = abi::VRING_DESCRIPTORS + usize::from(index) * 16;
        self.memory.store_u64(at, address);
        self.memory.store_u64(at + 8, u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48);
    }
}

/// Whether an index that went from `before` to `now` has passed the one after `event` (virtio 1.2, 2.7.10).
fn crossed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}
