//! What state is made of: values of fixed layout, which are read anywhere and changed in a transaction only.

use crate::error::Error;
use crate::state::Tx;
use core::cell::UnsafeCell;
use core::mem::size_of;
use core::ptr;

/// Types that may lie in a state region.
///
/// # Safety
/// The layout is fixed (`repr(C)` or a primitive), there is no padding, every bit pattern is a value, all zero is the
/// one to begin with, and nothing in it is a reference. `plain!` makes such structures and checks this.
pub unsafe trait Plain: 'static {}

macro_rules! primitives {
    ($($t:ty),*) => { $(
        // SAFETY: a number.
        unsafe impl Plain for $t {}
    )* };
}

primitives!(u8, u16, u32, u64, i8, i16, i32, i64);

// SAFETY: an array has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: the same layout as T.
unsafe impl<T: Plain + Copy> Plain for Cell<T> {}
// SAFETY: the same layout as the bytes.
unsafe impl<const N: usize> Plain for Bytes<N> {}

/// A value in a state region: `get` anywhere, `set` in a transaction.
#[repr(transparent)]
pub struct Cell<T: Plain + Copy>(pub(super) UnsafeCell<T>);

impl<T: Plain + Copy> Cell<T> {
    #[inline]
    pub fn get(&self) -> T {
        // SAFETY: one thread; no reference to the value is ever handed out.
        unsafe { ptr::read(self.0.get()) }
    }

    /// Panics if the cell is not of the state the transaction is of.
    #[inline]
    pub fn set(&self, tx: &mut Tx<'_>, value: T) {
        // SAFETY: a plain value has no padding: all its bytes are there.
        let bytes = unsafe { core::slice::from_raw_parts((&value as *const T).cast::<u8>(), size_of::<T>()) };
        tx.write(self.0.get().cast::<u8>(), bytes);
    }
}

/// Bytes in a state region.
#[repr(transparent)]
pub struct Bytes<const N: usize>(pub(super) UnsafeCell<[u8; N]>);

impl<const N: usize> Bytes<N> {
    /// Copies bytes in, from `offset`; `RANGE` unless they fit.
    #[inline]
    pub fn copy_from(&self, tx: &mut Tx<'_>, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        if offset > N || bytes.len() > N - offset {
            return Err(Error::RANGE);
        }
        // SAFETY (of the add): within, as just checked.
        tx.write(unsafe { self.0.get().cast::<u8>().add(offset) }, bytes);
        Ok(())
    }

    /// Copies `into.len()` bytes out, from `offset`; `RANGE` unless there are so many.
    #[inline]
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        if offset > N || into.len() > N - offset {
            return Err(Error::RANGE);
        }
        // SAFETY: within; `into` is exclusive and so not of this memory.
        unsafe { ptr::copy_nonoverlapping(self.0.get().cast::<u8>().add(offset), into.as_mut_ptr(), into.len()) };
        Ok(())
    }
}

/// Defines a structure that may lie in a state region: `plain! { struct Ledger { length: Cell<u64>, ... } }`. One with
/// padding, or with a field that is not plain, does not compile.
#[macro_export]
macro_rules! plain {
    ($(#[$attribute:meta])* $visible:vis struct $name:ident {
        $($(#[$note:meta])* $access:vis $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$attribute])*
        #[repr(C)]
        $visible struct $name { $($(#[$note])* $access $field: $type),* }

        // SAFETY: all fields are plain, and there is nothing between or behind them, as is checked here.
        unsafe impl $crate::state::Plain for $name {}
        const _: fn() = || {
            fn is_plain<T: $crate::state::Plain>() {}
            $(is_plain::<$type>();)*
        };
        const _: () = assert!(
            ::core::mem::size_of::<$name>() == 0 $(+ ::core::mem::size_of::<$type>())*,
            "there is padding: order the fields by size, or fill the gaps"
        );
    };
}
