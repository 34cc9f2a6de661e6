//! Waiting: spin as long as it has been paying, then tell the peers and sleep until a doorbell.

use crate::hypercall;
use crate::info;
use crate::platform;
use crate::shared::full_fence;
use crate::telemetry;
use crate::time;
use core::sync::atomic::{AtomicU64, Ordering};

/// Something a program waits for: a client, a server port, a virtqueue.
pub trait Source {
    /// Is there something to do? Called again and again while spinning: cheap, no effect on the peer.
    fn ready(&mut self) -> bool;

    /// Tells the peer that we are about to sleep: from here on it rings. A fence and `ready` follow.
    fn announce_sleep(&mut self);

    /// Tells the peer that it need not ring any more.
    fn announce_awake(&mut self);

    /// Called at every wait, whether or not something is ready: rings for what was published and held back.
    fn pass_on(&mut self) {}

    /// Nothing is ready and we are about to be idle: wakes those who wait for more than they will get.
    fn before_idle(&mut self) {}

    /// A server port's answer to whether everything it has taken is finished. Who waits for no port is in the
    /// middle of something. Others may object.
    fn may_rest(&self) -> Option<bool> {
        None
    }

    /// The tick at which it wants to be looked at even if nothing happens.
    fn deadline(&self) -> Option<u64> {
        None
    }
}

/// Why `wait` returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// A source is ready.
    Ready,
    /// `until`, or the deadline of a source, has passed.
    Timeout,
}

/// Waits until a source is ready, or until tick `until`. All sources that may wake this VM must be named.
pub fn wait(sources: &mut [&mut dyn Source], until: Option<u64>) -> Woken {
    for source in sources.iter_mut() {
        source.pass_on();
    }
    if wants_rest(sources) {
        hypercall::quiesce();
        return Woken::Ready; // it was called off: there may be requests that we were not to see
    }
    if any_ready(sources) {
        return Woken::Ready;
    }
    for source in sources.iter_mut() {
        source.before_idle();
    }
    let deadline = sources.iter().filter_map(|source| source.deadline()).chain(until).min();
    if let Some(woken) = spin(sources, deadline) {
        return woken;
    }
    let start = platform::ticks();
    let woken = sleep(sources, deadline);
    adapt(Outcome::Slept(platform::ticks().wrapping_sub(start)));
    woken
}

fn any_ready(sources: &mut [&mut dyn Source]) -> bool {
    sources.iter_mut().any(|source| source.ready()) || wants_rest(sources)
}

/// A live update waits for us, and there is nothing left to do before.
fn wants_rest(sources: &[&mut dyn Source]) -> bool {
    info::is_to_rest() && sources.iter().filter_map(|source| source.may_rest()).min() == Some(true)
}

/// Spins as long as the budget allows; None if it is used up.
fn spin(sources: &mut [&mut dyn Source], deadline: Option<u64>) -> Option<Woken> {
    let budget = budget();
    if budget == 0 {
        return None;
    }
    let start = platform::ticks();
    let (spun, woken) = loop {
        core::hint::spin_loop();
        let now = platform::ticks();
        let spun = now.wrapping_sub(start);
        if any_ready(sources) {
            adapt(Outcome::Spun(spun));
            break (spun, Some(Woken::Ready));
        }
        if deadline.map_or(false, |deadline| now >= deadline) {
            break (spun, Some(Woken::Timeout));
        }
        if spun >= budget {
            break (spun, None);
        }
    };
    telemetry::add(telemetry::SPINS, spun);
    woken
}

/// Sleeps, again if it was woken for nothing: a doorbell without work costs one wake-up and no spinning, and
/// who is woken so again and again rests in between, whoever it is that rings.
fn sleep(sources: &mut [&mut dyn Source], deadline: Option<u64>) -> Woken {
    let mut rest = 0;
    loop {
        for source in sources.iter_mut() {
            source.announce_sleep();
        }
        full_fence();
        let mut ready = any_ready(sources);
        if !ready {
            let timeout = deadline.map(|deadline| time::ticks_to_ns(deadline.saturating_sub(platform::ticks())));
            if timeout != Some(0) {
                telemetry::add(telemetry::WAITS, 1);
                hypercall::wait_rested(timeout, time::ticks_to_ns(rest).min(timeout.unwrap_or(u64::MAX)));
            }
            ready = any_ready(sources);
        }
        for source in sources.iter_mut() {
            source.announce_awake();
        }
        if ready {
            return Woken::Ready;
        }
        if deadline.map_or(false, |deadline| platform::ticks() >= deadline) {
            return Woken::Timeout;
        }
        let interval = time::ns_to_ticks(FALSE_ALARM_NS);
        let (paid, pause) = after_false_alarm(FALSE_ALARMS.load(Ordering::Relaxed), platform::ticks(), interval);
        FALSE_ALARMS.store(paid, Ordering::Relaxed);
        rest = pause;
    }
}

/// A wake-up for nothing costs some 45 us of CPU time. So 2,000 a second are put up with (honest peers cause a few:
/// a doorbell on its way while we look), after a burst of 1,000.
const FALSE_ALARM_NS: u64 = 500_000;
const FALSE_ALARM_BURST: u64 = 1000;

/// The tick at which all false alarms so far are paid for at one per interval.
static FALSE_ALARMS: AtomicU64 = AtomicU64::new(0);

/// One more false alarm at tick `now`: the tick at which it is paid for, and the ticks to rest.
pub fn after_false_alarm(paid: u64, now: u64, interval: u64) -> (u64, u64) {
    let paid = paid.max(now.saturating_sub(FALSE_ALARM_BURST * interval)) + interval;
    (paid, paid.saturating_sub(now))
}

/// Ticks the next wait may spin. One number per VM: what pays depends on the machine and the load more than on
/// the source.
static BUDGET: AtomicU64 = AtomicU64::new(u64::MAX);

fn budget() -> u64 {
    BUDGET.load(Ordering::Relaxed).min(most())
}

fn most() -> u64 {
    time::ns_to_ticks(info::spin_ns())
}

fn adapt(outcome: Outcome) {
    BUDGET.store(adapted(budget(), most(), time::ns_to_ticks(WAKE_NS), outcome), Ordering::Relaxed);
}

/// What a sleep costs beyond the time until the doorbell: exit, wake-up, entry.
const WAKE_NS: u64 = 40_000;

/// How one wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Something came after so many ticks of spinning.
    Spun(u64),
    /// The budget was used up, and then so many ticks slept.
    Slept(u64),
}

/// The next budget, in ticks: towards twice what a successful spin took; longer if a little more would have
/// saved a sleep; half if not. It reaches zero after seven failures and comes back when sleeps become short.
pub fn adapted(budget: u64, most: u64, wake: u64, outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Spun(spun) => spun.saturating_mul(2).max(budget - budget / 8).min(most),
        Outcome::Slept(slept) if slept <= most.saturating_add(wake) => (budget * 2).max(most / 8).min(most),
        Outcome::Slept(_) => {
            let half = budget / 2;
            if half < most / 64 {
                0
            } else {
                half
            }
        }
    }
}
