"""Static page tables of a VM: a pure function from mappings to table pages.

Virtual and guest-physical addresses are equal. Accessed and dirty bits are preset, so no CPU ever has to
write a table. The tables lie in ordinary RAM but are mapped nowhere, so no component can change them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from hypervisor.abi import generated as abi

LARGE_PAGE = 0x200000
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE = 0x1, 0x2, 0x4, 0x20, 0x40, 0x80
NO_EXECUTE = 1 << 63
_INNER = PRESENT | WRITABLE | USER | ACCESSED  # the leaf alone decides the rights
_ENTRIES = 512
_ADDRESS_END = 1 << 39  # one top-level entry is enough


class Mapping(NamedTuple):
    """A range of guest addresses [start, end), page aligned, always readable."""

    start: int
    end: int
    writable: bool = False
    executable: bool = False
    user: bool = True


class Segment(NamedTuple):
    """A loaded part of an image. `address`, `offset` (in the template) and `memory_size` are page aligned."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    flags: int  # PF_X 1, PF_W 2, PF_R 4

    @property
    def mapping(self) -> Mapping:
        """Where and how the segment is mapped."""
        end = self.address + self.memory_size
        return Mapping(self.address, end, writable=bool(self.flags & 2), executable=bool(self.flags & 1))


def component_mappings(segments: Iterable[Segment], heap: Mapping, memory: int) -> list[Mapping]:
    """Everything a component's VM maps. What is not listed (NULL, the guard pages) faults."""
    page = abi.PAGE_SIZE
    fixed = [
        Mapping(abi.IDT, abi.TRAP_STUBS, user=False),
        Mapping(abi.TRAP_STUBS, abi.TRAP_STUBS + page, executable=True, user=False),
        Mapping(abi.TRAP_STACK, abi.TRAP_STACK_IST + page, writable=True, user=False),
        Mapping(abi.INFO, abi.INFO + abi.INFO_PAGES * page),
        Mapping(memory - abi.STACK_SIZE, memory, writable=True),
        Mapping(abi.HYPERCALL_PAGE, abi.DOORBELL_PAGE + page, writable=True),
        Mapping(abi.RW_WINDOW, abi.RW_WINDOW + abi.RW_WINDOW_SIZE, writable=True),
        Mapping(abi.RO_WINDOW, abi.RO_WINDOW + abi.RO_WINDOW_SIZE),
    ]
    own = [segment.mapping for segment in segments]
    return [*fixed, *own, *([heap] if heap.start < heap.end else ())]


def leaf_entry(mapping: Mapping, address: int, large: bool) -> int:
    """The page table entry of the page at `address`."""
    entry = address | PRESENT | ACCESSED | DIRTY
    entry |= (WRITABLE if mapping.writable else 0) | (USER if mapping.user else 0) | (LARGE if large else 0)
    return entry if mapping.executable else entry | NO_EXECUTE


def build(mappings: Iterable[Mapping]) -> dict[int, bytes]:
    """Table pages by guest-physical address; the root is at PAGE_TABLES.

    ValueError: a mapping is not page aligned, overlaps another, or the tables do not fit.
    """
    tables = {abi.PAGE_TABLES: [0] * _ENTRIES}

    def put(address: int, bits: int, entry: int) -> None:
        """Enter a page of 1 << `bits` bytes, making the tables above it that are not there yet."""
        table = tables[abi.PAGE_TABLES]
        for shift in range(39, bits, -9):
            index = address >> shift & 511
            if not table[index]:
                new = abi.PAGE_TABLES + len(tables) * abi.PAGE_SIZE
                if new >= abi.PAGE_TABLES_END:
                    raise ValueError("the page tables do not fit below PAGE_TABLES_END")
                tables[new], table[index] = [0] * _ENTRIES, new | _INNER
            elif table[index] & LARGE:
                raise ValueError(f"mappings overlap at {address:#x}")
            table = tables[table[index] & ~0xFFF]
        if table[address >> bits & 511]:
            raise ValueError(f"mappings overlap at {address:#x}")
        table[address >> bits & 511] = entry

    for mapping in sorted(mappings):
        address = mapping.start
        if (address | mapping.end) % abi.PAGE_SIZE or not 0 <= address < mapping.end <= _ADDRESS_END:
            raise ValueError(f"not a range of pages: {mapping.start:#x}-{mapping.end:#x}")
        while address < mapping.end:
            large = address % LARGE_PAGE == 0 and address + LARGE_PAGE <= mapping.end
            put(address, 21 if large else 12, leaf_entry(mapping, address, large))
            address += LARGE_PAGE if large else abi.PAGE_SIZE
    return {address: struct.pack(f"<{_ENTRIES}Q", *table) for address, table in tables.items()}
