//! What the server must not forget when it dies itself: one record per component, in the state region.
//!
//! A record has two places. The older one is overwritten and becomes valid with its checksum, which is stored
//! last: whenever the server dies, one of the two is whole. The region begins with the number of records in
//! use, so that a start touches no more pages than it must (a page's first touch costs microseconds, and a
//! component that waits for its verdict waits for this). Without a state region everything is in the heap.

use crate::policy::{History, Policy, Restart, Verdict, DEATHS, STEPS};
use alloc::boxed::Box;
use alloc::vec::Vec;
use rt::Shared;

/// Components this server can have in its care.
pub const COMPONENTS: usize = 128;

const HEAD: usize = 10;
/// Words of a record: sequence, checksum, head, backoff table, times of deaths.
const WORDS: usize = 2 + HEAD + STEPS / 2 + DEATHS;
const BYTES: usize = WORDS * 8;
const IN_USE: usize = 0;
const RECORDS: usize = 64;
/// What the state region must have.
pub const SIZE: usize = RECORDS + COMPONENTS * 2 * BYTES;

/// One component: how it wants to be treated, and what has happened to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub policy: Policy,
    pub history: History,
}

/// All components, by number.
pub struct Memory {
    records: Vec<Option<Box<Record>>>,
    sequences: Vec<u64>,
    /// Records below this number have been in use.
    in_use: usize,
    region: Option<Shared>,
}

impl Memory {
    /// Forgets whatever the region holds.
    pub fn fresh(region: Option<Shared>) -> Memory {
        if let Some(region) = region.filter(|region| region.len() >= SIZE) {
            region.store_u64(IN_USE, 0);
        }
        Memory::recovered(region)
    }

    /// Takes over what a predecessor has left; what is not whole does not count.
    pub fn recovered(region: Option<Shared>) -> Memory {
        let region = region.filter(|region| region.len() >= SIZE);
        let in_use = region.map_or(0, |region| region.load_u64(IN_USE).min(COMPONENTS as u64) as usize);
        let records = (0..COMPONENTS).map(|_| None).collect();
        let mut memory = Memory { records, sequences: alloc::vec![0; COMPONENTS], in_use, region };
        if let Some(region) = region {
            for number in 0..in_use {
                for place in 0..2 {
                    if let Some((sequence, record)) = load(region, number, place) {
                        if sequence > memory.sequences[number] {
                            memory.sequences[number] = sequence;
                            memory.records[number] = Some(Box::new(record));
                        }
                    }
                }
            }
        }
        memory
    }

    pub fn get(&self, number: usize) -> Option<&Record> {
        self.records.get(number)?.as_deref()
    }

    /// Keeps a record; false for a number beyond COMPONENTS.
    #[must_use]
    pub fn put(&mut self, number: usize, record: Record) -> bool {
        if number >= COMPONENTS {
            return false;
        }
        self.take_into_use(number);
        self.sequences[number] += 1;
        if let Some(region) = self.region {
            store(region, number, self.sequences[number], &record);
        }
        self.records[number] = Some(Box::new(record));
        true
    }

    /// Makes records up to `number` count; what a region that was used before holds there does not.
    fn take_into_use(&mut self, number: usize) {
        if let Some(region) = self.region.filter(|_| number >= self.in_use) {
            for new in self.in_use..=number {
                region.store_u64(offset_of(new, 0), 0);
                region.store_u64(offset_of(new, 1), 0);
            }
            region.store_u64(IN_USE, number as u64 + 1);
        }
        self.in_use = self.in_use.max(number + 1);
    }
}

fn offset_of(number: usize, place: usize) -> usize {
    RECORDS + (number * 2 + place) * BYTES
}

fn store(region: Shared, number: usize, sequence: u64, record: &Record) {
    let base = offset_of(number, (sequence % 2) as usize);
    let words = pack(sequence, record);
    region.store_u64(base + 8, 0);
    for (at, word) in words.iter().enumerate().filter(|(at, _)| *at != 1) {
        region.store_u64(base + 8 * at, *word);
    }
    // x86-64 makes stores visible in order, and `Shared` keeps the compiler from exchanging them.
    region.store_u64(base + 8, words[1]);
}

fn load(region: Shared, number: usize, place: usize) -> Option<(u64, Record)> {
    let base = offset_of(number, place);
    if region.load_u64(base) == 0 {
        return None;
    }
    let mut words = [0u64; WORDS];
    for (at, word) in words.iter_mut().enumerate() {
        *word = region.load_u64(base + 8 * at);
    }
    if words[0] == 0 || words[1] != checksum(&words) {
        return None;
    }
    Some((words[0], unpack(&words)?))
}

/// FNV-1a over everything but the checksum's own word; never zero.
fn checksum(words: &[u64; WORDS]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (at, word) in words.iter().enumerate() {
        if at != 1 {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    hash | 1
}

fn pack(sequence: u64, record: &Record) -> [u64; WORDS] {
    let (policy, history) = (&record.policy, &record.history);
    let (has_last, epoch, verdict) = match history.last {
        Some((epoch, verdict)) => (1, u64::from(epoch), verdict),
        None => (0, 0, Verdict::Restart),
    };
    let (action, delay_ms) = match verdict {
        Verdict::Restart => (0, 0),
        Verdict::RestartAfterMs(delay_ms) => (1, u64::from(delay_ms)),
        Verdict::GiveUp => (2, 0),
    };
    let restart = match policy.restart {
        Restart::Always => 0,
        Restart::Never => 1,
        Restart::Backoff => 2,
    };
    let mut words = [0; WORDS];
    words[0] = sequence;
    words[2..2 + HEAD].copy_from_slice(&[
        restart,
        u64::from(policy.restarts),
        u64::from(policy.within_ms),
        u64::from(policy.steps),
        history.deaths,
        u64::from(history.streak),
        has_last,
        epoch,
        action,
        delay_ms,
    ]);
    for (at, pair) in policy.backoff_ms.chunks_exact(2).enumerate() {
        words[2 + HEAD + at] = u64::from(pair[0]) | u64::from(pair[1]) << 32;
    }
    words[2 + HEAD + STEPS / 2..].copy_from_slice(&history.times);
    words[1] = checksum(&words);
    words
}

fn unpack(words: &[u64; WORDS]) -> Option<Record> {
    let head = &words[2..2 + HEAD];
    let restart = match head[0] {
        0 => Restart::Always,
        1 => Restart::Never,
        2 => Restart::Backoff,
        _ => return None,
    };
    let verdict = match head[8] {
        0 => Verdict::Restart,
        1 => Verdict::RestartAfterMs(head[9] as u32),
        2 => Verdict::GiveUp,
        _ => return None,
    };
    let mut backoff_ms = [0; STEPS];
    for (at, pair) in backoff_ms.chunks_exact_mut(2).enumerate() {
        let word = words[2 + HEAD + at];
        pair.copy_from_slice(&[word as u32, (word >> 32) as u32]);
    }
    let mut times = [0; DEATHS];
    times.copy_from_slice(&words[2 + HEAD + STEPS / 2..]);
    let (restarts, within_ms, steps) = (head[1] as u32, head[2] as u32, head[3] as u32);
    let last = if head[6] == 1 { Some((head[7] as u32, verdict)) } else { None };
    Some(Record {
        policy: Policy { restart, restarts, within_ms, steps, backoff_ms },
        history: History { deaths: head[4], times, streak: head[5] as u32, last },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::judge;

    fn region(words: &mut Vec<u64>) -> Shared {
        // SAFETY: the vector outlives the test's use of it and is not touched otherwise meanwhile.
        unsafe { Shared::new(words.as_mut_ptr().cast(), words.len() * 8) }
    }

    fn record(deaths: u32) -> Record {
        let mut backoff_ms = [0; STEPS];
        backoff_ms[..3].copy_from_slice(&[1, 2, u32::MAX]);
        let policy = Policy { restart: Restart::Backoff, restarts: 9, within_ms: 60_000, steps: 3, backoff_ms };
        let mut history = History::new();
        for epoch in 0..deaths {
            judge(&policy, &mut history, epoch + 1, u64::from(epoch) * 1_000_003).unwrap();
        }
        Record { policy, history }
    }

    #[test]
    fn a_successor_knows_what_its_predecessor_knew() {
        let mut words = vec![0; SIZE / 8];
        let mut memory = Memory::fresh(Some(region(&mut words)));
        for deaths in 0..5 {
            assert!(memory.put(3, record(deaths)));
        }
        assert!(memory.put(COMPONENTS - 1, record(300)));
        assert!(!memory.put(COMPONENTS, record(0)));
        let successor = Memory::recovered(Some(region(&mut words)));
        assert_eq!(successor.get(3), Some(&record(4)));
        assert_eq!(successor.get(COMPONENTS - 1), Some(&record(300)));
        assert_eq!(successor.get(4), None);
        assert_eq!(Memory::fresh(Some(region(&mut words))).get(3), None);
    }

    #[test]
    fn a_death_in_the_middle_of_a_store_leaves_the_record_before() {
        let mut words = vec![0; SIZE / 8];
        let mut memory = Memory::fresh(Some(region(&mut words)));
        assert!(memory.put(0, record(1)));
        assert!(memory.put(0, record(2)));
        let before = words.clone();
        // The third goes where the first was: every word of it may be the last one that was written.
        let mut memory = Memory::recovered(Some(region(&mut words)));
        assert!(memory.put(0, record(3)));
        let after = words.clone();
        let base = offset_of(0, 1) / 8;
        for cut in 0..WORDS {
            let mut torn = before.clone();
            torn[base + 1] = 0;
            torn[base..base + cut].copy_from_slice(&after[base..base + cut]);
            if cut > 1 {
                torn[base + 1] = 0;
            }
            assert_eq!(Memory::recovered(Some(region(&mut torn))).get(0), Some(&record(2)), "cut at {cut}");
        }
        assert_eq!(Memory::recovered(Some(region(&mut words))).get(0), Some(&record(3)));
    }

    #[test]
    fn garbage_is_nothing() {
        let mut words: Vec<u64> = (1..=SIZE as u64 / 8).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let memory = Memory::recovered(Some(region(&mut words)));
        assert!((0..COMPONENTS).all(|number| memory.get(number).is_none()));
    }

    #[test]
    fn what_was_there_before_a_fresh_start_never_comes_back() {
        let mut words = vec![0; SIZE / 8];
        let mut memory = Memory::fresh(Some(region(&mut words)));
        for deaths in 0..9 {
            assert!(memory.put(2, record(deaths)));
        }
        let mut memory = Memory::fresh(Some(region(&mut words)));
        assert!(memory.put(5, record(1)));
        let successor = Memory::recovered(Some(region(&mut words)));
        assert_eq!((successor.get(2), successor.get(5)), (None, Some(&record(1))));
    }

    #[test]
    fn works_without_a_region_or_with_one_too_small() {
        let mut small = vec![0; 8];
        for region in [None, Some(region(&mut small))] {
            let mut memory = Memory::fresh(region);
            assert!(memory.put(1, record(1)));
            assert_eq!(memory.get(1), Some(&record(1)));
        }
    }
}
