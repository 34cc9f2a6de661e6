//! State for components in C; declared in guests/c/r3s3.h. A component has one state that is open this way.
//!
//! Results are 0 or a negative error of the ABI. Misuse (a transaction inside another, a field of something else)
//! panics.

use crate::error::Error;
use crate::state::open_store;
use crate::state::store::{Found, Store};
use alloc::boxed::Box;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

static OPENED: AtomicPtr<Store> = AtomicPtr::new(null_mut());

/// Opens state region `name`. `*size`: bytes wanted, 0 for all there is room for; then the bytes there are. `*data`: where
/// they lie, to be read as one likes and written by `r3s3_tx_write` alone. `*found`: the place of what was found in
/// `Found` (0 fresh, 1 restored, 2 rolled back, 3 older copy, 4 lost, 5 other schema). `noent`, `nospc`.
///
/// # Safety
/// `name` ends with a NUL; the others may be written to.
#[no_mangle]
pub unsafe extern "C" fn r3s3_state_open(
    name: *const u8,
    data: *mut *const u8,
    size: *mut usize,
    found: *mut i32,
) -> i32 {
    let name = core::slice::from_raw_parts(name, crate::mem::strlen(name));
    let name = core::str::from_utf8(name).unwrap_or("?");
    if !OPENED.load(Ordering::Relaxed).is_null() {
        return Error::BUSY.number();
    }
    match open_store(name, *size, None) {
        Ok((store, what)) => {
            *data = store.data();
            *size = 8 * store.layout.words;
            *found = number(what);
            OPENED.store(Box::into_raw(Box::new(store)), Ordering::Relaxed);
            0
        }
        Err((error, _)) => error.number(),
    }
}

fn number(found: Found) -> i32 {
    match found {
        Found::Fresh => 0,
        Found::Restored => 1,
        Found::RolledBack => 2,
        Found::OlderCopy => 3,
        Found::Lost => 4,
        Found::OtherSchema => 5,
        Found::Converted => 6,
    }
}

/// Begins a transaction; NULL if no state is open.
#[no_mangle]
pub extern "C" fn r3s3_tx_begin() -> *mut Store {
    let store = OPENED.load(Ordering::Relaxed);
    // SAFETY: null, or what was made in `r3s3_state_open` and is never freed.
    if let Some(store) = unsafe { store.as_ref() } {
        store.begin();
    }
    store
}

/// Stores `size` bytes of `value` to `field`, which lies in the state's data.
///
/// # Safety
/// `transaction` is of `r3s3_tx_begin`; `value` has `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn r3s3_tx_write(transaction: *mut Store, field: *mut u8, value: *const u8, size: usize) {
    let store = &*transaction;
    store.write((field as usize).wrapping_sub(store.data() as usize), core::slice::from_raw_parts(value, size));
}

/// Makes everything written last. `nospc`: it was more than the log has room for, nothing has happened.
///
/// # Safety
/// `transaction` is of `r3s3_tx_begin`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_tx_commit(transaction: *mut Store) -> i32 {
    (*transaction).commit().map_or_else(Error::number, |()| 0)
}

/// Undoes everything written.
///
/// # Safety
/// `transaction` is of `r3s3_tx_begin`.
#[no_mangle]
pub unsafe extern "C" fn r3s3_tx_abort(transaction: *mut Store) {
    (*transaction).roll_back();
}
