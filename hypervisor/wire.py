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


# What a record is.
Kind = IntEnum("Kind", {
    "SPAWN_TENDER": 1, "SPAWN_DEVICE": 2, "SPAWNED": 3,  # hypervisor -> zygote, and its answers
    "APPLY": 10, "PING": 12, "RESULT": 13,  # hypervisor -> tender
    "ACK": 20, "PONG": 22, "HYPERCALL": 30, "FAULT": 31,  # tender -> hypervisor
})  # fmt: skip


# One step of an APPLY, packed as OPERATION: kind, descriptor index, and up to three numbers:
#   MAP       address, length, flags (MAP_WRITABLE) and in whole pages the offset in the file
#   UNMAP     address, length
#   DOORBELL  doorbell
#   WAKE      wake index
#   INFO      offset from INFO, length: that many bytes follow the operations
#   RUN
#   WARM      (run as far as `start`)
Operation = IntEnum("Operation", {
    "MAP": 1, "UNMAP": 2, "DOORBELL": 3, "WAKE": 5, "INFO": 7, "RUN": 8, "WARM": 9,
})  # fmt: skip
OPERATION = struct.Struct("<IIQQQ")
MAP_WRITABLE = 1
Ints = Sequence[int]
_RIGHTS = socket.SOL_SOCKET, socket.SCM_RIGHTS


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
    header = HEADER.pack(kind, sequence, *args, *[0] * (6 - len(args)))
    ancillary = [(*_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([header, body], ancillary)


def receive(sock: socket.socket, descriptors: int = DESCRIPTORS_MAX) -> Message | None:
    """The next record, or None at the end of the stream (an empty record counts as one).

    A record with more than `descriptors` descriptors is malformed; with 0 the kernel installs none at all.
    """
    data, fds, flags = receive_bytes(sock, HEADER.size + BODY_MAX, descriptors)
    if len(data) < HEADER.size or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        if not data:
            return None
        raise WireError(f"record of {len(data)} bytes, flags {flags:#x}")
    number, sequence, *args = HEADER.unpack_from(data)
    return Message(number, sequence, tuple(args), data[HEADER.size :], fds)


def receive_bytes(sock: socket.socket, most: int, descriptors: int) -> tuple[bytes, list[int], int]:
    """What a socket of any kind gives at once: at most so many bytes, at most so many descriptors with them
    (close-on-exec, which socket.recv_fds forgets), and the flags of recvmsg, which tell of more."""
    # CMSG_SPACE would be rounded up, so that one more might come.
    room = socket.CMSG_LEN(descriptors * 4)
    data, ancillary, flags, _ = sock.recvmsg(most, room, socket.MSG_CMSG_CLOEXEC)
    rights = [each for level, kind, each in ancillary if (level, kind) == _RIGHTS]
    return data, [fd for each in rights for fd in array.array("i", each)], flags
