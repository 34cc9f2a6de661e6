"""Evidence: the last deaths of every component, with the dead memory held by its descriptor.

Keeping it costs the recovery path two list operations: the memory object is simply not closed. At most
KEEP deaths of a component hold memory; older ones keep only their record.
"""

from __future__ import annotations

from collections import deque

from hypervisor.faults import FaultRecord
from hypervisor.memory import MemoryObject

KEEP = 2
RECORDS = 256


class Evidence:
    """Records of deaths, and the memory of each component's last ones; newest last."""

    def __init__(self) -> None:
        self.records: deque[FaultRecord] = deque(maxlen=RECORDS)
        self.memory: dict[str, deque[MemoryObject]] = {}

    def keep(self, record: FaultRecord, memory: MemoryObject) -> list[MemoryObject]:
        """Take over `memory` of the instance that ended as `record` says; returns what is to be closed."""
        self.records.append(record)
        held = self.memory.setdefault(record.component, deque())
        held.append(memory)
        return [held.popleft()] if len(held) > KEEP else []
