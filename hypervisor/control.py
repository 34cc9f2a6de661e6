"""The control socket: how people and tools look at a running system and act on it.

A UNIX stream socket (mode 0600), newline-delimited JSON in the manner of QMP:

    -> {"execute": "ps", "arguments": {}, "id": 1}
    <- {"return": [...], "id": 1}       or  {"error": {"class": "...", "desc": "..."}, "id": 1}

Commands: `ps`; `log` {"since": n}; `kill` {"component": name}; `policy`; `history`; `update` {"components":
[...], "templates": [...]} with a sealed memfd for each template, and `updated`: null while one is under way,
then "" or why it has failed. Clients are hostile: a line is at most LINE_MAX bytes, each has one answer on
its way at a time and is not read meanwhile, one that does not take its answer loses its place when another
client wants it, and the event loop waits for none.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.placement import PlacementError
from hypervisor.policy import Component, rebuild
from hypervisor.update import Update

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

LINE_MAX = 64 * 1024
CLIENTS_MAX = 16
FDS_MAX = 32
STALLED_S = 2.0


class ControlError(Exception):
    """A command that cannot be carried out: the error's class on the wire, and its text."""


class _Client:
    """One connection: lines not answered yet, the rest of the answer under way, and when it last took any."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines = b""
        self.answer = b""
        self.fds: list[int] = []  # that came with the lines
        self.since = 0.0


class ControlSocket:
    """Answers whoever connects to `listener`, a bound socket, until closed."""

    def __init__(self, system: Hypervisor, listener: socket.socket) -> None:
        self._system, self._listener = system, listener
        self._clients: list[_Client] = []
        self._present: _Client  # whose command is carried out
        self._commands: dict[str, Callable[[dict[str, Any]], object]] = {
            "ps": lambda _: [describe(each) for each in system.components.values()],
            "log": self._log,
            "kill": self._kill,
            "policy": lambda _: asdict(
                replace(system.policy, components=tuple(each.policy for each in system.components.values()))
            ),
            "history": lambda _: [
                *system.history,
                *(each.life(each.running) for each in system.components.values() if each.running),
            ],
            "update": self._update,
            "updated": lambda _: system.updated,
        }
        listener.setblocking(False)
        system.loop.add_reader(listener.fileno(), self._accept)

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
        self._when(client, self._read, select.EPOLLIN)

    def _when(self, client: _Client, callback: Callable[[_Client], None], events: int) -> None:
        """Call `callback`, and nothing else, when the client's socket is ready for `events`."""
        self._system.loop.remove_reader(client.sock.fileno())
        self._system.loop.add_reader(client.sock.fileno(), lambda: callback(client), events)

    def _drop(self, client: _Client) -> None:
        self._system.loop.remove_reader(client.sock.fileno())
        self._clients.remove(client)
        client.sock.close()
        while client.fds:
            os.close(client.fds.pop())

    def _read(self, client: _Client) -> None:
        try:
            data, fds, _ = wire.receive_bytes(client.sock, LINE_MAX, FDS_MAX)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        client.lines += data
        client.fds += fds
        too_long = b"\n" not in client.lines and len(client.lines) > LINE_MAX
        if not data or too_long or len(client.fds) > FDS_MAX:
            self._drop(client)
        elif b"\n" in client.lines:
            client.since = time.monotonic()
            self._when(client, self._write, select.EPOLLOUT)

    def _write(self, client: _Client) -> None:
        """Answer one line each time the client can be written to; read on when there is none."""
        if not client.answer:
            line, client.lines = client.lines.split(b"\n", 1)
            self._present = client
            client.answer = json.dumps(self._answer(line), default=_plain).encode() + b"\n"
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
            client.since = time.monotonic()
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if not client.answer and b"\n" not in client.lines:
            self._when(client, self._read, select.EPOLLIN)

    def _answer(self, line: bytes) -> dict[str, Any]:
        identifier: Any = None
        try:
            request = json.loads(line)
            arguments = request.get("arguments", {}) if isinstance(request, dict) else None
            if not isinstance(arguments, dict):
                raise ControlError("GenericError", 'a command is {"execute": NAME, "arguments": {...}}')
            if not isinstance(request.get("id"), int | str | None):
                raise ControlError("GenericError", "an id is a number or a string")
            identifier, name = request.get("id"), request.get("execute")
            if not isinstance(name, str) or name not in self._commands:
                known = ", ".join(sorted(self._commands))
                raise ControlError("CommandNotFound", f"no command {name!r}; there are: {known}")
            return {"return": self._commands[name](arguments), "id": identifier}
        except ControlError as error:
            return {"error": dict(zip(("class", "desc"), error.args, strict=True)), "id": identifier}
        except (ValueError, RecursionError):
            return {"error": {"class": "JSONParsing", "desc": "not a line of JSON"}, "id": identifier}

    def _log(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        since = arguments.get("since", 0)
        if not isinstance(since, int):
            raise ControlError("GenericError", "log: since is a record number")
        return [record._asdict() for record in self._system.log.since(since)[-512:]]

    def _kill(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments.get("component"))
        component = self._system.components.get(name)
        if component is None:
            text = f"no component {name!r} in this system; there are: {', '.join(self._system.components)}"
            raise ControlError("ComponentNotFound", text)
        if component.running is None:
            raise ControlError("NotRunning", f"{name} is not running just now")
        self._system.blame(component, abi.Fault.KILLED, "by the operator")
        return {}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Begin an update; `updated` tells how it has ended."""
        system, fds = self._system, self._present.fds
        self._present.fds = []
        added: list[Component] = []
        try:
            if not fds:
                raise ValueError("its images have not come along; one in a test bed is updated from inside")
            for each, template, fd in zip(arguments["components"], arguments["templates"], fds, strict=True):
                component = rebuild(Component, each)
                system.launcher.add(component, fd, template)
                added.append(component)
            system.update = Update(system, added)
        except (ValueError, LookupError, TypeError, PlacementError) as error:
            for component in added:
                system.launcher.forget(component)
            for fd in fds[len(added) :]:
                os.close(fd)
            raise ControlError("NotUpdatable", f"update: {error}") from None
        return {}

    def close(self) -> None:
        """Stop listening and remove the socket's name."""
        for client in list(self._clients):
            self._drop(client)
        self._system.loop.remove_reader(self._listener.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._listener.getsockname())
        self._listener.close()


def _plain(value: frozenset[int] | bytes) -> Any:
    """What JSON has no notion of, in a policy."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else sorted(value)


def describe(component: LiveComponent) -> dict[str, Any]:
    """One row of `ps`: its present state, and its counters since the system's start."""
    instance, policy, counters = component.running, component.policy, component.counters()
    state = "running" if instance else "gave up" if component.gave_up else "recovering"
    if component.exit_status is not None:
        state = f"exited {component.exit_status}"
    row = {"name": component.name, "epoch": component.epoch, "state": state}
    row |= {"pid": instance.pid if instance else None, "spares": len(component.spares)}
    row |= {"deaths": component.deaths, "restarts": component.recoveries}
    row |= {"memory": policy.memory, "is_program": policy.is_program}
    return row | {"cpu_ms": counters["cpu_ns"] // 1_000_000, **counters}
