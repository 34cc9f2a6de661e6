"""Evidence: the last deaths of every component, with the dead memory held by its descriptor.

Keeping it costs the recovery path two list operations: the memory object is simply not closed. At most
KEEP deaths of a component hold memory; older ones keep only their record.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hypervisor.faults import FaultRecord
from hypervisor.memory import MemoryObject

KEEP = 2
RECORDS = 256


class Death(NamedTuple):
    """One death: the record, and the instance's memory (closed once it is no longer among the last KEEP)."""

    record: FaultRecord
    memory: MemoryObject


class Evidence:
    """Deaths by component, newest last."""

    def __init__(self) -> None:
        self._memory: dict[str, deque[Death]] = {}
        self.records: deque[FaultRecord] = deque(maxlen=RECORDS)

    def keep(self, record: FaultRecord, memory: MemoryObject) -> list[MemoryObject]:
        """Take over `memory` of the instance that ended as `record` says; returns what is to be closed."""
        self.records.append(record)
        deaths = self._memory.setdefault(record.component, deque())
        deaths.append(Death(record, memory))
        return [deaths.popleft().memory] if len(deaths) > KEEP else []

    def of(self, component: str) -> list[Death]:
        """The deaths of `component` whose memory is still held."""
        return list(self._memory.get(component, ()))
