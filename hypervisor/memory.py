"""Memory objects: one sealed memfd for each thing that is shared, sized for that thing.

A descriptor is authority over the whole memfd whatever a VM has mapped of it, so nothing is ever a part
of a larger object, its size is fixed by seals, and read-only rights are a read-only reopen.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from hypervisor.abi.generated import PAGE_SIZE

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_SEAL_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE: only mappings that exist already may write


def page_align(size: int) -> int:
    """`size` bytes rounded up to whole pages."""
    return (size + PAGE_SIZE - 1) & -PAGE_SIZE


class MemoryObject:
    """A sealed memfd of `size` bytes (a multiple of the page size). Owns its descriptor and its mapping.

    With `sole_writer` nobody but the hypervisor, through its own mapping, can ever write it.
    """

    __slots__ = ("_map", "_read_only", "fd", "size")

    def __init__(self, name: str, size: int, sole_writer: bool = False) -> None:
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.size = page_align(size)
        os.ftruncate(self.fd, self.size)
        self._map: mmap.mmap | None = None
        self._read_only = -1
        if sole_writer:
            self._map = mmap.mmap(self.fd, self.size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS | (_SEAL_FUTURE_WRITE if sole_writer else 0))

    @property
    def read_only_fd(self) -> int:
        """A descriptor of the same object that cannot be mapped for writing; owned by this object.

        Its holder could open the object anew for writing by /proc/self/fd, which is why no jail has /proc; an
        object with `sole_writer` refuses even that.
        """
        if self._read_only < 0:
            self._read_only = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)
        return self._read_only

    @property
    def map(self) -> mmap.mmap:
        """The object in the hypervisor's own address space."""
        if self._map is None:
            if self.fd < 0:  # which would mean an anonymous mapping
                raise ValueError("the memory object is closed")
            self._map = mmap.mmap(self.fd, self.size)
        return self._map

    def read_u32(self, offset: int) -> int:
        """The little-endian u32 at `offset`."""
        return int.from_bytes(self.map[offset : offset + 4], "little")

    def read_u64(self, offset: int) -> int:
        """The little-endian u64 at `offset`."""
        return int.from_bytes(self.map[offset : offset + 8], "little")

    def close(self) -> None:
        """Drop the hypervisor's hold on the object; idempotent. Others may still have it mapped."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._read_only >= 0:
            os.close(self._read_only)
            self._read_only = -1
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Ringed:
    """Base of what has rings that are others in each epoch."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._next: MemoryObject | None = None
        self.rings = self._take_rings()

    @property
    def next_rings(self) -> MemoryObject:
        """The rings of the next epoch, made when they are first given to a spare, or needed."""
        self._next = self._next or MemoryObject(self._name, self._size)
        return self._next

    def _take_rings(self) -> MemoryObject:
        rings, self._next = self.next_rings, None
        return rings
