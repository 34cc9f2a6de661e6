"""What is to happen to a component that failed.

Generated from components/protocols/supervise.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from typing import Final

from hypervisor.abi.layout import Layout

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


class ConfigureArgs(Layout, codes="I I I I I 20x"):
    """Arguments of `configure`."""

    component: int = 0
    policy: int = 0
    restarts: int = 0
    within_ms: int = 0
    steps: int = 0


class FaultArgs(Layout, codes="I I I I Q 16x"):
    """Arguments of `fault`."""

    component: int = 0
    kind: int = 0
    epoch: int = 0
    reserved: int = 0
    now_ns: int = 0


class FaultReturns(Layout, codes="I I 32x"):
    """Returned values of `fault`."""

    action: int = 0
    delay_ms: int = 0


class RecoveredArgs(Layout, codes="I I Q 24x"):
    """Arguments of `recovered`."""

    component: int = 0
    epoch: int = 0
    took_us: int = 0
