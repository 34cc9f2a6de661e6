"""Sound: one stream of frames, each played exactly once, in the order of their numbers.

Generated from components/protocols/audio.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"CONFIGURE": 1, "SET_VOLUME": 2, "PLAY": 3, "STATUS": 4, "DRAIN": 5})
Format = IntEnum("Format", {"S16": 5})


class ConfigureArgs(Layout, codes="I I I 28x"):
    """Arguments of `configure`."""

    rate: int = 0
    channels: int = 0
    format: int = 0


class SetVolumeArgs(Layout, codes="I 36x"):
    """Arguments of `set_volume`."""

    volume: int = 0


class PlayArgs(Layout, codes="Q I 28x"):
    """Arguments of `play`."""

    position: int = 0
    frames: int = 0


class PlayReturns(Layout, codes="Q 32x"):
    """Returned values of `play`."""

    position: int = 0


class StatusReturns(Layout, codes="Q I I I I 16x"):
    """Returned values of `status`."""

    position: int = 0
    rate: int = 0
    volume: int = 0
    channels: int = 0
    format: int = 0
