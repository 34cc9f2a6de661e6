"""The system's standard output and error: bytes at absolute positions, written once however often they come.

Each (stream, writer) has its own position, kept here and not in any component, so that a console that died
between writing and answering may simply be asked again. A thread per descriptor does the blocking writes;
the event loop never waits for a slow reader.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

from hypervisor.abi import generated as abi
from hypervisor.loop import Loop

Done = Callable[[int, int], None]  # result (0 or an error), position reached


class Output:
    """The two streams of one system, onto descriptors that stay the caller's."""

    def __init__(self, loop: Loop, stdout_fd: int, stderr_fd: int) -> None:
        self._loop = loop
        self._positions: dict[int, int] = {}
        self._queues: dict[int, queue.SimpleQueue[tuple[bytes, Callable[[int], None]] | None]] = {}
        self._threads: list[threading.Thread] = []
        for stream, fd in ((abi.Stream.STDOUT, stdout_fd), (abi.Stream.STDERR, stderr_fd)):
            self._queues[stream] = queue.SimpleQueue()
            thread = threading.Thread(target=self._writer, args=(fd, self._queues[stream]), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _writer(self, fd: int, jobs: queue.SimpleQueue[tuple[bytes, Callable[[int], None]] | None]) -> None:
        while (job := jobs.get()) is not None:
            data, finished = job
            status = 0
            try:
                while data:
                    try:
                        data = data[os.write(fd, data) :]
                    except BlockingIOError:  # somebody else made the descriptor non-blocking
                        select.select([], [fd], [])
            except OSError:
                status = abi.Error.IO
            self._loop.post(lambda finished=finished, status=status: finished(status))  # type: ignore[misc]

    def write(self, stream: int, writer: int, position: int, data: bytes, done: Done) -> None:
        """Write the part of `data` at `position` that is not written yet; a gap is `inval`."""
        jobs = self._queues.get(stream)
        key = stream << 32 | writer
        reached = self._positions.get(key, 0)
        if jobs is None or position > reached:
            done(abi.Error.INVAL, reached)
            return
        fresh = data[reached - position :]
        end = reached + len(fresh)
        self._positions[key] = end
        jobs.put((fresh, lambda status: done(status, end)))

    def finish(self, timeout_s: float) -> None:
        """Let the threads write what they have, for at most `timeout_s` each."""
        for jobs in self._queues.values():
            jobs.put(None)
        for thread in self._threads:
            thread.join(timeout_s)
