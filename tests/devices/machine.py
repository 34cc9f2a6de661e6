"""A device process under test with its front-end, and the small event loop that a hypervisor would be."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmm.devices import device, process
from vmm.vhost_user import Backend, VhostUserError

SECTOR = 512
POLL_S = 0.002  # some conditions are not announced by any descriptor


def make_image(path: Path, size: int = 1 << 20) -> bytes:
    """A disk image in which every 8 bytes differ."""
    content = b"".join(number.to_bytes(8, "little") for number in range(size // 8))
    path.write_bytes(content)
    return content


class DeviceProcess:
    """A forked child that runs our device; `sock` is the front-end's end of its socket."""

    def __init__(self, image: Path, **config: Any) -> None:
        self.status_fd = os.memfd_create("status", os.MFD_CLOEXEC)
        os.ftruncate(self.status_fd, device.STATUS_BYTES)
        self.status = mmap.mmap(self.status_fd, device.STATUS_BYTES)
        mode = os.O_RDONLY if config.get("read_only") else os.O_RDWR
        file_fd = os.open(image, mode | os.O_CLOEXEC)
        self.sock, inner = socket.socketpair()
        self.errors_fd, errors = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            os.dup2(errors, 2)
            process.run(inner.detach(), file_fd, {"jail": False, "status_fd": self.status_fd, **config})
        inner.close()
        os.close(file_fd)
        os.close(errors)
        self.wait_status: int | None = None

    def counters(self, queue: int = 0) -> device.QueueCounters:
        return device.read_counters(self.status, queue)

    def wait_end(self, timeout: float = 5.0) -> int:
        """Exit status (negative: signal); the process is killed, and that is an error, if it does not end in
        time."""
        deadline = time.monotonic() + timeout
        while self.wait_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.wait_status = status
            elif time.monotonic() > deadline:
                self.kill()
                raise AssertionError("the device did not end")
            else:
                time.sleep(0.002)
        return os.waitstatus_to_exitcode(self.wait_status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.wait_status is None:
            os.kill(self.pid, number)
            if number == signal.SIGKILL:
                self.wait_status = os.waitpid(self.pid, 0)[1]
            tasks = Path(f"/proc/{self.pid}/task")
            while number == signal.SIGSTOP and not all(
                "State:\tT" in (task / "status").read_text() for task in tasks.iterdir()
            ):
                time.sleep(POLL_S)  # it is not at once that every thread has stopped

    def errors(self) -> str:
        """What it said on standard error; only after its end."""
        data = b""
        while part := os.read(self.errors_fd, 65536):
            data += part
        return data.decode()

    def close(self) -> None:
        self.kill()
        self.sock.close()
        self.status.close()
        os.close(self.status_fd)
        os.close(self.errors_fd)


class Loop:
    """Runs a front-end as the hypervisor's event loop would."""

    def __init__(self, sock: socket.socket, *, foreign: bool = False, **arguments: Any) -> None:
        self.lost: list[VhostUserError] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        later = self._call_later if foreign else None
        self.backend = Backend(sock, time.monotonic, self.lost.append, later=later, **arguments)

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + delay_s, callback))

    def until(self, condition: Callable[[], Any], timeout: float = 5.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            now = time.monotonic()
            assert now < end, "nothing happened in time"
            watched = [self.backend] if self.backend.lost is None else []
            if select.select(watched, [], [], min(end - now, POLL_S))[0]:
                self.backend.on_readable()
            self.backend.on_deadline()
            due = [timer for timer in self._timers if timer[0] <= time.monotonic()]
            self._timers = [timer for timer in self._timers if timer not in due]
            for _, callback in due:
                callback()

    def finish(self, command: Callable[..., None], *arguments: Any, deadline: float = 2.0) -> bool:
        """Runs a command that ends with a callback; what the callback got."""
        answers: list[bool] = []
        command(*arguments, deadline, answers.append)
        self.until(lambda: answers)
        assert len(answers) == 1
        return answers[0]

    def settled(self) -> None:
        self.until(lambda: not self.backend._open and not self._timers)
