"""What is to happen to a component that failed.

Generated from components/protocols/supervise.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_Bytes = bytes  # a field may be called bytes

NAME: Final = "supervise"
NUMBER: Final = 4
VERSION: Final = 1

# operations
CONFIGURE: Final = 1
FAULT: Final = 2
RECOVERED: Final = 3

# constants
STEPS_MAX: Final = 64

# policy
POLICY_ALWAYS: Final = 0
POLICY_NEVER: Final = 1
POLICY_BACKOFF: Final = 2

# action
ACTION_RESTART: Final = 0
ACTION_RESTART_AFTER_DELAY: Final = 1
ACTION_GIVE_UP: Final = 2


_CONFIGUREARGS = struct.Struct("<IIIII20x")


class ConfigureArgs(NamedTuple):
    """Arguments of `configure`."""

    component: int
    policy: int
    restarts: int
    within_ms: int
    steps: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _CONFIGUREARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> ConfigureArgs:
        """From exactly 40 bytes."""
        return cls._make(_CONFIGUREARGS.unpack(data))


_FAULTARGS = struct.Struct("<IIIIQ16x")


class FaultArgs(NamedTuple):
    """Arguments of `fault`."""

    component: int
    kind: int
    epoch: int
    reserved: int
    now_ns: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _FAULTARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> FaultArgs:
        """From exactly 40 bytes."""
        return cls._make(_FAULTARGS.unpack(data))


_FAULTRETURNS = struct.Struct("<II32x")


class FaultReturns(NamedTuple):
    """Returned values of `fault`."""

    action: int
    delay_ms: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _FAULTRETURNS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> FaultReturns:
        """From exactly 40 bytes."""
        return cls._make(_FAULTRETURNS.unpack(data))


_RECOVEREDARGS = struct.Struct("<IIQ24x")


class RecoveredArgs(NamedTuple):
    """Arguments of `recovered`."""

    component: int
    epoch: int
    took_us: int

    def pack(self) -> _Bytes:
        """40 bytes."""
        return _RECOVEREDARGS.pack(*self)

    @classmethod
    def unpack(cls, data: _Bytes) -> RecoveredArgs:
        """From exactly 40 bytes."""
        return cls._make(_RECOVEREDARGS.unpack(data))
