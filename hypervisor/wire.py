"""Messages between the processes of one system: SOCK_SEQPACKET records with descriptors.

A message is HEADER (kind u32, sequence u32, six u64 arguments), a body, and up to 200 descriptors
(SCM_RIGHTS). Everything received is hostile until validated: a receiver of a malformed record gets
WireError and should end the peer.

Exceptions: WireError (malformed record). OSError comes through from the socket.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct("<II6Q")
BODY_MAX = 128 * 1024
DESCRIPTORS_MAX = 200
_NO_ARGS = (0, 0, 0, 0, 0, 0)


class Kind(IntEnum):
    """What a record is; who sends it is in the name's section."""

    # hypervisor -> zygote, and its answers
    SPAWN_TENDER = 1
    SPAWN_DEVICE = 2
    SPAWNED = 3
    # hypervisor -> tender
    APPLY = 10
    PING = 12
    RESULT = 13
    # tender -> hypervisor
    ACK = 20
    PONG = 22
    HYPERCALL = 30
    FAULT = 31


class Operation(IntEnum):
    """One step of an APPLY, packed as OPERATION: kind, descriptor index, a, b, c."""

    MAP = 1  # a address, b length, c flags (MAP_WRITABLE), and in whole pages the offset in the file
    UNMAP = 2  # a address, b length
    DOORBELL = 3  # a doorbell
    WAKE = 5  # a wake index
    INFO = 7  # a offset from INFO, b length: that many bytes follow the operations
    RUN = 8
    WARM = 9  # run as far as `start`


OPERATION = struct.Struct("<IIQQQ")
MAP_WRITABLE = 1
Ints = Sequence[int]


class WireError(Exception):
    """A record that no correct peer sends."""


class Message(NamedTuple):
    """One received record; the receiver owns `fds` (close-on-exec)."""

    kind: int
    sequence: int
    args: tuple[int, ...]
    body: bytes
    fds: list[int]

    def close(self) -> None:
        """Close the descriptors nobody took."""
        for fd in self.fds:
            os.close(fd)


def send(
    sock: socket.socket, kind: int, sequence: int = 0, args: Ints = (), body: bytes = b"", fds: Ints = ()
) -> None:
    """Send one record; at most six args, BODY_MAX bytes, DESCRIPTORS_MAX descriptors (ValueError beyond)."""
    if len(body) > BODY_MAX or len(fds) > DESCRIPTORS_MAX:
        raise ValueError(f"record too large: {len(body)} bytes, {len(fds)} descriptors")
    header = HEADER.pack(kind, sequence, *args, *_NO_ARGS[len(args) :])
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([header, body], ancillary)


def receive(sock: socket.socket, descriptors: int = DESCRIPTORS_MAX) -> Message | None:
    """The next record, or None at the end of the stream (an empty record counts as one).

    A record with more than `descriptors` descriptors is malformed; with 0 the kernel installs none at all.
    """
    room = socket.CMSG_SPACE(descriptors * 4) if descriptors else 0
    data, ancillary, flags, _ = sock.recvmsg(HEADER.size + BODY_MAX, room, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += array.array("i", payload[: len(payload) & ~3])
    cut = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
    # CMSG_SPACE is rounded up, so that one descriptor more than asked for may have come.
    if len(data) < HEADER.size or cut or len(fds) > descriptors:
        for fd in fds:
            os.close(fd)
        if not data:
            return None
        raise WireError(f"record of {len(data)} bytes, flags {flags:#x}")
    number, sequence, *args = HEADER.unpack_from(data)
    return Message(number, sequence, tuple(args), data[HEADER.size :], fds)
