"""Figures: how long recoveries took, as their clients saw them.

A recovery is measured from just before the death to the moment a client got the answer to the first request
it had to repeat. Guests note that moment in ticks in their replay ring; the ticks are turned into nanoseconds
with the one instant known in both clocks, the guest's first instruction.
"""

from __future__ import annotations

from collections import deque

from hypervisor.channels import Connection
from hypervisor.component import LiveComponent
from hypervisor.instances import Instance

SAMPLES = 1 << 14  # the last so many are kept
EXPECTED = 1 << 10  # deaths whose first repeated answer has not been seen


class Figures:
    """Samples of one system's run."""

    def __init__(self, tsc_khz: int) -> None:
        self.tsc_khz = tsc_khz
        self.ready_us: deque[int] = deque(maxlen=SAMPLES)  # death -> successor ready
        # death -> first repeated request answered, per client
        self.recovery_ms: deque[float] = deque(maxlen=SAMPLES)
        self._died: dict[tuple[int, int], int] = {}

    def expect(self, connection: Connection, died_ns: int) -> None:
        """The server of `connection` died at `died_ns`; the present epoch is its successor's."""
        self._died[connection.policy.index, connection.epoch] = died_ns
        if len(self._died) > EXPECTED:
            del self._died[next(iter(self._died))]

    def harvest(self, component: LiveComponent, instance: Instance) -> None:
        """Take over what `instance` has noted since the last time."""
        start_tsc = instance.telemetry_counters().start_tsc
        start_ns = instance.stats.read("first_instruction_ns")
        for entry in instance.new_replays():
            if entry.channel >= len(component.connections):
                continue
            connection = component.connections[entry.channel][1]
            died_ns = self._died.pop((connection.policy.index, entry.epoch), None)
            if died_ns is not None:
                answered_ns = start_ns + (entry.tsc - start_tsc) * 1_000_000 // self.tsc_khz
                self.recovery_ms.append(max(0.0, (answered_ns - died_ns) / 1e6))
