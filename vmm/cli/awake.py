"""Keeping the host's idle CPUs from sleeping deeply while a system exchanges messages.

A component that sleeps is woken on an idle CPU more often than not, and where CPUs are virtual that CPU has
to be brought back by the outer hypervisor first: half of the time of a call to a sleeping component
(`tests/bench/README.md` has the profile). Linux's interface for this is /dev/cpu_dma_latency: as long as a
number is held there, no CPU enters an idle state that takes longer to leave
(Documentation/power/pm_qos_interface.rst). It is held only while there are wake-ups to be made quicker, and
ends with this process however that dies. Only idle time is burnt: whoever has something to do gets the CPU at
once.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

DEVICE = Path("/dev/cpu_dma_latency")
SYSFS = Path("/sys/devices/system/cpu")
PERIOD_S = 0.25
BUSY_PER_S = 500.0  # wake-ups a second from which it pays
SHALLOW_US = 10  # a real CPU leaves its first idle state (C1) faster than that


class Awake:
    """Looks every PERIOD_S how many wake-ups there were; `due` is when next (CLOCK_MONOTONIC, seconds).

    `waits` tells how often the system's components have gone to sleep so far. Begins awake, for what has just
    been started. `polled_s` is the CPU time, over all CPUs, that was polled away while awake.
    """

    def __init__(self, waits: Callable[[], int], device: Path = DEVICE, sysfs: Path = SYSFS) -> None:
        self._waits, self._device, self._sysfs = waits, device, sysfs
        self._latency_us = tolerated_us(sysfs)
        self._held = -1
        self._before = 0  # microseconds polled before it was held
        self._seen, self._seen_at = waits(), time.monotonic()
        self.polled_s = 0.0
        self.due = self._seen_at + PERIOD_S if self._hold() else math.inf

    @property
    def held(self) -> bool:
        """Are the CPUs kept awake?"""
        return self._held >= 0

    def look(self) -> None:
        """Decide anew, if the moment has come."""
        now = time.monotonic()
        if now < self.due:
            return
        waits = self._waits()
        busy = waits - self._seen >= BUSY_PER_S * (now - self._seen_at)
        self._seen, self._seen_at, self.due = waits, now, now + PERIOD_S
        if busy:
            self._hold()
        else:
            self._release()

    def close(self) -> None:
        """Let the CPUs sleep; idempotent."""
        self._release()
        self.due = math.inf

    def _hold(self) -> bool:
        """Whether it is held now: not where this host has no such thing or does not permit it."""
        if not self.held and self._latency_us is not None:
            with contextlib.suppress(OSError):
                self._held = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
                self._before = polled_us(self._sysfs)
                os.write(self._held, struct.pack("=i", self._latency_us))
        return self.held

    def _release(self) -> None:
        if self.held:
            self.polled_s += (polled_us(self._sysfs) - self._before) / 1e6
            os.close(self._held)
            self._held = -1


def tolerated_us(sysfs: Path = SYSFS) -> int | None:
    """Microseconds an idle CPU may take to wake; None where nothing is gained by saying so.

    A virtual CPU that halts is left to the outer hypervisor, whatever its idle state claims: it may only poll
    (0). A real one may enter its first state.
    """
    try:
        driver = (sysfs / "cpuidle/current_driver").read_text(encoding="ascii").strip()
        if driver == "haltpoll":
            return 0
        latency = int((sysfs / "cpu0/cpuidle/state1/latency").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # CPUs that have no idle states cannot be kept from them
    return latency if latency <= SHALLOW_US else None


def polled_us(sysfs: Path = SYSFS) -> int:
    """Microseconds that all CPUs together have polled away while idle, since the host's start."""
    total = 0
    for state in sysfs.glob("cpu[0-9]*/cpuidle/state0"):
        with contextlib.suppress(OSError, ValueError):
            if (state / "name").read_text(encoding="ascii").strip() == "POLL":
                total += int((state / "time").read_text(encoding="ascii"))
    return total
