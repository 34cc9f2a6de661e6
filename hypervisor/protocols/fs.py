"""Files of a subtree: paths are bytes, handles are numbers the client chooses.

Generated from components/protocols/fs.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_Bytes = bytes  # a field may be called bytes

NAME: Final = "fs"
NUMBER: Final = 2
VERSION: Final = 1

# operations
OPEN: Final = 1
CLOSE: Final = 2
READ: Final = 3
STAT: Final = 4
READDIR: Final = 5
READLINK: Final = 6
STATFS: Final = 7

# constants
HANDLES: Final = 64
PATH_MAX: Final = 4095
NAME_MAX: Final = 255
OPEN_NO_FOLLOW: Final = 1
OPEN_DIRECTORY: Final = 2
STAT_NO_FOLLOW: Final = 1

# kind
KIND_UNKNOWN: Final = 0
KIND_FIFO: Final = 1
KIND_CHARACTER_DEVICE: Final = 2
KIND_DIRECTORY: Final = 4
KIND_BLOCK_DEVICE: Final = 6
KIND_REGULAR: Final = 8
KIND_SYMBOLIC_LINK: Final = 10
KIND_SOCKET: Final = 12


_OPENARGS = struct.Struct("<II32x")


class OpenArgs(NamedTuple):
    """Arguments of `open`."""

    handle: int
    flags: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _OPENARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> OpenArgs:
        """From exactly 40 bytes."""
        return cls._make(_OPENARGS.unpack(data))


_OPENRETURNS = struct.Struct("<QQII16x")


class OpenReturns(NamedTuple):
    """Returned values of `open`."""

    size: int
    inode: int
    mode: int
    kind: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _OPENRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> OpenReturns:
        """From exactly 40 bytes."""
        return cls._make(_OPENRETURNS.unpack(data))


_CLOSEARGS = struct.Struct("<I36x")


class CloseArgs(NamedTuple):
    """Arguments of `close`."""

    handle: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _CLOSEARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> CloseArgs:
        """From exactly 40 bytes."""
        return cls._make(_CLOSEARGS.unpack(data))


_READARGS = struct.Struct("<QII24x")


class ReadArgs(NamedTuple):
    """Arguments of `read`."""

    offset: int
    handle: int
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


_STATARGS = struct.Struct("<I36x")


class StatArgs(NamedTuple):
    """Arguments of `stat`."""

    flags: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _STATARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> StatArgs:
        """From exactly 40 bytes."""
        return cls._make(_STATARGS.unpack(data))


_READDIRARGS = struct.Struct("<QI28x")


class ReaddirArgs(NamedTuple):
    """Arguments of `readdir`."""

    cookie: int
    handle: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READDIRARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReaddirArgs:
        """From exactly 40 bytes."""
        return cls._make(_READDIRARGS.unpack(data))


_READDIRRETURNS = struct.Struct("<II32x")


class ReaddirReturns(NamedTuple):
    """Returned values of `readdir`."""

    bytes: int
    end: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READDIRRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReaddirReturns:
        """From exactly 40 bytes."""
        return cls._make(_READDIRRETURNS.unpack(data))


_READLINKRETURNS = struct.Struct("<I36x")


class ReadlinkReturns(NamedTuple):
    """Returned values of `readlink`."""

    bytes: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _READLINKRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ReadlinkReturns:
        """From exactly 40 bytes."""
        return cls._make(_READLINKRETURNS.unpack(data))


_STATFSRETURNS = struct.Struct("<QQII16x")


class StatfsReturns(NamedTuple):
    """Returned values of `statfs`."""

    blocks: int
    inodes: int
    block_bytes: int
    name_max: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _STATFSRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> StatfsReturns:
        """From exactly 40 bytes."""
        return cls._make(_STATFSRETURNS.unpack(data))


_STATRECORD = struct.Struct("<IIIIQQqIIQIIQQ")


class StatRecord(NamedTuple):
    """Metadata of one file."""

    mode: int
    links: int
    user: int
    group: int
    size: int
    inode: int
    modified_s: int
    modified_ns: int
    block_bytes: int
    blocks: int
    device: int
    kind: int
    file_system: int
    reserved: int

    def pack(self) -> _Bytes:
        """80 bytes."""
        return _STATRECORD.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> StatRecord:
        """From exactly 80 bytes."""
        return cls._make(_STATRECORD.unpack(data))


_ENTRYRECORD = struct.Struct("<QQBBH")


class EntryRecord(NamedTuple):
    """One directory entry; the name follows, without a NUL, and the whole is padded to 8 bytes."""

    next_cookie: int
    inode: int
    kind: int
    reserved: int
    name_length: int

    def pack(self) -> _Bytes:
        """20 bytes."""
        return _ENTRYRECORD.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> EntryRecord:
        """From exactly 20 bytes."""
        return cls._make(_ENTRYRECORD.unpack(data))
