"""Records between processes: descriptors, limits, and everything malformed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from hypervisor import wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        yield one, two


def test_a_record_arrives_as_it_was_sent(pair: Pair) -> None:
    wire.send(pair[0], wire.Kind.APPLY, 7, (1, (1 << 64) - 1), b"body")
    assert wire.receive(pair[1]) == (wire.Kind.APPLY, 7, (1, (1 << 64) - 1, 0, 0, 0, 0), b"body", [])


def test_records_keep_their_bounds(pair: Pair) -> None:
    for body in (b"", b"one", bytes(wire.BODY_MAX)):
        wire.send(pair[0], 1, body=body)
        message = wire.receive(pair[1])
        assert message and message.body == body


def test_descriptors_are_the_same_files_and_closed_on_exec(pair: Pair) -> None:
    read, write = os.pipe()
    wire.send(pair[0], 1, fds=[write, read, write])
    message = wire.receive(pair[1])
    assert message and len(message.fds) == 3
    assert [os.fstat(fd).st_ino for fd in message.fds] == [os.fstat(write).st_ino] * 3
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    message.close()
    for fd in (read, write, *message.fds[:0]):
        os.close(fd)


def test_the_most_descriptors(pair: Pair) -> None:
    wire.send(pair[0], 1, fds=[0] * wire.DESCRIPTORS_MAX)
    message = wire.receive(pair[1])
    assert message and len(message.fds) == wire.DESCRIPTORS_MAX
    message.close()


@pytest.mark.parametrize(("body", "fds"), [(wire.BODY_MAX + 1, 0), (0, wire.DESCRIPTORS_MAX + 1)])
def test_too_much_is_not_sent(pair: Pair, body: int, fds: int) -> None:
    with pytest.raises(ValueError, match="record too large"):
        wire.send(pair[0], 1, body=bytes(body), fds=[0] * fds)


def test_the_end_of_the_stream(pair: Pair) -> None:
    wire.send(pair[0], 1)
    pair[0].close()
    assert wire.receive(pair[1]) is not None
    assert wire.receive(pair[1]) is None


@pytest.mark.parametrize("size", [1, wire.HEADER.size - 1, wire.HEADER.size + wire.BODY_MAX + 1])
def test_malformed_records_give_their_descriptors_back(pair: Pair, size: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair[0], [bytes(size)], [0] * 20)
    with pytest.raises(wire.WireError, match="record of"):
        wire.receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_empty_record_is_the_end_and_gives_its_descriptors_back(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair[0], [b""], [0] * 20)
    assert wire.receive(pair[1]) is None
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("sent", "allowed"), [(201, 200), (253, 200), (1, 0), (2, 1), (3, 2)])
def test_more_descriptors_than_asked_for(pair: Pair, sent: int, allowed: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair[0], [bytes(wire.HEADER.size)], [0] * sent)
    with pytest.raises(wire.WireError):
        wire.receive(pair[1], allowed)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_descriptors_nothing_is_lost(pair: Pair) -> None:
    wire.send(pair[0], 3, 4, (5,), b"6")
    assert wire.receive(pair[1], 0) == (3, 4, (5, 0, 0, 0, 0, 0), b"6", [])
