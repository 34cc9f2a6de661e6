//! Host tests: the virtqueue against a device made of plain stores, honest and not; geometry and pool checks.

#![allow(dead_code)]

mod config;
mod geometry;
mod queue;
mod work;

use geometry::{Geometry, Pool};
use queue::*;
use rt::shared::Shared;
use rt::{abi, Error};

const BUS: u64 = abi::VRING_IOVA;
const SIZE: u16 = 128;
/// The ring memory with the device's side of it.
struct Device {
    memory: Shared,
    seen: u16,
    done: u16,
}

fn new(event_index: bool) -> (Queue<u32>, Device) {
    let bytes: &'static mut [u64] = Box::leak(vec![0u64; abi::VRING_STRIDE / 8].into_boxed_slice());
    // SAFETY: leaked, so it lives on; no Rust object uses it in any other way.
    let memory = unsafe { Shared::new(bytes.as_mut_ptr().cast(), abi::VRING_STRIDE) };
    let queue = Queue::new(memory, BUS, SIZE, event_index).expect("the size fits");
    (queue, Device { memory, seen: 0, done: 0 })
}

impl Device {
    /// Head of the next available chain.
    fn next(&mut self) -> Option<u16> {
        if self.memory.load_u16(AVAILABLE_INDEX) == self.seen {
            return None;
        }
        let head = self.memory.load_u16(AVAILABLE_RING + usize::from(self.seen % SIZE) * 2);
        self.seen = self.seen.wrapping_add(1);
        Some(head)
    }

    /// (address, length, flags, next) of a descriptor.
    fn descriptor(&self, index: u16) -> (u64, u32, u16, u16) {
        let at = abi::VRING_DESCRIPTORS + usize::from(index) * 16;
        (self.memory.load_u64(at), self.memory.load_u32(at + 8), self.memory.load_u16(at + 12), self.memory.load_u16(at + 14))
    }

    fn put_used(&mut self, id: u32, length: u32) {
        let element = USED_RING + usize::from(self.done % SIZE) * 8;
        self.memory.store_u32(element, id);
        self.memory.store_u32(element + 4, length);
        self.done = self.done.wrapping_add(1);
        self.memory.store_u16(USED_INDEX, self.done);
    }

    fn set_status(&self, head: u16, status: u8) {
        let (address, length, flags, _) = self.descriptor(head + 2);
        assert_eq!((length, flags), (1, DEVICE_WRITES));
        self.memory.copy_in((address - BUS) as usize, &[status]).expect("within the vring object");
    }

    fn complete(&mut self, head: u16, status: u8, length: u32) {
        self.set_status(head, status);
        self.put_used(u32::from(head), length);
    }

    fn interrupt_after(&self) -> u16 {
        self.memory.load_u16(AVAILABLE_RING + usize::from(SIZE) * 2).wrapping_add(1).wrapping_sub(self.done)
    }
}

fn read(bytes: u32) -> Work {
    Work::Read(Data { address: abi::POOL_IOVA + 4096, bytes })
}

#[test]
fn a_read_is_described_as_the_specification_says() {
    let (mut queue, mut device) = new(true);
    queue.submit(read(8192), 77, 5).expect("room");
    let head = device.next().expect("offered");
    let (address, length, flags, next) = device.descriptor(head);
    assert_eq!((length, flags, next), (16, NEXT, head + 1));
    let place = (address - BUS) as usize;
    assert_eq!((device.memory.load_u32(place), device.memory.load_u64(place + 8)), (0, 77));
    assert_eq!(device.descriptor(head + 1), (abi::POOL_IOVA + 4096, 8192, NEXT | DEVICE_WRITES, head + 2));
    device.complete(head, 0, 8193);
    assert_eq!(queue.take(), Ok(Some(Completion { outcome: Outcome::Done, token: 5 })));
    assert_eq!(queue.take(), Ok(None));
    assert_eq!(queue.outstanding(), 0);
}

#[test]
fn write_flush_and_discard() {
    let (mut queue, mut device) = new(true);
    queue.submit(Work::Write(Data { address: abi::POOL_IOVA, bytes: 512 }), 1, 1).expect("room");
    queue.submit(Work::Flush, 0, 2).expect("room");
    queue.submit(Work::Discard { sectors: 9 }, 3, 3).expect("room");
    let write = device.next().expect("write");
    assert_eq!(device.descriptor(write + 1).2, NEXT);
    let flush = device.next().expect("flush");
    assert_eq!(device.descriptor(flush).3, flush + 2);
    let discard = device.next().expect("discard");
    let (address, length, flags, _) = device.descriptor(discard + 1);
    let range = (address - BUS) as usize;
    assert_eq!((length, flags), (16, NEXT));
    assert_eq!((device.memory.load_u64(range), device.memory.load_u32(range + 8)), (3, 9));
    assert_eq!(device.memory.load_u32(range + 12), 0);
    // Out of order, one failing, one not known.
    device.complete(discard, 2, 1);
    device.complete(write, 1, 1);
    device.complete(flush, 0, 1);
    let outcomes: Vec<_> = (0..3).map(|_| queue.take().expect("honest").expect("there")).collect();
    assert_eq!(outcomes[0], Completion { outcome: Outcome::Unsupported, token: 3 });
    assert_eq!(outcomes[1], Completion { outcome: Outcome::Failed, token: 1 });
    assert_eq!(outcomes[2], Completion { outcome: Outcome::Done, token: 2 });
}

#[test]
fn a_full_queue_gives_the_request_back_and_indices_wrap() {
    let (mut queue, mut device) = new(true);
    let depth = queue.room();
    assert!(depth >= 32);
    for round in 0..3000u32 {
        while queue.room() > 0 {
            queue.submit(read(512), 0, round).expect("room");
        }
        assert_eq!(usize::from(queue.outstanding()), depth);
        assert_eq!(queue.submit(read(512), 0, 99), Err(99));
        while let Some(head) = device.next() {
            device.complete(head, 0, 513);
        }
        while let Some(completion) = queue.take().expect("honest") {
            assert_eq!(completion.token, round);
        }
        assert_eq!(queue.outstanding(), 0);
    }
}

#[test]
fn size_256_holds_85_requests_within_the_private_part() {
    let (_, device) = new(true);
    let queue: Queue<()> = Queue::new(device.memory, BUS, 256, true).expect("fits");
    assert_eq!(queue.room(), 85);
    assert!(abi::VRING_PRIVATE + queue.room() * PLACE <= abi::VRING_STRIDE);
    for size in [0, 2, 3, 100, 512] {
        assert!(Queue::<()>::new(device.memory, BUS, size, true).is_none());
    }
}

#[test]
fn kicks_only_when_the_device_asks() {
    let (mut queue, device) = new(true);
    let avail_event = USED_RING + usize::from(SIZE) * 8;
    assert!(!queue.must_kick());
    queue.submit(read(512), 0, 0).expect("room");
    assert!(queue.must_kick()); // event 0: told when the index passes 1
    queue.submit(read(512), 0, 0).expect("room");
    assert!(!queue.must_kick()); // still busy with the first
    device.memory.store_u16(avail_event, 3);
    queue.submit(read(512), 0, 0).expect("room");
    queue.submit(read(512), 0, 0).expect("room");
    assert!(queue.must_kick()); // two at once, the second crosses
    assert!(!queue.must_kick());

    let (mut queue, device) = new(false);
    queue.submit(read(512), 0, 0).expect("room");
    device.memory.store_u16(USED_FLAGS, NO_NOTIFY);
    assert!(!queue.must_kick());
    queue.submit(read(512), 0, 0).expect("room");
    device.memory.store_u16(USED_FLAGS, 0);
    assert!(queue.must_kick());
}

#[test]
fn sleeps_until_all_have_ended() {
    for (outstanding, wanted) in [(1u16, 1u16), (2, 2), (4, 4), (8, 8), (32, 32)] {
        let (mut queue, mut device) = new(true);
        for _ in 0..outstanding {
            queue.submit(read(512), 0, 0).expect("room");
        }
        queue.announce_sleep();
        assert_eq!(device.interrupt_after(), 1, "a fresh driver answers at once");
        for _ in 0..5 {
            queue.announce_sleep(); // each sleep is longer
        }
        assert!(!queue.has_ended());
        assert_eq!(device.interrupt_after(), wanted);
        for _ in 0..wanted - 1 {
            let head = device.next().expect("offered");
            device.complete(head, 0, 513);
        }
        assert_eq!(device.interrupt_after(), 1);
        let head = device.next().expect("offered");
        device.complete(head, 0, 513);
        assert_eq!(device.interrupt_after(), 0);
        assert!(queue.has_ended());
    }
}

#[test]
fn without_event_index_the_flag_asks_for_every_interrupt() {
    let (mut queue, mut device) = new(false);
    assert_eq!(device.memory.load_u16(AVAILABLE_FLAGS), NO_INTERRUPT);
    queue.submit(read(512), 0, 0).expect("room");
    queue.submit(read(512), 0, 0).expect("room");
    queue.announce_sleep();
    assert!(!queue.has_ended());
    assert_eq!(device.memory.load_u16(AVAILABLE_FLAGS), 0);
    let head = device.next().expect("offered");
    device.complete(head, 0, 513);
    assert!(queue.has_ended());
    queue.announce_awake();
    assert_eq!(device.memory.load_u16(AVAILABLE_FLAGS), NO_INTERRUPT);
}

#[test]
fn a_device_that_breaks_the_rules_is_found_out() {
    type Crime = fn(&mut Device, u16);
    let crimes: [(Crime, Violation); 7] = [
        (|device, _| device.memory.store_u16(USED_INDEX, 3), Violation::UsedIndex(3)),
        (|device, _| device.memory.store_u16(USED_INDEX, 0xffff), Violation::UsedIndex(0xffff)),
        (|device, _| device.put_used(1, 1), Violation::UsedId(1)),
        (|device, _| device.put_used(3 * 42, 1), Violation::UsedId(126)),
        (|device, _| device.put_used(u32::MAX, 1), Violation::UsedId(u32::MAX)),
        (|device, head| device.complete(head, 0, 514), Violation::UsedLength(514)),
        (|device, head| device.put_used(u32::from(head), 1), Violation::Status(0xff)),
    ];
    for (crime, violation) in crimes {
        let (mut queue, mut device) = new(true);
        queue.submit(read(512), 0, 0).expect("room");
        queue.submit(read(512), 0, 0).expect("room");
        let head = device.next().expect("offered");
        crime(&mut device, head);
        assert_eq!(queue.take(), Err(violation));
    }
    // The same request twice.
    let (mut queue, mut device) = new(true);
    queue.submit(read(512), 0, 0).expect("room");
    queue.submit(read(512), 0, 1).expect("room");
    let head = device.next().expect("offered");
    device.complete(head, 0, 513);
    device.complete(head, 0, 513);
    assert!(matches!(queue.take(), Ok(Some(_))));
    assert_eq!(queue.take(), Err(Violation::UsedId(u32::from(head))));
}

#[test]
fn descriptors_scribbled_by_the_device_change_nothing() {
    let (mut queue, mut device) = new(true);
    queue.submit(read(512), 0, 7).expect("room");
    let head = device.next().expect("offered");
    device.complete(head, 0, 1);
    for offset in (0..abi::VRING_USED).step_by(8) {
        device.memory.store_u64(offset, u64::MAX);
    }
    assert_eq!(queue.take(), Ok(Some(Completion { outcome: Outcome::Done, token: 7 })));
    queue.submit(read(512), 0, 8).expect("room");
    assert_eq!(device.memory.load_u16(AVAILABLE_INDEX), 2);
}

fn config(fields: &[(usize, u32)]) -> [u8; 256] {
    let mut bytes = [0; 256];
    for (at, value) in fields {
        bytes[*at..*at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[test]
fn geometry_from_the_configuration_space() {
    let all = config(&[(0, 2048), (4, 1), (8, 1 << 20), (20, 4096), (36, 100)]);
    let disk = Geometry::new(1 << 1 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 29, &all);
    assert_eq!(disk.sectors, 2048 + (1 << 32));
    assert_eq!((disk.block_bytes, disk.max_bytes, disk.discard_sectors), (4096, 1 << 20, 100));
    assert!(disk.flush && !disk.read_only && config::event_index(1 << 29));
    // Without the features their fields say nothing, and nonsense in them does no harm.
    let plain = Geometry::new(1 << 5, &all);
    assert_eq!((plain.block_bytes, plain.max_bytes, plain.discard_sectors), (512, 4 << 20, 0));
    assert!(plain.read_only && !plain.flush && !config::event_index(1 << 5));
    let nonsense = Geometry::new(1 << 1 | 1 << 6, &config(&[(8, 0), (20, 3)]));
    assert_eq!((nonsense.block_bytes, nonsense.max_bytes), (512, 4 << 20));
    assert_eq!(Geometry::new(1 << 1, &config(&[(8, 1000)])).max_bytes, 512);
}

#[test]
fn requests_must_fit_the_disk() {
    let disk = Geometry::new(1 << 13, &config(&[(0, 100), (36, 10)]));
    assert_eq!(disk.check_transfer(0, 100 * 512, true), Ok(()));
    assert_eq!(disk.check_transfer(99, 512, false), Ok(()));
    assert_eq!(disk.check_transfer(100, 512, false), Err(Error::RANGE));
    assert_eq!(disk.check_transfer(1, 100 * 512, false), Err(Error::RANGE));
    assert_eq!(disk.check_transfer(u64::MAX, 512, false), Err(Error::RANGE));
    for bytes in [0, 1, 511, 513, (4 << 20) + 512, u32::MAX] {
        assert_eq!(disk.check_transfer(0, bytes, false), Err(Error::INVAL));
    }
    assert_eq!(disk.check_discard(90, 10), Ok(10));
    assert_eq!(disk.check_discard(91, 10), Err(Error::RANGE));
    assert_eq!(disk.check_discard(0, 11), Err(Error::INVAL));
    assert_eq!(disk.check_discard(0, 0), Err(Error::INVAL));
    let read_only = Geometry::new(1 << 5, &config(&[(0, 100)]));
    assert_eq!(read_only.check_transfer(0, 512, true), Err(Error::ROFS));
    assert_eq!(read_only.check_discard(0, 1), Err(Error::ROFS));
    assert_eq!(read_only.check_transfer(0, 512, false), Ok(()));
    assert_eq!(Geometry::new(0, &config(&[(0, 100)])).check_discard(0, 1), Err(Error::NOSYS));
}

#[test]
fn addresses_stay_within_the_pool() {
    let pool = Pool { bus_address: abi::POOL_IOVA, bytes: 8192 };
    assert_eq!(pool.address(0, 8192), Ok(abi::POOL_IOVA));
    assert_eq!(pool.address(4096, 4096), Ok(abi::POOL_IOVA + 4096));
    for (offset, bytes) in [(1, 8192), (8192, 512), (u64::MAX, 512), (u64::MAX - 511, 512), (0, 8193)] {
        assert_eq!(pool.address(offset, bytes), Err(Error::RANGE));
    }
}
