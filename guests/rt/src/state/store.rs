//! The untyped store: transactions over a region, and what is made of a region at the start.
//!
//! Whoever dies here dies between two stores; what was stored before is there, in program order. So:
//!
//!     begin   copy B is brought up to commit n, from the ranges in the log half of n; its seal for n
//!     write   an entry {range, old words} in the log half of n + 1, its check last; then the new bytes into A
//!     commit  A's seal for n + 1, beside the one for n; then the commit word: n + 1
//!
//! Until the commit word changes, the entries of n + 1 undo everything. An entry that is not whole is the end of the
//! log, because nothing was written to A after it. A's sum is carried along by differences, so that damage done by a
//! stray write does not get into it and is found at the next start; or earlier, when B is brought up.

use crate::abi::PAGE_SIZE;
use crate::error::Error;
use crate::kill_point;
use crate::state::layout::*;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{compiler_fence, Ordering};

/// What was found at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing: everything is zero.
    Fresh,
    /// The state as of the last commit.
    Restored,
    /// The same; a transaction that was half done has been undone.
    RolledBack,
    /// The live data was damaged: the state as of the last commit or the one before.
    OlderCopy,
    /// Nothing sound, or so poisoned that the restart policy wants it begun anew: everything is zero.
    Lost,
    /// State of another schema, or of another size: everything is zero.
    OtherSchema,
    /// The same, and it has been converted.
    Converted,
}

/// Makes this state, which is all zero, of one of another schema: (where to, schema, its data).
pub type Convert<'a> = &'a mut dyn FnMut(&Store, u32, &[u8]);

/// Words of a log entry before the old words: descriptor, check.
const ENTRY_HEAD: usize = 2;
/// In place of the position of the entry before the first.
const NO_ENTRY: usize = 0xffff;

pub struct Store {
    base: *mut u8,
    pub layout: Layout,
    /// Of the last commit, and A's sum as of then.
    number: Cell<u64>,
    sum: Cell<u64>,
    /// A's sum as it is.
    running: Cell<u64>,
    /// B's sum, and how many words of log B is behind A.
    older: Cell<u64>,
    behind: Cell<usize>,
    /// The log of the present transaction: words, position of the last entry, its check.
    end: Cell<usize>,
    last: Cell<usize>,
    chain: Cell<u64>,
    open: Cell<bool>,
    full: Cell<bool>,
    /// What is written needs no log: the state does not count yet.
    converting: Cell<bool>,
}

/// One log entry: `count` words of data from word `first`; where it and the one before it begin, in words.
#[derive(Clone, Copy)]
struct Entry {
    at: usize,
    first: usize,
    count: usize,
    previous: usize,
}

impl Store {
    /// Makes the best of a region.
    ///
    /// # Safety
    /// The region at `base`, 64-byte aligned, is as long as the layout was made for, and used through this store
    /// alone as long as it lives.
    pub unsafe fn open(
        base: *mut u8,
        region: usize,
        layout: Layout,
        older_copy: bool,
        convert: Option<Convert<'_>>,
    ) -> (Store, Found) {
        let store = Store::new(base, layout);
        let found = store.recover(region, older_copy, convert);
        (store, found)
    }

    /// Begins anew, whatever there is: `Lost`.
    ///
    /// # Safety
    /// As for `open`.
    pub unsafe fn begin_anew(base: *mut u8, layout: Layout) -> (Store, Found) {
        let store = Store::new(base, layout);
        let found = store.create(Found::Lost);
        (store, found)
    }

    fn new(base: *mut u8, layout: Layout) -> Store {
        Store {
            base,
            layout,
            number: Cell::new(0),
            sum: Cell::new(0),
            running: Cell::new(0),
            older: Cell::new(0),
            behind: Cell::new(0),
            end: Cell::new(0),
            last: Cell::new(NO_ENTRY),
            chain: Cell::new(0),
            open: Cell::new(false),
            full: Cell::new(false),
            converting: Cell::new(false),
        }
    }

    // -- memory ---------------------------------------------------------------------------------------

    #[inline(always)]
    fn load(&self, offset: usize) -> u64 {
        // SAFETY: all offsets come from the layout or from log entries that were checked against it; aligned.
        unsafe { ptr::read_volatile(self.base.add(offset).cast()) }
    }

    #[inline(always)]
    fn put(&self, offset: usize, word: u64) {
        // SAFETY: as above. Volatile: stores stay where they stand in the program.
        unsafe { ptr::write_volatile(self.base.add(offset).cast(), word) };
        #[cfg(host_test)]
        crate::fake::stored();
    }

    fn put_bytes(&self, offset: usize, bytes: &[u8]) {
        // Not word by word, which would be slow; in what order these stores are made among each other is all the same.
        compiler_fence(Ordering::SeqCst);
        #[cfg(not(host_test))]
        // SAFETY: `write` has checked the range; `bytes` may lie in the same copy.
        unsafe {
            ptr::copy(bytes.as_ptr(), self.base.add(offset), bytes.len())
        };
        #[cfg(host_test)]
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(self.base.add(offset + at), *byte) };
            crate::fake::stored();
        }
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn word(&self, copy: usize, word: usize) -> usize {
        self.layout.copies[copy] + 8 * word
    }

    /// Where the live data is.
    pub fn data(&self) -> *mut u8 {
        // SAFETY: within the region.
        unsafe { self.base.add(self.layout.copies[A]) }
    }

    fn sum_of(&self, copy: usize) -> u64 {
        let part = |at| mix(self.load(self.word(copy, at)), at as u64);
        (0..self.layout.words).map(part).fold(0, u64::wrapping_add)
    }

    fn copy(&self, from: usize, into: usize) {
        for at in 0..self.layout.words {
            let word = self.load(self.word(from, at));
            if self.load(self.word(into, at)) != word {
                self.put(self.word(into, at), word);
            }
        }
    }

    // -- seals ----------------------------------------------------------------------------------------

    /// The sum of a copy as of commit `number`, if its seal is sound.
    fn seal(&self, copy: usize, number: u64) -> Option<u64> {
        let at = self.layout.seal(copy, number);
        let sum = self.load(at + 8);
        let sound = self.load(at) == number && self.load(at + 16) == self.layout.seal_check(copy, number, sum);
        Some(sum).filter(|_| sound)
    }

    #[inline(always)]
    fn put_seal(&self, copy: usize, number: u64, sum: u64) {
        let at = self.layout.seal(copy, number);
        self.put(at, number);
        self.put(at + 8, sum);
        self.put(at + 16, self.layout.seal_check(copy, number, sum));
    }

    // -- the log --------------------------------------------------------------------------------------

    /// The entry at word `at` of a log half, if it lies within it and speaks of data.
    fn entry(&self, number: u64, at: usize, end: usize) -> Option<Entry> {
        if at + ENTRY_HEAD > end {
            return None;
        }
        let descriptor = self.load(self.layout.log(number) + 8 * at);
        let (first, count) = (descriptor as u32 as usize, (descriptor >> 32 & 0xffff) as usize);
        let sound = count > 0 && first + count <= self.layout.words && at + ENTRY_HEAD + count <= end;
        Some(Entry { at, first, count, previous: (descriptor >> 48) as usize }).filter(|_| sound)
    }

    fn old_word(&self, number: u64, entry: &Entry, word: usize) -> u64 {
        self.load(self.layout.log(number) + 8 * (entry.at + ENTRY_HEAD + word))
    }

    /// What the checks of a transaction's entries begin with.
    fn chain_start(&self, number: u64) -> u64 {
        mix(number, self.layout.seed)
    }

    /// How many words of whole entries transaction `number` has in the log, and where the last one is.
    fn log_of(&self, number: u64) -> (usize, usize) {
        let (mut end, mut last, mut chain) = (0, NO_ENTRY, self.chain_start(number));
        while let Some(entry) = self.entry(number, end, self.layout.log_half / 8) {
            let part = |word| mix(self.old_word(number, &entry, word), (entry.first + word) as u64);
            let old = (0..entry.count).map(part).fold(0, u64::wrapping_add);
            let at = self.layout.log(number) + 8 * end;
            let check = mix(self.load(at), mix(old, chain));
            if self.load(at + 8) != check || entry.previous != last {
                break;
            }
            chain = check;
            last = end;
            end += ENTRY_HEAD + entry.count;
        }
        (end, last)
    }

    /// Writes the old words of a transaction's entries into a copy, from the last to the first. Done twice it is as
    /// good as once. False: an entry makes no sense.
    fn undo(&self, number: u64, copy: usize, end: usize, last: usize) -> bool {
        let (mut end, mut at) = (end, last);
        while at != NO_ENTRY {
            let entry = match self.entry(number, at, end) {
                Some(entry) if entry.previous == NO_ENTRY || entry.previous < at => entry,
                _ => return false,
            };
            kill_point!("state.in_rollback");
            for word in 0..entry.count {
                self.put(self.word(copy, entry.first + word), self.old_word(number, &entry, word));
            }
            end = at;
            at = entry.previous;
        }
        true
    }

    /// Takes the entries of a transaction out of the log.
    fn forget(&self, number: u64) {
        // The check of the first entry: without that there are no others.
        self.put(self.layout.log(number) + 8, 0);
    }

    // -- transactions ---------------------------------------------------------------------------------

    /// Panics if a transaction is open: one inside another, or one that was neither ended nor dropped.
    #[inline]
    pub fn begin(&self) {
        assert!(!self.open.replace(true), "a transaction of this state is open already");
        if self.behind.get() > 0 {
            self.bring_up();
        }
        self.running.set(self.sum.get());
        self.end.set(0);
        self.last.set(NO_ENTRY);
        self.chain.set(self.chain_start(following(self.number.get())));
        self.full.set(false);
    }

    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Brings B up to the last commit. If that does not give the sum A should have, somebody has written where he
    /// should not have: dies, and leaves it to the next instance to say which copy is sound.
    fn bring_up(&self) {
        let number = self.number.get();
        let end = self.behind.replace(0);
        let (mut at, mut last, mut sum) = (0, NO_ENTRY, self.older.get());
        // The other half is free: it takes what is overwritten, in case that it should not have been.
        let spare = self.layout.log(following(number));
        kill_point!("state.in_copy");
        while let Some(entry) = self.entry(number, at, end) {
            for word in entry.first..entry.first + entry.count {
                let (old, new) = (self.load(self.word(B, word)), self.load(self.word(A, word)));
                self.put(spare + 8 * (at + ENTRY_HEAD + word - entry.first), old);
                self.put(self.word(B, word), new);
                sum = sum.wrapping_sub(mix(old, word as u64)).wrapping_add(mix(new, word as u64));
            }
            last = at;
            at += ENTRY_HEAD + entry.count;
        }
        if sum != self.sum.get() {
            self.put_back(number, at, last);
            panic!("the state was overwritten outside of a transaction");
        }
        self.put_seal(B, number, sum);
        self.older.set(sum);
    }

    /// Undoes what `bring_up` has done so far: `end` words of entries, the last one at `at`.
    #[cold]
    fn put_back(&self, number: u64, mut end: usize, mut at: usize) {
        while let Some(entry) = self.entry(number, at, end) {
            for word in 0..entry.count {
                let old = self.load(self.layout.log(following(number)) + 8 * (at + ENTRY_HEAD + word));
                self.put(self.word(B, entry.first + word), old);
            }
            end = at;
            at = entry.previous;
        }
    }

    /// Changes bytes of the data in the open transaction. What does not fit the log makes the commit fail. Panics
    /// outside of the data.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(self.open.get(), "no transaction is open");
        let size = 8 * self.layout.words;
        assert!(offset <= size && bytes.len() <= size - offset, "not a part of this state");
        let at = self.end.get();
        if bytes.is_empty() || self.full.get() {
            return;
        }
        if self.converting.get() {
            return self.put_bytes(self.layout.copies[A] + offset, bytes);
        }
        let first = offset / 8;
        let count = (offset + bytes.len() - 1) / 8 + 1 - first;
        if at + ENTRY_HEAD + count > self.layout.log_half / 8 {
            self.full.set(true);
            return;
        }
        let entry = self.layout.log(following(self.number.get())) + 8 * at;
        let mut olds = 0_u64;
        for word in 0..count {
            let old = self.load(self.word(A, first + word));
            self.put(entry + 8 * (ENTRY_HEAD + word), old);
            olds = olds.wrapping_add(mix(old, (first + word) as u64));
        }
        let descriptor = first as u64 | (count as u64) << 32 | (self.last.get() as u64) << 48;
        let check = mix(descriptor, mix(olds, self.chain.get()));
        self.put(entry, descriptor);
        self.put(entry + 8, check);
        kill_point!("state.after_log");
        self.put_bytes(self.layout.copies[A] + offset, bytes);
        let part = |word| mix(self.load(self.word(A, word)), word as u64);
        let news = (first..first + count).map(part).fold(0, u64::wrapping_add);
        self.running.set(self.running.get().wrapping_sub(olds).wrapping_add(news));
        self.chain.set(check);
        self.last.set(at);
        self.end.set(at + ENTRY_HEAD + count);
    }

    /// Makes everything written since `begin` last. `NOSPC`: it was more than fits the log, nothing has happened.
    #[inline]
    pub fn commit(&self) -> Result<(), Error> {
        assert!(self.open.get(), "no transaction is open");
        if self.full.get() {
            self.roll_back();
            return Err(Error::NOSPC);
        }
        if self.end.get() > 0 {
            let number = following(self.number.get());
            self.put_seal(A, number, self.running.get());
            kill_point!("state.before_commit");
            self.put(COMMIT, self.layout.commit_word(number));
            kill_point!("state.after_commit");
            self.number.set(number);
            self.sum.set(self.running.get());
            self.behind.set(self.end.get());
        }
        self.open.set(false);
        Ok(())
    }

    /// Undoes everything written since `begin`.
    pub fn roll_back(&self) {
        assert!(self.open.get(), "no transaction is open");
        if self.end.get() > 0 {
            let number = following(self.number.get());
            let sound = self.log_of(number) == (self.end.get(), self.last.get())
                && self.undo(number, A, self.end.get(), self.last.get());
            assert!(sound, "the log of the state was overwritten");
            self.forget(number);
        }
        self.open.set(false);
    }

    /// Undoes the last commit, as a transaction of its own that cannot be undone: for a program that finds its state
    /// poisoned. `NOENT`: that commit is not in the log any more.
    pub fn undo_last(&self) -> Result<(), Error> {
        let number = self.number.get();
        let (end, mut at) = self.log_of(number);
        if end == 0 {
            return Err(Error::NOENT);
        }
        self.begin();
        while let Some(entry) = self.entry(number, at, end) {
            let old = self.layout.log(number) + 8 * (entry.at + ENTRY_HEAD);
            // SAFETY: within the log half, which this transaction does not use: its own is the other one.
            let old = unsafe { core::slice::from_raw_parts(self.base.add(old), 8 * entry.count) };
            self.write(8 * entry.first, old);
            at = entry.previous;
        }
        self.commit()?;
        // Otherwise whoever is poisoned once more would bring back what was undone. B needs the log before.
        self.begin();
        self.roll_back();
        self.forget(self.number.get());
        Ok(())
    }

    // -- the start ------------------------------------------------------------------------------------

    fn is_lost(&self) -> bool {
        self.load(DESCRIPTOR) == MAGIC_LOST
    }

    /// Undoes what is not committed: number and sum of the last commit, and whether there was something to undo. None
    /// if the live data is damaged; what has been undone is harmless then, because it is not used.
    fn recover_live(&self) -> Option<(u64, u64, bool)> {
        let commit = self.load(COMMIT);
        let number = commit >> CHECK_BITS;
        if commit != self.layout.commit_word(number) || self.is_lost() {
            return None;
        }
        let sum = self.seal(A, number)?;
        let (end, last) = self.log_of(following(number));
        let is_sound = self.undo(following(number), A, end, last) && self.sum_of(A) == sum;
        Some((number, sum, end > 0)).filter(|_| is_sound)
    }

    fn recover(&self, region: usize, older_copy: bool, convert: Option<Convert<'_>>) -> Found {
        if let Some((number, sum, undone)) = self.recover_live() {
            if undone {
                self.forget(following(number));
            }
            self.copy(A, B);
            self.settle(number, sum);
            return if undone { Found::RolledBack } else { Found::Restored };
        }
        if (0..region / 8).all(|word| self.load(8 * word) == 0) || self.is_unborn() {
            return self.create(Found::Fresh);
        }
        if let Some(other) = self.other_layout(region) {
            return match (convert, Store::new(self.base, other).live_data()) {
                (Some(convert), Some(data)) => self.convert(other.schema, &data, convert),
                _ => self.create(Found::OtherSchema),
            };
        }
        let number = self.load(self.layout.seal(B, 0));
        match self.seal(B, number) {
            Some(sum) if older_copy && !self.is_lost() && self.sum_of(B) == sum => {
                // From here to the commit word A is damaged, whatever of this has been done; or it turns out to be
                // sound after all, where what is damaged has not changed since.
                self.forget(0);
                self.forget(1);
                self.copy(B, A);
                self.put_seal(A, number, sum);
                self.put(COMMIT, self.layout.commit_word(number));
                self.settle(number, sum);
                Found::OlderCopy
            }
            _ => self.create(Found::Lost),
        }
    }

    /// Both copies are sound as of commit `number`: the rest of the header, too, from here on.
    fn settle(&self, number: u64, sum: u64) {
        if self.seal(B, number) != Some(sum) {
            self.put_seal(B, number, sum);
        }
        for (at, word) in self.layout.descriptor().iter().enumerate() {
            if self.load(DESCRIPTOR + 8 * at) != *word {
                self.put(DESCRIPTOR + 8 * at, *word);
            }
        }
        self.number.set(number);
        self.sum.set(sum);
        self.older.set(sum);
    }

    /// Did somebody die over an empty region before he could seal it?
    fn is_unborn(&self) -> bool {
        let sum_at = self.layout.seal(A, 0) + 8;
        let is_begun = |offset| match self.load(offset) {
            0 => true,
            word if offset == COMMIT => word == self.layout.commit_word(0),
            word => offset == sum_at && word == self.sum_of_zeros(),
        };
        (0..PAGE_SIZE).step_by(8).all(is_begun)
            && (0..self.layout.words).all(|at| self.load(self.word(A, at)) == 0 && self.load(self.word(B, at)) == 0)
    }

    fn sum_of_zeros(&self) -> u64 {
        (0..self.layout.words).map(|at| mix(0, at as u64)).fold(0, u64::wrapping_add)
    }

    /// The layout the descriptor speaks of, if it is sound and not ours.
    fn other_layout(&self, region: usize) -> Option<Layout> {
        let mut words = [0; DESCRIPTOR_WORDS];
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.load(DESCRIPTOR + 8 * at);
        }
        let said = &words[..DESCRIPTOR_WORDS - 1];
        let is_other = said[0] == MAGIC && descriptor_check(said) == words[4] && words != self.layout.descriptor();
        Layout::described(said, region).filter(|_| is_other)
    }

    /// A private copy of the live data, if it is sound.
    fn live_data(&self) -> Option<Vec<u8>> {
        self.recover_live()?;
        let words = (0..self.layout.words).map(|at| self.load(self.word(A, at)).to_le_bytes());
        Some(words.flatten().collect())
    }

    /// Begins anew with what `convert` makes of other data. It counts once it is whole; if this instance dies before, it
    /// is lost, but an update works on a copy.
    fn convert(&self, schema: u32, data: &[u8], convert: Convert<'_>) -> Found {
        self.clear();
        self.converting.set(true);
        self.open.set(true);
        convert(self, schema, data);
        self.open.set(false);
        self.converting.set(false);
        kill_point!("state.converted");
        self.copy(A, B);
        kill_point!("state.before_seal");
        self.seal_first(self.sum_of(A));
        Found::Converted
    }

    /// Begins anew, with zeros. Until A's first seal is whole nothing is valid.
    fn create(&self, found: Found) -> Found {
        if found != Found::Fresh {
            self.clear();
        }
        self.seal_first(self.sum_of_zeros());
        found
    }

    fn seal_first(&self, sum: u64) {
        self.put(COMMIT, self.layout.commit_word(0));
        self.put_seal(A, 0, sum);
        self.settle(0, sum);
    }

    /// Makes everything zero that counts.
    fn clear(&self) {
        // Says "lost" to whoever comes next, should this instance die here.
        self.put(DESCRIPTOR, MAGIC_LOST);
        for offset in (DESCRIPTOR + 8..PAGE_SIZE).step_by(8) {
            self.put(offset, 0);
        }
        self.forget(0);
        self.forget(1);
        for copy in [A, B] {
            for at in 0..self.layout.words {
                self.put(self.word(copy, at), 0);
            }
        }
    }
}
