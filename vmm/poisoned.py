"""`poisoned` of a restart policy as one number, and back.

Its layout: `configure` in components/protocols/supervise.toml.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.abi import generated as abi

CURES = tuple(name for name in abi.names(abi.Cure).values() if name != "none")
WITHIN_MS = 1000  # where a manifest says nothing else
DEATHS = 2


def pack(cures: Sequence[str], deaths: int, within_ms: int) -> int:
    """0 where there is nothing to try."""
    numbers = sum(abi.Cure[cure.upper()] << 4 * place for place, cure in enumerate(cures))
    return within_ms << 32 | deaths << 16 | numbers if cures else 0


def cures(poisoned: int) -> list[str]:
    """What is tried, in this order."""
    names = abi.names(abi.Cure)
    return [names[number] for place in range(4) if (number := poisoned >> 4 * place & 15)]
