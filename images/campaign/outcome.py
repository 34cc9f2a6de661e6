"""What came of one injected fault: definitions, as a pure function of what was observed.

    not_activated           the mutated instruction or datum was neither executed nor read
    masked                  activated, and nobody noticed: no component ended, no program saw anything
  manifested, the others:
    recovered_invisible     detected and recovered, every program saw what it would have seen without
    recovered_error         recovered, and a program saw an error that its interface defines
    degraded                a component was given up, as its policy says; what it served answers with errors
    silent_corruption       wrong data, or data lost or doubled, that nobody reported
    hang                    the system, or a program, did not come to rest within its time
    system_crash            the hypervisor ended, or the system with it

The last three are defects. Of several that apply the worst counts, in the order system_crash, hang,
silent_corruption, degraded, recovered_error, recovered_invisible. They count even where the proof of
activation is missing: a proof that failed shall not hide a defect, so such a fault is counted as activated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """Values are the names under which results are kept: never change one."""

    NOT_ACTIVATED = "not_activated"
    MASKED = "masked"
    RECOVERED_INVISIBLE = "recovered_invisible"
    RECOVERED_ERROR = "recovered_error"
    DEGRADED = "degraded"
    SILENT_CORRUPTION = "silent_corruption"
    HANG = "hang"
    SYSTEM_CRASH = "system_crash"


DEFECTS = frozenset((Outcome.SILENT_CORRUPTION, Outcome.HANG, Outcome.SYSTEM_CRASH))
MANIFESTED = frozenset(Outcome) - {Outcome.NOT_ACTIVATED, Outcome.MASKED}


@dataclass(frozen=True)
class Observation:
    """What is known when a system with one fault (or several) has come to rest, or its time is over."""

    activations: int  # as counted by what proves them; several faults: the sum
    deaths: int  # of instances, tenders and devices, other than those the workload itself asked for
    given_up: bool  # a component is not started any more
    program_errors: int  # defined errors that programs saw
    violations: tuple[str, ...]  # invariants that do not hold: a digest, a counter, samples, an event
    at_rest: bool  # the workload ended and everything answers, in time
    hypervisor_alive: bool

    def __post_init__(self) -> None:
        for name in ("activations", "deaths", "program_errors"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a number of events, from 0")


def classify(seen: Observation) -> Outcome:
    """The outcome, by the definitions above."""
    if not seen.hypervisor_alive:
        return Outcome.SYSTEM_CRASH
    if not seen.at_rest:
        return Outcome.HANG
    if seen.violations:
        return Outcome.SILENT_CORRUPTION
    if seen.given_up:
        return Outcome.DEGRADED
    if seen.program_errors:
        return Outcome.RECOVERED_ERROR
    if seen.deaths:
        return Outcome.RECOVERED_INVISIBLE
    return Outcome.MASKED if seen.activations else Outcome.NOT_ACTIVATED
