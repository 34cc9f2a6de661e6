"""The report of a run, out of what the hypervisor process has counted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

IO_BYTES = 128 * 1024


def complete(
    counted: dict[str, Any], begun_ns: int, kills: int, tsc_khz: int, polled_s: float
) -> dict[str, Any]:
    """The report; null where there is no sample. `begun_ns` is the start of the command line (0: unknown),
    `polled_s` the idle time polled away to keep CPUs awake.

    `counted` is described in `vmm.system_process.Run.report`; what it has besides goes along.
    """
    rest = dict(counted)
    rows, first_ns, last_ns = rest.pop("components"), rest.pop("first_ns"), rest.pop("last_ns")
    exits = sum(row["exits"] for row in rows) - rest.pop("exits_at_first")
    programs = [row for row in rows if row["is_program"]]
    read = sum(row["bytes"] for row in programs)
    return {
        "kills": kills,
        "deaths": {row["name"]: row["deaths"] for row in rows if row["deaths"]},
        "recoveries": sum(row["restarts"] for row in rows),
        "replayed": sum(row["replayed"] for row in rows),
        "failed_requests": sum(row["failed"] for row in programs),
        "boot_ms": round((first_ns - begun_ns) / 1e6, 3) if begun_ns and first_ns else None,
        "bytes": read,
        "seconds": round((last_ns - first_ns) / 1e9, 6) if first_ns else None,
        "exits_per_io": round(exits * IO_BYTES / read, 4) if read else None,
        "cpu_ms": sum(row["cpu_ms"] for row in rows),
        "spin_ms": sum(row["spins"] for row in rows) // max(1, tsc_khz),
        "idle_polling_s": polled_s,
        "recovery_ms": summary(rest.pop("recovery_ms")),
        "ready_ms": summary([us / 1000 for us in rest.pop("ready_us")]),
        **rest,
    }


def summary(samples: Collection[float]) -> dict[str, Any]:
    """n, median, p99 and max of `samples`; null where there is none."""
    if not samples:
        return {"n": 0, "median": None, "p99": None, "max": None}
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "n": len(ordered),
        "median": ordered[len(ordered) // 2],
        "p99": ordered[min(last, len(ordered) * 99 // 100)],
        "max": ordered[last],
    }
