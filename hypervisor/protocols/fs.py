"""Files of a subtree: paths are bytes, handles are numbers the client chooses.

Generated from components/protocols/fs.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"OPEN": 1, "CLOSE": 2, "READ": 3, "STAT": 4, "READDIR": 5, "READLINK": 6,
    "STATFS": 7, "READ_NEXT": 8, "SEEK": 9, "LOCK": 10, "UNLOCK": 11})
Kind = IntEnum("Kind", {"UNKNOWN": 0, "FIFO": 1, "CHARACTER_DEVICE": 2, "DIRECTORY": 4, "BLOCK_DEVICE": 6,
    "REGULAR": 8, "SYMBOLIC_LINK": 10, "SOCKET": 12})
Whence = IntEnum("Whence", {"START": 0, "CURRENT": 1, "END": 2})
Lock = IntEnum("Lock", {"SHARED": 1, "EXCLUSIVE": 2})


class OpenArgs(Layout, codes="I I 32x"):
    """Arguments of `open`."""

    handle: int = 0
    flags: int = 0


class OpenReturns(Layout, codes="Q Q I I 16x"):
    """Returned values of `open`."""

    size: int = 0
    inode: int = 0
    mode: int = 0
    kind: int = 0


class CloseArgs(Layout, codes="I 36x"):
    """Arguments of `close`."""

    handle: int = 0


class ReadArgs(Layout, codes="Q I I 24x"):
    """Arguments of `read`."""

    offset: int = 0
    handle: int = 0
    bytes: int = 0


class ReadReturns(Layout, codes="I 36x"):
    """Returned values of `read`."""

    bytes: int = 0


class StatArgs(Layout, codes="I 36x"):
    """Arguments of `stat`."""

    flags: int = 0


class ReaddirArgs(Layout, codes="Q I 28x"):
    """Arguments of `readdir`."""

    cookie: int = 0
    handle: int = 0


class ReaddirReturns(Layout, codes="I I 32x"):
    """Returned values of `readdir`."""

    bytes: int = 0
    end: int = 0


class ReadlinkReturns(Layout, codes="I 36x"):
    """Returned values of `readlink`."""

    bytes: int = 0


class StatfsReturns(Layout, codes="Q Q I I 16x"):
    """Returned values of `statfs`."""

    blocks: int = 0
    inodes: int = 0
    block_bytes: int = 0
    name_max: int = 0


class ReadNextArgs(Layout, codes="I I 32x"):
    """Arguments of `read_next`."""

    handle: int = 0
    bytes: int = 0


class ReadNextReturns(Layout, codes="I 4x Q 24x"):
    """Returned values of `read_next`."""

    bytes: int = 0
    offset: int = 0


class SeekArgs(Layout, codes="I I q 24x"):
    """Arguments of `seek`."""

    handle: int = 0
    whence: int = 0
    offset: int = 0


class SeekReturns(Layout, codes="Q 32x"):
    """Returned values of `seek`."""

    position: int = 0


class LockArgs(Layout, codes="I I I 28x"):
    """Arguments of `lock`."""

    handle: int = 0
    kind: int = 0
    wait_ms: int = 0


class UnlockArgs(Layout, codes="I 36x"):
    """Arguments of `unlock`."""

    handle: int = 0


class StatRecord(Layout, codes="I I I I Q Q q I I Q I I Q 8x"):
    """Metadata of one file."""

    mode: int = 0
    links: int = 0
    user: int = 0
    group: int = 0
    size: int = 0
    inode: int = 0
    modified_s: int = 0
    modified_ns: int = 0
    block_bytes: int = 0
    blocks: int = 0
    device: int = 0
    kind: int = 0
    file_system: int = 0


class EntryRecord(Layout, codes="Q Q B 1x H"):
    """One directory entry; the name follows, without a NUL, and the whole is padded to 8 bytes."""

    next_cookie: int = 0
    inode: int = 0
    kind: int = 0
    name_length: int = 0
