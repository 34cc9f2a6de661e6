"""A run whose report holds the samples behind the recovery times, all in CLOCK_MONOTONIC nanoseconds:

`faults_ns`, the moments just before the faults of tests/guests/failing_driver, and `recoveries_ns`, a list of
the moments of each recovery (null where not known): the hypervisor noticed the death; it let the successor
run; its first instruction; it was ready; a client had the answer to the first request it had to repeat.
`programs_waited_ms`: from a death, or from the moment a server was asked to rest for an update, to that
answer, where the client is a program.
"""

from __future__ import annotations

from typing import Any

from hypervisor.component import LiveComponent
from hypervisor.figures import Figures
from hypervisor.instances import Instance
from hypervisor.process import Hypervisor
from vmm import system_process
from vmm.system_process import Link, Run
from vmm.zygote import Zygote

FAILING = "failing_driver"


class SampledFigures(Figures):
    """Keeps each recovery's moments, and those that failing drivers note."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        super().__init__(hypervisor.figures.tsc_khz)
        self._hypervisor = hypervisor
        self.recoveries_ns: list[list[int | None]] = []
        self.programs_waited_ms: list[float] = []  # for a server of theirs, while it was replaced
        self.faults_ns: dict[int, int] = {}  # by instance

    def harvest(self, component: LiveComponent, instance: Instance) -> None:
        """See `Figures.harvest`."""
        expected, before = dict(self._died), len(self.recovery_ms)
        super().harvest(component, instance)
        died = [(key[0], moment) for key, moment in expected.items() if key not in self._died]
        for (channel, at), ms in zip(died, list(self.recovery_ms)[before:], strict=False):
            answered = at + round(ms * 1e6)
            if component.policy.is_program:
                self.programs_waited_ms.append(ms)
            server = self._hypervisor.connections[channel].policy.server
            middle = self._of_successor(self._hypervisor.components[server].running, at, answered)
            self.recoveries_ns.append([at, *middle, answered])
        noted = instance.telemetry_counters()
        if component.policy.image.endswith(f"/{FAILING}.elf") and noted.bytes:
            start_ns = instance.stats.read("first_instruction_ns")
            moment = start_ns + (noted.bytes - noted.start_tsc) * 1_000_000 // self.tsc_khz
            self.faults_ns[instance.number] = moment

    def _of_successor(self, server: Instance | None, died: int, answered: int) -> list[int | None]:
        """The moments in the middle, if the successor is still the one that answered."""
        if server and died <= server.started_ns <= answered and server.ready_ns:
            return [server.started_ns, server.stats.read("first_instruction_ns"), server.ready_ns]
        return [None, None, None]


class SampledRun(Run):
    """A run whose report has more in it."""

    def __init__(self, link: Link, request: dict[str, Any], hypervisor: Hypervisor) -> None:
        self.sampled = SampledFigures(hypervisor)
        hypervisor.figures = self.sampled
        super().__init__(link, request, hypervisor)

    def report(self) -> dict[str, Any]:
        """See `Run.report`."""
        counted = super().report()
        return counted | {
            "exits": sum(row["exits"] for row in counted["components"]) - counted["exits_at_first"],
            "recoveries_ns": self.sampled.recoveries_ns,
            "programs_waited_ms": self.sampled.programs_waited_ms,
            "faults_ns": sorted(self.sampled.faults_ns.values()),
        }


def main(zygote: Zygote) -> int:
    """`vmm.system_process.main` with runs of this kind."""
    setattr(system_process, "Run", SampledRun)  # noqa: B010 (a type checker would refuse the assignment)
    return system_process.main(zygote)
