"""Standard output at absolute positions: every byte once, whoever comes again, however slow the reader."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator

import pytest

from hypervisor.abi import generated as abi
from hypervisor.loop import Loop
from hypervisor.output import Output

OUT, ERR = abi.Stream.STDOUT, abi.Stream.STDERR


class Terminal:
    """Both streams of an `Output`, on pipes."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.out, self._out = os.pipe()
        self.err, self._err = os.pipe()
        self.output = Output(self.loop, self._out, self._err)
        self.answers: list[tuple[int, int]] = []

    def write(self, data: bytes, position: int, stream: int = OUT, writer: int = 0) -> None:
        self.output.write(stream, writer, position, data, lambda *answer: self.answers.append(answer))

    def settle(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def turn(self) -> None:
        self.loop.call_later(0.0005, lambda: setattr(self.loop, "running", False))
        self.loop.run()

    def write_all(self, data: bytes, position: int, stream: int = OUT, writer: int = 0) -> tuple[int, int]:
        count = len(self.answers)
        self.write(data, position, stream, writer)
        self.settle(lambda: len(self.answers) > count)
        return self.answers[-1]

    def close(self) -> None:
        for fd in (self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self.output.finish(1)
        for fd in (self._out, self._err, self.loop._wake):
            os.close(fd)
        self.loop._epoll.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_a_repeat_writes_nothing(terminal: Terminal) -> None:
    assert terminal.write_all(b"hello ", 0) == (0, 6)
    assert terminal.write_all(b"hello ", 0) == (0, 6)
    assert terminal.write_all(b"lo world", 3) == (0, 11)
    assert terminal.write_all(b"", 11) == (0, 11)
    assert terminal.write_all(b"", 3) == (0, 11)
    assert os.read(terminal.out, 100) == b"hello world"


def test_a_gap_is_an_error_and_writes_nothing(terminal: Terminal) -> None:
    assert terminal.write_all(b"x", 1) == (abi.Error.INVAL, 0)
    assert terminal.write_all(b"x", (1 << 64) - 1) == (abi.Error.INVAL, 0)
    assert terminal.write_all(b"ok", 0) == (0, 2)
    assert os.read(terminal.out, 100) == b"ok"


def test_streams_and_writers_have_their_own_positions(terminal: Terminal) -> None:
    assert terminal.write_all(b"one", 0, OUT, 1) == (0, 3)
    assert terminal.write_all(b"two", 0, OUT, 2) == (0, 3)
    assert terminal.write_all(b"three", 0, ERR, 1) == (0, 5)
    assert terminal.write_all(b"!", 3, OUT, 1) == (0, 4)
    assert os.read(terminal.out, 100) == b"onetwo!"
    assert os.read(terminal.err, 100) == b"three"


def test_no_such_stream(terminal: Terminal) -> None:
    assert terminal.write_all(b"x", 0, 3) == (abi.Error.INVAL, 0)


def test_a_slow_reader_delays_only_the_answer(terminal: Terminal) -> None:
    fcntl.fcntl(terminal._out, 1031, 4096)  # F_SETPIPE_SZ
    data = os.urandom(64 * 1024)
    terminal.write(data, 0)
    begun = time.monotonic()
    for _ in range(20):
        terminal.turn()
    assert time.monotonic() - begun < 1.0 and not terminal.answers
    assert terminal.write_all(b"meanwhile", 0, ERR) == (0, 9)
    got = b""
    while len(got) < len(data):
        got += os.read(terminal.out, 65536)
    assert got == data
    terminal.settle(lambda: (0, len(data)) in terminal.answers)


def test_a_descriptor_somebody_made_non_blocking(terminal: Terminal) -> None:
    fcntl.fcntl(terminal._out, 1031, 4096)
    os.set_blocking(terminal._out, False)
    data = os.urandom(64 * 1024)
    terminal.write(data, 0)
    got = b""
    while len(got) < len(data):
        got += os.read(terminal.out, 65536)
    assert got == data
    terminal.settle(lambda: (0, len(data)) in terminal.answers)


def test_a_reader_that_has_gone(terminal: Terminal) -> None:
    os.close(terminal.out)
    terminal.out = -1
    assert terminal.write_all(b"x", 0) == (abi.Error.IO, 1)
    assert terminal.write_all(b"x", 1) == (abi.Error.IO, 2)
    assert terminal.write_all(b"fine", 0, ERR) == (0, 4)


def test_finish_writes_what_is_left(terminal: Terminal) -> None:
    for number in range(100):
        terminal.write(b"x" * 10, 10 * number)
    terminal.output.finish(5)
    assert os.read(terminal.out, 2000) == b"x" * 1000


def test_finish_does_not_wait_for_ever(terminal: Terminal) -> None:
    fcntl.fcntl(terminal._out, 1031, 4096)
    terminal.write(bytes(64 * 1024), 0)
    begun = time.monotonic()
    terminal.output.finish(0.02)
    assert time.monotonic() - begun < 1.0
