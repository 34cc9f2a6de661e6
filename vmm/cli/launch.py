"""Starting a system from the command line: spawn its hypervisor process, ask it to run, wait for the end.

The hypervisor process (`vmm.system_process`) inherits one end of a socketpair. One JSON line asks, and JSON
lines come back: started, error, ended. The socket's end-of-file means the same in both directions: the other
side is gone, tear everything down. So nothing survives this process, however it dies.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from vmm.cli.command import CommandError, say

ROOT = Path(__file__).resolve().parents[2]
MODULE = "vmm.system_process"
STOP_SECONDS = 2.0
LINE_MAX = 64 << 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Request:
    """What to run: the fields of the launch line."""

    system_file: str
    program: str
    arguments: list[str]  # the first is the program's own name
    disk: str | None = None  # a path, or vhost-user:PATH
    name: str | None = None  # None: the system file's
    programs: int = 1  # instances of the program
    kill: list[tuple[str, float]] = field(default_factory=list)
    seed: int = 1
    report: bool = False
    spares: bool = True
    limits: dict[str, int] = field(default_factory=dict)
    started_ns: int = 0  # CLOCK_MONOTONIC when the command line started; boot time counts from here


@dataclass(frozen=True)
class Ending:
    """How it ended. `report` is empty unless the system got as far as its end."""

    status: int
    report: dict[str, Any]


class Interrupted(Exception):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


class Launch:
    """One system, from its start to its end. A context manager; leaving it takes the system down.

    `stdout` is where the program's output goes, by default where ours goes.
    """

    def __init__(self, request: Request, stdout: int | IO[bytes] | None = None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, "--launch-fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # a terminal's Ctrl-C is for us, who then stop the system in good order
            )
        self._socket = ours
        self._rest = b""
        self._send(asdict(request))

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, line: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(line).encode() + b"\n")
        except OSError:
            pass  # it is gone already; the end-of-file says so

    def events(self) -> Iterator[dict[str, Any]]:
        """The lines of the hypervisor process, until it closes the socket."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                yield json.loads(line)
                continue
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionError:
                return
            if not data or len(self._rest) > LINE_MAX:
                return
            self._rest += data

    def wait(self) -> Ending:
        """Wait for the end. SIGINT, SIGTERM and SIGHUP stop the system and give 128 + their number."""
        previous = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
        try:
            return self._wait()
        except Interrupted as interrupted:
            self._stop()
            return Ending(128 + interrupted.number, {})
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _wait(self) -> Ending:
        for event in self.events():
            if event["event"] == "error":
                say(event["message"])
                return Ending(event["status"], {})
            if event["event"] == "ended":
                return Ending(event["status"], event["report"] or {})
        code = self.process.wait()
        how = f"signal {-code}" if code < 0 else f"status {code}"
        raise CommandError(f"the hypervisor process died ({how}), and its system with it; run it again")

    def _stop(self) -> None:
        """End the system in good order within STOP_SECONDS; a second signal does not wait."""
        self._send({"stop": True})
        deadline = time.monotonic() + STOP_SECONDS
        try:
            self._socket.settimeout(STOP_SECONDS)
            for event in self.events():
                if event["event"] == "ended" or time.monotonic() > deadline:
                    return
        except (Interrupted, TimeoutError):
            pass

    def close(self) -> None:
        """Take the system down: at the end-of-file by itself, by force after STOP_SECONDS."""
        self._socket.close()
        try:
            self.process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, Interrupted):
            self.process.kill()
            self.process.wait()
