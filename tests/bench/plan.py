"""How much is measured: everything in ten minutes, a first look in one, or next to nothing (for the test)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes and repetitions."""

    name: str
    seconds: float  # how long all of it may take
    run_s: float  # a run of a system that takes longer has failed
    file_mib: int  # the file that is read
    part_mib: int  # the smaller file, for many clients at once
    rounds: int  # interleaved repetitions of a comparison
    warm_ups: int  # the same before, not counted: they fill the host's caches
    calls: int  # null calls of one run
    paused_calls: int  # of one run with a pause before each
    call_runs: int
    pipelined_calls: int
    recovery_s: float  # how long each kind of recovery is provoked
    kills_per_s: float
    boots: int
    supervisor_restarts: int
    updates: int
    kills: int  # of components with state, of each kind


FULL = Plan("full", 540.0, 60.0, 1024, 128, 7, 1, 200_000, 3_000, 5, 2_000_000, 8.0, 20.0, 20, 10, 1_000, 200)
QUICK = Plan("quick", 42.0, 20.0, 192, 64, 3, 1, 50_000, 500, 2, 500_000, 1.0, 20.0, 5, 2, 60, 20)
TINY = Plan("tiny", 10.0, 20.0, 8, 2, 1, 0, 1_000, 20, 1, 5_000, 0.25, 40.0, 1, 1, 3, 5)
