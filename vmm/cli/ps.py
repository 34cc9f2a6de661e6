"""`r3s3 ps`: the components of a running system and their counters."""

from __future__ import annotations

import argparse

from vmm.cli.command import Parser, Table, add_system_option, print_json, unit
from vmm.cli.control import Control

_NUMBERS = ("exits", "hypercalls", "waits", "wakeups", "doorbells", "calls", "replayed")


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
    right = ("epoch", "pid", "restarts", "spares", "cpu ms", "memory", "read", *_NUMBERS)
    table = Table(["name", "state", *right], right)
    for each in components:
        table.row(
            each["name"],
            each["state"],
            each["epoch"],
            each["pid"] or None,
            each["restarts"],
            each["spares"],
            round(each["cpu_ms"]),
            unit(each["memory"]),
            unit(each["bytes"]),
            *(each[key] for key in _NUMBERS),
        )
    table.show()
    return 0
