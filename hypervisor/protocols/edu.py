"""QEMU's device for teaching: factorials, and DMA within the memory that the client has lent.

Generated from components/protocols/edu.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"IDENTIFY": 1, "FACTORIAL": 2, "COPY": 3, "FILL": 4, "OUTSIDE": 5,
    "FILL_CLOSED": 6, "KEEP": 7, "FILL_KEPT": 8})


class IdentifyReturns(Layout, codes="I 36x"):
    """Returned values of `identify`."""

    identification: int = 0


class FactorialArgs(Layout, codes="I 36x"):
    """Arguments of `factorial`."""

    number: int = 0


class FactorialReturns(Layout, codes="I 36x"):
    """Returned values of `factorial`."""

    value: int = 0


class CopyArgs(Layout, codes="Q Q I 20x"):
    """Arguments of `copy`."""

    source: int = 0
    target: int = 0
    bytes: int = 0


class FillArgs(Layout, codes="Q Q 24x"):
    """Arguments of `fill`."""

    grant: int = 0
    word: int = 0


class OutsideArgs(Layout, codes="Q I 28x"):
    """Arguments of `outside`."""

    address: int = 0
    direction: int = 0


class FillClosedArgs(Layout, codes="Q Q 24x"):
    """Arguments of `fill_closed`."""

    grant: int = 0
    word: int = 0


class KeepArgs(Layout, codes="Q 32x"):
    """Arguments of `keep`."""

    grant: int = 0


class FillKeptArgs(Layout, codes="Q 32x"):
    """Arguments of `fill_kept`."""

    word: int = 0
