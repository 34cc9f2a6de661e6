"""The watch: finds components that are hung, without asking them to prove that they are not.

Hung means: requests wait for it that it has not parked, its rings show no progress, and either it has used
up its heartbeat's worth of CPU time meanwhile or its tender does not answer. One that waits for work, or for
a server of its own, uses no CPU and is left alone. After a round that came late, because this process or the
whole machine was stopped, silence counts from then on.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.instances import Instance

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

PERIOD_S = 0.05
STOPPED_NS = 500_000_000
HARVEST_EVERY = 10
COLLECT_EVERY = 200
SPARE_CPU_NS = 1_000_000_000  # it takes about a millisecond
UNRESPONSIVE_HEARTBEATS = 4


class Watch:
    """A timer that looks at every component's rings from outside."""

    def __init__(self, system: Hypervisor) -> None:
        self._system = system
        self._rounds = self._resumed_ns = 0
        self._looked_ns = time.monotonic_ns()

    def start(self) -> None:
        """Look every PERIOD_S from now on."""
        self._system.loop.call_later(PERIOD_S, self._round)

    def _round(self) -> None:
        self._rounds += 1
        now = time.monotonic_ns()
        if now - self._looked_ns > STOPPED_NS:
            self._resumed_ns = now
        self._looked_ns = now
        for component in self._system.components.values():
            if component.running and component.policy.heartbeat_ms:
                self._look(component, component.running)
            for spare in component.spares:
                if spare.cpu_ns() > SPARE_CPU_NS:
                    self._system.ended(spare, abi.Fault.HUNG, "it does not come to `start`")
            if component.running and self._rounds % HARVEST_EVERY == 0:
                self._system.figures.harvest(component, component.running)
        self._system.check_supervisor(self._resumed_ns)
        if self._rounds % COLLECT_EVERY == 0 and not self._system.recoveries:
            gc.collect()  # automatic collections are off: one in a recovery would cost more than the recovery
        self.start()

    def _look(self, component: LiveComponent, instance: Instance) -> None:
        now = time.monotonic_ns()
        waiting, progress = component.pending()
        if not waiting or progress != component.progress_seen:
            component.progress_seen = progress
            component.cpu_at_progress_ns = -1
            instance.last_pong_ns = now
            return
        heartbeat_ns = component.policy.heartbeat_ms * 1_000_000
        cpu_ns = instance.cpu_ns()
        if component.cpu_at_progress_ns < 0:
            component.cpu_at_progress_ns = cpu_ns
        if not instance.pinged:  # one at a time
            instance.pinged = True
            instance.send(wire.Kind.PING, ())
        if cpu_ns - component.cpu_at_progress_ns >= heartbeat_ns:
            self._system.blame(component, abi.Fault.HUNG, f"{waiting} requests wait, no progress, busy")
        elif now - max(instance.last_pong_ns, self._resumed_ns) >= UNRESPONSIVE_HEARTBEATS * heartbeat_ns:
            why = f"{waiting} requests wait, its tender is silent"
            self._system.blame(component, abi.Fault.TENDER_UNRESPONSIVE, why)
