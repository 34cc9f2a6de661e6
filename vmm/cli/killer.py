"""Deliberate deaths: kills a component a given number of times a second while a program runs.

The moments are random but seeded: each gap is drawn uniformly between half and one and a half of the mean, so
that kills come at every stage of a request's life and a run can be repeated.
"""

from __future__ import annotations

import math
import random
import time

from vmm.cli.control import Control, RefusedError

_RETRY_S = 0.001  # the victim is being replaced: try again, so that the rate holds


class Killer:
    """Kills `component` about `rate` times a second from now on; 0 never. `due` is the moment of the next
    kill (CLOCK_MONOTONIC, seconds), `kills` how many there were."""

    def __init__(self, control: Control, component: str, rate: float, seed: int) -> None:
        self._control, self._component, self._rate = control, component, rate
        self._random = random.Random(f"{seed} {component}")
        self.kills = 0
        self.due = time.monotonic() + self._gap()

    def _gap(self) -> float:
        return self._random.uniform(0.5, 1.5) / self._rate if self._rate else math.inf

    def strike(self) -> None:
        """Kill, if the moment has come."""
        if time.monotonic() < self.due:
            return
        try:
            self._control.execute("kill", component=self._component)
        except RefusedError:
            self.due = time.monotonic() + _RETRY_S
        else:
            self.kills += 1
            self.due = time.monotonic() + self._gap()
