//! The ledger as each version has it, and the way from each to the next: ordinary functions of a value to a value.
//!
//!     1   amounts of 32 bits
//!     2   amounts of 64 bits
//!     3   for each entry the sum up to it, of 32 bits

use rt::alloc::boxed::Box;
use rt::state::{self, Cell, Plain, Replies, Tx};

pub const ENTRIES: usize = 64_000;

state::plain! {
    pub struct First {
        replies: Replies<4, 32>,
        length: Cell<u64>,
        entries: [Cell<u32>; ENTRIES],
    }
}

state::plain! {
    pub struct Second {
        replies: Replies<4, 32>,
        length: Cell<u64>,
        entries: [Cell<u64>; ENTRIES],
    }
}

state::plain! {
    pub struct Third {
        replies: Replies<4, 32>,
        length: Cell<u64>,
        sums: [Cell<u32>; ENTRIES],
    }
}

pub fn second(mut old: Box<First>) -> Box<Second> {
    let mut new = state::zeros::<Second>();
    core::mem::swap(&mut new.replies, &mut old.replies); // what was done stays done
    *new.length.get_mut() = old.length.get();
    for (new, old) in new.entries.iter_mut().zip(&old.entries) {
        *new.get_mut() = u64::from(old.get());
    }
    new
}

/// Panics where there is no such ledger: then the old version goes on.
pub fn third(mut old: Box<Second>) -> Box<Third> {
    let mut new = state::zeros::<Third>();
    core::mem::swap(&mut new.replies, &mut old.replies);
    *new.length.get_mut() = old.length.get();
    let mut sum = 0;
    for (new, old) in new.sums.iter_mut().zip(&old.entries).take(old.length.get() as usize) {
        sum += old.get();
        assert!(sum <= u64::from(u32::MAX), "the ledger's sum is more than version 3 can count");
        *new.get_mut() = sum as u32;
    }
    new
}

/// What the counter wants of its ledger.
pub trait Ledger: Plain + Sized {
    /// The state that version `schema` has left, as this one.
    fn convert(schema: u32, bytes: &[u8]) -> Box<Self>;
    fn replies(&self) -> &Replies<4, 32>;
    fn length(&self) -> u64;
    /// Entry `number`, from 1, which there is.
    fn amount(&self, number: u64) -> u64;
    /// Appends an entry; its number, if there is room.
    fn append(&self, tx: &mut Tx<'_>, amount: u64) -> Option<u64>;
}

impl Ledger for Second {
    fn convert(schema: u32, bytes: &[u8]) -> Box<Second> {
        match schema {
            1 => second(state::read(bytes)),
            other => panic!("there is no way from schema {} to 2", other),
        }
    }

    fn replies(&self) -> &Replies<4, 32> {
        &self.replies
    }

    fn length(&self) -> u64 {
        self.length.get()
    }

    fn amount(&self, number: u64) -> u64 {
        self.entries[number as usize - 1].get()
    }

    fn append(&self, tx: &mut Tx<'_>, amount: u64) -> Option<u64> {
        let number = self.length.get() + 1;
        self.entries.get(number as usize - 1)?.set(tx, amount);
        self.length.set(tx, number);
        Some(number)
    }
}

impl Ledger for Third {
    fn convert(schema: u32, bytes: &[u8]) -> Box<Third> {
        match schema {
            1 => third(second(state::read(bytes))),
            2 => third(state::read(bytes)),
            other => panic!("there is no way from schema {} to 3", other),
        }
    }

    fn replies(&self) -> &Replies<4, 32> {
        &self.replies
    }

    fn length(&self) -> u64 {
        self.length.get()
    }

    fn amount(&self, number: u64) -> u64 {
        u64::from(self.sums[number as usize - 1].get()) - self.sum_before(number)
    }

    fn append(&self, tx: &mut Tx<'_>, amount: u64) -> Option<u64> {
        let number = self.length.get() + 1;
        let sum = self.sum_before(number).checked_add(amount).filter(|sum| *sum <= u64::from(u32::MAX))?;
        self.sums.get(number as usize - 1)?.set(tx, sum as u32);
        self.length.set(tx, number);
        Some(number)
    }
}

impl Third {
    fn sum_before(&self, number: u64) -> u64 {
        (number as usize).checked_sub(2).map_or(0, |before| u64::from(self.sums[before].get()))
    }
}
