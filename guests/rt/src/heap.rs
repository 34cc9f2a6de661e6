//! The heap. Small blocks come in size classes, four per doubling, each with a free list; large ones (from
//! 16 KiB) from a list of free spans in address order, which are merged when they touch.
//!
//! One thread per VM, so there are no locks.

use core::alloc::Layout;
use core::mem::size_of;
use core::ptr;

/// Every block is a multiple of this, and so aligned.
const GRAIN: usize = 16;
/// Large blocks are multiples of this.
const SPAN_GRAIN: usize = 4096;
/// Blocks of this size or more are spans of their own.
const LARGE: usize = 16 * 1024;
/// What a size class takes from the spans at a time.
const REFILL: usize = 64 * 1024;
/// Sizes 16, 32, 48, 64 | 80, 96, 112, 128 | 160, ... | ..., 16384.
const CLASSES: usize = 4 + 4 * 8;

struct Span {
    size: usize,
    next: *mut Span,
}

struct FreeBlock {
    next: *mut FreeBlock,
}

/// Memory management over one range of addresses.
pub struct Heap {
    spans: *mut Span,
    classes: [*mut FreeBlock; CLASSES],
    /// The rest of the last refill, not yet cut: (address, bytes).
    rest: (usize, usize),
    total: usize,
    /// Bytes in blocks that are in use.
    used: usize,
}

impl Heap {
    pub const fn empty() -> Heap {
        Heap {
            spans: ptr::null_mut(),
            classes: [ptr::null_mut(); CLASSES],
            rest: (0, 0),
            total: 0,
            used: 0,
        }
    }

    /// Hands the heap its memory.
    ///
    /// # Safety
    /// `base..base + size` is writable memory nobody else uses, for the heap's life.
    pub unsafe fn add(&mut self, base: usize, size: usize) {
        let start = (base + SPAN_GRAIN - 1) & !(SPAN_GRAIN - 1);
        let end = (base + size) & !(SPAN_GRAIN - 1);
        if end > start {
            self.total += end - start;
            self.give_span(start, end - start);
        }
    }

    /// Bytes the heap has, and bytes in use.
    pub fn usage(&self) -> (usize, usize) {
        (self.total, self.used)
    }

    /// A block; null if there is none.
    pub fn allocate(&mut self, layout: Layout) -> *mut u8 {
        let size = match block_size(layout) {
            Some(size) => size,
            None => return ptr::null_mut(),
        };
        let block = if size >= LARGE { self.take_span(size, layout.align()) } else { self.take_small(size) };
        if !block.is_null() {
            self.used += size;
        }
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from `allocate` with this layout and is not used any more.
    pub unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        let size = block_size(layout).unwrap_or(LARGE);
        self.used -= size;
        if size >= LARGE {
            self.give_span(block as usize, size);
        } else {
            let class = &mut self.classes[class_of(size).0];
            let free = block.cast::<FreeBlock>();
            (*free).next = *class;
            *class = free;
        }
    }

    fn take_small(&mut self, size: usize) -> *mut u8 {
        let class = &mut self.classes[class_of(size).0];
        if !class.is_null() {
            let block = *class;
            // SAFETY: free blocks are ours and hold a valid link.
            *class = unsafe { (*block).next };
            return block.cast();
        }
        if self.rest.1 < size {
            // What is left of the old rest is less than this size: give it to smaller classes.
            self.scatter_rest();
            let refill = self.take_span(REFILL, GRAIN);
            let (refill, bytes) = if refill.is_null() {
                (self.take_span(LARGE, GRAIN), LARGE)
            } else {
                (refill, REFILL)
            };
            if refill.is_null() {
                return ptr::null_mut();
            }
            self.rest = (refill as usize, bytes);
        }
        let block = self.rest.0;
        self.rest = (self.rest.0 + size, self.rest.1 - size);
        block as *mut u8
    }

    fn scatter_rest(&mut self) {
        while self.rest.1 >= GRAIN {
            // The largest class that fits: the class above may be too big, the one below never is.
            let (class, size) = class_of(self.rest.1.min(LARGE - GRAIN));
            let (class, size) = if size > self.rest.1 { (class - 1, class_size(class - 1)) } else { (class, size) };
            let free = self.rest.0 as *mut FreeBlock;
            // SAFETY: the rest is ours, aligned to GRAIN, and has at least GRAIN bytes.
            unsafe { (*free).next = self.classes[class] };
            self.classes[class] = free;
            self.rest = (self.rest.0 + size, self.rest.1 - size);
        }
        self.rest = (0, 0);
    }

    /// First fit. `size` is a multiple of SPAN_GRAIN.
    fn take_span(&mut self, size: usize, align: usize) -> *mut u8 {
        let align = align.max(SPAN_GRAIN);
        let mut link: *mut *mut Span = &mut self.spans;
        // SAFETY: the list holds free spans of this heap only, each with room for its header; a span that is
        // cut is relinked before anything else is done.
        unsafe {
            while !(*link).is_null() {
                let span = *link;
                let (start, end, next) = (span as usize, span as usize + (*span).size, (*span).next);
                let block = (start + align - 1) & !(align - 1);
                if block < end && end - block >= size {
                    let after = block + size;
                    let mut tail = next;
                    if after < end {
                        tail = after as *mut Span;
                        tail.write(Span { size: end - after, next });
                    }
                    if block > start {
                        (*span).size = block - start;
                        (*span).next = tail;
                    } else {
                        *link = tail;
                    }
                    return block as *mut u8;
                }
                link = ptr::addr_of_mut!((*span).next);
            }
        }
        ptr::null_mut()
    }

    /// Puts a span in its place by address and merges it with its neighbours.
    unsafe fn give_span(&mut self, start: usize, size: usize) {
        let mut previous: *mut Span = ptr::null_mut();
        let mut next = self.spans;
        while !next.is_null() && (next as usize) < start {
            previous = next;
            next = (*next).next;
        }
        let mut span = start as *mut Span;
        span.write(Span { size, next });
        if previous.is_null() {
            self.spans = span;
        } else if previous as usize + (*previous).size == start {
            (*previous).size += size;
            span = previous;
        } else {
            (*previous).next = span;
        }
        if !next.is_null() && span as usize + (*span).size == next as usize {
            (*span).size += (*next).size;
            (*span).next = (*next).next;
        } else {
            (*span).next = next;
        }
    }
}

/// Bytes that a block for `layout` really has; None if no heap could have it.
fn block_size(layout: Layout) -> Option<usize> {
    // A stricter alignment than GRAIN is only kept by spans: such blocks are rare and become large.
    let wanted = if layout.align() > GRAIN { layout.size().max(LARGE) } else { layout.size().max(1) };
    if wanted > isize::MAX as usize / 2 {
        None
    } else if wanted > class_size(CLASSES - 1) {
        Some((wanted + SPAN_GRAIN - 1) & !(SPAN_GRAIN - 1))
    } else {
        let size = class_of(wanted).1;
        Some(if size >= LARGE { LARGE } else { size })
    }
}

/// (class, its size) of the smallest class with at least `size` bytes; `size` is at most 16384.
fn class_of(size: usize) -> (usize, usize) {
    let class = if size <= 64 {
        (size.max(1) - 1) / 16
    } else {
        // Between 2^k + 1 and 2^(k+1) (k >= 6) there are four classes, 2^(k-2) apart.
        let k = (usize::BITS - 1 - (size - 1).leading_zeros()) as usize;
        4 + (k - 6) * 4 + ((size - 1 - (1 << k)) >> (k - 2))
    };
    (class, class_size(class))
}

const fn class_size(class: usize) -> usize {
    if class < 4 {
        16 * (class + 1)
    } else {
        let (k, step) = (6 + (class - 4) / 4, (class - 4) % 4 + 1);
        (1 << k) + (step << (k - 2))
    }
}

const _: () = assert!(class_size(CLASSES - 1) == LARGE);
const _: () = assert!(size_of::<Span>() <= GRAIN);

#[cfg(not(host_test))]
mod global {
    use super::{block_size, Heap, Layout};
    use core::alloc::GlobalAlloc;
    use core::cell::UnsafeCell;

    struct Global(UnsafeCell<Heap>);

    // SAFETY: one thread per VM, and the heap calls nothing that allocates.
    unsafe impl Sync for Global {}

    #[global_allocator]
    static HEAP: Global = Global(UnsafeCell::new(Heap::empty()));

    // SAFETY: blocks come from the heap's own memory, with the size and alignment of the layout.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            (*self.0.get()).allocate(layout)
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            (*self.0.get()).free(block, layout);
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            let new = Layout::from_size_align_unchecked(new_size, layout.align());
            if block_size(new).is_some() && block_size(new) == block_size(layout) {
                return block;
            }
            let copy = self.alloc(new);
            if !copy.is_null() {
                core::ptr::copy_nonoverlapping(block, copy, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            copy
        }
    }

    /// # Safety
    /// Once, at start, with memory nobody else uses.
    pub unsafe fn initialise(base: usize, size: usize) {
        (*HEAP.0.get()).add(base, size);
    }

    /// Bytes the heap has, and bytes in use.
    pub fn usage() -> (usize, usize) {
        // SAFETY: one thread.
        unsafe { (*HEAP.0.get()).usage() }
    }

    /// Where rustc still wants it (before 1.68).
    #[cfg(old_alloc)]
    #[alloc_error_handler]
    fn out_of_memory(layout: Layout) -> ! {
        panic!("memory allocation of {} bytes failed", layout.size());
    }
}

#[cfg(not(host_test))]
pub(crate) use global::initialise;
#[cfg(not(host_test))]
pub use global::usage;
