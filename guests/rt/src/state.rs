//! State that outlives an instance: typed, changed in transactions, verified by whoever comes next. See
//! guests/rt/README.md, "State that survives".
//!
//! A transaction costs some ten stores and no exit: `begin`, `set` as often as wanted, `commit`. Whatever kills the
//! instance, its successor finds either everything of it or nothing.

#[doc(hidden)]
pub mod c_face;
mod cells;
mod convert;
#[doc(hidden)]
pub mod layout;
mod outbox;
mod replies;
#[doc(hidden)]
pub mod store;

pub use crate::plain;
pub use cells::{Bytes, Cell, Plain};
pub use convert::{read, zeros};
pub use outbox::Outbox;
pub use replies::{Replies, RequestId, BYTES_MAX};
pub use store::Found;

use crate::abi;
use crate::error::Error;
use crate::info::{self, Region, RegionKind};
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use layout::Layout;
use store::{Convert, Store};

/// The state in one region. Read through it (`state.length.get()`), change it in a transaction.
pub struct State<Root: Plain> {
    store: Store,
    root: PhantomData<Root>,
}

/// Opens the component's state region `name` ([state.NAME] of its manifest), restores what a predecessor has left
/// there and says what that was. State that is `Lost` is reported by an error in the log, so a component with state
/// wants the hypercall `log`. Panics if there is no such region or if `Root` does not fit.
pub fn open<Root: Plain>(name: &str) -> (State<Root>, Found) {
    open_with(name, None)
}

/// The same in a new version that knows older ones: state of another schema, or of another size, is handed to `convert`
/// as (schema, bytes), with the new root, all zero, to be filled in. There is no limit to what it may set.
pub fn open_or_convert<Root: Plain>(
    name: &str,
    convert: impl Fn(u32, &[u8], &Root, &mut Tx<'_>),
) -> (State<Root>, Found) {
    let mut convert = |store: &Store, schema: u32, data: &[u8]| {
        let mut tx = Tx { store };
        // SAFETY: as in `deref`: there is a Root, of zeros.
        convert(schema, data, unsafe { &*store.data().cast::<Root>() }, &mut tx);
        core::mem::forget(tx); // there is nothing to undo
    };
    open_with(name, Some(&mut convert))
}

fn open_with<Root: Plain>(name: &str, convert: Option<Convert<'_>>) -> (State<Root>, Found) {
    assert!(align_of::<Root>() <= 64, "state {}: aligned to more than 64 bytes", name);
    let (store, found) = open_store(name, size_of::<Root>(), convert).unwrap_or_else(|(error, room)| match error {
        Error::NOENT => panic!("no [state.{}] in the manifest", name),
        _ => panic!("[state.{}] has room for {} bytes, not for {}; raise its size", name, room, size_of::<Root>()),
    });
    (State { store, root: PhantomData }, found)
}

/// The same, untyped; fails with the number of bytes there is room for.
fn open_store(name: &str, data: usize, convert: Option<Convert<'_>>) -> Result<(Store, Found), (Error, usize)> {
    let region: Region = info::region(RegionKind::State, Some(name)).ok_or((Error::NOENT, 0))?;
    let memory = region.memory().map_err(|error| (error, 0))?;
    let room = Layout::room(memory.len());
    let data = if data == 0 { room } else { data };
    let layout = Layout::of(memory.len(), data, region.entry.schema).ok_or((Error::NOSPC, room))?;
    if info::cure() == abi::CURE_FRESH {
        crate::log!(error, "state {}: poisoned, begun anew", name);
        // SAFETY: as below.
        return Ok(unsafe { Store::begin_anew(memory.address(), layout) });
    }
    let older_copy = region.entry.on_corruption != abi::ON_CORRUPTION_FRESH;
    // SAFETY: mapped for the VM's life, for this instance alone; opened once by the component, as it opens its ports.
    let (store, found) = unsafe { Store::open(memory.address(), memory.len(), layout, older_copy, convert) };
    if found == Found::Lost {
        crate::log!(error, "state {}: damaged beyond repair, begun anew", name);
    }
    if info::cure() == abi::CURE_UNDO {
        match store.undo_last() {
            Ok(()) => crate::log!(error, "state {}: poisoned, the last commit has been undone", name),
            Err(_) => crate::log!(error, "state {}: poisoned, but there is no commit to undo", name),
        }
    }
    Ok((store, found))
}

impl<Root: Plain> State<Root> {
    /// Begins a transaction. Panics if one is open: they do not nest.
    #[inline]
    pub fn begin(&self) -> Tx<'_> {
        self.store.begin();
        Tx { store: &self.store }
    }

    /// Undoes the last commit, for a component that finds its state poisoned. `NOENT`: it cannot be undone any more.
    pub fn undo_last(&self) -> Result<(), Error> {
        self.store.undo_last()
    }
}

impl<Root: Plain> core::ops::Deref for State<Root> {
    type Target = Root;

    #[inline]
    fn deref(&self) -> &Root {
        // SAFETY: the region is mapped for the VM's life and has room for a Root, whose every bit pattern is a value;
        // it changes through cells only.
        unsafe { &*self.store.data().cast::<Root>() }
    }
}

/// An open transaction: `set` and `copy_from` of cells take it. Dropped without `commit` it is undone.
#[must_use = "a transaction that is dropped is undone"]
pub struct Tx<'a> {
    store: &'a Store,
}

impl Tx<'_> {
    /// Everything in it has happened, from here on. `NOSPC`: it was more than the log has room for (1/16 of the region,
    /// at most 64 KiB); nothing has happened.
    #[inline]
    pub fn commit(self) -> Result<(), Error> {
        let result = self.store.commit();
        core::mem::forget(self);
        result
    }

    #[inline]
    pub(crate) fn write(&mut self, place: *mut u8, bytes: &[u8]) {
        // A place before the data becomes a huge offset, which the store refuses.
        self.store.write((place as usize).wrapping_sub(self.store.data() as usize), bytes);
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        self.store.roll_back();
    }
}
