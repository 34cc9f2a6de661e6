//! The restart policy: a pure function of what was configured and what has happened. It calls nothing, parses
//! nothing and knows no clock but the times it is given, so it is tested on the host and gives the same
//! verdicts when it is asked the same things again.

/// Entries of a backoff table.
pub const STEPS: usize = 64;
/// Deaths that are remembered for each component.
pub const DEATHS: usize = 256;
/// A component that lived for at least this long since its last death has recovered, nanoseconds.
const CALM_NS: u64 = 1_000_000_000;

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
}

impl History {
    pub const fn new() -> History {
        History { deaths: 0, times: [0; DEATHS], streak: 0, last: None }
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

/// Judges the death of the instance of `epoch` at `now_ns`, and takes note of it.
pub fn judge(policy: &Policy, history: &mut History, epoch: u32, now_ns: u64) -> Result<Verdict, Stale> {
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
    let verdict = verdict(policy, history, history.streak, now_ns);
    history.times[(history.deaths % DEATHS as u64) as usize] = now_ns;
    history.deaths += 1;
    history.last = Some((epoch, verdict));
    Ok(verdict)
}

/// Will the next death, whenever it comes, mean a restart at once? Time only makes a verdict milder, except that
/// the table may begin anew.
pub fn foreseen(policy: &Policy, history: &History, now_ns: u64) -> bool {
    let at_once = |streak| verdict(policy, history, streak, now_ns) == Verdict::Restart;
    at_once(0) && (history.deaths == 0 || at_once(history.streak.saturating_add(1)))
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
        Policy { restart, restarts, within_ms, steps: delays.len() as u32, backoff_ms }
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
