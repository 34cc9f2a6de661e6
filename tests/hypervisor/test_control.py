"""The control socket and its clients, most of whom mean no good."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypervisor import control
from hypervisor.control import CLIENTS_MAX, LINE_MAX, ControlSocket
from tests.hypervisor.world import World


class Client:
    """One connection."""

    def __init__(self, world: World, path: str) -> None:
        self.world = world
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.sock.setblocking(False)
        self.got = b""

    def send(self, data: bytes) -> None:
        """Everything, while the hypervisor goes on."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.world.turn()
            except (BrokenPipeError, ConnectionResetError):
                return

    def line(self) -> dict[str, Any]:
        """The next answer."""
        self.world.until(lambda: b"\n" in self.got or self._receive())
        line, self.got = self.got.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _receive(self) -> bool:
        try:
            self.got += self.sock.recv(65536)
        except BlockingIOError:
            pass
        return b"\n" in self.got

    def ask(self, execute: object, **arguments: object) -> Any:
        """A command's answer."""
        self.send(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        return self.line()

    def dropped(self) -> bool:
        """The hypervisor has closed it."""
        try:
            return self.sock.recv(1 << 20) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class Controlled:
    """A system with a control socket."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.path = str(folder / "test.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(2 * CLIENTS_MAX)
        self.control = ControlSocket(world.system, listener)
        self.clients: list[Client] = []

    def client(self) -> Client:
        made = Client(self.world, self.path)
        self.clients.append(made)
        return made

    def close(self) -> None:
        for each in self.clients:
            each.sock.close()
        if os.path.exists(self.path):
            self.control.close()


@pytest.fixture
def controlled(world: World, tmp_path: Path) -> Iterator[Controlled]:
    made = Controlled(world, tmp_path)
    yield made
    made.close()


def test_commands(controlled: Controlled) -> None:
    client, world = controlled.client(), controlled.world
    rows = {row["name"]: row for row in client.ask("ps")["return"]}
    assert set(rows) == {"rs", "driver", "files", "app"}
    assert rows["driver"]["state"] == "running" and rows["driver"]["epoch"] == 1
    policy = client.ask("policy")["return"]
    assert policy["components"][0]["name"] == "rs" and policy["channels"][2]["parameter"] == "/usr"
    assert client.ask("kill", component="driver") == {"return": {}, "id": None}
    assert client.ask("ps")["return"][1]["deaths"] == 1
    world.revive("driver")
    texts = [record["text"] for record in client.ask("log")["return"]]
    assert any("died: killed: by the operator" in text for text in texts)
    last = client.ask("log")["return"][-1]["number"]
    assert client.ask("log", since=last)["return"] == []


def test_states_in_ps(controlled: Controlled) -> None:
    client, world = controlled.client(), controlled.world
    assert world.supervisor
    world.supervisor.alive = False
    world.kill("driver")
    world.tender("app").hypercall(5, 3)
    world.until(lambda: world.ended)
    states = {row["name"]: row["state"] for row in client.ask("ps")["return"]}
    assert states["driver"] == "recovering" and states["app"] == "exited 3"


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"junk", "JSONParsing", "not a line of JSON"),
        (b"\xff\xfe\x00", "JSONParsing", "not a line of JSON"),
        (b"", "JSONParsing", "not a line of JSON"),
        (b"[" * 50_000, "JSONParsing", "not a line of JSON"),
        (b'{"a":' * 10_000, "JSONParsing", "not a line of JSON"),
        (b"9" * 10_000, "JSONParsing", "not a line of JSON"),
        (b"[]", "GenericError", 'a command is {"execute": NAME, "arguments": {...}}'),
        (b"null", "GenericError", 'a command is {"execute": NAME, "arguments": {...}}'),
        (b'{"execute": "ps", "arguments": []}', "GenericError",
         'a command is {"execute": NAME, "arguments": {...}}'),
        (b"{}", "CommandNotFound",
         "no command None; there are: history, kill, log, policy, ps, update, updated"),
        (b'{"execute": ["ps"]}', "CommandNotFound",
         "no command ['ps']; there are: history, kill, log, policy, ps, update, updated"),
        (b'{"execute": "kill"}', "ComponentNotFound",
         "no component 'None' in this system; there are: rs, driver, files, app"),
        (b'{"execute": "log", "arguments": {"since": "x"}}', "GenericError", "log: since is a record number"),
        (b'{"execute": "ps", "id": {}}', "GenericError", "an id is a number or a string"),
        (b'{"execute": "ps", "id": 1.5}', "GenericError", "an id is a number or a string"),
        (b'{"execute": "ps", "id": ' + b"[" * 400 + b"]" * 400 + b"}", "GenericError",
         "an id is a number or a string"),
    ],
)  # fmt: skip
def test_bad_lines(controlled: Controlled, line: bytes, kind: str, text: str) -> None:
    client = controlled.client()
    client.send(line + b"\n")
    assert client.line() == {"error": {"class": kind, "desc": text}, "id": None}
    assert "return" in client.ask("ps"), "the connection goes on"


def test_ids_come_back(controlled: Controlled) -> None:
    client = controlled.client()
    for identifier in (7, "seven", None, 0, True, "\ud800"):
        client.send(json.dumps({"execute": "policy", "id": identifier}).encode() + b"\n")
        assert client.line()["id"] == identifier


def test_killing_what_is_dead(controlled: Controlled) -> None:
    client, world = controlled.client(), controlled.world
    assert world.supervisor
    world.supervisor.alive = False
    client.ask("kill", component="driver")
    error = client.ask("kill", component="driver")["error"]
    assert error == {"class": "NotRunning", "desc": "driver is not running just now"}


def test_lines_in_pieces_and_many_in_one(controlled: Controlled) -> None:
    client = controlled.client()
    for piece in (b'{"exe', b'cute": "pol', b'icy", "id": 1}\n{"execute": "policy",', b' "id": 2}\n'):
        client.send(piece)
        controlled.world.turns(2)
    assert [client.line()["id"] for _ in range(2)] == [1, 2]
    client.send(b"".join(b'{"execute": "policy", "id": %d}\n' % n for n in range(300)))
    assert [client.line()["id"] for _ in range(300)] == list(range(300))


def test_a_line_without_end(controlled: Controlled) -> None:
    client = controlled.client()
    client.send(b"x" * (2 * LINE_MAX + 2))
    controlled.world.until(client.dropped)
    assert "return" in controlled.client().ask("ps")


def test_a_client_that_does_not_read_keeps_nobody_waiting(controlled: Controlled) -> None:
    """Nor does it make the hypervisor remember more than one answer for it."""
    rude, world = controlled.client(), controlled.world
    line = b'{"execute": "policy"}\n'
    with pytest.raises(BlockingIOError):
        for _ in range(1_000_000):
            rude.sock.send(line * 100)
            world.turns(2)
    begun = time.monotonic()
    world.turns(50)
    polite = controlled.client()
    for _ in range(20):
        assert "return" in polite.ask("ps")
    assert time.monotonic() - begun < 2.0
    held = controlled.control._clients[0]
    assert 0 < len(held.lines) <= 2 * LINE_MAX and len(held.answer) < 100_000
    # It may still have its answers, all of them.
    assert "return" in rude.line()


def test_one_line_a_turn(controlled: Controlled) -> None:
    """However many it sends at once: tenders have their turns in between."""
    client, world = controlled.client(), controlled.world
    client.send(b'{"execute": "kill", "arguments": {"component": "nobody"}}\n' * 50)
    for count in range(1, 10):
        world.turns(2)
        answered = client.got.count(b"\n") if client._receive() else 0
        assert answered <= 2 * count + 2


def test_the_seventeenth_client(controlled: Controlled) -> None:
    world = controlled.world
    clients = [controlled.client() for _ in range(CLIENTS_MAX)]
    world.turns(3)
    late = controlled.client()
    world.until(late.dropped)
    assert all("return" in each.ask("policy") for each in clients)
    clients[0].sock.close()
    world.turns(3)
    assert "return" in controlled.client().ask("policy")


def test_one_that_does_not_take_its_answer_makes_room(
    controlled: Controlled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "STALLED_S", 0.02)
    world = controlled.world
    clients = [controlled.client() for _ in range(CLIENTS_MAX)]
    world.turns(3)
    with pytest.raises(BlockingIOError):
        for _ in range(1_000_000):
            clients[0].sock.send(b'{"execute": "policy"}\n' * 100)
            world.turn()
    world.turn(0.05)
    assert "return" in controlled.client().ask("policy")
    assert all("return" in each.ask("policy") for each in clients[1:])


def test_clients_that_come_and_go_leave_nothing(controlled: Controlled) -> None:
    world = controlled.world
    spares = [spare for name in ("rs", "driver", "files") for spare in world.spares(name)]
    world.until(lambda: all(spare.instance.pid for spare in spares))
    world.turns(3)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        client = Client(world, controlled.path)
        if number % 2:
            client.send(b'{"execute": "policy"}\n' * 3)
        if number % 3:
            world.turn()
        client.sock.close()
        world.turns(4)
    world.until(lambda: not controlled.control._clients)
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_for_a_new_client(controlled: Controlled, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def accept(self) -> None:
            raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(controlled.control, "_listener", Broken())
        controlled.control._accept()
    assert "return" in controlled.client().ask("policy")


def test_close(controlled: Controlled) -> None:
    client, world = controlled.client(), controlled.world
    assert "return" in client.ask("policy")
    controlled.control.close()
    assert client.dropped() and not os.path.exists(controlled.path)
    world.turns(3)
