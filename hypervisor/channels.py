"""Channels: the geometry of the rings, a connection between two ends, and the hypervisor's own client end.

A connection's rings are new memory objects in every epoch; an instance of an older epoch may keep its mapping
but nobody listens there any more. A pool is new when its client or its device is. The two eventfds stay for
the connection's life: at worst an old instance causes a spurious wake-up before it is dead.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.memory import MemoryObject, Ringed, page_align
from hypervisor.policy import Channel

_U32 = 0xFFFFFFFF
_ARGS = struct.Struct("<5Q")  # the argument bytes of a slot, as its fields are


class Geometry(NamedTuple):
    """Offsets inside a channel's memory object, bytes."""

    replies: int
    data: int
    size: int

    @classmethod
    def of(cls, slots: int, slot_data: int) -> Geometry:
        """The layout for `slots` request slots with `slot_data` bytes of data area each."""
        replies = abi.CHANNEL_REQUESTS + slots * abi.Slot.SIZE
        data = page_align(replies + slots * abi.Slot.SIZE)
        return cls(replies, data, page_align(data + slots * slot_data))


class Connection(Ringed):
    """One policy channel with its present memory. `epoch` rises each time the rings are replaced."""

    def __init__(self, policy: Channel) -> None:
        self.policy = policy
        self.geometry = Geometry.of(policy.slots, policy.slot_data)
        self.epoch = 1
        self.client_wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.server_wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.gone = False
        self.complaints = 0
        self.complained_ns = 0
        super().__init__("r3s3:channel", self.geometry.size)
        self.pool = self._make_pool()

    def _make_pool(self) -> MemoryObject | None:
        pool = self.policy.pool
        return MemoryObject("r3s3:pool", pool.buffers * pool.buffer) if pool else None

    def renew(self, keep_pool: bool = False) -> list[MemoryObject]:
        """Begin a new epoch with fresh memory; returns the old objects, to be closed when convenient.

        `keep_pool` where all who can reach the pool stay: the client's instance, and the device, drained.
        """
        old = [self.rings]
        self.rings = self._take_rings()
        if self.pool and not keep_pool:
            old.append(self.pool)
            self.pool = self._make_pool()
        self.epoch += 1
        return old

    def signal(self, role: int) -> None:
        """Wake the end with `role`."""
        with contextlib.suppress(BlockingIOError):  # a tender has filled the counter: as good as signalled
            os.eventfd_write(self.client_wake if role == abi.Role.CLIENT else self.server_wake, 1)

    def pending(self) -> tuple[int, int]:
        """As seen from outside: (requests published but neither answered nor parked, progress counter)."""
        published = self.rings.read_u32(abi.CHANNEL_REQUEST_TAIL)
        answered = self.rings.read_u32(abi.CHANNEL_REPLY_TAIL)
        parked = self.rings.read_u32(abi.CHANNEL_PARKED)
        consumed = self.rings.read_u32(abi.CHANNEL_REQUEST_HEAD)
        waiting = ((published - answered) & _U32) - parked
        return (max(0, waiting) if waiting <= self.policy.slots else 0, consumed + answered)


class Reply(NamedTuple):
    """A reply the hypervisor got: status 0 or a negative error, and the 40 argument bytes."""

    status: int
    args: bytes


class _Pending(NamedTuple):
    op: int
    args: bytes
    data: bytes
    callback: Callable[[Reply], None]
    since_ns: int


class HostClient:
    """The hypervisor's own client end of a channel (to the reincarnation server).

    Never waits: `submit` queues, `on_wake` delivers replies by callback, `reopen` replays everything
    unanswered in order after the server was replaced. A reply that breaks the rules raises no error; it
    is dropped, and the caller's deadline deals with the server.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._tail = 0
        self._head = 0
        self._sequence = 0
        self._unanswered: dict[int, _Pending] = {}
        self._queue: list[_Pending] = []
        self._sleep()

    def submit(
        self, op: int, args: bytes, callback: Callable[[Reply], None], data: bytes = b"", ring: bool = True
    ) -> None:
        """Send a request; `callback` gets the reply, perhaps of a later epoch."""
        if len(data) > (room := self.connection.policy.slot_data):
            raise ValueError(f"{len(data)} bytes of input; a data buffer has {room}")
        self._queue.append(_Pending(op, args, data, callback, time.monotonic_ns()))
        self._pump()
        if ring:
            self.ring()

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest request that is still unanswered was made; None if there is none."""
        return min((each.since_ns for each in (*self._unanswered.values(), *self._queue)), default=None)

    def _pump(self) -> None:
        rings = self.connection.rings.map
        slots = self.connection.policy.slots
        while self._queue and len(self._unanswered) < slots:
            pending = self._queue.pop(0)
            used = {tag & 0xFF for tag in self._unanswered}
            buffer = next(index for index in range(slots) if index not in used)
            self._sequence = (self._sequence + 1) & 0xFFFFFF
            tag = self._sequence << 8 | buffer
            start = self.connection.geometry.data + buffer * self.connection.policy.slot_data
            rings[start : start + len(pending.data)] = pending.data
            args, epoch = _ARGS.unpack(pending.args), self.connection.epoch
            slot = abi.Slot(pending.op, 0, tag, epoch, 0, len(pending.data), 0, args)
            offset = abi.CHANNEL_REQUESTS + (self._tail % slots) * abi.Slot.SIZE
            rings[offset : offset + abi.Slot.SIZE] = slot.pack()
            self._tail = (self._tail + 1) & _U32
            self._store(abi.CHANNEL_REQUEST_TAIL, self._tail)
            self._unanswered[tag] = pending

    def ring(self) -> None:
        """Wake the server."""
        self.connection.signal(abi.Role.SERVER)

    def _store(self, offset: int, value: int) -> None:
        self.connection.rings.map[offset : offset + 4] = (value & _U32).to_bytes(4, "little")

    def _sleep(self) -> None:
        """Ask for a doorbell at the very next reply; the hypervisor always counts as asleep."""
        self._store(abi.CHANNEL_CLIENT_WAKE_AT, self._head + 1)
        self._store(abi.CHANNEL_CLIENT_SLEEP, 1)

    def on_wake(self) -> None:
        """Deliver what has arrived: the loop's callback for `client_wake`."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.connection.client_wake)
        for tag, reply in list(self._collect()):
            pending = self._unanswered.pop(tag, None)
            if pending is not None:
                pending.callback(reply)
        self._sleep()
        if self.connection.rings.read_u32(abi.CHANNEL_REPLY_TAIL) != self._head:
            self.connection.signal(abi.Role.CLIENT)  # one came between: look again
        if self._queue:
            self._pump()
            self.ring()

    def _collect(self) -> Iterator[tuple[int, Reply]]:
        slots = self.connection.policy.slots
        tail = self.connection.rings.read_u32(abi.CHANNEL_REPLY_TAIL)
        if (tail - self._head) & _U32 > slots:
            self._head = tail  # nonsense; the deadline of the calls will judge the server
        while self._head != tail:
            offset = self.connection.geometry.replies + (self._head % slots) * abi.Slot.SIZE
            slot = abi.Slot.unpack(bytes(self.connection.rings.map[offset : offset + abi.Slot.SIZE]))
            self._head = (self._head + 1) & _U32
            if slot.epoch == self.connection.epoch:
                yield slot.tag, Reply(slot.status, _ARGS.pack(*slot.args))
        self._store(abi.CHANNEL_REPLY_HEAD, self._head)

    def reopen(self) -> None:
        """The connection has new rings: send everything unanswered again, in tag order."""
        self._tail = self._head = 0
        again = list(self._unanswered.values())
        self._unanswered.clear()
        self._queue = again + self._queue
        self._sleep()
        self._pump()
        self.ring()
