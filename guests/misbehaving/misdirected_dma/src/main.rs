//! A disk driver that sends its device to memory that is not for it.

#![no_std]
#![no_main]

use rt::abi;
use rt::info::RegionKind;

rt::component! { fresh: misdirect, restart: misdirect, update: misdirect }

const NEXT: u64 = 1;
const DEVICE_WRITES: u64 = 2;
/// Neither the virtqueues nor the pool: no memory of anybody.
const ELSEWHERE: u64 = 0x7000_0000_0000;

fn misdirect() {
    let memory = rt::info::region(RegionKind::Vring, None).and_then(|region| region.memory().ok());
    let memory = memory.expect("a driver has virtqueues");
    // Descriptors of 16 bytes: address; length, flags << 32, next << 48. A request to read one sector: its
    // header (type 0, sector 0, all zeros already), the place for the sector, the status byte.
    let header = abi::VRING_IOVA as u64 + abi::VRING_PRIVATE as u64;
    let chain = [(header, 16, NEXT, 1), (ELSEWHERE, 512, NEXT | DEVICE_WRITES, 2), (header + 64, 1, DEVICE_WRITES, 0)];
    for (index, (address, length, flags, next)) in chain.iter().enumerate() {
        memory.store_u64(abi::VRING_DESCRIPTORS + 16 * index, *address);
        memory.store_u64(abi::VRING_DESCRIPTORS + 16 * index + 8, *length | flags << 32 | *next << 48);
    }
    memory.store_u16(abi::VRING_AVAILABLE + 4, 0);
    memory.store_u16(abi::VRING_AVAILABLE + 2, 1);
    rt::ready();
    rt::hypercall::doorbell(abi::DOORBELL_QUEUE as u32);
    loop {
        rt::hypercall::wait(None);
    }
}
