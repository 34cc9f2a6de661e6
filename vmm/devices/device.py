"""What all virtual devices have in common: the typed front of the C part, its counters, its errors."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, NamedTuple, Self

from vmm.devices._ring import ffi, lib
from vmm.vhost_user_messages import Feature

QUEUES_MAX: int = lib.QUEUES_MAX
QUEUE_SIZE_MAX: int = lib.QUEUE_SIZE_MAX
WINDOWS_MAX: int = lib.WINDOWS_MAX
COUNTERS: int = lib.COUNTERS  # u64 counters per queue in the status page
STATUS_BYTES = QUEUES_MAX * COUNTERS * 8


class DeviceError(Exception):
    """A device can not do what it was asked.

    DeviceError
    ├── BackingFileError   the image can not be served; the message says what to do about it
    └── Refused            a front-end asked for something that is not possible in this state
    """


class BackingFileError(DeviceError):
    pass


class Refused(DeviceError):
    pass


class QueueCounters(NamedTuple):
    """What a queue has done since the device was made, in the order of `enum counter` in device.h."""

    requests: int
    bytes_read: int
    bytes_written: int
    flushes: int
    errors: int
    dma_faults: int
    last_dma_fault: int
    broken: int
    last_breakage: int
    kicks: int
    calls: int


BREAKAGES = (
    "intact",
    "available index ahead of the queue",
    "head out of range",
    "chain too long or a loop",
    "next out of range",
    "empty descriptor",
    "readable descriptor after a writable one",
    "indirect descriptor, which was not offered",
    "no status byte",
    "status byte outside the windows",
    "rings outside the windows",
    "memory object shrank",
    "kick descriptor unusable",
)


def read_counters(page: bytes | memoryview | mmap.mmap, queue: int) -> QueueCounters:
    """The counters of one queue from a status page (memory given to the device as `status_fd`)."""
    values = struct.unpack_from(f"<{len(QueueCounters._fields)}Q", page, queue * COUNTERS * 8)
    return QueueCounters(*values)


class Window(NamedTuple):
    """Memory the device may reach: `size` bytes of `fd` from `offset`, at bus address `guest`;
    `user` is the address by which the front-end names rings in it."""

    fd: int
    guest: int
    user: int
    size: int
    offset: int


class Device:
    """A virtual device over `_ring`. Methods raise Refused, with a reason, for what the front-end may not ask
    now. What kind of device it is says a subclass: `features`, `config`, the file behind it, and the C half
    it opens."""

    features = int(Feature.VERSION_1 | Feature.EVENT_IDX)

    def __init__(self, queues: int, status_fd: int) -> None:
        """`status_fd`: a memory object of at least STATUS_BYTES bytes for the counters; -1 keeps them
        private."""
        self.queues = queues
        self.counters = mmap.mmap(status_fd, STATUS_BYTES) if status_fd >= 0 else mmap.mmap(-1, STATUS_BYTES)
        # The C half keeps the pointer: this object must keep both buffers alive.
        self._pinned = ffi.from_buffer(self.counters)
        self._counters = ffi.cast("uint64_t *", self._pinned)
        self._device = ffi.NULL  # a subclass opens it

    @staticmethod
    def check(file_fd: int, name: str, config: dict[str, Any]) -> None:
        """BackingFileError if no such device can be made from this file; `config` as for `process.run`."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, file_fd: int, name: str, config: dict[str, Any]) -> Self:
        """The device that `config` asks for. Raises BackingFileError."""
        raise NotImplementedError

    def config(self) -> bytes:
        """The configuration space."""
        raise NotImplementedError

    def negotiated(self, features: int) -> None:
        lib.device_negotiated(
            self._device, bool(features & Feature.EVENT_IDX), bool(features & Feature.BLK_FLUSH)
        )

    def set_windows(self, windows: list[Window]) -> None:
        """Replaces all windows; when it returns the old ones are out of reach, and unmapped unless on
        memory that a new one is on, too."""
        error = lib.device_set_windows(self._device, len(windows), [tuple(window) for window in windows])
        if error:
            raise Refused(f"memory table of {len(windows)} regions: {os.strerror(-error)}")

    def add_window(self, window: Window) -> None:
        error = lib.device_add_window(self._device, ffi.new("struct window_request *", tuple(window)))
        if error:
            raise Refused(
                f"memory region at {window.guest:#x}, {window.size:#x} bytes: {os.strerror(-error)}"
            )

    def remove_window(self, guest: int, user: int, size: int) -> None:
        """Withdraws a window; when it returns no request uses it any more."""
        error = lib.device_remove_window(self._device, guest, user, size)
        if error:
            raise Refused(f"no memory region at {guest:#x} (named {user:#x}) of {size:#x} bytes to remove")

    def set_kick(self, queue: int, fd: int) -> None:
        """The queue must be stopped. Takes ownership of fd, as do the next two."""
        lib.queue_set_kick(self._device, queue, fd)

    def set_call(self, queue: int, fd: int) -> None:
        lib.queue_set_call(self._device, queue, fd)

    def set_error(self, queue: int, fd: int) -> None:
        lib.queue_set_error(self._device, queue, fd)

    def start(self, queue: int, size: int, descriptors: int, available: int, used: int, base: int) -> None:
        error = lib.queue_start(self._device, queue, size, descriptors, available, used, base)
        if error:
            raise Refused(
                f"queue {queue}: its rings at {descriptors:#x}, {available:#x}, {used:#x} are not aligned "
                "or not inside one memory region each"
            )

    def stop(self, queue: int) -> int:
        """Stops the queue; returns the index of its next request once the one under way has ended."""
        return int(lib.queue_stop(self._device, queue))
