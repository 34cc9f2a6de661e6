//! The restart policy: a pure function of what was configured and what has happened. It calls nothing, parses
//! nothing and knows no clock but the times it is given, so it is tested on the host and gives the same
//! verdicts when it is asked the same things again.

/// Components this server can have in its care.
pub const COMPONENTS: usize = 256;
/// Entries of a backoff table.
pub const STEPS: usize = 64;
/// Deaths that are remembered for each component: what `give_up` counts is at most this.
pub const DEATHS: usize = 64;

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
    /// Given up at the death after this many within `within_ms`; 0: never. At most DEATHS.
    pub restarts: u32,
    pub within_ms: u32,
    pub steps: usize,
    pub backoff_ms: [u32; STEPS],
}

/// What is to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Restart,
    RestartAfter(u32),
    GiveUp,
}

/// Why a question has no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nobody has configured this component.
    Unknown,
    /// About an instance before the last one that is known to have died.
    Stale,
}

/// What is remembered about one component.
#[derive(Clone, Copy)]
pub struct History {
    /// Times of the last deaths, nanoseconds, in a ring; `deaths` counts all there ever were.
    times: [u64; DEATHS],
    deaths: u64,
    /// How many in a row without a long enough life between: the place in the backoff table.
    streak: u32,
    /// The last epoch judged and its verdict: asked again, the answer is the same.
    last: Option<(u32, Verdict)>,
}

impl History {
    pub const fn new() -> History {
        History { times: [0; DEATHS], deaths: 0, streak: 0, last: None }
    }

    /// Deaths at or after `since_ns` among those remembered.
    fn deaths_since(&self, since_ns: u64) -> u32 {
        let known = self.deaths.min(DEATHS as u64) as usize;
        self.times[..known].iter().filter(|time| **time >= since_ns).count() as u32
    }

    fn last_death_ns(&self) -> Option<u64> {
        let newest = self.deaths.checked_sub(1)?;
        Some(self.times[(newest % DEATHS as u64) as usize])
    }
}

/// Judges the death of the instance of `epoch` at `now_ns`, and takes note of it.
pub fn judge(policy: &Policy, history: &mut History, epoch: u32, now_ns: u64) -> Result<Verdict, Refusal> {
    if let Some((judged, verdict)) = history.last {
        if judged == epoch {
            return Ok(verdict);
        }
        if epoch < judged {
            return Err(Refusal::Stale);
        }
    }
    let verdict = verdict(policy, history, now_ns);
    history.times[(history.deaths % DEATHS as u64) as usize] = now_ns;
    history.deaths += 1;
    history.last = Some((epoch, verdict));
    Ok(verdict)
}

fn verdict(policy: &Policy, history: &mut History, now_ns: u64) -> Verdict {
    if policy.restart == Restart::Never {
        return Verdict::GiveUp;
    }
    let window_ns = u64::from(policy.within_ms) * NS_PER_MS;
    let limit = policy.restarts.min(DEATHS as u32);
    if policy.restarts > 0 && history.deaths_since(now_ns.saturating_sub(window_ns)) >= limit {
        return Verdict::GiveUp;
    }
    if policy.restart == Restart::Always || policy.steps == 0 {
        return Verdict::Restart;
    }
    // A component that lived for longer than twice the longest delay has recovered: it begins anew.
    let steps = &policy.backoff_ms[..policy.steps.min(STEPS)];
    let calm_ns = 2 * u64::from(steps.iter().copied().max().unwrap_or(0)) * NS_PER_MS;
    let has_recovered = history.last_death_ns().map_or(true, |last| now_ns.saturating_sub(last) > calm_ns);
    history.streak = if has_recovered { 0 } else { history.streak.saturating_add(1) };
    match steps[(history.streak as usize).min(steps.len() - 1)] {
        0 => Verdict::Restart,
        delay_ms => Verdict::RestartAfter(delay_ms),
    }
}
