//! The I/O queue: requests become commands with lists of pages (PRPs), ends become completions. Pure logic.
//!
//! It lies in its stride of the ring object: submission ring, completion ring, then for each request that can be with
//! the device 256 bytes for a list of pages, or for the range of a discard.

use crate::pair::{Command, Pair, COMMAND_BYTES};
pub use crate::work::{Completion, Data, Outcome, Work};
use rt::alloc::vec::Vec;
use rt::{abi, Shared};

pub const SUBMISSIONS: usize = 0;
pub const COMPLETIONS: usize = SIZE_MAX as usize * COMMAND_BYTES;
pub const LISTS: usize = 0x5000;
pub const LIST_BYTES: usize = 256;
/// Commands that can be with the device: as many as there is room for lists.
pub const SLOTS_MAX: u16 = ((abi::VRING_STARTED - LISTS) / LIST_BYTES) as u16;
pub const SIZE_MAX: u16 = 256;
/// Wherever it begins, a transfer of so many bytes has no more pages than the first and those of a list.
pub const BYTES_MAX: u32 = (LIST_BYTES / 8 * PAGE as usize) as u32;

const PAGE: u64 = abi::PAGE_SIZE as u64;
const FLUSH: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;
const DATASET_MANAGEMENT: u32 = 9;
const DEALLOCATE: u32 = 4;
const INVALID_OPCODE: u16 = 1;

/// The namespace that is the disk.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    pub number: u32,
    /// Sectors of 512 bytes in a logical block, as a power of two.
    pub shift: u32,
}

/// Something the device did that no honest device does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A completion of no command that it has.
    Id(u16),
}

/// The queue. `T` is what the service remembers of a request while the device has it.
pub struct Queue<T> {
    pair: Pair,
    memory: Shared,
    bus_address: u64,
    namespace: Namespace,
    slots: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> Queue<T> {
    /// Over `memory` (a stride of the ring object, zeroed), which the device sees at `bus_address`; `pair` has `entries`.
    pub fn new(pair: Pair, memory: Shared, bus_address: u64, namespace: Namespace, entries: u16) -> Queue<T> {
        let slots = SLOTS_MAX.min(entries - 1); // a full ring would look like an empty one
        Queue {
            pair,
            memory,
            bus_address,
            namespace,
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
        }
    }

    /// Requests that can still be submitted.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Puts a request into the queue; `Err` gives the token back if the queue is full. `sector`: where on the disk.
    pub fn submit(&mut self, work: Work, sector: u64, token: T) -> Result<(), T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => return Err(token),
        };
        let block = sector >> self.namespace.shift;
        let mut command: Command = [0; 16];
        command[1] = self.namespace.number;
        let opcode = match work {
            Work::Read(data) => self.transfer(&mut command, slot, data, block, READ),
            Work::Write(data) => self.transfer(&mut command, slot, data, block, WRITE),
            Work::Flush => FLUSH,
            Work::Discard { sectors } => {
                let (at, address) = self.list(slot);
                self.memory.store_u64(at, u64::from(sectors >> self.namespace.shift) << 32);
                self.memory.store_u64(at + 8, block);
                put(&mut command, 6, address);
                command[11] = DEALLOCATE; // and in word 10: one range
                DATASET_MANAGEMENT
            }
        };
        command[0] = opcode | u32::from(slot) << 16;
        self.slots[usize::from(slot)] = Some(token);
        self.pair.push(&command);
        Ok(())
    }

    fn transfer(&self, command: &mut Command, slot: u16, data: Data, block: u64, opcode: u32) -> u32 {
        let (first, second) = self.describe(slot, data);
        put(command, 6, first);
        put(command, 8, second);
        put(command, 10, block);
        command[12] = (data.bytes >> (9 + self.namespace.shift)) - 1;
        opcode
    }

    /// The two pointers that say where the data is: the beginning, and the second page or the list of all others.
    fn describe(&self, slot: u16, data: Data) -> (u64, u64) {
        let second = (data.address | (PAGE - 1)) + 1;
        let end = data.address + u64::from(data.bytes);
        if end <= second {
            return (data.address, 0);
        }
        if end <= second + PAGE {
            return (data.address, second);
        }
        let (at, address) = self.list(slot);
        for (index, page) in (second..end).step_by(PAGE as usize).enumerate() {
            assert!(index < LIST_BYTES / 8, "a transfer of {} bytes", data.bytes);
            self.memory.store_u64(at + index * 8, page);
        }
        (data.address, address)
    }

    /// Offset and bus address of a slot's list.
    fn list(&self, slot: u16) -> (usize, u64) {
        let at = LISTS + usize::from(slot) * LIST_BYTES;
        (at, self.bus_address + at as u64)
    }

    /// Tells the device what was submitted. It is rung by its registers, whatever its number.
    pub fn kick(&mut self, _index: usize) {
        if self.pair.ring() {
            rt::telemetry::add(rt::telemetry::DOORBELLS, 1);
        }
    }

    /// The next request that has ended, if there is one.
    pub fn take(&mut self) -> Result<Option<Completion<T>>, Violation> {
        let ended = match self.pair.pop() {
            Some(ended) => ended,
            None => {
                self.pair.release();
                return Ok(None);
            }
        };
        let slot = self.slots.get_mut(usize::from(ended.id));
        let token = slot.and_then(Option::take).ok_or(Violation::Id(ended.id))?;
        self.free.push(ended.id);
        let outcome = match ended.status {
            0 => Outcome::Done,
            INVALID_OPCODE => Outcome::Unsupported,
            _ => Outcome::Failed,
        };
        Ok(Some(Completion { outcome, token }))
    }

    /// Whether a request has ended that `take` has not given out.
    pub fn has_ended(&self) -> bool {
        self.pair.has_ended()
    }

    /// It interrupts at every end, whoever sleeps.
    pub fn announce_sleep(&mut self) {}

    pub fn announce_awake(&mut self) {}
}

/// A 64-bit number in words `index` and `index + 1`.
pub fn put(command: &mut Command, index: usize, value: u64) {
    command[index] = value as u32;
    command[index + 1] = (value >> 32) as u32;
}
