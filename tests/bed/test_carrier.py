"""Connections carried over a port: here both ends are on this host, and the port is a pair of sockets."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.bed import carrier
from images.bed.carrier import CHUNK, CLOSE, CONNECTIONS_MAX, DATA, END, HEADER, OPEN, TAKEN, Inside, Outside

PATIENCE_S = 10.0
NOISE = os.urandom(20 * CHUNK + 17)


class Ends:
    """The host's end with its listener at `outer`, and a port; `inner` is where the bed's end connects to."""

    def __init__(self, folder: Path) -> None:
        self.outer, self.inner = folder / "outer", folder / "inner"
        ours, self.port = socket.socketpair()
        self._ours = ours
        for each in (ours, self.port):
            each.setblocking(False)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.outer))
        self.listener.listen()
        self.complaints: list[str] = []
        self._outside = Outside(ours.fileno(), self.listener, str(self.inner), self.complaints.append)
        self._inside: threading.Thread | None = None

    def start_inside(self) -> None:
        """The bed's end."""
        self._inside = threading.Thread(target=Inside(self.port.fileno()).run)
        self._inside.start()

    def serve(self) -> socket.socket:
        """A listening socket at `inner`."""
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(PATIENCE_S)
        server.bind(str(self.inner))
        server.listen()
        return server

    def client(self) -> socket.socket:
        """A new connection to `outer`."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_S)
        sock.connect(str(self.outer))
        return sock

    def receive(self) -> tuple[int, int, bytes]:
        """Kind, number and payload of the next frame from the host; for tests that are the bed's end."""
        kind, size, number = HEADER.unpack(self._exactly(HEADER.size))
        data = self._exactly(size)
        return kind, number, data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([self.port], [], [], PATIENCE_S)[0]
            data += self.port.recv(size - len(data))
        return data

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """A frame to the host."""
        self.port.sendall(HEADER.pack(kind, len(payload), number) + payload)

    def close(self) -> None:
        self._outside.end()
        self._ours.close()
        if self._inside:
            self._inside.join()
        self.port.close()
        self.listener.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.close()


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def echo(sock: socket.socket) -> None:
    with sock:
        while data := sock.recv(CHUNK):
            sock.sendall(data)


def test_bytes_both_ways_and_an_end(ends: Ends) -> None:
    ends.start_inside()
    with ends.serve() as server, ends.client() as client:

        def send() -> None:
            client.sendall(NOISE)
            client.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        peer, _ = server.accept()
        answering = threading.Thread(target=echo, args=[peer])
        answering.start()
        assert read(client, len(NOISE) + 1) == NOISE
        sending.join()
        answering.join()


def test_who_does_not_read_holds_up_nobody(ends: Ends) -> None:
    ends.start_inside()
    with ends.serve() as server, ends.client() as lazy, ends.client() as other:
        lazy.sendall(b"lazy")
        first, _ = server.accept()
        other.sendall(b"other")
        second, _ = server.accept()
        peers = {read(first, 4): first, read(second, 4): second}
        flooding, carried = peers[b"lazy"], 0
        flooding.setblocking(False)
        with pytest.raises(BlockingIOError):  # so what is kept for it is bounded
            while carried < 64 * len(NOISE):
                select.select([], [flooding], [], 0.5)
                carried += flooding.send(NOISE)
        sending = threading.Thread(target=peers[b"othe"].sendall, args=[NOISE])
        sending.start()
        assert read(other, len(NOISE)) == NOISE
        sending.join()
        lazy.close()
        until(lambda: select.select([flooding], [], [], 0)[0])
        with pytest.raises(ConnectionError):
            flooding.recv(1)


def test_a_server_that_is_not_there_yet(ends: Ends) -> None:
    ends.start_inside()
    with ends.client() as client, ends.client() as knocking:
        client.sendall(b"early")
        knocking.close()
        time.sleep(2 * carrier.RETRY_S)
        with ends.serve() as server:
            peer, _ = server.accept()
            assert read(peer, 5) == b"early"
            peer.sendall(b"late")
            peer.close()
            assert read(client, 5) == b"late"
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):  # who had only knocked is gone
                server.accept()


def test_places(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are silent lose theirs, but not at once."""
    clients = [ends.client() for _ in range(CONNECTIONS_MAX)]
    assert [ends.receive()[:2] for _ in clients] == [(OPEN, number + 1) for number in range(len(clients))]
    with ends.client() as refused:
        assert refused.recv(1) == b""
    clients[0].sendall(b"I live")
    assert ends.receive() == (DATA, 1, b"I live")
    monkeypatch.setattr(carrier, "SILENT_S", 0.0)
    clients.append(ends.client())
    assert ends.receive() == (CLOSE, 2, b"")
    assert ends.receive() == (OPEN, CONNECTIONS_MAX + 1, os.fsencode(ends.inner))
    assert clients[1].recv(1) == b""
    for each in clients:
        each.close()


def test_what_concerns_the_dead(ends: Ends) -> None:
    """It is passed over; numbers are not used again."""
    with ends.client():
        assert ends.receive()[:2] == (OPEN, 1)
    assert ends.receive() == (CLOSE, 1, b"")
    for kind in (DATA, TAKEN, END, CLOSE):
        ends.send(kind, 1, b"late" if kind == DATA else b"")
    with ends.client() as client:
        assert ends.receive()[:2] == (OPEN, 2)
        ends.send(DATA, 2, b"hello")
        assert client.recv(9) == b"hello"
        assert ends.receive() == (TAKEN, 2, b"")
    assert ends.complaints == []


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (HEADER.pack(DATA, CHUNK + 1, 1), f"a frame of kind {DATA} with {CHUNK + 1} bytes"),
        (HEADER.pack(CLOSE + 1, 0, 1), f"a frame of kind {CLOSE + 1} with 0 bytes"),
        (HEADER.pack(OPEN, 0, 7), "a connection from the bed"),
        (HEADER.pack(END, 0, 1) + HEADER.pack(DATA, 1, 1) + b"x", "more than may be sent at once"),
    ],
)
def test_a_bed_that_breaks_the_protocol(ends: Ends, frames: bytes, why: str) -> None:
    """Its control socket is closed, which is said; that is all."""
    with ends.client() as client:
        assert ends.receive()[:2] == (OPEN, 1)
        ends.port.sendall(frames)
        assert client.recv(1) == b""
        until(lambda: ends.complaints)
        said = f"the control socket is closed, for the test bed answers nonsense: {why}"
        assert ends.complaints == [said]
        with pytest.raises(ConnectionError):
            ends.client()


def test_more_than_was_taken(ends: Ends) -> None:
    """A bed that goes on sending to somebody who does not read."""
    with ends.client():
        assert ends.receive()[:2] == (OPEN, 1)
        ends.port.setblocking(True)
        ends.port.settimeout(PATIENCE_S)
        with pytest.raises(OSError):
            for _ in range(1000):
                ends.send(DATA, 1, bytes(CHUNK))
                if ends.complaints:
                    raise OSError(ends.complaints[0])
    assert "more than may be sent at once" in ends.complaints[0]


def test_a_bed_that_takes_nothing(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded, too."""
    monkeypatch.setattr(carrier, "TO_SEND_MAX", CHUNK)
    clients = [ends.client() for _ in range(CONNECTIONS_MAX)]
    for each in clients:
        with contextlib.suppress(ConnectionError):
            each.sendall(bytes(CHUNK))
    until(lambda: ends.complaints)
    assert ends.complaints[0].endswith("answers nonsense: it takes nothing")
    for each in clients:
        each.close()
