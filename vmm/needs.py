"""Who waits for whom in a system. A component that waits for itself, through whomever, never gets an answer.

That harms nobody but the system itself, so this needs no trust: the command line looks, before it asks for a
system.
"""

from __future__ import annotations

import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from vmm.document import SystemFileError


def check(file: str) -> None:
    """SystemFileError where the routes of the system file form a cycle; other mistakes are found later."""
    needs: TopologicalSorter[str] = TopologicalSorter()
    try:
        for client, server in tomllib.loads(Path(file).read_text(encoding="utf-8"))["routes"].items():
            needs.add(client.partition(".")[0], server.partition(".")[0])
        needs.prepare()
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        raise SystemFileError(Path(file), ("routes",), f"needs form a cycle: {loop}") from None
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return
