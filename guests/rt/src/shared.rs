//! `Shared`: a piece of memory that somebody else may write at any moment.
//!
//! There is never a Rust reference into it: bytes are copied in and out by assembly the compiler cannot look
//! into, words by volatile accesses. So every value is read once, and what was read cannot change afterwards.

use crate::error::Error;
use core::ptr;
use core::sync::atomic::{fence, Ordering};

/// Address and length of shared memory. Whoever holds it may use it only while it is mapped; touching it
/// after that is a `window` fault of this VM, not undefined behaviour of the host.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    address: *mut u8,
    length: usize,
}

// SAFETY: plain address and length; all accesses are volatile or assembly, whoever makes them.
unsafe impl Send for Shared {}

impl Shared {
    /// # Safety
    /// `address..address + length` is memory no Rust object lives in, mapped as long as accesses are made.
    pub const unsafe fn new(address: *mut u8, length: usize) -> Shared {
        Shared { address, length }
    }

    pub fn address(self) -> *mut u8 {
        self.address
    }

    pub fn len(self) -> usize {
        self.length
    }

    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The part from `offset`, `length` bytes long; `RANGE` unless it lies within.
    pub fn part(self, offset: usize, length: usize) -> Result<Shared, Error> {
        match offset.checked_add(length) {
            // SAFETY (of the add): offset is at most self.length.
            Some(end) if end <= self.length => Ok(Shared { address: unsafe { self.address.add(offset) }, length }),
            _ => Err(Error::RANGE),
        }
    }

    /// Copies `into.len()` bytes from `offset` to private memory; `RANGE` unless they lie within.
    pub fn copy_out(self, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        let from = self.part(offset, into.len())?;
        // SAFETY: both are `into.len()` bytes; `into` is exclusive private memory.
        unsafe { copy(into.as_mut_ptr(), from.address, into.len()) };
        Ok(())
    }

    /// Copies private bytes to `offset`; `RANGE` unless they fit.
    pub fn copy_in(self, offset: usize, from: &[u8]) -> Result<(), Error> {
        let into = self.part(offset, from.len())?;
        // SAFETY: both are `from.len()` bytes.
        unsafe { copy(into.address, from.as_ptr(), from.len()) };
        Ok(())
    }

    /// Copies to other shared memory; `RANGE` unless both ends lie within. They must not overlap.
    pub fn copy_to(self, offset: usize, other: Shared, other_offset: usize, length: usize) -> Result<(), Error> {
        let (from, into) = (self.part(offset, length)?, other.part(other_offset, length)?);
        // SAFETY: both are `length` bytes.
        unsafe { copy(into.address, from.address, length) };
        Ok(())
    }

    /// Sets every byte to zero.
    pub fn clear(self) {
        for offset in 0..self.length {
            // SAFETY: within.
            unsafe { ptr::write_volatile(self.address.add(offset), 0) };
        }
    }

    /// A pointer to a T at `offset`. Offsets come from our own layouts, never from a peer: a wrong one panics.
    fn at<T>(self, offset: usize) -> *mut T {
        let size = core::mem::size_of::<T>();
        assert!(offset <= self.length && size <= self.length - offset, "offset {:#x} outside shared memory", offset);
        // SAFETY: just checked.
        let pointer = unsafe { self.address.add(offset) };
        assert!(pointer as usize % size == 0, "offset {:#x} is not aligned", offset);
        pointer.cast()
    }

    /// Loads a word once.
    #[inline]
    pub fn load_u16(self, offset: usize) -> u16 {
        // SAFETY: `at` checks range and alignment.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    #[inline]
    pub fn load_u32(self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    #[inline]
    pub fn load_u64(self, offset: usize) -> u64 {
        // SAFETY: as above.
        unsafe { ptr::read_volatile(self.at(offset)) }
    }

    #[inline]
    pub fn store_u16(self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    #[inline]
    pub fn store_u32(self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    #[inline]
    pub fn store_u64(self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.at(offset), value) }
    }

    /// Loads an index of a peer: what the peer wrote before publishing it is seen by later loads.
    #[inline]
    pub fn load_acquire(self, offset: usize) -> u32 {
        let value = self.load_u32(offset);
        fence(Ordering::Acquire); // no instruction on x86-64; holds the compiler
        value
    }

    /// Publishes an index: whoever sees it sees everything stored before.
    #[inline]
    pub fn store_release(self, offset: usize, value: u32) {
        fence(Ordering::Release);
        self.store_u32(offset, value);
    }
}

/// The store buffer is empty afterwards: between "published" and "does the peer sleep?", and the reverse.
#[inline]
pub fn full_fence() {
    fence(Ordering::SeqCst);
}

/// Copies bytes of which either side may be shared.
///
/// # Safety
/// Both sides are `length` bytes of mapped memory; `into` may be written.
#[inline]
unsafe fn copy(into: *mut u8, from: *const u8, length: usize) {
    core::arch::asm!(
        "rep movsb",
        inout("rcx") length => _, inout("rdi") into => _, inout("rsi") from => _,
        options(nostack, preserves_flags),
    );
}
