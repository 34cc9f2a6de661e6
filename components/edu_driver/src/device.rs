//! The device's registers (QEMU, docs/specs/edu.txt), and one operation of it after the other.

use rt::wait::Source;
use rt::{time, wait, Error, Shared, Woken};

pub const IDENTIFICATION: usize = 0x00;
pub const LIVENESS: usize = 0x04;
pub const FACTORIAL: usize = 0x08;
pub const STATUS: usize = 0x20;
pub const INTERRUPT_STATUS: usize = 0x24;
pub const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
pub const DMA_SOURCE: usize = 0x80;
pub const DMA_TARGET: usize = 0x88;
pub const DMA_BYTES: usize = 0x90;
pub const DMA_COMMAND: usize = 0x98;

pub const COMPUTING: u32 = 1;
pub const INTERRUPT_AT_END: u32 = 0x80; // of a factorial
pub const DMA_RUN: u64 = 1;
pub const DMA_FROM_DEVICE: u64 = 2;
pub const DMA_INTERRUPT: u64 = 4;

/// The device's own memory, as its DMA engine counts. Some versions of the device do not survive a transfer that
/// touches its last byte.
pub const BUFFER: u64 = 0x40000;
pub const BUFFER_BYTES: u32 = 2048;

/// Of one operation; a transfer takes the device 0.1 s.
const PATIENCE_MS: u64 = 5000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From memory into the device's buffer.
    In,
    Out,
}

/// The device.
pub struct Edu {
    registers: Shared,
}

impl Edu {
    pub fn new(registers: Shared) -> Edu {
        Edu { registers }
    }

    pub fn identification(&self) -> u32 {
        self.registers.load_u32(IDENTIFICATION)
    }

    /// It answers with the complement of what is written; `IO` if it does not.
    pub fn check_liveness(&self) -> Result<(), Error> {
        for word in [0x1234_5678, 0xffff_0000, 0] {
            self.registers.store_u32(LIVENESS, word);
            if self.registers.load_u32(LIVENESS) != !word {
                return Err(Error::IO);
            }
        }
        Ok(())
    }

    /// number! modulo 2^32.
    pub fn factorial(&mut self, number: u32) -> Result<u32, Error> {
        self.finish()?;
        self.registers.store_u32(STATUS, INTERRUPT_AT_END);
        self.registers.store_u32(FACTORIAL, number);
        self.finish()?;
        Ok(self.registers.load_u32(FACTORIAL))
    }

    /// Up to BUFFER_BYTES between `address`, as the device sees it, and the beginning of its buffer. `Ok` says that it
    /// has tried: what the IOMMU refuses does not come back here.
    pub fn transfer(&mut self, direction: Direction, address: u64, bytes: u32) -> Result<(), Error> {
        if bytes == 0 || bytes > BUFFER_BYTES {
            return Err(Error::INVAL);
        }
        self.finish()?; // perhaps a transfer of the driver before this one
        let (source, target, way) = match direction {
            Direction::In => (address, BUFFER, 0),
            Direction::Out => (BUFFER, address, DMA_FROM_DEVICE),
        };
        self.registers.store_u64(DMA_SOURCE, source);
        self.registers.store_u64(DMA_TARGET, target);
        self.registers.store_u64(DMA_BYTES, u64::from(bytes));
        self.registers.store_u64(DMA_COMMAND, DMA_RUN | way | DMA_INTERRUPT);
        self.finish()
    }

    fn acknowledge(&self) {
        let pending = self.registers.load_u32(INTERRUPT_STATUS);
        self.registers.store_u32(INTERRUPT_ACKNOWLEDGE, pending);
    }

    /// Waits until it does nothing any more; `IO` if that takes too long.
    fn finish(&mut self) -> Result<(), Error> {
        let until = time::ticks().saturating_add(time::ms_to_ticks(PATIENCE_MS));
        let woken = wait(&mut [self], Some(until));
        self.acknowledge();
        match woken {
            Woken::Ready => Ok(()),
            Woken::Timeout => Err(Error::IO),
        }
    }
}

impl Source for Edu {
    fn ready(&mut self) -> bool {
        self.registers.load_u32(STATUS) & COMPUTING == 0 && self.registers.load_u64(DMA_COMMAND) & DMA_RUN == 0
    }

    /// An interrupt that was not acknowledged would be its last.
    fn announce_sleep(&mut self) {
        self.acknowledge();
    }

    fn announce_awake(&mut self) {}
}
