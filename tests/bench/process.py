"""The hypervisor process with one addition: its report holds the samples behind the recovery times.

Used by the benchmarks in the place of `vmm.system_process`. The report gets, in CLOCK_MONOTONIC nanoseconds:
`recoveries_ns`, a list of [the hypervisor noticed the death, first replayed request answered at the client],
and `faults_ns`, the moments just before the faults of tests/guests/failing_driver.
"""

from __future__ import annotations

import sys
from typing import Any

from hypervisor.component import LiveComponent
from hypervisor.figures import Figures
from hypervisor.instances import Instance
from hypervisor.process import Hypervisor
from vmm import system_process
from vmm.system_process import Link, Run

FAILING = "failing_driver"


class SampledFigures(Figures):
    """Keeps each recovery's two moments, and the moments that failing drivers note."""

    def __init__(self) -> None:
        super().__init__()
        self.recoveries_ns: list[tuple[int, int]] = []
        self.faults_ns: dict[int, int] = {}  # by instance

    def harvest(self, component: LiveComponent, instance: Instance) -> None:
        """See `Figures.harvest`."""
        expected, before = dict(self._died), len(self.recovery_ms)
        super().harvest(component, instance)
        died = [moment for key, moment in expected.items() if key not in self._died]
        taken = list(self.recovery_ms)[before:]
        self.recoveries_ns += [(at, at + round(ms * 1e6)) for at, ms in zip(died, taken, strict=False)]
        noted = instance.telemetry_counters()
        if component.policy.image.endswith(f"/{FAILING}.elf") and noted.bytes:
            start_ns = instance.stats.read("first_instruction_ns")
            moment = start_ns + (noted.bytes - noted.start_tsc) * 1_000_000 // self.tsc_khz
            self.faults_ns[instance.number] = moment


class SampledRun(Run):
    """A run whose report has more in it."""

    def __init__(self, link: Link, request: dict[str, Any], hypervisor: Hypervisor) -> None:
        self.sampled = SampledFigures()
        self.sampled.tsc_khz = hypervisor.figures.tsc_khz
        hypervisor.figures = self.sampled
        super().__init__(link, request, hypervisor)

    def report(self) -> dict[str, Any]:
        """See `Run.report`."""
        return super().report() | {
            "recoveries_ns": self.sampled.recoveries_ns,
            "faults_ns": sorted(self.sampled.faults_ns.values()),
        }


if __name__ == "__main__":
    setattr(system_process, "Run", SampledRun)  # noqa: B010 (a type checker would refuse the assignment)
    sys.exit(system_process.main())
