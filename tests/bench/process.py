"""The hypervisor process with one addition: its report holds the samples behind the recovery times.

Used by the benchmarks in the place of `vmm.system_process`. The report gets, all in CLOCK_MONOTONIC nanoseconds:
`recoveries_ns`, a list of [the hypervisor noticed the death, first replayed request answered at the client], and
`faults_ns`, the moments just before the faults of tests/guests/failing_driver.
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
        self.faults_ns: list[int] = []

    def harvest(self, component: LiveComponent, instance: Instance) -> None:
        """See `Figures.harvest`."""
        expected, before = dict(self._died), len(self.recovery_ms)
        super().harvest(component, instance)
        died = [moment for key, moment in expected.items() if key not in self._died]
        taken = list(self.recovery_ms)[before:]
        self.recoveries_ns += [(at, at + round(ms * 1e6)) for at, ms in zip(died, taken, strict=False)]
        noted = instance.telemetry_counters()
        if component.policy.image.endswith(f"{FAILING}.elf") and noted.bytes and not instance.alive_before:
            start_ns = instance.stats.read("first_instruction_ns")
            self.faults_ns.append(start_ns + (noted.bytes - noted.start_tsc) * 1_000_000 // self.tsc_khz)
