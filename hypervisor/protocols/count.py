"""A ledger of amounts. Appending twice is wrong, so it is done exactly once whoever dies.

Generated from components/protocols/count.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"ADD": 1, "ENTRY": 2})


class AddArgs(Layout, codes="Q 32x"):
    """Arguments of `add`."""

    amount: int = 0


class AddReturns(Layout, codes="Q 32x"):
    """Returned values of `add`."""

    number: int = 0


class EntryArgs(Layout, codes="Q 32x"):
    """Arguments of `entry`."""

    number: int = 0


class EntryReturns(Layout, codes="Q 32x"):
    """Returned values of `entry`."""

    amount: int = 0
