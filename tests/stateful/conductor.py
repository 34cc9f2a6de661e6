"""Requests made from Python in a running system: the other end of tests/guests/conductor.

The program `conductor` is a client like any other. What it is to ask, and what it was answered, goes through
the memory object of its state region `mailbox`, which the test maps; the layout is described in its source.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hypervisor.abi import generated as abi
from tests.system.plan import ROOT
from tests.system.stage import PATIENCE_S, Scene, Stage

NAME = "conductor"
INTERFACES = ("count", "audit", "audio", "store")  # in the order of the program's
LETTERS = 64
LETTER_BYTES = 64 + 4096
REQUESTS = 4096
ANSWERS = REQUESTS + LETTERS * LETTER_BYTES
END = 0xFFFFFFFF
POLL_S = 0.0003
USES = """
[uses.{interface}]
protocol = "{protocol}"
operations = [{operations}]
deadline_ms = 20000
dma = "none"
{more}
"""


class Request(NamedTuple):
    """What is asked. `arguments`: as a slot has them, 40 bytes at most."""

    interface: str
    operation: int
    arguments: bytes = b""
    data: bytes = b""


class Answer(NamedTuple):
    """What was answered: an error of the ABI, or 0, the values, 40 bytes, and output."""

    status: int
    values: bytes = bytes(40)
    output: bytes = b""

    def __str__(self) -> str:
        name = abi.Error(self.status).name if self.status else "ok"
        return f"{name} {self.values.rstrip(bytes(1)).hex()} {self.output[:16].hex()}"


def done(layout: str = "", *values: int, output: bytes = b"") -> Answer:
    """The answer of a request that has succeeded, with these values (a format of struct)."""
    return Answer(0, struct.pack("<" + layout, *values).ljust(40, b"\0"), output)


class Use(NamedTuple):
    """An interface that the conductor is given, and the interface that it is routed to."""

    interface: str
    protocol: str
    operations: Sequence[str]
    server: str
    more: str = ""


def prepare(stage: Stage, uses: Sequence[Use]) -> str:
    """Puts the program's manifest in place; its routes, as lines of a system file."""
    text = (ROOT / "tests/guests" / NAME / "manifest.toml").read_text()
    for use in uses:
        words = use._asdict() | {"operations": ", ".join(f'"{each}"' for each in use.operations)}
        text += USES.format(**words)
    folder = stage.programs / NAME
    folder.mkdir(exist_ok=True)
    (folder / "manifest.toml").write_text(text)
    return "".join(f'"program.{use.interface}" = "{use.server}"\n' for use in uses)


def state_of(scene: Scene, name: str, size: int) -> mmap.mmap:
    """The state region `name` of `size` bytes, in this process, when there is only one: that of a version
    which was replaced exists a while longer."""
    scene.wait_started()
    found: dict[int, Path] = {}

    def is_the_only_one() -> bool:
        found.clear()
        for each in Path(f"/proc/{scene.hypervisor}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if f"r3s3:state:{name} " in os.readlink(each) and each.stat().st_size == size:
                    found[each.stat().st_ino] = each
        return len(found) == 1

    scene.until(is_the_only_one, f"there is no state {name} of {size} bytes, or there are several")
    with found.popitem()[1].open("r+b") as file:
        return mmap.mmap(file.fileno(), size)


class Conductor:
    """The program's other end, in a system that has begun."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.sent = self._taken = 0
        self._waiting: set[int] = set()
        self.answers: dict[int, Answer] = {}  # those not given back by `settle`, by number
        size = 4096 + 2 * LETTERS * LETTER_BYTES
        self._mailbox = state_of(scene, "mailbox", (size + 4095) // 4096 * 4096)

    def submit(self, request: Request) -> int:
        """Has a request made, without waiting for its answer; its number."""
        while len(self._waiting) >= LETTERS:
            self._collect()
        at = REQUESTS + self.sent % LETTERS * LETTER_BYTES
        head = struct.pack("<II", INTERFACES.index(request.interface), request.operation)
        head += request.arguments.ljust(40, b"\0") + struct.pack("<I", len(request.data))
        self._mailbox[at : at + len(head)] = head
        self._mailbox[at + 64 : at + 64 + len(request.data)] = request.data
        self._waiting.add(self.sent)
        self.sent += 1
        struct.pack_into("<Q", self._mailbox, 0, self.sent)
        return self.sent - 1

    def settle(self) -> dict[int, Answer]:
        """Waits until everything has been answered; the answers since the last time, by number."""
        end = time.monotonic() + PATIENCE_S
        while self._waiting:
            self._collect()
            assert time.monotonic() < end, f"{len(self._waiting)} not answered\n{self.scene.state()}"
        answers, self.answers = self.answers, {}
        return answers

    def call(self, request: Request) -> Answer:
        """One request and its answer, when all before have been answered."""
        number = self.submit(request)
        return self.settle()[number]

    def end(self) -> int:
        """Ends the program, and with it the system; the exit status."""
        self.settle()
        at = REQUESTS + self.sent % LETTERS * LETTER_BYTES
        struct.pack_into("<I", self._mailbox, at, END)
        struct.pack_into("<Q", self._mailbox, 0, self.sent + 1)
        return self.scene.end()

    def _collect(self) -> None:
        (answered,) = struct.unpack_from("<Q", self._mailbox, 8)
        if answered == self._taken:
            assert not self.scene._ended.is_set(), f"the conductor died\n{self.scene.state()}"
            time.sleep(POLL_S)
        while self._taken < answered:
            at = ANSWERS + self._taken % LETTERS * LETTER_BYTES
            number, status, length = struct.unpack_from("<QiI", self._mailbox, at)
            values = self._mailbox[at + 16 : at + 56]
            output = self._mailbox[at + 64 : at + 64 + length]
            assert number not in self.answers, f"request {number} was answered twice"
            self._waiting.remove(number)
            self.answers[number] = Answer(status, values, output)
            self._taken += 1
