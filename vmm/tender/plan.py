"""What a tender builds its VM from: the parsed SPAWN_TENDER body, with everything computed that can be.

The zygote makes plans, as C structures, so that spares of one component share the work and need no Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from hypervisor.abi import generated as abi
from vmm.tender import jail, page_tables, trap_page
from vmm.tender._vcpu import ffi
from vmm.tender.page_tables import Mapping, Segment


class Plan(NamedTuple):
    """One VM to be built, and its jail: struct plan * and struct jail *; `kept` is what they point to."""

    plan: Any
    jail: Any
    kept: tuple[Any, ...]


@lru_cache(maxsize=64)
def parse(body: bytes, as_root: bool) -> Plan:
    """The plan for a SPAWN_TENDER body; ValueError where it makes no sense."""
    try:
        data = json.loads(body)
        memory = int(data["memory"])
        kind = data["memory_kind"]
        segments = tuple(Segment(*(int(each[key]) for key in Segment._fields)) for each in data["segments"])
        heap = Mapping(int(data["heap_base"]), int(data["heap_base"]) + int(data["heap_size"]), writable=True)
        allow = {int(number) for number in data["allow"]}
        name, entry, slice_ns = str(data["name"]), int(data["entry"]), int(data.get("slice_ns", 0))
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"malformed: {error!r}") from error
    if kind not in ("shared", "private"):
        raise ValueError(f"{name}: memory kind {kind!r}")
    if memory % abi.PAGE_SIZE or not abi.IMAGE_BASE + abi.STACK_SIZE < memory <= abi.VM_MEMORY_MAX:
        raise ValueError(f"{name}: {memory} bytes of memory")
    for segment in segments:
        inside = segment.address >= abi.IMAGE_BASE and segment.address + segment.memory_size <= memory
        if not inside or segment.file_size > segment.memory_size or segment.flags & 3 == 3:
            raise ValueError(f"{name}: segment at {segment.address:#x}")
    mappings = page_tables.component_mappings(segments, heap, memory)
    pieces = [(each.address, each.file_size, each.offset, ffi.NULL) for each in segments]
    contents = []
    for address, page in (page_tables.build(mappings) | trap_page.build()).items():
        contents.append(ffi.new("char[]", page))
        pieces.append((address, len(page), 0, contents[-1]))
    own = [each for each in mappings if each.user and each.end <= memory]
    readable, writable = merge(own), merge(each for each in own if each.writable)
    known = set(abi.names(abi.Hypercall))
    values = {"memory": memory, "entry": entry, "slice_ns": slice_ns, "private_memory": kind == "private"}
    values |= {"known": _bits(known), "allowed": _bits(known & allow)}
    arrays = {
        "pieces": ffi.new("struct piece[]", pieces),
        "readable": ffi.new("struct range[]", readable),
        "writable": ffi.new("struct range[]", writable),
    }
    values |= arrays | {f"{name}_count": len(array) for name, array in arrays.items()}
    private_memory = memory if kind == "private" else 0
    jailed, program = jail.describe("tender", as_root=as_root, private_memory=private_memory)
    return Plan(ffi.new("struct plan *", values), jailed, (*arrays.values(), contents, program))


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def merge(mappings: Iterable[Mapping]) -> list[tuple[int, int]]:
    """Ranges of addresses, neighbours as one, so that a buffer may cross from one segment into the next."""
    merged: list[tuple[int, int]] = []
    for start, end, *_ in sorted(mappings):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
