"""Connections to UNIX sockets in the bed, carried over one virtio port: bytes, of which none is looked at.

Both ends run a Carrier in a thread of its own. The host's takes connections from a listening socket; the
agent's (standard library only) makes one to the socket of that path in the bed for each. Frames go both ways:
a header (kind, bytes of payload, number of the connection), then the payload:
    OPEN    a new connection, to the path in the payload; only from the host
    DATA    at most CHUNK bytes; no further ones before they were TAKEN, so that who does not read holds up
            nobody else, and fills no memory
    TAKEN   the last DATA was passed on
    END     there will be no more DATA in this direction
    CLOSE   the connection is gone
What concerns a connection that is gone already is passed over: the other end cannot know yet.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

CHUNK = 1 << 16
HEADER = struct.Struct("<IIQ")
OPEN, DATA, TAKEN, END, CLOSE = range(5)
# The hypervisor process takes 16, of which its own command line has one: so it is decided here who may stay.
CONNECTIONS_MAX = 12
SILENT_S = 10.0  # after which a connection's place may go to another
TO_SEND_MAX = 4 << 20  # more than CONNECTIONS_MAX can have under way
RETRY_S = 0.05  # of the bed's clock


class ProtocolError(Exception):
    """The other end does not keep to the protocol."""


class Connection:
    """A socket at this end. `path`: where it is still to be connected to."""

    def __init__(self, number: int, sock: socket.socket, path: bytes = b"") -> None:
        self.number, self.sock, self.path = number, sock, path
        self.rest = b""  # of the last DATA that came
        self.may_send = True  # what was sent has been taken
        self.sent_end = self.got_end = False
        self.used = False  # it has said something
        self.active = time.monotonic()
        sock.setblocking(False)

    @property
    def events(self) -> int:
        """What it waits for."""
        reading = self.may_send and not self.sent_end and not self.path
        return (select.POLLIN if reading else 0) | (select.POLLOUT if self.rest and not self.path else 0)


class Carrier:
    """One end. `port`: a descriptor, which does not block."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._received = b""
        self._to_send = b""
        self._connections: dict[int, Connection] = {}

    def step(self) -> bool:
        """Wait until something can be done, and do it; False when the other end is gone. ProtocolError."""
        poll, waiting = select.poll(), dict[int, Connection]()
        patience = self._prepare(poll)
        poll.register(self._port, select.POLLIN | (select.POLLOUT if self._to_send else 0))
        for each in self._connections.values():
            if each.events:
                poll.register(each.sock, each.events)
                waiting[each.sock.fileno()] = each
        for fd, event in poll.poll(patience):
            if fd == self._port:
                if event & ~select.POLLOUT and not self._listen():
                    return False
            elif fd not in waiting:
                self._own(fd)
            else:
                self._serve(waiting[fd], event)
        self._speak()
        return True

    def _serve(self, connection: Connection, event: int) -> None:
        if event & ~select.POLLIN and connection.number in self._connections:
            self._pass_on(connection)
        reading = connection.number in self._connections and connection.events & select.POLLIN
        if reading and event & ~select.POLLOUT:
            self._read(connection)

    def close(self) -> None:
        """Close all connections."""
        for each in list(self._connections.values()):
            self._forget(each)

    def _prepare(self, poll: select.poll) -> float | None:
        """What this end alone does before it waits; how many ms to wait at most."""
        return None

    def _own(self, fd: int) -> None:
        """Something that `_prepare` has registered is ready."""

    def _open(self, number: int, path: bytes) -> None:
        raise ProtocolError("a connection from the bed")

    def _listen(self) -> bool:
        try:
            data = os.read(self._port, CHUNK)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        self._received += data
        while len(self._received) >= HEADER.size:
            kind, size, number = HEADER.unpack_from(self._received)
            if size > CHUNK or kind > CLOSE:
                raise ProtocolError(f"a frame of kind {kind} with {size} bytes")
            end = HEADER.size + size
            if len(self._received) < end:
                break
            payload, self._received = self._received[HEADER.size : end], self._received[end:]
            self._take(kind, number, payload)
        return bool(data)

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == OPEN:
            self._open(number, payload)
        elif connection := self._connections.get(number):
            if kind == DATA:
                if connection.rest or connection.got_end:
                    raise ProtocolError("more than may be sent at once")
                connection.rest = payload
                self._pass_on(connection)
            elif kind == TAKEN:
                connection.may_send = True
            elif kind == END:
                connection.got_end = True
                self._finish(connection)
            else:
                self._forget(connection)

    def _tell(self, kind: int, connection: Connection, payload: bytes = b"") -> None:
        self._to_send += HEADER.pack(kind, len(payload), connection.number) + payload
        if len(self._to_send) > TO_SEND_MAX:
            raise ProtocolError("it takes nothing")

    def _speak(self) -> None:
        if self._to_send:
            with contextlib.suppress(BlockingIOError, ConnectionError):  # that it is gone is read soon
                self._to_send = self._to_send[os.write(self._port, self._to_send) :]

    def _pass_on(self, connection: Connection) -> None:
        """Write what has come, as far as that is possible now."""
        if connection.path or not connection.rest:
            return
        try:
            connection.rest = connection.rest[connection.sock.send(connection.rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.active = time.monotonic()
        if not connection.rest:
            self._tell(TAKEN, connection)
            self._finish(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if data:
            connection.used, connection.may_send, connection.active = True, False, time.monotonic()
            self._tell(DATA, connection, data)
        elif connection.used or connection.got_end:
            connection.sent_end = True
            self._tell(END, connection)
            self._finish(connection)
        else:  # who has only knocked needs no answer
            self._drop(connection)

    def _finish(self, connection: Connection) -> None:
        """Pass an end on that has come, once everything before it is written."""
        if connection.got_end and not connection.rest and not connection.path:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            if connection.sent_end:
                self._forget(connection)

    def _drop(self, connection: Connection) -> None:
        self._tell(CLOSE, connection)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection.number]
        connection.sock.close()


class Outside(Carrier):
    """The host's end: whoever connects to `listener` is connected to the socket at `path` in the bed.

    It has a thread of its own until it is ended. Should the bed not keep to the protocol the listener is
    closed, and `complain` told why.
    """

    def __init__(
        self, port: int, listener: socket.socket, path: str, complain: Callable[[str], None]
    ) -> None:
        super().__init__(port)
        self._listener, self._path, self._complain = listener, os.fsencode(path), complain
        listener.setblocking(False)
        self._numbers = itertools.count(1)
        self._ending = os.eventfd(0, os.EFD_CLOEXEC)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended and self.step():
                pass
        except ProtocolError as error:
            self._listener.close()
            self._complain(f"the control socket is closed, for the test bed answers nonsense: {error}")
        finally:
            self.close()

    def end(self) -> None:
        """Close all connections, but not the listener. For another thread, once."""
        os.eventfd_write(self._ending, 1)
        self._thread.join()
        os.close(self._ending)

    def _prepare(self, poll: select.poll) -> float | None:
        poll.register(self._listener, select.POLLIN)
        poll.register(self._ending, select.POLLIN)
        return None

    def _own(self, fd: int) -> None:
        if fd == self._ending:
            self._ended = True
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:  # it has gone again, or there is no descriptor for it
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            oldest = min(self._connections.values(), key=lambda each: each.active)
            if time.monotonic() - oldest.active < SILENT_S:
                sock.close()
                return
            self._drop(oldest)
        connection = Connection(next(self._numbers), sock)
        self._connections[connection.number] = connection
        self._tell(OPEN, connection, self._path)


class Inside(Carrier):
    """The bed's end. A system that is not there yet is waited for."""

    def run(self) -> None:
        """Carry on until the host is gone."""
        while self.step():
            pass

    def _open(self, number: int, path: bytes) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections[number] = Connection(number, sock, path)

    def _prepare(self, poll: select.poll) -> float | None:
        for each in [each for each in self._connections.values() if each.path]:
            self._connect(each)
        return RETRY_S * 1000 if any(each.path for each in self._connections.values()) else None

    def _connect(self, connection: Connection) -> None:
        try:
            connection.sock.connect(connection.path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return
        except OSError:
            self._drop(connection)
            return
        connection.path = b""
        self._pass_on(connection)
        self._finish(connection)
