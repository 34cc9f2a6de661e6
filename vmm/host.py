"""System calls that Python's library lacks, typed, for tools and devices (tenders are in C).

Addresses and lengths are bytes of this process's own address space. All raise OSError.
"""

from __future__ import annotations

from typing import Any

from vmm.tender._vcpu import ffi, lib
from vmm.tender.jail import check

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20

_MMAP, _IOCTL = 9, 16


def call(number: int, *arguments: int) -> int:
    """System call `number`; up to six integer arguments (negative ones allowed)."""
    return check(lib.syscall(number, *(ffi.cast("long", each) for each in arguments)))


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
