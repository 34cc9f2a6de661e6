"""The structured log of one system: numbered records in a bounded ring, readable over the control socket."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import NamedTuple

from hypervisor.abi.generated import LogLevel

RECORDS = 4096


def printable(text: str) -> str:
    """`text` with everything escaped that is not printable, so that no guest writes to a terminal."""
    return "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


class Record(NamedTuple):
    """One line: `time` is seconds since the epoch, `level` a LOG_LEVEL_*."""

    number: int
    time: float
    component: str
    epoch: int
    level: int
    text: str


class Log:
    """The last RECORDS records."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=RECORDS)
        self._numbers = itertools.count(1)

    def add(self, component: str, epoch: int, text: str, level: int = LogLevel.INFO) -> None:
        """Append one record."""
        record = Record(next(self._numbers), time.time(), component, epoch, level, printable(text))
        self._records.append(record)

    def since(self, number: int) -> list[Record]:
        """Records after `number`, oldest first."""
        return [record for record in self._records if record.number > number]
