//! The controller: switched on, asked what it is, and given one I/O queue (NVM Express 1.4, chapters 3, 5 and 7.6.1).
//!
//! Whatever goes wrong here is a panic: a restart resets the device, and nothing else could help it. The admin queue
//! lies in the first stride of the ring object, which is the first interrupt's, the I/O queue in the second.

use crate::geometry::Geometry;
use crate::pair::{Command, Pair};
use crate::queue::{self, put, Namespace, Queue};
use rt::{abi, hypercall, time, wait, Device, Shared, Woken};

const CAPABILITIES: usize = 0x00;
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const ADMIN_SIZES: usize = 0x24;
const ADMIN_SUBMISSIONS: usize = 0x28;
const ADMIN_COMPLETIONS: usize = 0x30;

const ENABLE: u32 = 1;
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20; // powers of two
const READY: u32 = 1;
const FATAL: u32 = 2;

const CREATE_SUBMISSIONS: u32 = 1;
const CREATE_COMPLETIONS: u32 = 5;
const IDENTIFY: u32 = 6;
const SET_FEATURES: u32 = 9;
const IDENTIFY_NAMESPACE: u32 = 0;
const IDENTIFY_CONTROLLER: u32 = 1;
const NUMBER_OF_QUEUES: u32 = 7;
const CONTIGUOUS: u32 = 1;
const INTERRUPTS: u32 = 2;

const ADMIN_ENTRIES: u16 = 16;
/// In the first stride.
const COMPLETIONS: usize = 0x1000;
const ANSWER: usize = 0x2000;
const IO_QUEUE: u32 = 1;
const NAMESPACE: u32 = 1;
const COMMAND_MS: u64 = 5000;
const DISCARD_BLOCKS: u32 = 1 << 16;

/// Makes the disk usable. Panics if it cannot be.
pub fn start<T>(device: &Device, read_only: bool) -> (Geometry, Queue<T>) {
    let capabilities = device.registers.load_u64(CAPABILITIES);
    assert!(capabilities >> 48 & 0xf == 0, "the controller has no pages of 4 KiB");
    let stride = 4 << (capabilities >> 32 & 0xf);
    let patience_ms = (capabilities >> 24 & 0xff).max(1) * 500;
    let most = (capabilities & 0xffff) as usize + 1;
    let entries = device.size.min(most).min(usize::from(queue::SIZE_MAX)) as u16;
    assert!(entries >= 2, "a queue of {}", entries);

    let registers = device.registers;
    registers.store_u32(CONFIGURATION, 0);
    until(registers, 0, patience_ms);
    registers.store_u32(ADMIN_SIZES, u32::from(ADMIN_ENTRIES - 1) << 16 | u32::from(ADMIN_ENTRIES - 1));
    registers.store_u64(ADMIN_SUBMISSIONS, device.bus_address);
    registers.store_u64(ADMIN_COMPLETIONS, device.bus_address + COMPLETIONS as u64);
    registers.store_u32(CONFIGURATION, ENABLE | ENTRY_SIZES);
    until(registers, READY, patience_ms);

    let pair = Pair::new(device.rings, registers, (0, COMPLETIONS), 0, stride, ADMIN_ENTRIES);
    let mut admin = Admin { pair, answer: device.bus_address + ANSWER as u64 };
    let answer = device.rings.part(ANSWER, abi::PAGE_SIZE).expect("within the ring object");
    admin.ask(IDENTIFY, 0, IDENTIFY_CONTROLLER, 0);
    let controller = Identity::of_controller(answer);
    admin.ask(IDENTIFY, NAMESPACE, IDENTIFY_NAMESPACE, 0);
    let (geometry, namespace) = controller.disk(answer, read_only).expect("namespace 1 has blocks of 512 bytes to 4 KiB");

    admin.ask(SET_FEATURES, 0, NUMBER_OF_QUEUES, 0); // one of each
    let address = device.bus_address + abi::VRING_STRIDE as u64;
    let size_and_number = u32::from(entries - 1) << 16 | IO_QUEUE;
    admin.answer = address + queue::COMPLETIONS as u64;
    admin.ask(CREATE_COMPLETIONS, 0, size_and_number, IO_QUEUE << 16 | INTERRUPTS | CONTIGUOUS);
    admin.answer = address + queue::SUBMISSIONS as u64;
    admin.ask(CREATE_SUBMISSIONS, 0, size_and_number, IO_QUEUE << 16 | CONTIGUOUS);

    let memory = device.rings.part(abi::VRING_STRIDE, abi::VRING_STRIDE).expect("two strides: queues = 2");
    let offsets = (queue::SUBMISSIONS, queue::COMPLETIONS);
    let pair = Pair::new(memory, registers, offsets, IO_QUEUE as usize, stride, entries);
    (geometry, Queue::new(pair, memory, address, namespace, entries))
}

/// Waits until the ready bit is `wanted`.
fn until(registers: Shared, wanted: u32, patience_ms: u64) {
    let end = time::ticks().saturating_add(time::ms_to_ticks(patience_ms));
    loop {
        let status = registers.load_u32(STATUS);
        assert!(status != u32::MAX && status & FATAL == 0, "the controller has failed: status {:#x}", status);
        if status & READY == wanted {
            return;
        }
        assert!(time::ticks() < end, "the controller did not become ready={} in {} ms", wanted, patience_ms);
        hypercall::wait(Some(1_000_000));
    }
}

/// The admin queue, one command at a time.
struct Admin {
    pair: Pair,
    /// Bus address of the memory that the next command is about.
    answer: u64,
}

impl Admin {
    fn ask(&mut self, opcode: u32, namespace: u32, word_10: u32, word_11: u32) {
        let mut command: Command = [0; 16];
        command[0] = opcode;
        command[1] = namespace;
        put(&mut command, 6, self.answer);
        command[10] = word_10;
        command[11] = word_11;
        self.pair.push(&command);
        self.pair.ring();
        let end = time::ticks().saturating_add(time::ms_to_ticks(COMMAND_MS));
        assert!(wait(&mut [&mut self.pair], Some(end)) == Woken::Ready, "no answer to admin command {}", opcode);
        let ended = self.pair.pop().expect("it is ready");
        self.pair.release();
        assert!(ended.id == 0 && ended.status == 0, "admin command {}: {:?}", opcode, ended);
    }
}

/// What counts of the controller's identification.
pub struct Identity {
    max_bytes: u32,
    volatile_cache: bool,
    discard: bool,
}

impl Identity {
    /// From the answer to IDENTIFY.
    pub fn of_controller(answer: Shared) -> Identity {
        let byte = |at: usize| answer.load_u32(at & !3) >> (at % 4 * 8) & 0xff;
        let max_bytes = match byte(77) {
            0 => queue::BYTES_MAX, // it has no limit
            power => (abi::PAGE_SIZE as u64).checked_shl(power).map_or(queue::BYTES_MAX, |limit| {
                limit.min(u64::from(queue::BYTES_MAX)) as u32
            }),
        };
        Identity { max_bytes, volatile_cache: byte(525) & 1 != 0, discard: byte(520) & 4 != 0 }
    }

    /// The disk that a namespace is, from the answer to its IDENTIFY. None if it is not there, or has blocks that are
    /// of no use here.
    pub fn disk(&self, answer: Shared, read_only: bool) -> Option<(Geometry, Namespace)> {
        let format = answer.load_u32(24) >> 16 & 0xf;
        let power = answer.load_u32(128 + 4 * format as usize) >> 16 & 0xff;
        let blocks = answer.load_u64(0);
        let metadata = answer.load_u32(128 + 4 * format as usize) & 0xffff;
        if blocks == 0 || metadata != 0 || !(9..=12).contains(&power) {
            return None;
        }
        let shift = power - 9;
        let geometry = Geometry {
            sectors: blocks.checked_mul(1 << shift)?,
            group: 1 << shift,
            block_bytes: 1 << power,
            max_bytes: self.max_bytes,
            read_only,
            flush: self.volatile_cache,
            discard_sectors: if self.discard && !read_only { DISCARD_BLOCKS << shift } else { 0 },
        };
        Some((geometry, Namespace { number: NAMESPACE, shift }))
    }
}
