//! For converters: state of an older schema as a value on the heap, which nobody else has, and which needs no
//! transaction to be changed.

use crate::kill_point;
use crate::state::{Bytes, Cell, Plain, Tx};
use alloc::alloc::{alloc_zeroed, handle_alloc_error, Layout};
use alloc::boxed::Box;
use core::mem::{size_of, size_of_val};
use core::slice;

/// A value that is all zero, which is where every state begins.
pub fn zeros<T: Plain>() -> Box<T> {
    kill_point!("state.in_converter");
    let layout = Layout::new::<T>();
    assert!(layout.size() > 0, "nothing to make");
    // SAFETY: the layout is T's and not empty; zero is a value of every plain type.
    unsafe {
        let memory = alloc_zeroed(layout).cast::<T>();
        if memory.is_null() {
            handle_alloc_error(layout);
        }
        Box::from_raw(memory)
    }
}

/// What `open_or_convert` hands over, as it was when it was a T. Panics if it cannot have been one: it has another size.
pub fn read<T: Plain>(bytes: &[u8]) -> Box<T> {
    let size = size_of::<T>();
    assert!(bytes.len() == (size + 7) / 8 * 8, "old state of {} bytes, not of {}", bytes.len(), size);
    let mut value = zeros::<T>();
    // SAFETY: a plain value is its bytes, any bytes.
    unsafe { slice::from_raw_parts_mut((&mut *value as *mut T).cast::<u8>(), size) }.copy_from_slice(&bytes[..size]);
    value
}

impl<T: Plain + Copy> Cell<T> {
    /// For values of one's own: those in a state region are never given away so.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<const N: usize> Bytes<N> {
    /// As `Cell::get_mut`.
    pub fn get_mut(&mut self) -> &mut [u8; N] {
        self.0.get_mut()
    }
}

impl Tx<'_> {
    /// Makes `into`, a part of the state, what `from` is. Panics if it is no part of it.
    pub fn copy<T: Plain>(&mut self, into: &T, from: &T) {
        // SAFETY: a plain value has no padding: all its bytes are there.
        let bytes = unsafe { slice::from_raw_parts((from as *const T).cast::<u8>(), size_of_val(from)) };
        self.write((into as *const T as *mut T).cast::<u8>(), bytes);
    }
}
