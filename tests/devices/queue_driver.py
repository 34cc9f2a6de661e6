"""A virtio-blk driver in Python over a memory object with the layout of abi.toml, honest or not, for tests of
devices.

`Memory` holds the virtqueues (at VRING_IOVA) and the pool (at POOL_IOVA); `QueueDriver` is one virtqueue in
it. Single fields can be written raw, so a test can break any rule."""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.dma import Queue, Window

NEXT = 1
WRITE = 2
INDIRECT = 4

READ_REQUEST = 0
WRITE_REQUEST = 1
FLUSH = 4
GET_ID = 8
DISCARD = 11
WRITE_ZEROES = 13

OK = 0
IOERR = 1
UNSUPP = 2

DESCRIPTOR = struct.Struct("<QIHH")
HEADER = struct.Struct("<IIQ")
RANGE = struct.Struct("<QII")


class Piece(NamedTuple):
    """One descriptor of a chain."""

    address: int
    length: int
    writable: bool = False


# What has been made and not closed: `close_all` at the end of a test.
_open: list[Memory | QueueDriver] = []


def close_all() -> None:
    """Close every `Memory` and `QueueDriver` that is still open."""
    while _open:
        _open[-1].close()


class Memory:
    """The vring object and the pool of one driver epoch."""

    def __init__(self, queues: int = 1, pool_bytes: int = 4 << 20) -> None:
        self.queues = queues
        self.vring_fd = os.memfd_create("vring", os.MFD_CLOEXEC)
        self.pool_fd = os.memfd_create("pool", os.MFD_CLOEXEC)
        os.ftruncate(self.vring_fd, queues * abi.VRING_STRIDE)
        os.ftruncate(self.pool_fd, pool_bytes)
        self.vring = mmap.mmap(self.vring_fd, queues * abi.VRING_STRIDE)
        self.pool = mmap.mmap(self.pool_fd, pool_bytes)
        # For what the device reads concurrently: struct.pack_into clears its bytes before it writes them.
        self.vring_words = memoryview(self.vring).cast("H")
        _open.append(self)

    def windows(self) -> list[Window]:
        return [
            Window(self.vring_fd, len(self.vring), abi.VRING_IOVA),
            Window(self.pool_fd, len(self.pool), abi.POOL_IOVA),
        ]

    def close(self) -> None:
        _open.remove(self)
        self.vring_words.release()
        self.vring.close()
        self.pool.close()
        os.close(self.vring_fd)
        os.close(self.pool_fd)


class QueueDriver:
    """Virtqueue `index`. `kick` and `call` are eventfds owned by this object."""

    def __init__(self, memory: Memory, index: int = 0, size: int = 128, event_index: bool = True) -> None:
        self.memory = memory
        self.index = index
        self.size = size
        self.event_index = event_index
        self.base = index * abi.VRING_STRIDE
        self.kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.available = 0  # our indices, not wrapped
        self.used = 0
        self.free = list(range(size))
        self.chains: dict[int, list[int]] = {}
        self.kicks = 0
        _open.append(self)

    def setup(self) -> Queue:
        return Queue(self.kick, self.call, self.size)

    def close(self) -> None:
        _open.remove(self)
        os.close(self.kick)
        os.close(self.call)

    # -- raw fields

    def put(self, offset: int, form: str, *values: int) -> None:
        struct.pack_into("<" + form, self.memory.vring, self.base + offset, *values)

    def get(self, offset: int, form: str) -> int:
        return int(struct.unpack_from("<" + form, self.memory.vring, self.base + offset)[0])

    def put_word(self, offset: int, value: int) -> None:
        """A 16-bit field in one store."""
        self.memory.vring_words[(self.base + offset) // 2] = value & 0xFFFF

    def descriptor(self, index: int, address: int, length: int, flags: int, following: int = 0) -> None:
        self.put(abi.VRING_DESCRIPTORS + index * 16, "QIHH", address, length, flags, following)

    def offer(self, head: int) -> None:
        """Puts a head into the available ring and publishes the index."""
        self.put_word(abi.VRING_AVAILABLE + 4 + self.available % self.size * 2, head)
        self.available += 1
        self.put_word(abi.VRING_AVAILABLE + 2, self.available)

    def ring_bell(self) -> None:
        os.eventfd_write(self.kick, 1)
        self.kicks += 1

    @property
    def used_index(self) -> int:
        return self.get(abi.VRING_USED + 2, "H")

    @property
    def avail_event(self) -> int:
        """The index at which the device wants to be kicked."""
        return self.get(abi.VRING_USED + 4 + self.size * 8, "H")

    def set_used_event(self, index: int) -> None:
        self.put_word(abi.VRING_AVAILABLE + 4 + self.size * 2, index)

    # -- an honest driver

    def private(self, slot: int) -> int:
        """Offset in the vring object of a 32-byte place for the header and status of the request with head
        `slot`."""
        return self.base + abi.VRING_PRIVATE + slot * 32

    def submit(self, kind: int, sector: int, data: list[Piece], kick: bool = True) -> int:
        """Sends a request whose data lies in `data`; returns its head."""
        count = len(data) + 2
        chain, self.free = self.free[:count], self.free[count:]
        assert len(chain) == count, "queue full"
        place = self.private(chain[0])
        HEADER.pack_into(self.memory.vring, place, kind, 0, sector)
        self.memory.vring[place + 16] = 0xFF
        pieces = [Piece(abi.VRING_IOVA + place, 16), *data, Piece(abi.VRING_IOVA + place + 16, 1, True)]
        self.chain(chain, pieces)
        self.chains[chain[0]] = chain
        before = self.available
        self.offer(chain[0])
        if kick and self.wants_kick(before):
            self.ring_bell()
        return chain[0]

    def chain(self, indices: list[int], pieces: list[Piece]) -> None:
        for position, (index, piece) in enumerate(zip(indices, pieces, strict=True)):
            last = position == len(pieces) - 1
            flags = (0 if last else NEXT) | (WRITE if piece.writable else 0)
            self.descriptor(index, piece.address, piece.length, flags, 0 if last else indices[position + 1])

    def wants_kick(self, before: int) -> bool:
        if not self.event_index:
            return not self.get(abi.VRING_USED, "H") & 1
        return (self.available - self.avail_event - 1) & 0xFFFF < (self.available - before) & 0xFFFF

    def completions(self) -> list[tuple[int, int, int]]:
        """(head, status byte, used length) of what has completed since the last call."""
        done = []
        while self.used_index != self.used & 0xFFFF:
            place = abi.VRING_USED + 4 + self.used % self.size * 8
            head, length = self.get(place, "I"), self.get(place + 4, "I")
            self.used += 1
            done.append((head, self.memory.vring[self.private(head) + 16], length))
            self.free += self.chains.pop(head, [])
        return done

    def wait(self, count: int = 1, timeout: float = 5.0) -> list[tuple[int, int, int]]:
        """Sleeps on the call descriptor until `count` requests have completed, as an interrupt-driven driver
        does."""
        done: list[tuple[int, int, int]] = []
        deadline = time.monotonic() + timeout
        while True:
            done += self.completions()
            if len(done) >= count:
                return done
            self.set_used_event(self.used)
            done += self.completions()
            if len(done) >= count:
                return done
            left = deadline - time.monotonic()
            assert left > 0, f"{len(done)} of {count} completions; {self.state()}"
            if select.select([self.call], [], [], left)[0]:
                os.eventfd_read(self.call)

    def state(self) -> str:
        return (
            f"available {self.available}, kicked {self.kicks} times, device kicked at "
            f"{self.avail_event}, used {self.used_index}, seen {self.used}"
        )

    def do(self, kind: int, sector: int, data: list[Piece]) -> int:
        """One request, start to end; its status."""
        head = self.submit(kind, sector, data)
        ((done, status, _),) = self.wait()
        assert done == head
        return status

    # -- data in the pool, by offset

    def read(self, sector: int, size: int, offset: int = 0) -> bytes:
        assert self.do(READ_REQUEST, sector, [Piece(abi.POOL_IOVA + offset, size, True)]) == OK
        return self.memory.pool[offset : offset + size]

    def write(self, sector: int, data: bytes, offset: int = 0) -> int:
        self.memory.pool[offset : offset + len(data)] = data
        return self.do(WRITE_REQUEST, sector, [Piece(abi.POOL_IOVA + offset, len(data))])
