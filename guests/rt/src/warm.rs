//! Pages touched ahead. The first access to each page of a new VM costs some microseconds, because the host has to
//! enter it into its tables; a spare has time to pay for that before anybody waits for it.

use crate::abi;
use crate::info::{self, RegionKind};
use core::arch::asm;

/// What a component uses of its heap and its stack until it serves, roughly.
const HEAP_BYTES: usize = 64 * abi::PAGE_SIZE;
const STACK_BYTES: usize = 8 * abi::PAGE_SIZE;

extern "C" {
    // Of link.ld: the image's writable part, which its last page ends.
    static r3s3_data: u8;
    static r3s3_end: u8;
}

/// Reads a byte of each page.
fn read_pages(start: usize, end: usize) {
    for page in (start..end).step_by(abi::PAGE_SIZE) {
        // SAFETY: the callers name memory that is mapped; what is read is not used.
        unsafe { core::ptr::read_volatile(page as *const u8) };
    }
}

/// Writes to each page without changing it. Locked, because the page may be one that a peer writes to.
fn write_pages(start: usize, end: usize) {
    for page in (start..end).step_by(abi::PAGE_SIZE) {
        // SAFETY: the callers name memory that is mapped for writing and aligned to pages; no value changes.
        unsafe { asm!("lock or dword ptr [{}], 0", in(reg) page, options(nostack)) };
    }
}

/// Touches the image, the beginning of the heap, the end of the stack, and what is shared with others.
pub fn touch_all() {
    let (data, end) = unsafe { (&r3s3_data as *const u8 as usize, &r3s3_end as *const u8 as usize) };
    read_pages(abi::IMAGE_BASE, data);
    write_pages(data, end);
    let (heap, size) = info::heap();
    write_pages(heap, heap + size.min(HEAP_BYTES));
    let here = 0u8;
    let top = &here as *const u8 as usize & !(abi::PAGE_SIZE - 1);
    write_pages(top - STACK_BYTES, top);
    read_pages(abi::RO_WINDOW, abi::RO_WINDOW + abi::PAGE_SIZE);
    for channel in info::channels() {
        let start = channel.entry.address as usize;
        write_pages(start, start + channel.entry.data_offset as usize);
    }
    for region in info::regions() {
        if matches!(region.kind(), Some(RegionKind::Vring | RegionKind::Telemetry)) {
            let start = region.entry.address as usize;
            write_pages(start, start + region.entry.size as usize);
        }
    }
}
