"""Output of programs and lines for the structured log.

Generated from components/protocols/log.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_Bytes = bytes  # a field may be called bytes

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


_WRITEARGS = struct.Struct("<QI28x")


class WriteArgs(NamedTuple):
    """Arguments of `write`."""

    position: int
    stream: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITEARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteArgs:
        """From exactly 40 bytes."""
        return cls._make(_WRITEARGS.unpack(data))


_WRITERETURNS = struct.Struct("<Q32x")


class WriteReturns(NamedTuple):
    """Returned values of `write`."""

    position: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITERETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteReturns:
        """From exactly 40 bytes."""
        return cls._make(_WRITERETURNS.unpack(data))


_RECORDARGS = struct.Struct("<I36x")


class RecordArgs(NamedTuple):
    """Arguments of `record`."""

    level: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _RECORDARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> RecordArgs:
        """From exactly 40 bytes."""
        return cls._make(_RECORDARGS.unpack(data))
