"""The control socket: how people and tools look at a running system and act on it.

A UNIX stream socket (mode 0600), newline-delimited JSON in the manner of QMP:

    -> {"execute": "ps", "arguments": {}, "id": 1}
    <- {"return": [...], "id": 1}       or  {"error": {"class": "...", "desc": "..."}, "id": 1}

Commands: `ps`; `log` {"since": n}; `kill` {"component": name}; `policy`; `report`. Clients are hostile: a
line is at most LINE_MAX bytes, each has one answer on its way at a time and is not read meanwhile, one that
does not take its answer loses its place when another client wants it, and the event loop waits for none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypervisor.component import LiveComponent

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

LINE_MAX = 64 * 1024
CLIENTS_MAX = 16
STALLED_S = 2.0


def runtime_directory() -> Path:
    """The folder of control sockets: $R3S3_RUNTIME_DIR, or the usual place of this user."""
    if chosen := os.environ.get("R3S3_RUNTIME_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/r3s3")
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "r3s3"
    return Path(f"/tmp/r3s3-{os.geteuid()}")


class ControlError(Exception):
    """A command that cannot be carried out; `kind` is the error's class on the wire."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Client:
    """One connection: lines not answered yet, the rest of the answer under way, and when it last took any."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines = b""
        self.answer = b""
        self.since = 0.0


class ControlSocket:
    """Listens at `path` until closed."""

    def __init__(self, system: Hypervisor, path: str, report: Callable[[], dict[str, Any]]) -> None:
        self._system = system
        self._report = report
        self.path = path
        self._clients: list[_Client] = []
        folder = os.path.dirname(path) or "."
        if os.stat(folder).st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "the folder belongs to another user", folder)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(mask)
        self._listener.listen(CLIENTS_MAX)
        system.loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or there is no descriptor for it
            return
        now = time.monotonic()
        if len(self._clients) >= CLIENTS_MAX:
            waiting = [each for each in self._clients if each.answer or b"\n" in each.lines]
            for each in [each for each in waiting if now - each.since > STALLED_S]:
                self._drop(each)
        if len(self._clients) >= CLIENTS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        client = _Client(sock)
        self._clients.append(client)
        self._system.loop.add_reader(sock.fileno(), lambda: self._read(client))

    def _drop(self, client: _Client) -> None:
        self._system.loop.remove_reader(client.sock.fileno())
        self._clients.remove(client)
        client.sock.close()

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        client.lines += data
        if not data or (b"\n" not in client.lines and len(client.lines) > LINE_MAX):
            self._drop(client)
        elif b"\n" in client.lines:
            client.since = time.monotonic()
            loop = self._system.loop
            loop.remove_reader(client.sock.fileno())
            loop.add_reader(client.sock.fileno(), lambda: self._write(client), select.EPOLLOUT)

    def _write(self, client: _Client) -> None:
        """Answer one line each time the client can be written to; read on when there is none."""
        if not client.answer:
            line, client.lines = client.lines.split(b"\n", 1)
            client.answer = json.dumps(self._answer(line)).encode() + b"\n"
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
            client.since = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if not client.answer and b"\n" not in client.lines:
            loop = self._system.loop
            loop.remove_reader(client.sock.fileno())
            loop.add_reader(client.sock.fileno(), lambda: self._read(client))

    def _answer(self, line: bytes) -> dict[str, Any]:
        identifier: Any = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("arguments", {}), dict):
                raise ControlError("GenericError", 'a command is {"execute": NAME, "arguments": {...}}')
            identifier = request.get("id")
            if not isinstance(identifier, int | str | None):
                identifier = None
                raise ControlError("GenericError", "an id is a number or a string")
            command = _COMMANDS.get(str(request.get("execute")))
            if command is None:
                known = ", ".join(sorted(_COMMANDS))
                raise ControlError(
                    "CommandNotFound", f"no command {request.get('execute')!r}; there are: {known}"
                )
            return {"return": command(self, request.get("arguments", {})), "id": identifier}
        except ControlError as error:
            return {"error": {"class": error.kind, "desc": str(error)}, "id": identifier}
        except (ValueError, RecursionError):
            return {"error": {"class": "JSONParsing", "desc": "not a line of JSON"}, "id": identifier}

    def _ps(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return [describe(component) for component in self._system.components.values()]

    def _log(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        since = arguments.get("since", 0)
        if not isinstance(since, int):
            raise ControlError("GenericError", "log: since is a record number")
        return [record.as_json() for record in self._system.log.since(since)[-512:]]

    def _kill(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments.get("component"))
        component = self._system.components.get(name)
        if component is None:
            known = ", ".join(self._system.components)
            raise ControlError(
                "ComponentNotFound", f"no component {name!r} in this system; there are: {known}"
            )
        if not self._system.kill(component, "by the operator"):
            raise ControlError("NotRunning", f"{name} is not running just now")
        return {}

    def _policy(self, _: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self._system.policy), default=_plain))
        return plain

    def _figures(self, _: dict[str, Any]) -> dict[str, Any]:
        return self._report()

    def close(self) -> None:
        """Stop listening and remove the socket's name."""
        for client in list(self._clients):
            self._drop(client)
        self._system.loop.remove_reader(self._listener.fileno())
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


_COMMANDS: dict[str, Callable[[ControlSocket, dict[str, Any]], Any]] = {
    "ps": ControlSocket._ps,
    "log": ControlSocket._log,
    "kill": ControlSocket._kill,
    "policy": ControlSocket._policy,
    "report": ControlSocket._figures,
}


def _plain(value: object) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value)} in a policy")


def describe(component: LiveComponent) -> dict[str, Any]:
    """One row of `ps`."""
    counters = component.counters()
    state = "running" if component.running else "gave up" if component.gave_up else "recovering"
    if component.exit_status is not None:
        state = f"exited {component.exit_status}"
    instance = component.running
    return {
        "name": component.name,
        "epoch": component.epoch,
        "state": state,
        "pid": instance.pid if instance else None,
        "deaths": component.deaths,
        "restarts": component.recoveries,
        "spares": len(component.spares),
        "memory": component.policy.memory,
        "cpu_ms": counters["cpu_ns"] // 1_000_000,
        "exits": counters["exits"],
        "hypercalls": counters["hypercalls"],
        "waits": counters["waits"],
        "wakeups": counters["wakeups"],
        "doorbells": counters["ring_doorbells"],
        "calls": counters["calls"],
        "served": counters["served"],
        "failed": counters["failed"],
        "replayed": counters["replayed"],
        "bytes": counters["bytes"],
    }
