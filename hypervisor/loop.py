"""The hypervisor's event loop: readiness callbacks, timers, and calls posted by helper threads.

One thread, no coroutines: a callback that raises is a bug of ours and ends the system loudly.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Callback = Callable[[], None]


class Timer:
    """A pending call; `cancel` is idempotent."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback | None) -> None:
        self.callback = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None


class Loop:
    """epoll, a heap of timers, and a queue other threads may append to."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Callback] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.add_reader(self._wake, self._drain_posted)
        self.running = False

    def add_reader(self, fd: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        """Call `callback` whenever `fd` is readable (or what `events` says) or hung up; level triggered."""
        self._readers[fd] = callback
        self._epoll.register(fd, events)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`; do this before closing it. Unknown descriptors are ignored."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def post(self, callback: Callback) -> None:
        """Call `callback` soon on the loop's thread; safe from any thread."""
        self._posted.append(callback)
        os.eventfd_write(self._wake, 1)

    def in_thread(self, work: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Run blocking `work` on its own thread; then `done(result, None)` or `done(None, error)` here."""

        def run() -> None:
            result: T | None = None
            failure: Exception | None = None
            try:
                result = work()
            except Exception as error:  # whatever it is, the loop's thread must hear of it
                failure = error
            self.post(lambda: done(result, failure))

        threading.Thread(target=run, daemon=True).start()

    def _drain_posted(self) -> None:
        os.eventfd_read(self._wake)
        for _ in range(len(self._posted)):  # what these post themselves has its own turn
            self._posted.popleft()()

    def run(self) -> None:
        """Serve events until `running` turns false."""
        self.running = True
        while self.running:
            timeout = -1.0
            if self._timers:
                timeout = max(0.0, self._timers[0][0] - time.monotonic())
            ready = [(fd, self._readers.get(fd)) for fd, _ in self._epoll.poll(timeout)]
            for fd, callback in ready:
                # An earlier callback may have removed it, and the number may mean something else by now.
                if callback is not None and self._readers.get(fd) is callback:
                    callback()
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    timer.callback()
