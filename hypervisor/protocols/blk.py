"""Blocks of a disk: sectors of 512 bytes, data in the client's pool or in a grant.

Generated from components/protocols/blk.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"INFO": 1, "READ": 2, "WRITE": 3, "FLUSH": 4, "DISCARD": 5, "READ_GRANT": 6,
    "WRITE_GRANT": 7})


class InfoReturns(Layout, codes="Q I I I 20x"):
    """Returned values of `info`."""

    sectors: int = 0
    block_bytes: int = 0
    features: int = 0
    max_bytes: int = 0


class ReadArgs(Layout, codes="Q Q I 20x"):
    """Arguments of `read`."""

    sector: int = 0
    pool_offset: int = 0
    bytes: int = 0


class ReadReturns(Layout, codes="I 36x"):
    """Returned values of `read`."""

    bytes: int = 0


class WriteArgs(Layout, codes="Q Q I 20x"):
    """Arguments of `write`."""

    sector: int = 0
    pool_offset: int = 0
    bytes: int = 0


class WriteReturns(Layout, codes="I 36x"):
    """Returned values of `write`."""

    bytes: int = 0


class DiscardArgs(Layout, codes="Q Q 24x"):
    """Arguments of `discard`."""

    sector: int = 0
    sectors: int = 0


class ReadGrantArgs(Layout, codes="Q Q I 20x"):
    """Arguments of `read_grant`."""

    sector: int = 0
    grant: int = 0
    bytes: int = 0


class ReadGrantReturns(Layout, codes="I 36x"):
    """Returned values of `read_grant`."""

    bytes: int = 0


class WriteGrantArgs(Layout, codes="Q Q I 20x"):
    """Arguments of `write_grant`."""

    sector: int = 0
    grant: int = 0
    bytes: int = 0


class WriteGrantReturns(Layout, codes="I 36x"):
    """Returned values of `write_grant`."""

    bytes: int = 0
