"""`r3s3 ps`: the components of a running system and their counters."""

from __future__ import annotations

import argparse

from vmm.cli.command import Parser, Table, add_system_option, print_json, unit
from vmm.cli.control import Control

# The most telling ones first: a narrow terminal shows those only.
_NUMBERS = ("epoch", "restarts", "pid", "cpu ms", "memory", "read")
_COUNTERS = ("exits", "waits", "ring_doorbells", "calls", "replayed", "spares", "hypercalls", "wakeups")


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 ps`."""
    parser.add_argument("--json", action="store_true", help="for machines, with every field")
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """List them; returns the exit status."""
    with Control(options.system) as control:
        components = control.execute("ps")
    if options.json:
        print_json(components)
        return 0
    numbers = [*_NUMBERS, *(key.removeprefix("ring_") for key in _COUNTERS)]
    table = Table(["name", "state", *numbers], numbers)
    for each in components:
        table.row(
            each["name"], each["state"], each["epoch"], each["restarts"], each["pid"] or None,
            round(each["cpu_ms"]), unit(each["memory"]), unit(each["bytes"]),
            *(each[key] for key in _COUNTERS),
        )  # fmt: skip
    table.show()
    return 0
