"""`r3s3 kill`: kill a component of a running system, to see that nothing else notices."""

from __future__ import annotations

import argparse

from vmm.cli.command import Parser, add_system_option
from vmm.cli.control import Control


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 kill`."""
    parser.add_argument("component", metavar="COMPONENT", help="its name, as r3s3 ps shows it")
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """Kill it; returns the exit status."""
    with Control(options.system) as control:
        control.execute("kill", component=options.component)
    return 0
