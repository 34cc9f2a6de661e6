"""Output of programs and lines for the structured log.

Generated from components/protocols/log.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"WRITE": 1, "RECORD": 2})
Stream = IntEnum("Stream", {"STDOUT": 1, "STDERR": 2})


class WriteArgs(Layout, codes="Q I 28x"):
    """Arguments of `write`."""

    position: int = 0
    stream: int = 0


class WriteReturns(Layout, codes="Q 32x"):
    """Returned values of `write`."""

    position: int = 0


class RecordArgs(Layout, codes="I 36x"):
    """Arguments of `record`."""

    level: int = 0
