//! What the server must not forget when it dies itself: one record per component, in the state region.
//!
//! A record changes as a whole, in one transaction: a successor finds it as it was before a call or as it was after.

use crate::policy::{History, Poisoned, Policy, Restart, Verdict, DEATHS, STEPS};
use protocols::supervise;
use rt::state::{self, Cell, State};
use rt::Error;

/// Components this server can have in its care.
pub const COMPONENTS: usize = 128;

/// One component: how it wants to be treated, and what has happened to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub policy: Policy,
    pub history: History,
}

state::plain! {
    /// All components, by number. Something else in it, or elsewhere, is another schema.
    pub struct Records {
        all: [Cell<Kept>; COMPONENTS],
    }
}

state::plain! {
    /// A record of numbers only. `restart` and `action` are those of the protocol plus one: in a record of zeros there
    /// is no policy, and before the first verdict there is no action.
    #[derive(Clone, Copy)]
    struct Kept {
        deaths: u64,
        times: [u64; DEATHS],
        poisoned: u64,
        row_ns: u64,
        hasty: u64,
        row: u32,
        cure: u32,
        streak: u32,
        restart: u32,
        restarts: u32,
        within_ms: u32,
        steps: u32,
        backoff_ms: [u32; STEPS],
        epoch: u32,
        action: u32,
        delay_ms: u32,
    }
}

/// What a predecessor has left in the region "components".
pub struct Memory(State<Records>);

impl Memory {
    pub fn open() -> Memory {
        Memory(state::open("components").0)
    }

    /// None: nobody has configured it.
    pub fn get(&self, number: usize) -> Option<Record> {
        unpack(&self.0.all.get(number)?.get())
    }

    /// Keeps a record; `NOSPC` for a number beyond COMPONENTS.
    pub fn put(&mut self, number: usize, record: &Record) -> Result<(), Error> {
        let place = self.0.all.get(number).ok_or(Error::NOSPC)?;
        let mut tx = self.0.begin();
        place.set(&mut tx, pack(record));
        tx.commit()
    }
}

/// The policy of this number in the protocol.
pub fn restart_of(number: u32) -> Option<Restart> {
    match number {
        supervise::POLICY_ALWAYS => Some(Restart::Always),
        supervise::POLICY_NEVER => Some(Restart::Never),
        supervise::POLICY_BACKOFF => Some(Restart::Backoff),
        _ => None,
    }
}

/// (action, delay in ms) of a verdict in the protocol.
pub fn action_of(verdict: Verdict) -> (u32, u32) {
    match verdict {
        Verdict::Restart => (supervise::ACTION_RESTART, 0),
        Verdict::RestartAfterMs(delay_ms) => (supervise::ACTION_RESTART_AFTER_DELAY, delay_ms),
        Verdict::GiveUp => (supervise::ACTION_GIVE_UP, 0),
    }
}

fn pack(record: &Record) -> Kept {
    let Policy { restart, restarts, within_ms, steps, backoff_ms, poisoned: Poisoned(poisoned) } = record.policy;
    let History { deaths, times, streak, last, cure, row, row_ns, hasty } = record.history;
    let restart = match restart {
        Restart::Always => supervise::POLICY_ALWAYS,
        Restart::Never => supervise::POLICY_NEVER,
        Restart::Backoff => supervise::POLICY_BACKOFF,
    };
    let (epoch, action, delay_ms) = last.map_or((0, 0, 0), |(epoch, verdict)| {
        let (action, delay_ms) = action_of(verdict);
        (epoch, action + 1, delay_ms)
    });
    let restart = restart + 1;
    Kept {
        deaths,
        times,
        poisoned,
        row_ns,
        hasty: hasty.into(),
        row,
        cure,
        streak,
        restart,
        restarts,
        within_ms,
        steps,
        backoff_ms,
        epoch,
        action,
        delay_ms,
    }
}

fn unpack(kept: &Kept) -> Option<Record> {
    let Kept { row_ns, row, cure, deaths, times, streak, restart, restarts, within_ms, steps, backoff_ms, .. } = *kept;
    let restart = restart_of(restart.checked_sub(1)?)?;
    let last = match kept.action.checked_sub(1) {
        Some(supervise::ACTION_RESTART) => Some(Verdict::Restart),
        Some(supervise::ACTION_RESTART_AFTER_DELAY) => Some(Verdict::RestartAfterMs(kept.delay_ms)),
        Some(supervise::ACTION_GIVE_UP) => Some(Verdict::GiveUp),
        _ => None,
    };
    let policy = Policy { restart, restarts, within_ms, steps, backoff_ms, poisoned: Poisoned(kept.poisoned) };
    let last = last.map(|verdict| (kept.epoch, verdict));
    let history = History { deaths, times, streak, last, cure, row, row_ns, hasty: kept.hasty as u32 };
    Some(Record { policy, history })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::judge;
    use rt::abi::{self, RegionEntry};
    use rt::fake;

    const REGION: usize = 1 << 20;

    /// Makes it the region that `Memory::open` finds.
    fn name(words: &mut Vec<u64>) {
        let address = (words.as_mut_ptr() as u64 + 63) & !63;
        let size = REGION as u64;
        let mut entry =
            RegionEntry { kind: abi::REGION_KIND_STATE, address, size, schema: 2, ..RegionEntry::default() };
        entry.name[..10].copy_from_slice(b"components");
        fake::set_region(0, entry);
    }

    fn record(restart: Restart, restarts: u32, delays: &[u32], deaths: u32) -> Record {
        let mut backoff_ms = [0; STEPS];
        backoff_ms[..delays.len()].copy_from_slice(delays);
        let poisoned = Poisoned(1000 << 32 | 2 << 16 | 2);
        let steps = delays.len() as u32;
        let policy = Policy { restart, restarts, within_ms: 60_000, steps, backoff_ms, poisoned };
        let mut history = History::new();
        for epoch in 0..deaths {
            judge(&policy, &mut history, epoch + 1, 1, u64::from(epoch) * 1_000_003).unwrap();
        }
        Record { policy, history }
    }

    #[test]
    fn a_successor_knows_what_its_predecessor_knew() {
        let records = [
            record(Restart::Backoff, 9, &[1, 2, u32::MAX], 0),
            record(Restart::Backoff, 9, &[1, 2, u32::MAX], 3),
            record(Restart::Backoff, 9, &[1, 2, u32::MAX], 300),
            record(Restart::Never, 0, &[], 1),
            record(Restart::Always, 0, &[], 700),
        ];
        let mut words = vec![0; REGION / 8 + 8];
        name(&mut words);
        let mut memory = Memory::open();
        for (number, last) in records.iter().enumerate() {
            for known in [&records[0], last] {
                assert_eq!(memory.put(number, known), Ok(()));
                assert_eq!(memory.get(number).as_ref(), Some(known));
            }
        }
        assert_eq!(memory.put(COMPONENTS - 1, &records[2]), Ok(()));
        assert_eq!(memory.put(COMPONENTS, &records[2]), Err(Error::NOSPC));
        let successor = Memory::open();
        for (number, known) in records.iter().enumerate() {
            assert_eq!(successor.get(number).as_ref(), Some(known));
        }
        assert_eq!(successor.get(COMPONENTS - 1), Some(records[2]));
        assert!((records.len()..COMPONENTS - 1).all(|number| successor.get(number).is_none()));
        assert_eq!(successor.get(COMPONENTS), None);
    }

    #[test]
    fn numbers_that_mean_nothing_are_no_policy_and_no_verdict() {
        let sound = pack(&record(Restart::Always, 0, &[], 1));
        assert!(unpack(&sound).is_some());
        assert_eq!(unpack(&Kept { restart: 9, ..sound }), None);
        assert_eq!(unpack(&Kept { action: 9, ..sound }).map(|known| known.history.last), Some(None));
    }
}
