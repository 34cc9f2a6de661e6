"""DMA windows: the only memory a device can reach, and the life of a virtual device beside its driver's.

A device outlives its driver, as hardware does. Before the driver's successor starts, the device is drained
(with a deadline, after which its process is killed), its windows are withdrawn, and it is set up anew on the
new epoch's rings and pool. The protocol behind it is a `Backend`, registered from outside (vhost-user).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from hypervisor.abi import generated as abi
from hypervisor.memory import MemoryObject, Ringed
from hypervisor.policy import Device

Done = Callable[[bool], None]  # True: it did; False: the deadline passed or the device is gone

DRAIN_DEADLINE_S = 0.5
WINDOW_DEADLINE_S = 0.2


class Window(NamedTuple):
    """Memory the device may reach: `size` bytes of `fd` at I/O address `iova`."""

    fd: int
    size: int
    iova: int


class Queue(NamedTuple):
    """One virtqueue's notification descriptors and size."""

    kick: int
    call: int
    size: int


class Backend(Protocol):
    """What drives one device process; never blocks the event loop."""

    features: int
    config: bytes
    registers: dict[int, tuple[int, int]]  # descriptor and offset of each BAR; the owner's

    def start(self, queues: Sequence[Queue], windows: Sequence[Window]) -> None:
        """Set the device up on a new epoch's rings and windows."""

    def stop(self, deadline_s: float, done: Done) -> None:
        """Drain: after `done(True)` the device touches nothing any more."""

    def open_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Add memory the device may reach."""

    def close_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """Withdraw it: after `done(True)` the device cannot reach it."""

    def close(self) -> None:
        """End the device process or the connection to it."""

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when a back-end that was closed, or will be, can touch nothing any more."""


class LiveDevice(Ringed):
    """One device of a running system and the windows open on it."""

    def __init__(self, policy: Device) -> None:
        self.policy = policy
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self.eventfds = [(os.eventfd(0, flags), os.eventfd(0, flags)) for _ in range(policy.queues)]
        super().__init__("r3s3:vring", policy.queues * abi.VRING_STRIDE)
        self.backend: Backend | None = None
        self._ended: Backend | None = None  # the one before
        self.started = False
        self.draining = 0  # stops that have not been answered
        self.restarts = 0
        self.withdrawn_ns = -(1 << 62)  # when a window was last closed by somebody else than the driver
        self._windows: dict[int, Window] = {}  # per-request windows, by I/O address
        self._late: list[Callable[[], None]] = []  # what waits for the drain
        self._next_iova = abi.GRANT_IOVA

    @property
    def features(self) -> int:
        """Feature bits negotiated with the device; 0 while there is none."""
        return self.backend.features if self.backend else 0

    @property
    def config(self) -> bytes:
        """The device's configuration space."""
        return self.backend.config if self.backend else b""

    def start(self, pools: Sequence[tuple[int, MemoryObject]]) -> None:
        """Begin a driver epoch: fresh rings, windows on them and on `pools` ((iova, memory) each)."""
        if not self.backend:
            return
        windows = [Window(self.rings.fd, self.rings.size, abi.VRING_IOVA)]
        windows += [Window(memory.fd, memory.size, iova) for iova, memory in pools]
        queues = [Queue(kick, call, self.policy.queue_size) for kick, call in self.eventfds]
        self.backend.start(queues, windows)
        self.started = True

    def end(self) -> None:
        """Give up the device process, or the connection to it."""
        if self.backend:
            self._ended = self.backend
            self.backend.close()
        self.backend, self.started = None, False

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when the present back-end, which does not answer, or the last one, is really gone."""
        backend = self.backend or self._ended
        if backend:
            backend.when_gone(then)
        else:
            then()

    def renew(self) -> None:
        """Fresh rings for the next epoch, which nobody of this one can reach."""
        self._windows.clear()
        self.rings.close()
        self.rings = self._take_rings()

    def stop(self, done: Done) -> None:
        """Drain the device; `done(False)` if it had to be given up.

        `start` may follow at once: a back-end carries its commands out in order, so the drain is over before
        it learns of new memory.
        """
        if not self.backend or not self.started:
            done(self.backend is not None)
            return
        self.started = False
        self.draining += 1

        def stopped(drained: bool) -> None:
            self.draining -= 1
            late, self._late = self._late, []
            done(drained)
            for each in late:
                each()

        self.backend.stop(DRAIN_DEADLINE_S, stopped)

    def open(self, memory: MemoryObject, done: Callable[[int], None]) -> None:
        """Open a window on `memory` for one request; `done(iova)`, 0 where the device did not take it."""
        if not self.backend or not self.started:
            done(0)
            return
        iova = self._next_iova
        self._next_iova += memory.size + abi.PAGE_SIZE
        window = Window(memory.fd, memory.size, iova)
        self._windows[iova] = window

        def opened(ok: bool) -> None:
            if ok and iova not in self._windows:  # its driver has died: the drain will close it
                self._late.append(lambda: done(0))
                return
            if not ok:
                self._windows.pop(iova, None)
            done(iova if ok else 0)

        self.backend.open_window(window, WINDOW_DEADLINE_S, opened)

    def shut(self, iova: int, done: Done) -> None:
        """Close the window at `iova`; a window that does not exist is already closed."""
        window = self._windows.pop(iova, None)
        if window is None or not self.backend or not self.started:
            done(True)
            return
        self.backend.close_window(window, WINDOW_DEADLINE_S, done)
