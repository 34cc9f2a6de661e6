"""Names with typed values; who subscribes to a prefix is told each change once, in order, whoever dies
meanwhile.

Generated from components/protocols/store.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"SET": 1, "DELETE": 2, "GET": 3, "LIST": 4, "SUBSCRIBE": 5, "UNSUBSCRIBE":
    6, "NEXT": 7, "ACKNOWLEDGE": 8, "STATUS": 9})
Kind = IntEnum("Kind", {"NONE": 0, "UNSIGNED": 1, "SIGNED": 2, "BYTES": 3, "STRING": 4})


class SetArgs(Layout, codes="Q I I 24x"):
    """Arguments of `set`."""

    expected: int = 0
    kind: int = 0
    name_length: int = 0


class SetReturns(Layout, codes="Q 32x"):
    """Returned values of `set`."""

    version: int = 0


class DeleteArgs(Layout, codes="Q 32x"):
    """Arguments of `delete`."""

    expected: int = 0


class DeleteReturns(Layout, codes="Q 32x"):
    """Returned values of `delete`."""

    version: int = 0


class GetReturns(Layout, codes="Q I I 24x"):
    """Returned values of `get`."""

    version: int = 0
    kind: int = 0
    length: int = 0


class ListArgs(Layout, codes="I 36x"):
    """Arguments of `list`."""

    prefix_length: int = 0


class ListReturns(Layout, codes="Q I I 24x"):
    """Returned values of `list`."""

    changes: int = 0
    bytes: int = 0
    end: int = 0


class SubscribeArgs(Layout, codes="I I 32x"):
    """Arguments of `subscribe`."""

    subscription: int = 0
    anew: int = 0


class SubscribeReturns(Layout, codes="Q 32x"):
    """Returned values of `subscribe`."""

    position: int = 0


class UnsubscribeArgs(Layout, codes="I 36x"):
    """Arguments of `unsubscribe`."""

    subscription: int = 0


class NextArgs(Layout, codes="Q I 28x"):
    """Arguments of `next`."""

    after: int = 0
    subscription: int = 0


class NextReturns(Layout, codes="Q I I 24x"):
    """Returned values of `next`."""

    number: int = 0
    kind: int = 0
    name_length: int = 0


class AcknowledgeArgs(Layout, codes="Q I 28x"):
    """Arguments of `acknowledge`."""

    number: int = 0
    subscription: int = 0


class StatusReturns(Layout, codes="Q I I I 20x"):
    """Returned values of `status`."""

    changes: int = 0
    names: int = 0
    own_names: int = 0
    subscriptions: int = 0


class EntryRecord(Layout, codes="Q I H H"):
    """A name and its value, in a list."""

    version: int = 0
    kind: int = 0
    name_length: int = 0
    value_length: int = 0
