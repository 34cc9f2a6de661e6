"""Drives the Rust harness (harness/main.rs): the file server's own modules over a simulated disk."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from images.rustc import find

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "tests/file_server/harness", ROOT / "components/file_server/src")
# Overflows and failed assertions shall be noticed.
FLAGS = (
    "--edition", "2021", "-O", "-C", "debug-assertions=on", "-C", "overflow-checks=on", "-A", "dead_code",
)  # fmt: skip
STAT = struct.Struct("<IIIIQQqIIQIIQQ")
ENTRY = struct.Struct("<QQBBH")
FRAMES = 8  # cache extents; far smaller than the larger images


def build() -> Path:
    """Compile the harness if a source is newer; the program."""
    program = ROOT / "build/tests/file_server_harness"
    newest = max(path.stat().st_mtime for folder in SOURCES for path in folder.glob("*.rs"))
    if not program.exists() or program.stat().st_mtime < newest:
        program.parent.mkdir(parents=True, exist_ok=True)
        temporary = program.with_suffix(f".{os.getpid()}")
        find().run([*FLAGS, "-o", str(temporary), str(SOURCES[0] / "main.rs")], ROOT)
        temporary.rename(program)
    return program


class Answer(NamedTuple):
    word: str
    numbers: tuple[int, ...]
    data: bytes | str  # long outputs as "~CRC32C"


class Stat(NamedTuple):
    """A stat record of fs@1."""

    mode: int
    links: int
    user: int
    group: int
    size: int
    inode: int
    seconds: int
    nanoseconds: int
    block_bytes: int
    sectors: int
    device: int
    kind: int
    file_system: int
    reserved: int


class Entry(NamedTuple):
    cookie: int
    inode: int
    kind: int
    name: bytes


class FileServer:
    """One running harness. Requests are collected and run together by `go`."""

    def __init__(self, image: Path, frames: int = FRAMES, seed: int = 1) -> None:
        self._process = subprocess.Popen(
            [str(build()), "serve", str(image), str(frames), str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.greeting = self._line()
        self.reports: list[str] = []
        self.loads = self.rereads = self.wasted = 0
        self.order: list[int] = []  # in which requests were answered
        self._tickets = 0
        if self.greeting.startswith("mounted"):
            self.send("session 0 2f")

    def __enter__(self) -> FileServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) in (0, 101) or error
        if error is None:
            assert self._process.returncode == 0

    def send(self, line: str) -> None:
        """A line that is no request: session, end, lie, fail."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def ask(self, line: str) -> int:
        """A request, not yet run; its ticket."""
        self.send(line)
        self._tickets += 1
        return self._tickets - 1

    def go(self) -> dict[int, Answer]:
        """Run all requests asked; the answers by ticket."""
        assert self._process.stdin is not None
        self.send("go")
        self._process.stdin.flush()
        answers: dict[int, Answer] = {}
        while True:
            head, *words = self._line().split(" ")
            if head == "report":
                self.reports.append(" ".join(words))
            elif head in ("done", "stuck"):
                assert head == "done", "requests without an answer"
                self.loads, self.rereads, self.wasted = (int(word) for word in words)
                self.order = list(answers)
                return answers
            else:
                data = words[-1][1:]
                answers[int(head)] = Answer(
                    words[0], tuple(int(word) for word in words[1:-1]),
                    data if data.startswith("~") else bytes.fromhex(data),
                )  # fmt: skip

    def one(self, line: str) -> Answer:
        """One request, run at once."""
        ticket = self.ask(line)
        return self.go()[ticket]

    def stat(self, path: bytes, follow: bool = False, client: int = 0) -> Stat | int:
        """The record, or the error number."""
        answer = self.one(f"stat {client} {int(not follow)} {path.hex()}")
        if answer.word == "failed":
            return answer.numbers[0]
        assert isinstance(answer.data, bytes)
        return Stat(*STAT.unpack(answer.data))

    def link(self, path: bytes, client: int = 0) -> bytes | int:
        """The target of a symbolic link, or the error number."""
        answer = self.one(f"link {client} {path.hex()}")
        return answer.numbers[0] if answer.word == "failed" else _bytes(answer)

    def open(self, path: bytes, handle: int = 0, flags: int = 0, client: int = 0) -> int:
        """0 or the error number."""
        answer = self.one(f"open {client} {handle} {flags} {path.hex()}")
        return answer.numbers[0] if answer.word == "failed" else 0

    def list(self, path: bytes, capacity: int = 65536, client: int = 0) -> list[Entry]:
        """All entries of a directory, by as many requests as it takes."""
        assert self.open(path, 63, 2, client) == 0
        entries: list[Entry] = []
        cookie, end = 0, False
        while not end:
            answer = self.one(f"list {client} 63 {cookie} {capacity}")
            assert answer.word == "entries"
            page = parse_entries(_bytes(answer))
            end = answer.numbers[1] == 1
            assert page or end
            entries += page
            cookie = page[-1].cookie if page else cookie
        return entries

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the harness ended"
        return line.rstrip("\n")


def parse_entries(data: bytes) -> list[Entry]:
    entries, at = [], 0
    while at < len(data):
        cookie, inode, kind, _, length = ENTRY.unpack_from(data, at)
        entries.append(Entry(cookie, inode, kind, data[at + ENTRY.size : at + ENTRY.size + length]))
        at += (ENTRY.size + length + 7) // 8 * 8
    assert at == len(data)
    return entries


def _bytes(answer: Answer) -> bytes:
    assert isinstance(answer.data, bytes)
    return answer.data
