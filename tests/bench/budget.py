"""The time there is: `make bench` ends within ten minutes on a busy machine too, with fewer repetitions."""

from __future__ import annotations

import time


class Budget:
    """Shares a number of seconds out among steps; what one step does not use is there for the next ones."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin = self._step_began = time.monotonic()
        self._shares = 0.0
        self.taken: dict[str, float] = {}  # seconds of each step that has ended

    def begin(self, share: float) -> None:
        """The next step may use this part (0 to 1) of all."""
        self._shares += share
        self._step_began = time.monotonic()

    def end(self, name: str) -> None:
        """The step is over."""
        self.taken[name] = round(time.monotonic() - self._step_began, 1)

    @property
    def spent(self) -> bool:
        """True when the step should repeat nothing any more."""
        return time.monotonic() - self._begin > self._shares * self._seconds

    @property
    def left_s(self) -> float:
        """Seconds until then."""
        return max(0.0, self._begin + self._shares * self._seconds - time.monotonic())
