//! State regions: cut at every store, transactions against a model, misuse.

use crate::world::Random;
use rt::abi::{self, RegionEntry};
use rt::state::{self, Bytes, Cell, Found, Plain, State, Tx};
use rt::{fake, Error};
use std::cell::RefCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;

rt::state::plain! {
    pub struct Root {
        pub total: Cell<u64>,
        pub small: Cell<u32>,
        pub signs: [Cell<i16>; 2],
        pub bytes: Bytes<112>,
        pub list: [Cell<u32>; 32],
    }
}

pub const ROOT: usize = 256;
pub const REGION: usize = 16 << 10;
pub const SCHEMA: u32 = 3;
const _: () = assert!(std::mem::size_of::<Root>() == ROOT);

/// The bytes of a state's root.
pub type Image = [u8; ROOT];

/// A state region in the heap. A copy of it is what a successor would find.
#[derive(Clone)]
pub struct Memory(Vec<u64>);

impl Memory {
    pub fn new(size: usize) -> Memory {
        Memory(vec![0; size / 8 + 8])
    }

    pub fn address(&self) -> usize {
        (self.0.as_ptr() as usize + 63) & !63
    }

    fn size(&self) -> usize {
        8 * (self.0.len() - 8)
    }

    /// The same bytes elsewhere; alignment may move them within their vector.
    pub fn snapshot(&self) -> Memory {
        let copy = Memory::new(self.size());
        // SAFETY: both are that long.
        unsafe { std::ptr::copy(self.address() as *const u8, copy.address() as *mut u8, self.size()) };
        copy
    }

    /// A pointer to a byte of the region.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.size());
        (self.address() + offset) as *mut u8
    }

    /// Starts an instance over this region.
    pub fn open_as<R: Plain>(&self, schema: u32, on_corruption: u32) -> (State<R>, Found) {
        self.name_as(schema, on_corruption);
        state::open("ledger")
    }

    fn name(&self, schema: u32) {
        self.name_as(schema, abi::ON_CORRUPTION_OLDER_COPY);
    }

    /// Makes it the region "ledger" of this component.
    fn name_as(&self, schema: u32, on_corruption: u32) {
        let mut entry = RegionEntry {
            kind: abi::REGION_KIND_STATE,
            address: self.address() as u64,
            size: self.size() as u64,
            schema,
            on_corruption,
            ..RegionEntry::default()
        };
        entry.name[..6].copy_from_slice(b"ledger");
        fake::set_region(0, entry);
    }

    /// The same bytes at the beginning of a region of another size, as an update of that makes it.
    fn resized(&self, size: usize) -> Memory {
        let copy = Memory::new(size);
        // SAFETY: both are that long.
        unsafe { std::ptr::copy(self.address() as *const u8, copy.address() as *mut u8, size.min(self.size())) };
        copy
    }

    pub fn open(&self) -> (State<Root>, Found) {
        self.open_as(SCHEMA, abi::ON_CORRUPTION_OLDER_COPY)
    }
}

pub fn image(state: &State<Root>) -> Image {
    let root: &Root = state;
    // SAFETY: a root is that many plain bytes.
    unsafe { *(root as *const Root).cast::<Image>() }
}

/// One change, of the state and of its model.
pub fn change(random: &mut Random, state: &State<Root>, tx: &mut Tx<'_>, model: &mut Image) {
    let value = random.next();
    let (at, bytes) = match random.below(5) {
        0 => {
            state.total.set(tx, value);
            (0, value.to_le_bytes().to_vec())
        }
        1 => {
            state.small.set(tx, value as u32);
            (8, (value as u32).to_le_bytes().to_vec())
        }
        2 => {
            let sign = random.below(2) as usize;
            state.signs[sign].set(tx, value as i16);
            (12 + 2 * sign, (value as i16).to_le_bytes().to_vec())
        }
        3 => {
            let length = random.below(40) as usize;
            let offset = random.below(112 - length as u64 + 1) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            state.bytes.copy_from(tx, offset, &bytes).unwrap();
            (16 + offset, bytes)
        }
        _ => {
            let index = random.below(32) as usize;
            state.list[index].set(tx, value as u32);
            (128 + 4 * index, (value as u32).to_le_bytes().to_vec())
        }
    };
    model[at..at + bytes.len()].copy_from_slice(&bytes);
}

/// Everything the region was between two stores, in order.
pub struct Cuts(Rc<RefCell<Vec<Memory>>>);

impl Cuts {
    pub fn of(memory: &Memory) -> Cuts {
        let cuts = Rc::new(RefCell::new(vec![memory.snapshot()]));
        let (seen, region) = (Rc::clone(&cuts), memory.address());
        let size = memory.size();
        fake::after_stores(Some(Box::new(move || {
            let copy = Memory::new(size);
            // SAFETY: both are that long; the region outlives the hook.
            unsafe { std::ptr::copy(region as *const u8, copy.address() as *mut u8, size) };
            seen.borrow_mut().push(copy);
        })));
        Cuts(cuts)
    }

    pub fn take(&self) -> Vec<Memory> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

pub fn without_hook<R>(f: impl FnOnce() -> R) -> R {
    fake::after_stores(None);
    f()
}

#[test]
fn a_death_after_any_store_leaves_before_or_after() {
    fake::reset();
    let mut random = Random(11);
    let memory = Memory::new(REGION);
    let (state, found) = memory.open();
    assert_eq!(found, Found::Fresh);
    let mut committed = image(&state);
    let (mut cut, mut nested, mut undone, mut done) = (0, 0, 0, 0);
    for round in 0..150 {
        let cuts = Cuts::of(&memory);
        let mut next = committed;
        let mut tx = state.begin();
        for _ in 0..random.below(5) {
            change(&mut random, &state, &mut tx, &mut next);
        }
        let is_rolled_back = random.below(4) == 0;
        if is_rolled_back {
            drop(tx);
        } else {
            tx.commit().unwrap();
        }
        let mut was_after = false;
        let all = without_hook(|| cuts.take());
        let last = all.len() - 1;
        for (at, snapshot) in all.into_iter().enumerate() {
            cut += 1;
            // Now and then the successor dies, too, after any of its own stores.
            let inner = (round % 10 == 0).then(|| Cuts::of(&snapshot));
            let (successor, found) = snapshot.open();
            let got = image(&successor);
            assert!(matches!(found, Found::Restored | Found::RolledBack), "{found:?}");
            let is_after = got == next && !is_rolled_back && (next != committed || at == last);
            assert!(got == committed || is_after, "round {round}, store {at}: neither before nor after");
            assert!(!(was_after && !is_after), "round {round}, store {at}: a commit was lost");
            was_after |= is_after;
            if found == Found::RolledBack {
                undone += 1;
            }
            for second in inner.map(|cuts| without_hook(|| cuts.take())).unwrap_or_default() {
                nested += 1;
                let (third, found) = second.open();
                assert!(matches!(found, Found::Restored | Found::RolledBack), "{found:?}");
                assert_eq!(image(&third), got, "round {round}, store {at}: cut in the recovery");
            }
            // And it goes on from there: all of this leaves a sound region behind.
            let mut model = got;
            for _ in 0..2 {
                let mut tx = successor.begin();
                change(&mut random, &successor, &mut tx, &mut model);
                tx.commit().unwrap();
            }
            let mut tx = successor.begin();
            change(&mut random, &successor, &mut tx, &mut model.clone());
            drop(tx);
            let (third, found) = snapshot.open();
            assert_eq!((image(&third), found), (model, Found::Restored));
        }
        if !is_rolled_back {
            committed = next;
            assert!(was_after);
            done += 1;
        }
        assert_eq!(image(&state), committed);
    }
    assert!(cut > 4000 && nested > 500 && undone > 1000 && done > 50, "{cut} {nested} {undone} {done}");
}

#[test]
fn a_death_in_the_very_first_start_leaves_nothing() {
    fake::reset();
    let memory = Memory::new(REGION);
    let cuts = Cuts::of(&memory);
    assert_eq!(memory.open().1, Found::Fresh);
    let all = without_hook(|| cuts.take());
    assert!(all.len() > 8);
    for (at, snapshot) in all.iter().enumerate() {
        let (state, found) = snapshot.open();
        assert!(matches!(found, Found::Fresh | Found::Restored), "store {at}: {found:?}");
        assert_eq!(image(&state), [0; ROOT]);
    }
    assert_eq!(all[0].open().1, Found::Restored);
}

#[test]
fn a_death_while_damage_is_repaired_changes_nothing_about_it() {
    fake::reset();
    let mut random = Random(12);
    for lose in [false, true] {
        let memory = Memory::new(REGION);
        let (state, _) = memory.open();
        let mut history = vec![image(&state)];
        for _ in 0..3 {
            let mut model = *history.last().unwrap();
            let mut tx = state.begin();
            for _ in 0..3 {
                change(&mut random, &state, &mut tx, &mut model);
            }
            tx.commit().unwrap();
            history.push(model);
        }
        let (a, b) = (offset_of_copy(0), offset_of_copy(1));
        for at in [Some(a), Some(b).filter(|_| lose)].into_iter().flatten() {
            // SAFETY: within the region.
            unsafe { *memory.at(at + 3) ^= 0x10 };
        }
        let cuts = Cuts::of(&memory);
        let (state, found) = memory.open();
        let all = without_hook(|| cuts.take());
        let expected = if lose { [0; ROOT] } else { history[2] };
        assert_eq!((image(&state), found), (expected, if lose { Found::Lost } else { Found::OlderCopy }));
        assert!(all.len() > 10);
        for snapshot in all {
            let (state, found) = snapshot.open();
            let got = image(&state);
            match found {
                Found::Lost => assert!(lose && got == expected),
                Found::OlderCopy => assert!(!lose && got == expected),
                // Sound after all: what was damaged is as it was, copied from where it had not changed since.
                Found::Restored => assert!(got == expected || got == history[3]),
                _ => panic!("{found:?}"),
            }
        }
    }
}

/// Where a copy lies in a region of the size used here.
pub fn offset_of_copy(copy: usize) -> usize {
    rt::state::layout::Layout::of(REGION, ROOT, SCHEMA).unwrap().copies[copy]
}

#[test]
fn transactions_are_as_good_as_a_model() {
    fake::reset();
    let mut random = Random(13);
    let memory = Memory::new(REGION);
    let (mut state, _) = memory.open();
    let (mut model, mut previous) = (image(&state), None);
    for _ in 0..20_000 {
        match random.below(10) {
            0 => {
                let (successor, found) = memory.open();
                assert_eq!(found, Found::Restored);
                state = successor;
            }
            1 => {
                let mut scratch = model;
                let mut tx = state.begin();
                change(&mut random, &state, &mut tx, &mut scratch);
                change(&mut random, &state, &mut tx, &mut scratch);
                assert_eq!(image(&state), scratch);
                drop(tx);
            }
            2 => {
                let mut tx = state.begin();
                change(&mut random, &state, &mut tx, &mut model.clone());
                std::mem::forget(tx);
                let (successor, found) = memory.open();
                assert!(matches!(found, Found::RolledBack | Found::Restored));
                state = successor;
            }
            3 if previous.is_some() => {
                state.undo_last().unwrap();
                model = previous.take().unwrap();
            }
            _ => {
                let before = model;
                let mut tx = state.begin();
                for _ in 0..=random.below(4) {
                    change(&mut random, &state, &mut tx, &mut model);
                }
                state.total.set(&mut tx, random.next());
                model[..8].copy_from_slice(&state.total.get().to_le_bytes());
                tx.commit().unwrap();
                previous = Some(before);
            }
        }
        assert_eq!(image(&state), model);
    }
}

#[test]
fn a_transaction_beyond_the_log_has_not_happened() {
    fake::reset();
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let mut tx = state.begin();
    state.total.set(&mut tx, 5);
    tx.commit().unwrap();
    let before = image(&state);
    // The log half has 1024 bytes; each of these takes 24.
    for count in [42, 43] {
        let mut tx = state.begin();
        for value in 0..count {
            state.list[value as usize % 32].set(&mut tx, value);
        }
        let result = tx.commit();
        assert_eq!(result, if count == 42 { Ok(()) } else { Err(Error::NOSPC) });
        if count == 42 {
            state.undo_last().unwrap();
            assert_eq!(image(&state), before);
            assert_eq!(state.undo_last(), Err(Error::NOENT)); // of the undoing
        }
        assert_eq!(image(&state), before);
        assert_eq!(image(&memory.snapshot().open().0), before);
    }
}

#[test]
fn transactions_do_not_nest() {
    fake::reset();
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let mut tx = state.begin();
    state.total.set(&mut tx, 9);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(state.begin()))).is_err());
    drop(tx);
    assert_eq!(state.total.get(), 0);
    let other_memory = Memory::new(REGION);
    let (other, _) = other_memory.open();
    let misuse = || {
        let mut tx = state.begin();
        state.small.set(&mut tx, 4);
        other.total.set(&mut tx, 9);
    };
    assert!(catch_unwind(AssertUnwindSafe(misuse)).is_err());
    assert_eq!((state.small.get(), other.total.get()), (0, 0));
    let mut tx = state.begin();
    assert_eq!(state.bytes.copy_from(&mut tx, 110, &[1, 2, 3]), Err(Error::RANGE));
    assert_eq!(state.bytes.copy_from(&mut tx, usize::MAX, &[1]), Err(Error::RANGE));
    assert_eq!(state.bytes.copy_to(112, &mut [0]), Err(Error::RANGE));
    tx.commit().unwrap();
    assert_eq!(image(&state), [0; ROOT]);
}

#[test]
fn an_undone_commit_cannot_be_undone_twice() {
    fake::reset();
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    assert_eq!(state.undo_last(), Err(Error::NOENT));
    for value in [1, 2] {
        let mut tx = state.begin();
        state.total.set(&mut tx, value);
        tx.commit().unwrap();
    }
    let (state, found) = memory.open();
    assert_eq!(found, Found::Restored);
    state.undo_last().unwrap();
    assert_eq!(state.total.get(), 1);
    assert_eq!(state.undo_last(), Err(Error::NOENT));
    let (state, found) = memory.open();
    assert_eq!((state.total.get(), found), (1, Found::Restored));
    assert_eq!(state.undo_last(), Err(Error::NOENT));
}

#[test]
fn what_does_not_fit_is_refused() {
    fake::reset();
    let memory = Memory::new(4096);
    assert!(catch_unwind(AssertUnwindSafe(|| memory.open())).is_err());
    let memory = Memory::new(REGION);
    memory.open();
    assert!(catch_unwind(|| state::open::<Root>("another")).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| memory.open_as::<[u64; 1000]>(SCHEMA, 0))).is_err());
}

#[test]
fn another_schema_begins_anew() {
    fake::reset();
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let mut tx = state.begin();
    state.total.set(&mut tx, 7);
    tx.commit().unwrap();
    let (state, found) = memory.snapshot().open_as::<Root>(SCHEMA + 1, 0);
    assert_eq!((image(&state), found), ([0; ROOT], Found::OtherSchema));
    let (state, found) = memory.snapshot().open_as::<[Cell<u64>; 20]>(SCHEMA, 0);
    assert_eq!((state[0].get(), found), (0, Found::OtherSchema));
    assert_eq!(memory.open().0.total.get(), 7);
}

rt::state::plain! {
    pub struct Wider {
        pub count: Cell<u64>,
        pub bytes: [Cell<u64>; 1200],
    }
}

#[test]
fn a_new_version_converts_what_the_old_one_has_left() {
    fake::reset();
    let memory = Memory::new(REGION);
    let (state, _) = memory.open();
    let mut random = Random(14);
    let mut model = image(&state);
    for _ in 0..5 {
        let mut tx = state.begin();
        change(&mut random, &state, &mut tx, &mut model);
        tx.commit().unwrap();
    }
    let mut tx = state.begin();
    change(&mut random, &state, &mut tx, &mut model.clone());
    std::mem::forget(tx);
    let convert = |schema: u32, old: &[u8], new: &Wider, tx: &mut Tx<'_>| {
        new.count.set(tx, u64::from(schema));
        for (at, byte) in old.iter().enumerate() {
            new.bytes[at].set(tx, u64::from(*byte)); // more than any log takes
        }
    };
    let larger = memory.resized(4 * REGION);
    larger.open_as::<Wider>(SCHEMA, 0); // makes the entry of the region; without a converter there are zeros
    let larger = memory.resized(4 * REGION);
    larger.name(SCHEMA + 1);
    let (new, found) = state::open_or_convert::<Wider>("ledger", convert);
    assert_eq!((found, new.count.get()), (Found::Converted, u64::from(SCHEMA)));
    assert!((0..ROOT).all(|at| new.bytes[at].get() == u64::from(model[at])));
    let mut tx = new.begin();
    new.bytes[1199].set(&mut tx, 5);
    tx.commit().unwrap();
    let (new, found) = state::open_or_convert::<Wider>("ledger", convert);
    assert_eq!((found, new.bytes[1199].get(), new.count.get()), (Found::Restored, 5, u64::from(SCHEMA)));
    // What is damaged, or not all there, is not converted.
    for (size, at) in [(4 * REGION, offset_of_copy(0)), (6144, 0)] {
        let other = memory.resized(size);
        if at > 0 {
            // SAFETY: within the region.
            unsafe { *other.at(at) ^= 1 };
        }
        other.name(SCHEMA + 1);
        let (new, found) = state::open_or_convert::<[Cell<u64>; 2]>("ledger", |_, _, _, _| panic!("converted"));
        assert!(matches!(found, Found::OtherSchema | Found::Lost), "{found:?}");
        assert_eq!(new[0].get(), 0);
    }
}

#[test]
fn the_c_face_is_the_same_state() {
    use rt::state::c_face::*;
    fake::reset();
    let memory = Memory::new(REGION);
    drop(memory.open());
    let (mut data, mut size, mut found) = (std::ptr::null(), ROOT, -1);
    // SAFETY: as the functions want it; the region outlives its use.
    unsafe {
        assert!(r3s3_tx_begin().is_null());
        assert_eq!(r3s3_state_open(b"nothing\0".as_ptr(), &mut data, &mut size, &mut found), abi::ERROR_NOENT);
        size = 1 << 20;
        assert_eq!(r3s3_state_open(b"ledger\0".as_ptr(), &mut data, &mut size, &mut found), abi::ERROR_NOSPC);
        size = ROOT;
        assert_eq!(r3s3_state_open(b"ledger\0".as_ptr(), &mut data, &mut size, &mut found), 0);
        assert_eq!((size, found), (ROOT, 1));
        let field = data.add(8) as *mut u8;
        for (value, commits) in [(17_u32, true), (18, false)] {
            let tx = r3s3_tx_begin();
            r3s3_tx_write(tx, field, (&value as *const u32).cast(), 4);
            assert_eq!(field.cast::<u32>().read(), value);
            match commits {
                true => assert_eq!(r3s3_tx_commit(tx), 0),
                false => r3s3_tx_abort(tx),
            }
        }
        assert_eq!(field.cast::<u32>().read(), 17);
    }
    assert_eq!(memory.open().0.small.get(), 17);
}
