"""The only CPL0 code and tables of a VM: descriptor tables, and a stub per vector that reports it.

A stub is `out %al, $vector`, so the exit's port is the vector; nobody comes back from there. The CPU has
pushed the frame to the trap stack by then; faults.c reads it from there. #DF and NMI have a stack of their
own.
"""

from __future__ import annotations

import struct

from hypervisor.abi import generated as abi

KERNEL_CODE, USER_DATA, USER_CODE, TASK = 0x10, 0x2B, 0x33, 0x40  # selectors
TSS = abi.GDT + 0x800
TSS_LIMIT = 0x67
GDT_LIMIT = 10 * 8 - 1
IDT_LIMIT = 256 * 16 - 1
STUB_SIZE = 16
NMI, BREAKPOINT, DOUBLE_FAULT = 2, 3, 8

_ON_IST = frozenset((NMI, DOUBLE_FAULT))


def _gate(vector: int) -> bytes:
    """An interrupt gate; only `int3` may be asked for by CPL3 (other INT n are #GP)."""
    handler = abi.TRAP_STUBS + vector * STUB_SIZE
    kind = 0x8E | (0x60 if vector == BREAKPOINT else 0)
    stack = 1 if vector in _ON_IST else 0
    low, middle, high = handler & 0xFFFF, handler >> 16 & 0xFFFF, handler >> 32
    return struct.pack("<HHBBHII", low, KERNEL_CODE, stack, kind, middle, high, 0)


def _stub(vector: int) -> bytes:
    return bytes((0xE6, vector)).ljust(STUB_SIZE, b"\xcc")


def build() -> dict[int, bytes]:
    """The pages by guest-physical address."""
    gdt = [0] * 10
    gdt[2] = 0x00AF9B000000FFFF  # CPL0 code, 64 bit; all types are "accessed", so the CPU never writes here
    gdt[5] = 0x00CFF3000000FFFF  # CPL3 data
    gdt[6] = 0x00AFFB000000FFFF  # CPL3 code, 64 bit
    gdt[8] = 0x8B << 40 | (TSS & 0xFFFFFF) << 16 | (TSS >> 24 & 0xFF) << 56 | TSS_LIMIT  # busy
    gdt[9] = TSS >> 32
    tss = bytearray(TSS_LIMIT + 1)
    struct.pack_into("<Q", tss, 4, abi.TRAP_STACK + abi.PAGE_SIZE)  # RSP0
    struct.pack_into("<Q", tss, 36, abi.TRAP_STACK_IST + abi.PAGE_SIZE)  # IST1
    struct.pack_into("<H", tss, 102, TSS_LIMIT + 1)  # no I/O bitmap
    return {
        abi.IDT: b"".join(map(_gate, range(256))),
        abi.GDT: struct.pack("<10Q", *gdt).ljust(TSS - abi.GDT, b"\0") + bytes(tss),
        abi.TRAP_STUBS: b"".join(map(_stub, range(256))),
    }
