"""`r3s3 ps`, `log`, `kill`, `policy show`: against a control socket that answers as the hypervisor would."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from hypervisor.policy import Policy
from tests.cli.conftest import Run
from vmm import system
from vmm.cli.command import CommandError
from vmm.cli.control import BACKLOG, forget, listen, running, runtime_directory
from vmm.manifest import PROTOCOLS

STARTING = 6
FIXTURES = Path(__file__).parents[1] / "manifest" / "fixtures"
COMPONENT = {
    "name": "disk_driver",
    "epoch": 3,
    "state": "running",
    "pid": 4711,
    "deaths": 2,
    "restarts": 2,
    "spares": 1,
    "memory": 8 << 20,
    "cpu_ms": 12,
    "exits": 30,
    "hypercalls": 4,
    "waits": 5,
    "wakeups": 6,
    "ring_doorbells": 7,
    "calls": 8,
    "served": 9,
    "failed": 0,
    "replayed": 10,
    "bytes": 1536,
}
RECORDS = [
    {"number": 1, "time": 1.5, "component": "file_server", "epoch": 1, "level": 2, "text": "ready"},
    {"number": 2, "time": 2.25, "component": "disk_driver", "epoch": 2, "level": 0, "text": "a\x1b[2J"},
]


def policy() -> Policy:
    return system.compile(FIXTURES / "systems" / "good.toml", "reader", protocols=FIXTURES / "protocols")


def plain(value: frozenset[Any] | bytes) -> Any:
    return value.decode() if isinstance(value, bytes) else sorted(value)


def words(text: str) -> list[str]:
    """The lines of a table, one space between words."""
    return [" ".join(line.split()) for line in text.splitlines()]


class FakeSystem:
    """Answers on NAME.sock of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.killed: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f"{name}.sock"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    request = json.loads(line)
                    answer = self._answer(request["execute"], request["arguments"])
                    stream.write(json.dumps({**answer, "id": request["id"]}).encode() + b"\n")
                    stream.flush()

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command == "ps":
            return {"return": [COMPONENT]}
        if command == "log":
            return {"return": [each for each in RECORDS if int(str(each["number"])) > arguments["since"]]}
        if command == "policy":
            return {"return": json.loads(json.dumps(asdict(policy()), default=plain))}
        if arguments["component"] != "disk_driver":
            text = "no component 'x' in this system; there are: disk_driver"
            return {"error": {"class": "ComponentNotFound", "desc": text}}
        self.killed.append(arguments["component"])
        return {"return": {}}

    def close(self) -> None:
        """Stop answering, and leave the socket's name behind as a killed process would."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSystem]:
    running = FakeSystem(tmp_path, "default")
    yield running
    running.close()


def test_ps(r3s3: Run, fake: FakeSystem) -> None:
    result = r3s3("ps")
    assert result.returncode == 0
    assert words(result.stdout) == [
        "name state epoch restarts pid cpu ms memory read exits waits doorbells calls replayed spares "
        "hypercalls wakeups",
        "disk_driver running 3 2 4711 12 8.0 MiB 1.5 KiB 30 5 7 8 10 1 4 6",
    ]


def test_ps_json(r3s3: Run, fake: FakeSystem) -> None:
    assert json.loads(r3s3("ps", "--json").stdout) == [COMPONENT]


def test_log(r3s3: Run, fake: FakeSystem) -> None:
    result = r3s3("log", TZ="UTC")
    assert result.stdout.splitlines() == [
        "00:00:01.500000 info    file_server#1            ready",
        "00:00:02.250000 error   disk_driver#2            a\\x1b[2J",
    ]
    lines = r3s3("log", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        RECORDS[0] | {"level": "info"},
        RECORDS[1] | {"level": "error"},
    ]


def test_kill(r3s3: Run, fake: FakeSystem) -> None:
    assert r3s3("kill", "disk_driver").returncode == 0
    assert fake.killed == ["disk_driver"]
    result = r3s3("kill", "x")
    assert result.returncode == 125
    assert result.stderr == "r3s3: no component 'x' in this system; there are: disk_driver\n"


def test_policy(r3s3: Run, fake: FakeSystem) -> None:
    """The fixture's protocols are called like the real ones, and have the same numbers."""
    assert PROTOCOLS.is_dir()
    lines = words(r3s3("policy", "show").stdout)
    for line in (
        "driver 1.0.0 8.0 MiB always ready wait reconnect",
        "supervisor (supervisor) 1.0.0 8.0 MiB always",
        "reader 1.0.0 8.0 MiB program wait exit",
        "files.blk driver.blk blk@1 info read - a pool of 32 x 128.0 KiB",
        "reader.fs files.fs fs@1 open close read /usr/share -",
        "disk0 virtio-blk driver 1 read",
    ):
        assert line in lines
    assert json.loads(r3s3("policy", "show", "--json").stdout)["supervisor"] == "supervisor"


def test_which_system(r3s3: Run, fake: FakeSystem, tmp_path: Path) -> None:
    """One that runs is the one that is meant; of several, one has to be named; a dead one does not count."""
    other = FakeSystem(tmp_path, "other")
    several = "r3s3: several systems are running: default, other; choose one with -s NAME\n"
    assert r3s3("ps").stderr == several
    assert r3s3("ps", "-s", "other").returncode == 0
    assert r3s3("ps", R3S3_SYSTEM="other").returncode == 0
    wrong = r3s3("ps", "-s", "third")
    assert (wrong.returncode, wrong.stderr) == (
        125,
        'r3s3: no system "third" is running; running: default, other\n',
    )
    other.close()
    assert r3s3("ps").returncode == 0


@pytest.mark.parametrize("command", [["ps"], ["log"], ["kill", "x"], ["policy", "show"]])
def test_nothing_runs(r3s3: Run, tmp_path: Path, command: list[str]) -> None:
    result = r3s3(*command)
    message = f"r3s3: no system is running (looked in {tmp_path}); start one with r3s3 run\n"
    assert (result.returncode, result.stderr) == (125, message)


def test_where_control_sockets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R3S3_RUNTIME_DIR", "/somewhere")
    assert runtime_directory() == Path("/somewhere")
    monkeypatch.delenv("R3S3_RUNTIME_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime_directory() == Path("/run/r3s3")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert runtime_directory() == Path("/run/user/1000/r3s3")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_directory() == Path("/tmp/r3s3-1000")


def test_a_new_control_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only its user may connect; a name in use is not taken away, one that a dead system left is."""
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path / "new"))
    first, path = listen("one", chosen=True)
    mode = path.stat().st_mode
    assert (path, stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (tmp_path / "new" / "one.sock", True, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    second, other = listen("one", chosen=False)
    assert other == tmp_path / "new" / "one-2.sock"
    with pytest.raises(CommandError) as caught:
        listen("one", chosen=True)
    assert str(caught.value) == 'a system "one" is already running; choose another with -s'
    first.close()
    third, again = listen("one", chosen=True)
    assert again == path
    second.close()
    third.close()


def hold(barrier: Barrier, names: Queue[str]) -> None:
    """One of several systems that start at the same moment."""
    barrier.wait()
    listener, path = listen("one", chosen=False)
    names.put(path.stem)
    barrier.wait()
    listener.close()


def test_systems_that_start_at_the_same_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each gets a name of its own, also where the name was left by a dead system."""
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        barrier, names = context.Barrier(STARTING), context.Queue()
        starting = [context.Process(target=hold, args=(barrier, names)) for _ in range(STARTING)]
        for each in starting:
            each.start()
        found = sorted(names.get(timeout=10) for _ in starting)
        for each in starting:
            each.join()
        assert found == ["one", *(f"one-{number}" for number in range(2, STARTING + 1))]


def test_a_name_is_forgotten_unless_it_is_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    listener, path = listen("one", chosen=True)
    for connections in range(2 * BACKLOG):  # more than can wait to be accepted
        forget(path)
        assert running() == {"one": path}, connections
    listener.close()
    forget(path)
    assert not path.exists()
    forget(path)  # as good as removed
    forget(tmp_path / "gone" / "one.sock")


def test_a_path_too_long_for_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(folder))
    with pytest.raises(CommandError) as caught:
        listen("one", chosen=True)
    remedy = "set R3S3_RUNTIME_DIR to a shorter one"
    assert str(caught.value) == f"{folder}: too long a path for a socket; {remedy}"


def test_a_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("R3S3_RUNTIME_DIR", f"{tmp_path}/file/folder")
    with pytest.raises(CommandError) as caught:
        listen("one", chosen=True)
    assert str(caught.value) == (
        f"{tmp_path}/file/folder: no folder for control sockets: Not a directory; "
        "set R3S3_RUNTIME_DIR to a folder of yours"
    )


def test_a_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever owns the folder could put his own socket in the place of ours."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        listen("one", chosen=True)
