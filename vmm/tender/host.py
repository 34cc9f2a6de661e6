"""System calls that Python's library lacks, typed: the Python front of the C module (host.c).

Addresses and lengths are bytes of this process's own address space. All raise OSError.
"""

from __future__ import annotations

import os
from typing import Any

from vmm.tender._vcpu import ffi, lib

PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ_WRITE = 0, 1, 2, 3
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 0x1, 0x2, 0x10, 0x20, 0x4000
MAP_NOTHING = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE  # only address space, at first

_MMAP, _IOCTL, _CLOSE_RANGE, _SCHED_SETATTR = 9, 16, 436, 314
# struct sched_attr, sched_setattr(2): size and policy, flags, nice and priority, runtime, deadline, period
_SCHED_ATTR_SIZE, _RESET_ON_FORK = 48, 1
CONTROL_SLICE_NS = 100_000  # of threads that carry out a command and sleep again


def call(number: int, *arguments: int) -> int:
    """System call `number`; up to six integer arguments (negative ones allowed)."""
    result: int = lib.host_call(number, *arguments, *(0,) * (6 - len(arguments)))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def address_of(pointer: Any) -> int:
    """Where a cffi pointer points; what is there must be kept alive by the caller."""
    return int(ffi.cast("uintptr_t", pointer))


def ioctl(fd: int, request: int, argument: Any = 0) -> int:
    """ioctl with an integer or a cffi pointer as its argument."""
    return call(_IOCTL, fd, request, argument if isinstance(argument, int) else address_of(argument))


def mmap(address: int, length: int, protection: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """Map memory; returns its address."""
    return call(_MMAP, address, length, protection, flags, fd, offset)


def view(address: int, length: int) -> memoryview:
    """The bytes of a mapping, which must stay mapped as long as the view is used."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), length))


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor that is not in `keep`."""
    first = 0
    for fd in [*sorted(keep), 1 << 31]:
        if fd > first:
            call(_CLOSE_RANGE, first, fd - 1, 0)
        first = fd + 1


def set_slice(nanoseconds: int) -> None:
    """Ask for short time slices (0: the host's default) for this thread; threads it makes have the default.

    Linux 6.12 and later let a task that wakes preempt one with longer slices, so who runs briefly is let in
    at once and not at the next timer tick; earlier ones ignore it.
    """
    attributes = ffi.new("uint64_t[6]", [_SCHED_ATTR_SIZE, _RESET_ON_FORK, 0, nanoseconds, 0, 0])
    call(_SCHED_SETATTR, 0, address_of(attributes), 0)


def fork(namespaces: int) -> int:
    """os.fork() with CLONE_NEW* flags; the process must have only one thread."""
    pid: int = lib.host_fork(namespaces)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return pid
