//! Time: ticks of the time-stamp counter, which runs at `info.tsc_khz` in every VM of a system.

use crate::info;
use crate::telemetry;
pub use crate::platform::ticks;

const NS_PER_MS: u128 = 1_000_000;

/// Nanoseconds as ticks; saturates.
pub fn ns_to_ticks(ns: u64) -> u64 {
    let ticks = u128::from(ns) * u128::from(info::tsc_khz()) / NS_PER_MS;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Ticks as nanoseconds; saturates.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    let khz = u128::from(info::tsc_khz()).max(1);
    u64::try_from(u128::from(ticks) * NS_PER_MS / khz).unwrap_or(u64::MAX)
}

/// Milliseconds as ticks; saturates.
pub fn ms_to_ticks(ms: u64) -> u64 {
    ns_to_ticks(ms.saturating_mul(1_000_000))
}

/// Nanoseconds since 1970 (UTC) by the host's clock when this instance was started, carried on by the TSC,
/// which may have begun anywhere. For dates to print; nothing may depend on it being right.
pub fn wall_clock_ns() -> u64 {
    let since = ticks().saturating_sub(telemetry::start_tsc());
    info::wall_clock_ns().saturating_add(ticks_to_ns(since))
}
