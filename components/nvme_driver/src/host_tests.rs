//! Host tests: the queue against a device made of plain stores, honest and not; identification.

#![allow(dead_code)]

mod controller;
#[path = "../../disk_driver/src/geometry.rs"]
mod geometry;
mod pair;
mod queue;
#[path = "../../disk_driver/src/work.rs"]
mod work;

use controller::Identity;
use pair::{Pair, COMMAND_BYTES, COMPLETION_BYTES, DOORBELLS};
use queue::*;
use rt::shared::Shared;
use rt::{abi, Error};

const BUS: u64 = abi::VRING_IOVA + abi::VRING_STRIDE as u64;
const POOL: u64 = abi::POOL_IOVA;
const ENTRIES: u16 = 16;
const PAGE: u64 = 4096;

fn memory(bytes: usize) -> Shared {
    let words: &'static mut [u64] = Box::leak(vec![0u64; bytes / 8].into_boxed_slice());
    // SAFETY: leaked, so it lives on; no Rust object uses it in any other way.
    unsafe { Shared::new(words.as_mut_ptr().cast(), bytes) }
}

/// The memory of one queue with the device's side of it.
struct Device {
    rings: Shared,
    registers: Shared,
    seen: u16,
    done: u16,
    phase: u32,
}

fn new(shift: u32) -> (Queue<u32>, Device) {
    let (rings, registers) = (memory(abi::VRING_STRIDE), memory(0x2000));
    let pair = Pair::new(rings, registers, (SUBMISSIONS, COMPLETIONS), 1, 4, ENTRIES);
    let queue = Queue::new(pair, rings, BUS, Namespace { number: 1, shift }, ENTRIES);
    (queue, Device { rings, registers, seen: 0, done: 0, phase: 1 })
}

impl Device {
    /// Words of the next command it has been told of.
    fn next(&mut self) -> Option<[u32; 16]> {
        if self.registers.load_u32(DOORBELLS + 8) == u32::from(self.seen) {
            return None;
        }
        let place = SUBMISSIONS + usize::from(self.seen) * COMMAND_BYTES;
        self.seen = (self.seen + 1) % ENTRIES;
        let mut words = [0; 16];
        words.iter_mut().enumerate().for_each(|(index, word)| *word = self.rings.load_u32(place + index * 4));
        Some(words)
    }

    fn complete(&mut self, id: u32, status: u32) {
        let place = COMPLETIONS + usize::from(self.done) * COMPLETION_BYTES;
        self.rings.store_u32(place + 12, id | self.phase << 16 | status << 17);
        self.done = (self.done + 1) % ENTRIES;
        if self.done == 0 {
            self.phase ^= 1;
        }
    }

    fn released(&self) -> u32 {
        self.registers.load_u32(DOORBELLS + 12)
    }

    fn list(&self, address: u64, entries: usize) -> Vec<u64> {
        (0..entries).map(|index| self.rings.load_u64((address - BUS) as usize + index * 8)).collect()
    }
}

fn wide(command: &[u32; 16], index: usize) -> u64 {
    u64::from(command[index]) | u64::from(command[index + 1]) << 32
}

fn read(address: u64, bytes: u32) -> Work {
    Work::Read(Data { address, bytes })
}

#[test]
fn a_read_is_described_as_the_specification_says() {
    let (mut queue, mut device) = new(0);
    queue.submit(read(POOL + 4096, 8192), 77, 5).expect("room");
    assert!(device.next().is_none(), "not rung yet");
    queue.kick(0);
    let command = device.next().expect("rung");
    assert_eq!((command[0] & 0xffff, command[1]), (2, 1));
    assert_eq!((wide(&command, 6), wide(&command, 8)), (POOL + 4096, POOL + 8192));
    assert_eq!((wide(&command, 10), command[12]), (77, 15));
    assert!(!queue.has_ended());
    device.complete(command[0] >> 16, 0);
    assert!(queue.has_ended());
    assert_eq!(queue.take(), Ok(Some(Completion { outcome: Outcome::Done, token: 5 })));
    assert_eq!(device.released(), 0);
    assert_eq!(queue.take(), Ok(None));
    assert_eq!(device.released(), 1);
}

#[test]
fn data_of_one_two_and_many_pages() {
    let (mut queue, mut device) = new(0);
    let cases: [(u64, u32, usize); 6] = [
        (0, 512, 1),
        (0, 4096, 1),
        (3584, 1024, 2),
        (0, 8192, 2),
        (512, 8192, 3),
        (512, BYTES_MAX, BYTES_MAX as usize / 4096 + 1),
    ];
    for (offset, bytes, pages) in cases {
        queue.submit(read(POOL + offset, bytes), 0, 0).expect("room");
        queue.kick(0);
        let command = device.next().expect("rung");
        let (first, second) = (wide(&command, 6), wide(&command, 8));
        assert_eq!(first, POOL + offset);
        match pages {
            1 => assert_eq!(second, 0),
            2 => assert_eq!(second, POOL + PAGE),
            _ => {
                assert_eq!(second / PAGE, (second + (pages as u64 - 1) * 8 - 1) / PAGE, "a list within a page");
                let wanted: Vec<u64> = (1..pages as u64).map(|page| POOL + page * PAGE).collect();
                assert_eq!(device.list(second, pages - 1), wanted);
            }
        }
    }
}

#[test]
fn write_flush_and_discard_in_blocks_of_4_kib() {
    let (mut queue, mut device) = new(3);
    queue.submit(Work::Write(Data { address: POOL, bytes: 8192 }), 80, 1).expect("room");
    queue.submit(Work::Flush, 0, 2).expect("room");
    queue.submit(Work::Discard { sectors: 16 }, 24, 3).expect("room");
    queue.kick(0);
    let write = device.next().expect("write");
    assert_eq!((write[0] & 0xff, wide(&write, 10), write[12]), (1, 10, 1));
    let flush = device.next().expect("flush");
    assert_eq!((flush[0] & 0xff, wide(&flush, 6)), (0, 0));
    let discard = device.next().expect("discard");
    assert_eq!((discard[0] & 0xff, discard[10], discard[11]), (9, 0, 4));
    assert_eq!(device.list(wide(&discard, 6), 2), [2 << 32, 3]);
    // Out of order, one failing, one not known.
    device.complete(discard[0] >> 16, 1);
    device.complete(write[0] >> 16, 0x280);
    device.complete(flush[0] >> 16, 0);
    let outcomes: Vec<_> = (0..3).map(|_| queue.take().expect("honest").expect("there")).collect();
    assert_eq!(outcomes[0], Completion { outcome: Outcome::Unsupported, token: 3 });
    assert_eq!(outcomes[1], Completion { outcome: Outcome::Failed, token: 1 });
    assert_eq!(outcomes[2], Completion { outcome: Outcome::Done, token: 2 });
}

#[test]
fn a_full_queue_gives_the_request_back_and_rings_wrap() {
    let (mut queue, mut device) = new(0);
    assert_eq!(queue.room(), usize::from(ENTRIES) - 1);
    for round in 0..100u32 {
        while queue.room() > 0 {
            queue.submit(read(POOL, 512), 0, round).expect("room");
        }
        assert_eq!(queue.submit(read(POOL, 512), 0, 99), Err(99));
        queue.kick(0);
        while let Some(command) = device.next() {
            device.complete(command[0] >> 16, 0);
        }
        let mut taken = 0;
        while let Some(completion) = queue.take().expect("honest") {
            assert_eq!(completion.token, round);
            taken += 1;
        }
        assert_eq!(taken, ENTRIES - 1);
    }
}

#[test]
fn a_device_that_breaks_the_rules_is_found_out() {
    let (mut queue, mut device) = new(0);
    queue.submit(read(POOL, 512), 0, 1).expect("room");
    queue.kick(0);
    let command = device.next().expect("rung");
    device.complete(7, 0);
    assert_eq!(queue.take(), Err(Violation::Id(7)));
    device.complete(0xffff, 0);
    assert_eq!(queue.take(), Err(Violation::Id(0xffff)));
    device.complete(command[0] >> 16, 0);
    device.complete(command[0] >> 16, 0);
    assert!(matches!(queue.take(), Ok(Some(_))));
    assert_eq!(queue.take(), Err(Violation::Id((command[0] >> 16) as u16)), "twice");
}

#[test]
fn lists_fit_the_ring_object_and_do_not_reach_the_last_word() {
    assert!(COMPLETIONS + usize::from(SIZE_MAX) * COMPLETION_BYTES <= LISTS);
    assert!(LISTS + usize::from(SLOTS_MAX) * LIST_BYTES <= abi::VRING_STARTED);
    assert!(SLOTS_MAX >= 127);
}

fn answer(fields: &[(usize, u32)]) -> Shared {
    let page = memory(4096);
    fields.iter().for_each(|(at, value)| page.store_u32(*at, *value));
    page
}

#[test]
fn identification() {
    // Transfers up to 2^4 pages; dataset management; a volatile cache.
    let controller = Identity::of_controller(answer(&[(76, 4 << 8), (520, 4), (524, 1 << 8)]));
    let blocks_of_512 = answer(&[(0, 1000), (128, 9 << 16)]);
    let (disk, namespace) = controller.disk(blocks_of_512, false).expect("usable");
    assert_eq!((disk.sectors, disk.group, disk.block_bytes, disk.max_bytes), (1000, 1, 512, 65536));
    assert!(disk.flush && !disk.read_only && disk.discard_sectors > 0);
    assert_eq!((namespace.number, namespace.shift), (1, 0));
    assert_eq!(controller.disk(blocks_of_512, true).expect("usable").0.check_transfer(0, 512, true), Err(Error::ROFS));

    // No limit and no features; the second format, of 4 KiB.
    let plain = Identity::of_controller(answer(&[]));
    let (disk, namespace) = plain.disk(answer(&[(0, 10), (24, 1 << 16), (132, 12 << 16)]), false).expect("usable");
    assert_eq!((disk.sectors, disk.group, disk.max_bytes, namespace.shift), (80, 8, BYTES_MAX, 3));
    assert!(!disk.flush && disk.discard_sectors == 0);
    assert_eq!(disk.check_transfer(8, 4096, true), Ok(()));
    assert_eq!(disk.check_transfer(4, 4096, true), Err(Error::INVAL));
    assert_eq!(disk.check_transfer(8, 512, true), Err(Error::INVAL));

    // No blocks, blocks of an odd size, metadata between them, more sectors than can be counted.
    for fields in [[(0, 0), (128, 9 << 16)], [(0, 1), (128, 13 << 16)], [(0, 1), (128, 9 << 16 | 8)]] {
        assert!(plain.disk(answer(&fields), false).is_none());
    }
    assert!(plain.disk(answer(&[(4, u32::MAX), (128, 12 << 16)]), false).is_none());
}
