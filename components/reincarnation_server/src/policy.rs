//! The restart policy: a pure function of what was configured and what has happened. It calls nothing, parses
//! nothing and knows no clock but the times it is given, so it is tested on the host and gives the same
//! verdicts when it is asked the same things again.

use rt::abi;

/// Entries of a backoff table.
pub const STEPS: usize = 64;
/// Deaths that are remembered for each component.
pub const DEATHS: usize = 256;
/// A component that lived for at least this long since its last death has recovered, nanoseconds.
const CALM_NS: u64 = 1_000_000_000;

/// One that died by its own doing no longer than this after its restart is in a crash loop. So many such deaths in a
/// row are free; from then on there are delays, each twice the one before, so that a loop leaves time to others.
const HASTY_NS: u64 = 20 * NS_PER_MS;
const HASTY_FREE: u32 = 16;
const HASTY_SHIFT_MAX: u32 = 6;

const NS_PER_MS: u64 = 1_000_000;

/// When to start a failed component again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// At once.
    Always,
    Never,
    /// After the delays of the table: the first after the first death, the last from then on.
    Backoff,
}

/// How one component wants to be treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    pub restart: Restart,
    /// Given up at the next death after so many restarts within `within_ms`; 0: never.
    pub restarts: u32,
    pub within_ms: u32,
    /// Entries of `backoff_ms` in use.
    pub steps: u32,
    pub backoff_ms: [u32; STEPS],
    pub poisoned: Poisoned,
}

/// What to try against deaths one soon after the other, which the state is the cause of: cures of the ABI. As in
/// `configure` of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Poisoned(pub u64);

impl Poisoned {
    /// From which death in a row on there is something to try.
    fn deaths(self) -> u32 {
        u32::from((self.0 >> 16) as u16).max(1)
    }

    fn within_ns(self) -> u64 {
        (self.0 >> 32) * NS_PER_MS
    }

    /// What to try at the death after `row` others in a row: each once, and the last one from then on.
    fn cure(self, row: u32) -> u32 {
        let nth = |place: u32| (self.0 >> (4 * place)) as u32 & 0xf;
        match (row + 1).checked_sub(self.deaths()) {
            Some(tried) => (0..=tried.min(3)).rev().map(nth).find(|cure| *cure != abi::CURE_NONE).unwrap_or(abi::CURE_NONE),
            None => abi::CURE_NONE,
        }
    }
}

/// Is a death of this kind one's own doing? Others say nothing about the state.
fn is_own(kind: u32) -> bool {
    const OTHERS: [u32; 6] = [
        abi::FAULT_KILLED,
        abi::FAULT_TENDER_DIED,
        abi::FAULT_TENDER_UNRESPONSIVE,
        abi::FAULT_DEVICE_DIED,
        abi::FAULT_INTERNAL,
        abi::FAULT_REPLACED,
    ];
    !OTHERS.contains(&kind)
}

/// What is to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Restart,
    RestartAfterMs(u32),
    GiveUp,
}

/// An instance before the last one that is known to have died: nobody should ask about it any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stale;

/// What is remembered about one component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// How many deaths there ever were; the last DEATHS of their times are in `times`, a ring, nanoseconds.
    pub deaths: u64,
    pub times: [u64; DEATHS],
    /// Deaths in a row without a long enough life between them: the place in the backoff table.
    pub streak: u32,
    /// The last epoch judged and its verdict: asked again, the answer is the same.
    pub last: Option<(u32, Verdict)>,
    /// A part of that verdict: what the next instance is to do about its state.
    pub cure: u32,
    /// Deaths of its own doing in a row, each soon enough after a restart to be of poisoned state; when it was to be
    /// restarted after the last one.
    pub row: u32,
    pub row_ns: u64,
    /// The same for those that make a crash loop.
    pub hasty: u32,
}

impl History {
    pub const fn new() -> History {
        History { deaths: 0, times: [0; DEATHS], streak: 0, last: None, cure: abi::CURE_NONE, row: 0, row_ns: 0, hasty: 0 }
    }

    /// Time of the last death; 0 before the first.
    pub fn last_ns(&self) -> u64 {
        self.death_ns(0).unwrap_or(0)
    }

    /// Time of the death `back` deaths ago: 0 is the last one. None if that is not remembered.
    fn death_ns(&self, back: usize) -> Option<u64> {
        if back >= DEATHS {
            return None;
        }
        let number = self.deaths.checked_sub(1 + back as u64)?;
        Some(self.times[(number % DEATHS as u64) as usize])
    }
}

/// Judges the death, of a kind of the ABI's, of the instance of `epoch` at `now_ns`, and takes note of it.
pub fn judge(
    policy: &Policy,
    history: &mut History,
    epoch: u32,
    kind: u32,
    now_ns: u64,
) -> Result<Verdict, Stale> {
    match history.last {
        Some((judged, verdict)) if epoch == judged => return Ok(verdict),
        Some((judged, _)) if epoch < judged => return Err(Stale),
        _ => {}
    }
    // A component that lived long enough has recovered and begins its backoff table anew.
    let has_recovered = match history.death_ns(0) {
        Some(last) => now_ns.saturating_sub(last) > calm_ns(policy),
        None => true,
    };
    history.streak = if has_recovered { 0 } else { history.streak.saturating_add(1) };
    let mut verdict = verdict(policy, history, history.streak, now_ns);
    history.cure = abi::CURE_NONE;
    if is_own(kind) {
        let lived_ns = lived_ns(history, now_ns);
        history.hasty = if lived_ns <= HASTY_NS { history.hasty.saturating_add(1) } else { 0 };
        history.row = if lived_ns <= policy.poisoned.within_ns() { history.row.saturating_add(1) } else { 1 };
        verdict = slowed(verdict, history.hasty);
        let delay_ms = if let Verdict::RestartAfterMs(delay_ms) = verdict { delay_ms } else { 0 };
        history.row_ns = now_ns.saturating_add(u64::from(delay_ms) * NS_PER_MS);
        match policy.poisoned.cure(history.row - 1) {
            abi::CURE_GIVE_UP => verdict = Verdict::GiveUp,
            cure if verdict != Verdict::GiveUp => history.cure = cure,
            _ => {}
        }
    }
    history.times[(history.deaths % DEATHS as u64) as usize] = now_ns;
    history.deaths += 1;
    history.last = Some((epoch, verdict));
    Ok(verdict)
}

/// Will the next death, whenever it comes, mean a restart at once? Time only makes a verdict milder, except that
/// the table may begin anew.
pub fn foreseen(policy: &Policy, history: &History, now_ns: u64) -> bool {
    let at_once = |streak| verdict(policy, history, streak, now_ns) == Verdict::Restart;
    let may_be_cured = policy.poisoned.cure(history.row) != abi::CURE_NONE;
    !may_be_cured && history.hasty < HASTY_FREE && at_once(0) && (history.deaths == 0 || at_once(history.streak.saturating_add(1)))
}

/// For how long it has lived since the restart that followed its last death of its own doing; for ever if there was none.
fn lived_ns(history: &History, now_ns: u64) -> u64 {
    match history.row {
        0 => u64::MAX,
        _ => now_ns.saturating_sub(history.row_ns),
    }
}

/// The verdict on the last of so many hasty deaths.
fn slowed(verdict: Verdict, hasty: u32) -> Verdict {
    let least_ms = match hasty.saturating_sub(HASTY_FREE) {
        0 => return verdict,
        more => 1 << more.min(HASTY_SHIFT_MAX),
    };
    match verdict {
        Verdict::Restart => Verdict::RestartAfterMs(least_ms),
        Verdict::RestartAfterMs(delay_ms) => Verdict::RestartAfterMs(delay_ms.max(least_ms)),
        Verdict::GiveUp => Verdict::GiveUp,
    }
}

fn verdict(policy: &Policy, history: &History, streak: u32, now_ns: u64) -> Verdict {
    if policy.restart == Restart::Never || has_exhausted(policy, history, now_ns) {
        return Verdict::GiveUp;
    }
    let steps = table(policy);
    if policy.restart == Restart::Always || steps.is_empty() {
        return Verdict::Restart;
    }
    match steps[(streak as usize).min(steps.len() - 1)] {
        0 => Verdict::Restart,
        delay_ms => Verdict::RestartAfterMs(delay_ms),
    }
}

/// Have there been `restarts` restarts within the window before this death? A limit of more deaths than are
/// remembered becomes as many as are, within a window shortened in proportion: the same rate.
fn has_exhausted(policy: &Policy, history: &History, now_ns: u64) -> bool {
    if policy.restarts == 0 {
        return false;
    }
    let limit = (policy.restarts as usize).min(DEATHS);
    let window_ns = u64::from(policy.within_ms) * NS_PER_MS;
    let window_ns = u128::from(window_ns) * limit as u128 / u128::from(policy.restarts);
    match history.death_ns(limit - 1) {
        Some(first) => u128::from(now_ns.saturating_sub(first)) <= window_ns,
        None => false,
    }
}

fn table(policy: &Policy) -> &[u32] {
    &policy.backoff_ms[..(policy.steps as usize).min(STEPS)]
}

fn calm_ns(policy: &Policy) -> u64 {
    let longest_ms = table(policy).iter().copied().max().unwrap_or(0);
    (2 * u64::from(longest_ms) * NS_PER_MS).max(CALM_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NS_PER_MS;

    fn policy(restart: Restart, restarts: u32, within_ms: u32, delays: &[u32]) -> Policy {
        let mut backoff_ms = [0; STEPS];
        backoff_ms[..delays.len()].copy_from_slice(delays);
        Policy { restart, restarts, within_ms, steps: delays.len() as u32, backoff_ms, poisoned: Poisoned(0) }
    }

    fn judge(policy: &Policy, history: &mut History, epoch: u32, now_ns: u64) -> Result<Verdict, Stale> {
        super::judge(policy, history, epoch, abi::FAULT_KILLED, now_ns)
    }

    /// Restarted at once, with these cures from the `deaths`-th death in a row on, which come within 100 ms.
    fn poisoned(deaths: u64, cures: &[u32]) -> Policy {
        let cures = cures.iter().rev().fold(0, |all, cure| all << 4 | u64::from(*cure));
        Policy { poisoned: Poisoned(100 << 32 | deaths << 16 | cures), ..policy(Restart::Always, 0, 0, &[]) }
    }

    /// The cures at deaths of these kinds at these times; 99: given up.
    fn cures(policy: &Policy, deaths: &[(u32, u64)]) -> Vec<u32> {
        let mut history = History::new();
        let mut all = Vec::new();
        for (epoch, (kind, time_ms)) in (1..).zip(deaths) {
            let verdict = super::judge(policy, &mut history, epoch, *kind, time_ms * MS).unwrap();
            assert_eq!(super::judge(policy, &mut history.clone(), epoch, *kind, 0), Ok(verdict));
            all.push(if verdict == Verdict::GiveUp { 99 } else { history.cure });
        }
        all
    }

    const OWN: u32 = abi::FAULT_EXCEPTION;
    const KILL: u32 = abi::FAULT_KILLED;
    const UNDO: u32 = abi::CURE_UNDO;
    const QUARANTINE: u32 = abi::CURE_QUARANTINE;
    const FRESH: u32 = abi::CURE_FRESH;

    #[test]
    fn cures_are_tried_in_order_and_the_last_one_from_then_on() {
        let row: Vec<(u32, u64)> = (1..7).map(|n| (OWN, n * 100)).collect();
        assert_eq!(cures(&poisoned(2, &[QUARANTINE, FRESH]), &row), [0, QUARANTINE, FRESH, FRESH, FRESH, FRESH]);
        assert_eq!(cures(&poisoned(1, &[UNDO]), &row), [UNDO; 6]);
        let all = [UNDO, QUARANTINE, FRESH, abi::CURE_GIVE_UP];
        assert_eq!(cures(&poisoned(2, &all), &row), [0, UNDO, QUARANTINE, FRESH, 99, 99]);
        assert_eq!(cures(&poisoned(4, &[FRESH]), &row), [0, 0, 0, FRESH, FRESH, FRESH]);
        assert_eq!(cures(&policy(Restart::Always, 0, 0, &[]), &row), [0; 6]);
    }

    #[test]
    fn who_lived_for_a_while_is_not_poisoned() {
        let now_and_then = [(OWN, 0), (OWN, 101), (OWN, 300), (OWN, 400), (OWN, 501)];
        assert_eq!(cures(&poisoned(2, &[FRESH]), &now_and_then), [0, 0, 0, FRESH, 0]);
    }

    #[test]
    fn what_others_did_to_it_does_not_count() {
        let killed = [(KILL, 0), (KILL, 1), (OWN, 2), (KILL, 3), (OWN, 4), (abi::FAULT_DEVICE_DIED, 5), (OWN, 6)];
        assert_eq!(cures(&poisoned(2, &[QUARANTINE, FRESH]), &killed), [0, 0, 0, 0, QUARANTINE, 0, FRESH]);
    }

    #[test]
    fn the_delay_before_a_restart_is_not_lived() {
        let mut late = poisoned(2, &[FRESH]);
        (late.restart, late.steps, late.backoff_ms[0]) = (Restart::Backoff, 1, 500);
        assert_eq!(cures(&late, &[(OWN, 0), (OWN, 600), (OWN, 1201)]), [0, FRESH, 0]);
    }

    #[test]
    fn a_crash_loop_is_slowed_down_until_it_lives() {
        let always = policy(Restart::Always, 0, 0, &[]);
        let (mut history, mut now, mut delays) = (History::new(), 5 * MS, Vec::new());
        let mut die = |after_ms: u64, kind: u32, epoch: u32| {
            now += after_ms * MS;
            let promised = foreseen(&always, &history, now);
            let verdict = super::judge(&always, &mut history, epoch, kind, now).unwrap();
            assert!(!promised || verdict == Verdict::Restart);
            match verdict {
                Verdict::RestartAfterMs(delay_ms) => {
                    now += u64::from(delay_ms) * MS;
                    delay_ms
                }
                _ => 0,
            }
        };
        for epoch in 1..40 {
            delays.push(die(20, OWN, epoch));
        }
        assert_eq!(delays[..17], [0; 17]);
        assert_eq!(delays[17..28], [2, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64]);
        assert_eq!(die(1, KILL, 40), 0);
        assert_eq!(die(19, OWN, 41), 64);
        assert_eq!(die(21, OWN, 42), 0);
        assert_eq!(die(1, OWN, 43), 0);
    }

    #[test]
    fn given_up_is_given_up() {
        let mut limited = poisoned(1, &[FRESH]);
        (limited.restarts, limited.within_ms) = (2, 1000);
        assert_eq!(cures(&limited, &[(OWN, 0), (OWN, 1), (OWN, 2)]), [FRESH, FRESH, 99]);
    }

    #[test]
    fn nothing_is_promised_where_a_cure_may_follow() {
        let (two, three) = (poisoned(2, &[FRESH]), poisoned(3, &[FRESH]));
        let mut history = History::new();
        assert!(foreseen(&two, &history, 0) && !foreseen(&poisoned(1, &[FRESH]), &history, 0));
        super::judge(&two, &mut history, 1, OWN, 0).unwrap();
        assert!(!foreseen(&two, &history, 0) && foreseen(&three, &history, 0));
        super::judge(&two, &mut history, 2, KILL, MS).unwrap();
        assert!(!foreseen(&two, &history, MS) && foreseen(&three, &history, MS));
        super::judge(&three, &mut history, 3, OWN, 2 * MS).unwrap();
        assert!(!foreseen(&three, &history, 2 * MS));
    }

    /// The verdicts on deaths of epochs 1, 2, ... at these times.
    fn verdicts(policy: &Policy, times_ms: &[u64]) -> Vec<Verdict> {
        let mut history = History::new();
        let mut judged = Vec::new();
        for (number, time) in times_ms.iter().enumerate() {
            judged.push(judge(policy, &mut history, number as u32 + 1, time * MS).unwrap());
        }
        judged
    }

    #[test]
    fn always_restarts_at_once_however_often() {
        let times: Vec<u64> = (0..1000).collect();
        assert!(verdicts(&policy(Restart::Always, 0, 0, &[]), &times).iter().all(|v| *v == Verdict::Restart));
    }

    #[test]
    fn never_gives_up_at_the_first_death() {
        assert_eq!(verdicts(&policy(Restart::Never, 0, 0, &[5]), &[1]), [Verdict::GiveUp]);
    }

    #[test]
    fn backoff_walks_its_table_and_stays_at_the_end() {
        let table = policy(Restart::Backoff, 0, 0, &[0, 10, 100]);
        assert_eq!(
            verdicts(&table, &[0, 1, 2, 3, 4]),
            [
                Verdict::Restart,
                Verdict::RestartAfterMs(10),
                Verdict::RestartAfterMs(100),
                Verdict::RestartAfterMs(100),
                Verdict::RestartAfterMs(100),
            ]
        );
    }

    #[test]
    fn a_long_life_begins_the_table_anew() {
        let table = policy(Restart::Backoff, 0, 0, &[0, 10, 2000]);
        // Twice the longest delay is 4 s: 4000 ms later is not calm, 4001 ms is.
        assert_eq!(
            verdicts(&table, &[0, 4000, 8001, 8002]),
            [Verdict::Restart, Verdict::RestartAfterMs(10), Verdict::Restart, Verdict::RestartAfterMs(10)]
        );
        let short = policy(Restart::Backoff, 0, 0, &[7, 9]);
        assert_eq!(
            verdicts(&short, &[0, 1000, 2001]),
            [Verdict::RestartAfterMs(7), Verdict::RestartAfterMs(9), Verdict::RestartAfterMs(7)]
        );
    }

    #[test]
    fn backoff_without_a_table_restarts_at_once() {
        assert_eq!(verdicts(&policy(Restart::Backoff, 0, 0, &[]), &[1, 2]), [Verdict::Restart; 2]);
    }

    #[test]
    fn gives_up_at_the_death_after_so_many_restarts_within_the_window() {
        let limited = policy(Restart::Always, 3, 1000, &[]);
        assert_eq!(
            verdicts(&limited, &[0, 400, 800, 1000]),
            [Verdict::Restart, Verdict::Restart, Verdict::Restart, Verdict::GiveUp]
        );
        assert_eq!(verdicts(&limited, &[0, 400, 800, 1001, 2000, 2100]), [Verdict::Restart; 6]);
    }

    #[test]
    fn a_limit_beyond_what_is_remembered_keeps_its_rate() {
        let limited = policy(Restart::Always, 10 * DEATHS as u32, 10_000, &[]);
        let slow: Vec<u64> = (0..2000).map(|n| n * 4).collect(); // 2500 in 10 s
        assert!(verdicts(&limited, &slow).iter().all(|v| *v == Verdict::Restart));
        let fast: Vec<u64> = (0..2000).map(|n| n * 2).collect(); // 5000 in 10 s
        assert_eq!(verdicts(&limited, &fast).iter().position(|v| *v == Verdict::GiveUp), Some(DEATHS));
    }

    #[test]
    fn the_same_epoch_gets_the_same_verdict_and_counts_once() {
        let table = policy(Restart::Backoff, 2, 60_000, &[1, 2, 3]);
        let mut history = History::new();
        assert_eq!(judge(&table, &mut history, 7, 5 * MS), Ok(Verdict::RestartAfterMs(1)));
        let before = history;
        for late in [6, 7, 100_000] {
            assert_eq!(judge(&table, &mut history, 7, late * MS), Ok(Verdict::RestartAfterMs(1)));
        }
        assert_eq!(history, before);
        assert_eq!(judge(&table, &mut history, 8, 9 * MS), Ok(Verdict::RestartAfterMs(2)));
    }

    /// What is foreseen before the first death and after each of those at these times.
    fn foresights(policy: &Policy, times_ms: &[u64]) -> Vec<bool> {
        let mut history = History::new();
        let mut all = vec![foreseen(policy, &history, 0)];
        for (number, time) in times_ms.iter().enumerate() {
            judge(policy, &mut history, number as u32 + 1, time * MS).unwrap();
            assert_eq!(history.last_ns(), time * MS);
            all.push(foreseen(policy, &history, time * MS));
        }
        all
    }

    #[test]
    fn a_promise_is_never_broken_by_this_server() {
        let tables: [&[u32]; 6] = [&[], &[0], &[0, 5], &[5, 0], &[0, 0, 5], &[0, 900, 0]];
        let pauses = [0, 1, 999, 1000, 1001, 1801, 5000];
        let mut promised = 0;
        for (table, restarts) in tables.iter().flat_map(|table| (0..4).map(move |restarts| (*table, restarts))) {
            let restart = if table.is_empty() { Restart::Always } else { Restart::Backoff };
            let policy = policy(restart, restarts, 1000, table);
            for number in 0..pauses.len().pow(3) {
                let (mut history, mut now) = (History::new(), 10_000 * MS);
                for death in 0..3 {
                    if foreseen(&policy, &history, now) {
                        promised += 1;
                        for pause in pauses {
                            let verdict = judge(&policy, &mut history.clone(), death + 1, now + pause * MS);
                            assert_eq!(verdict, Ok(Verdict::Restart), "{policy:?} {history:?} {pause}");
                        }
                    }
                    now += pauses[number / pauses.len().pow(death) % pauses.len()] * MS;
                    judge(&policy, &mut history, death + 1, now).unwrap();
                }
            }
        }
        assert!(promised > 1000);
    }

    #[test]
    fn what_is_foreseen_happens() {
        assert_eq!(foresights(&policy(Restart::Always, 0, 0, &[]), &[1, 2]), [true; 3]);
        assert_eq!(foresights(&policy(Restart::Never, 0, 0, &[]), &[]), [false]);
        let growing = policy(Restart::Backoff, 0, 0, &[0, 0, 10]);
        assert_eq!(foresights(&growing, &[1, 2, 3, 9000]), [true, true, false, false, true]);
        let shrinking = policy(Restart::Backoff, 0, 0, &[10, 0]);
        assert_eq!(foresights(&shrinking, &[1, 2]), [false; 3]); // it may begin anew
        let limited = policy(Restart::Always, 2, 1000, &[]);
        assert_eq!(foresights(&limited, &[1, 2, 5000]), [true, true, false, true]);
    }

    #[test]
    fn an_earlier_epoch_is_stale() {
        let mut history = History::new();
        let always = policy(Restart::Always, 0, 0, &[]);
        assert!(judge(&always, &mut history, 9, 0).is_ok());
        assert_eq!(judge(&always, &mut history, 8, 1), Err(Stale));
    }

    #[test]
    fn components_do_not_influence_each_other() {
        let limited = policy(Restart::Backoff, 2, 1000, &[1, 2]);
        let mut histories = [History::new(); 2];
        for epoch in 1..50 {
            judge(&limited, &mut histories[0], epoch, u64::from(epoch) * MS).unwrap();
        }
        assert_eq!(judge(&limited, &mut histories[1], 1, 50 * MS), Ok(Verdict::RestartAfterMs(1)));
    }

    #[test]
    fn a_clock_that_runs_backwards_does_no_harm() {
        assert_eq!(verdicts(&policy(Restart::Always, 2, 10, &[]), &[100, 50, 20]).len(), 3);
        assert_eq!(verdicts(&policy(Restart::Backoff, 0, 0, &[u32::MAX]), &[u64::MAX / MS, 0]).len(), 2);
    }
}
