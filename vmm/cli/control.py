"""Speaking with a running system through its control socket: one JSON object a line, answered in order."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from hypervisor.control import runtime_directory
from vmm.cli.command import CommandError

ANSWER_SECONDS = 10.0
ANSWER_MAX = 64 << 20


def running() -> dict[str, Path]:
    """The control sockets of the systems that run, by name; one that nobody listens on is left out."""
    found = {}
    for path in sorted(runtime_directory().glob("*.sock")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                continue
        found[path.stem] = path
    return found


class Control:
    """A connection to the system `name`, or to the only one that runs. A context manager."""

    def __init__(self, name: str | None) -> None:
        systems = running()
        if not systems:
            raise CommandError(
                f"no system is running (looked in {runtime_directory()}); start one with r3s3 run"
            )
        names = ", ".join(systems)
        if name is None and len(systems) > 1:
            raise CommandError(f"several systems are running: {names}; choose one with -s NAME")
        if name is not None and name not in systems:
            raise CommandError(f'no system "{name}" is running; running: {names}')
        self.name = name or next(iter(systems))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        self._number = 0
        self._rest = b""
        try:
            self._socket.connect(str(systems[self.name]))
        except OSError as error:
            raise self._lost(error) from None

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """The answer of the system to `command`; CommandError where it refuses."""
        self._number += 1
        request = {"execute": command, "arguments": arguments, "id": self._number}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = self._line()
        except OSError as error:
            raise self._lost(error) from None
        if "error" in answer:
            raise CommandError(answer["error"]["desc"])
        return answer["return"]

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = self._socket.recv(1 << 16)
            if not data or len(self._rest) > ANSWER_MAX:
                raise ConnectionResetError("it closed the connection")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _lost(self, error: OSError) -> CommandError:
        if isinstance(error, TimeoutError):
            return CommandError(f'system "{self.name}" does not answer; is its hypervisor process stopped?')
        return CommandError(f'system "{self.name}" has ended ({error.strerror or error})')
