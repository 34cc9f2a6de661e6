"""Output of programs and lines for the structured log.

Generated from components/protocols/log.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from typing import Final

from hypervisor.abi.layout import Layout

NAME: Final = "log"
NUMBER: Final = 3
VERSION: Final = 1

# operations
WRITE: Final = 1
RECORD: Final = 2

# constants
RECORD_MAX: Final = 900

# stream
STREAM_STDOUT: Final = 1
STREAM_STDERR: Final = 2


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
