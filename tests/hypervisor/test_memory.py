"""Memory objects: what their seals and read-only descriptors hold, and what only the jail holds."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest

from hypervisor.abi.generated import PAGE_SIZE
from hypervisor.memory import MemoryObject, page_align

SIZE = 3 * PAGE_SIZE


@pytest.fixture
def memory() -> Iterator[MemoryObject]:
    made = MemoryObject("test", SIZE)
    yield made
    made.close()


def refused(error: int, call: object, *args: object, **more: object) -> None:
    assert callable(call)
    with pytest.raises(OSError) as caught:
        call(*args, **more)
    assert caught.value.errno == error


def reopened(fd: int, flags: int) -> int:
    """The object of `fd` opened anew, as who has /proc can do."""
    return os.open(f"/proc/self/fd/{fd}", flags)


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2)])
def test_sizes_are_whole_pages(size: int, pages: int) -> None:
    assert page_align(size) == pages * PAGE_SIZE


def test_it_can_neither_grow_nor_shrink_nor_be_sealed_further(memory: MemoryObject) -> None:
    assert os.fstat(memory.fd).st_size == SIZE
    for size in (0, SIZE - PAGE_SIZE, SIZE + PAGE_SIZE):
        refused(errno.EPERM, os.ftruncate, memory.fd, size)
    refused(errno.EPERM, os.posix_fallocate, memory.fd, 0, SIZE + 1)
    refused(errno.EPERM, os.pwrite, memory.fd, b"x", SIZE)
    refused(errno.EPERM, fcntl.fcntl, memory.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_hole_can_be_punched_wherefore_jails_refuse_fallocate(memory: MemoryObject) -> None:
    """Seals do not forbid it. It reads as zeros, never as a fault, so that the hypervisor is safe anyway."""
    memory.map[:4] = b"data"
    libc = ctypes.CDLL(None, use_errno=True)
    keep_size_punch_hole = 0x3
    arguments = ctypes.c_long(0), ctypes.c_long(PAGE_SIZE)
    assert libc.fallocate(memory.fd, keep_size_punch_hole, *arguments) == 0
    assert memory.map[:4] == bytes(4)


def test_what_a_read_only_descriptor_refuses(memory: MemoryObject) -> None:
    fd = memory.read_only_fd
    assert fd == memory.read_only_fd, "made once"
    refused(errno.EACCES, mmap.mmap, fd, SIZE)
    refused(errno.EBADF, os.pwrite, fd, b"x", 0)
    refused(errno.EINVAL, os.ftruncate, fd, 0)
    memory.map[:4] = b"seen"
    with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as view:
        assert view[:4] == b"seen"
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        place = libc.mmap(None, ctypes.c_size_t(SIZE), mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert libc.mprotect(ctypes.c_void_p(place), SIZE, mmap.PROT_READ | mmap.PROT_WRITE) == -1
        assert ctypes.get_errno() == errno.EACCES
        libc.munmap(ctypes.c_void_p(place), SIZE)


def test_what_a_read_only_descriptor_does_not_refuse(memory: MemoryObject) -> None:
    """Who can see /proc opens it anew for writing: hence no jail has one."""
    fd = reopened(memory.read_only_fd, os.O_RDWR)
    os.pwrite(fd, b"written", 0)
    assert memory.map[:7] == b"written"
    os.close(fd)


def test_a_sole_writer_needs_no_jail() -> None:
    memory = MemoryObject("status", PAGE_SIZE, sole_writer=True)
    again = reopened(memory.read_only_fd, os.O_RDWR)
    for fd in (memory.fd, again):
        refused(errno.EPERM, mmap.mmap, fd, PAGE_SIZE)
        refused(errno.EPERM, os.pwrite, fd, b"x", 0)
    with mmap.mmap(again, PAGE_SIZE, prot=mmap.PROT_READ) as view:
        memory.map[:5] = b"still"
        assert view[:5] == b"still"
    os.close(again)
    memory.close()


def test_numbers(memory: MemoryObject) -> None:
    memory.map[8:16] = bytes(range(1, 9))
    assert (memory.read_u32(8), memory.read_u64(8)) == (0x04030201, 0x0807060504030201)


def test_a_closed_one_is_of_no_use_and_closed_once() -> None:
    before = len(os.listdir("/proc/self/fd"))
    memory = MemoryObject("test", SIZE)
    assert len(memory.map) == SIZE and memory.read_only_fd >= 0
    memory.close()
    memory.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="closed"):
        _ = memory.map
