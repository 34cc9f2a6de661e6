"""What is to happen to a component that failed.

Generated from components/protocols/supervise.toml by `python -m components.protocols.generate`. Do not edit.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.abi.layout import Layout

Operation = IntEnum("Operation", {"CONFIGURE": 1, "FAULT": 2})
Policy = IntEnum("Policy", {"ALWAYS": 0, "NEVER": 1, "BACKOFF": 2})
Action = IntEnum("Action", {"RESTART": 0, "RESTART_AFTER_DELAY": 1, "GIVE_UP": 2})


class ConfigureArgs(Layout, codes="I I I I I 4x Q 8x"):
    """Arguments of `configure`."""

    component: int = 0
    policy: int = 0
    restarts: int = 0
    within_ms: int = 0
    steps: int = 0
    poisoned: int = 0


class ConfigureReturns(Layout, codes="I 36x"):
    """Returned values of `configure`."""

    foreseen: int = 0


class FaultArgs(Layout, codes="I I I 4x Q 16x"):
    """Arguments of `fault`."""

    component: int = 0
    kind: int = 0
    epoch: int = 0
    now_ns: int = 0


class FaultReturns(Layout, codes="I I I I 24x"):
    """Returned values of `fault`."""

    action: int = 0
    delay_ms: int = 0
    foreseen: int = 0
    cure: int = 0
