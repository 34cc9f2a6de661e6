"""A limit on how often something may happen: a burst, then a steady rate."""

from __future__ import annotations

import time


class Throttle:
    """Allows `burst` events at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst, self._left = per_second, burst, burst
        self._seen = time.monotonic()

    def pause(self) -> float:
        """Count one event; the seconds after which the next one may come."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._seen) * self._per_second) - 1
        self._seen = now
        return max(0.0, -self._left / self._per_second)
