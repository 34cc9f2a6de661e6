"""Systems with a criminal in them, and what the hypervisor says about it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from images.guests import build as build_guests
from images.guests import programs
from images.image import build as build_image
from vmm.cli.control import Control
from vmm.cli.launch import Launch, Request

ROOT = Path(__file__).parents[2]
PATIENCE_S = 15.0

HEAD = """
[system]
name = "crime"
memory = "512 MiB"
images = "{root}/build/guests"
supervisor = "reincarnation_server"

[components.reincarnation_server]
manifest = "{root}/components/reincarnation_server/manifest.toml"

[components.console]
manifest = "{root}/components/console/manifest.toml"

[programs]
folders = ["{root}/guests/misbehaving", "{root}/guests/programs", "{root}/tests/guests"]
"""
FILES = """
[components.disk_driver]
manifest = "{root}/components/disk_driver/manifest.toml"

[components.file_server]
manifest = "{root}/components/file_server/manifest.toml"

[devices.disk0]
component = "disk_driver.disk"
read_only = true

[routes]
"file_server.blk" = "disk_driver.blk"
"program.fs" = "file_server.fs"
"program.log" = "console.log"
"""
SERVER = """
[components.{server}]
manifest = "{root}/guests/misbehaving/{server}/manifest.toml"

[routes]
"program.blk" = "{server}.blk"
"program.log" = "console.log"
"""
MISDIRECTED = """
[components.misdirected_dma]
manifest = "{root}/guests/misbehaving/misdirected_dma/manifest.toml"

[devices.disk0]
component = "misdirected_dma.disk"
read_only = true
"""


class Scene:
    """A running system: its control socket, and how it ends."""

    def __init__(self, running: Launch) -> None:
        self._running = running
        self._started = threading.Event()
        self._ended = threading.Event()
        self._control: Control | None = None
        self.status = -1
        self.report: dict[str, Any] = {}
        self.error = ""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            self._take_events()
        except OSError:
            pass  # the block is over, and the system with it
        self._ended.set()
        self._started.set()

    def _take_events(self) -> None:
        for event in self._running.events():
            if event["event"] == "started":
                self._started.set()
            elif event["event"] == "ended":
                self.status, self.report = event["status"], event["report"]
            elif event["event"] == "error":
                self.error = event["message"]

    def ask(self, command: str, **arguments: object) -> Any:
        """One command on the control socket."""
        assert self._started.wait(PATIENCE_S), "the system does not start"
        assert not self.error, self.error
        if self._control is None:
            self._control = Control(None)
        return self._control.execute(command, **arguments)

    def close(self) -> None:
        """Hang up. The thread's read would keep the launch socket open beyond its closing."""
        if self._control:
            self._control.__exit__()
        with contextlib.suppress(OSError):
            self._running._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def texts(self, component: str) -> list[str]:
        """What the log says about a component."""
        return [record["text"] for record in self.ask("log") if record["component"] == component]

    def row(self, component: str) -> dict[str, Any]:
        """The component's row of `ps`."""
        rows: list[dict[str, Any]] = self.ask("ps")
        return next(row for row in rows if row["name"] == component)

    def until(self, what: Callable[[], bool], reason: str) -> None:
        """Waits until something has happened."""
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < end, f"{reason}; the log: {self.ask('log')}"
            time.sleep(0.02)

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Waits for the program's end; its exit status."""
        assert self._ended.wait(seconds), "the program does not end"
        assert not self.error, self.error
        return self.status


class Stage:
    """Where crimes are committed."""

    def __init__(self, folder: Path, disk: Path) -> None:
        self.folder, self.disk = folder, disk

    @contextmanager
    def play(self, parts: str, *words: str, **names: str) -> Iterator[Scene]:
        """Runs a program in a system made of `parts`; the system ends with the block."""
        system_file = self.folder / "system.toml"
        system_file.write_text((HEAD + parts).format(root=ROOT, **names))
        needs_disk = "[devices" in parts
        request = Request(
            system_file=str(system_file),
            program=words[0],
            arguments=list(words),
            disk=str(self.disk) if needs_disk else None,
            report=True,
            started_ns=time.monotonic_ns(),
        )
        output = (self.folder / "output").open("wb")
        with output, Launch(request, stdout=output) as running:
            scene = Scene(running)
            try:
                yield scene
            finally:
                scene.close()

    @property
    def output(self) -> bytes:
        """What the program has printed."""
        return (self.folder / "output").read_bytes()


@pytest.fixture(scope="session")
def guests() -> None:
    """All guests are built."""
    build_guests(sorted(programs()), report=lambda _: None)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with something to read in it."""
    folder = tmp_path_factory.mktemp("disk")
    source = folder / "source"
    source.mkdir()
    dice = random.Random(7)
    for number in range(4):
        (source / f"file{number}").write_bytes(dice.randbytes(3 << 20))
    build_image(source, folder / "disk.img")
    return folder / "disk.img"


@pytest.fixture
def stage(guests: None, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A place for one crime, with control sockets of its own."""
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    return Stage(tmp_path, disk)
