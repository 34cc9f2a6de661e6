"""Deliberate deaths: kills a component a given number of times a second while a program runs.

The moments are random but seeded: each gap is drawn uniformly between half and one and a half of the mean, so
that kills come at every stage of a request's life and a run can be repeated.
"""

from __future__ import annotations

import random

from hypervisor.loop import Timer
from hypervisor.process import Hypervisor

_RETRY_S = 0.001  # the victim is being replaced: try again, so that the rate holds


class Killer:
    """Kills `component` about `rate` times a second from `start` to `stop`; 0 never."""

    def __init__(self, system: Hypervisor, component: str, rate: float, seed: int) -> None:
        self._system = system
        self._component = system.components[component]
        self._rate = rate
        self._random = random.Random(f"{seed} {component}")
        self._timer: Timer | None = None
        self.kills = 0

    def start(self) -> None:
        """The first gap begins now."""
        if self._rate > 0:
            self._again(self._random.uniform(0.5, 1.5) / self._rate)

    def stop(self) -> None:
        """No more kills."""
        if self._timer:
            self._timer.cancel()
        self._rate = 0

    def _again(self, seconds: float) -> None:
        self._timer = self._system.loop.call_later(seconds, self._strike)

    def _strike(self) -> None:
        if self._rate <= 0:
            return
        if self._system.kill(self._component, "on purpose"):
            self.kills += 1
            self._again(self._random.uniform(0.5, 1.5) / self._rate)
        else:
            self._again(_RETRY_S)
