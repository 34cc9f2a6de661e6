"""Blocks of a disk: sectors of 512 bytes, data in the client's pool or in a grant.

Generated from components/protocols/blk.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_Bytes = bytes  # a field may be called bytes

NAME: Final = "blk"
NUMBER: Final = 1
VERSION: Final = 1

# operations
INFO: Final = 1
READ: Final = 2
WRITE: Final = 3
FLUSH: Final = 4
DISCARD: Final = 5
READ_GRANT: Final = 6
WRITE_GRANT: Final = 7

# constants
SECTOR_BYTES: Final = 512
FEATURE_READ_ONLY: Final = 1
FEATURE_FLUSH: Final = 2
FEATURE_DISCARD: Final = 4


_INFORETURNS = struct.Struct("<QIII20x")


class InfoReturns(NamedTuple):
    """Returned values of `info`."""

    sectors: int
    block_bytes: int
    features: int
    max_bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _INFORETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> InfoReturns:
        """From exactly 40 bytes."""
        return cls._make(_INFORETURNS.unpack(data))


_READARGS = struct.Struct("<QQI20x")


class ReadArgs(NamedTuple):
    """Arguments of `read`."""

    sector: int
    pool_offset: int
    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReadArgs:
        """From exactly 40 bytes."""
        return cls._make(_READARGS.unpack(data))


_READRETURNS = struct.Struct("<I36x")


class ReadReturns(NamedTuple):
    """Returned values of `read`."""

    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReadReturns:
        """From exactly 40 bytes."""
        return cls._make(_READRETURNS.unpack(data))


_WRITEARGS = struct.Struct("<QQI20x")


class WriteArgs(NamedTuple):
    """Arguments of `write`."""

    sector: int
    pool_offset: int
    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITEARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteArgs:
        """From exactly 40 bytes."""
        return cls._make(_WRITEARGS.unpack(data))


_WRITERETURNS = struct.Struct("<I36x")


class WriteReturns(NamedTuple):
    """Returned values of `write`."""

    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITERETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteReturns:
        """From exactly 40 bytes."""
        return cls._make(_WRITERETURNS.unpack(data))


_DISCARDARGS = struct.Struct("<QQ24x")


class DiscardArgs(NamedTuple):
    """Arguments of `discard`."""

    sector: int
    sectors: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _DISCARDARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> DiscardArgs:
        """From exactly 40 bytes."""
        return cls._make(_DISCARDARGS.unpack(data))


_READGRANTARGS = struct.Struct("<QQI20x")


class ReadGrantArgs(NamedTuple):
    """Arguments of `read_grant`."""

    sector: int
    grant: int
    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READGRANTARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReadGrantArgs:
        """From exactly 40 bytes."""
        return cls._make(_READGRANTARGS.unpack(data))


_READGRANTRETURNS = struct.Struct("<I36x")


class ReadGrantReturns(NamedTuple):
    """Returned values of `read_grant`."""

    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READGRANTRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReadGrantReturns:
        """From exactly 40 bytes."""
        return cls._make(_READGRANTRETURNS.unpack(data))


_WRITEGRANTARGS = struct.Struct("<QQI20x")


class WriteGrantArgs(NamedTuple):
    """Arguments of `write_grant`."""

    sector: int
    grant: int
    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITEGRANTARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteGrantArgs:
        """From exactly 40 bytes."""
        return cls._make(_WRITEGRANTARGS.unpack(data))


_WRITEGRANTRETURNS = struct.Struct("<I36x")


class WriteGrantReturns(NamedTuple):
    """Returned values of `write_grant`."""

    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _WRITEGRANTRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> WriteGrantReturns:
        """From exactly 40 bytes."""
        return cls._make(_WRITEGRANTRETURNS.unpack(data))
