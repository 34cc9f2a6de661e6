"""What a tender builds its VM from: the parsed SPAWN_TENDER body, with everything computed that can be.

The zygote makes plans, so that spares of one component share the work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from hypervisor.abi import generated as abi
from vmm.tender import page_tables, trap_page
from vmm.tender.page_tables import Mapping, Segment


@dataclass(frozen=True)
class Plan:
    """One VM to be built. `pages` are contents by guest-physical address, besides the segments."""

    memory: int
    private: bool  # copy-on-write memory of the tender's own, which a fork shares
    segments: tuple[Segment, ...]
    entry: int
    allowed: int  # bit n: hypercall n
    mappings: tuple[Mapping, ...]
    pages: dict[int, bytes]
    slice_ns: int = 0  # scheduler's time slice to ask for; 0: the host's default


@lru_cache(maxsize=64)
def parse(body: bytes) -> Plan:
    """The plan for a SPAWN_TENDER body; ValueError where it makes no sense."""
    try:
        data = json.loads(body)
        memory = int(data["memory"])
        kind = data["memory_kind"]
        segments = tuple(Segment(*(int(each[key]) for key in Segment._fields)) for each in data["segments"])
        heap = Mapping(int(data["heap_base"]), int(data["heap_base"]) + int(data["heap_size"]), writable=True)
        allowed = sum(1 << int(number) for number in set(data["allow"]))
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
    pages = page_tables.build(mappings) | trap_page.build()
    private = kind == "private"
    return Plan(memory, private, segments, entry, allowed, tuple(mappings), pages, slice_ns)
