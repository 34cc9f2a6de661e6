"""Shipped components taken apart, for the tests of faults in them."""

from __future__ import annotations

from functools import cache

from images import guests
from images.campaign.program import Program

COMPONENTS = sorted(name for name, root in guests.programs().items() if root.parts[0] == "components")
MEMORY = 32 << 20  # bytes of a VM that holds any of them


@cache
def program(name: str) -> Program:
    return Program(name, (guests.OUTPUT / f"{name}.elf").read_bytes())
