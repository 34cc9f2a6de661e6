"""The control socket: how people and tools look at a running system and act on it.

A UNIX stream socket (mode 0600), newline-delimited JSON in the manner of QMP:

    -> {"execute": "ps", "arguments": {}, "id": 1}
    <- {"return": [...], "id": 1}       or  {"error": {"class": "...", "desc": "..."}, "id": 1}

Commands: `ps`; `log` {"since": n}; `kill` {"component": name}; `policy`; `report`. Clients are hostile: a
line is at most LINE_MAX bytes, a client that does not read loses its connection, and nothing that any of them
sends can stop the system.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypervisor.component import LiveComponent

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

LINE_MAX = 64 * 1024
CLIENTS_MAX = 16


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


class ControlSocket:
    """Listens at `path` until closed."""

    def __init__(self, system: Hypervisor, path: str, report: Callable[[], dict[str, Any]]) -> None:
        self._system = system
        self._report = report
        self.path = path
        self._clients: dict[socket.socket, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(mask)
        self._listener.listen(CLIENTS_MAX)
        system.loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if len(self._clients) >= CLIENTS_MAX:
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = b""
        self._system.loop.add_reader(client.fileno(), lambda: self._read(client))

    def _drop(self, client: socket.socket) -> None:
        self._system.loop.remove_reader(client.fileno())
        self._clients.pop(client, None)
        client.close()

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(LINE_MAX)
        except OSError:
            data = b""
        buffered = self._clients[client] + data
        *lines, rest = buffered.split(b"\n")
        if not data or len(rest) > LINE_MAX:
            self._drop(client)
            return
        self._clients[client] = rest
        for line in lines:
            answer = json.dumps(self._answer(line)).encode() + b"\n"
            try:
                client.setblocking(True)
                client.settimeout(0.2)
                client.sendall(answer)
                client.setblocking(False)
            except OSError:
                self._drop(client)
                return

    def _answer(self, line: bytes) -> dict[str, Any]:
        identifier: Any = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("arguments", {}), dict):
                raise ControlError("GenericError", 'a command is {"execute": NAME, "arguments": {...}}')
            identifier = request.get("id")
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
