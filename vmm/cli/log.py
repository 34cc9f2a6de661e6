"""`r3s3 log`: the structured log of a running system."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from hypervisor.abi.generated import LogLevel, names
from vmm.cli.command import CommandError, Parser, add_system_option, printable
from vmm.cli.control import Control

POLL_SECONDS = 0.2


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 log`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the system ends")
    parser.add_argument("--json", action="store_true", help="for machines: one object a line")
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """Show it; returns the exit status."""
    since = 0
    with Control(options.system) as control:
        while True:
            try:
                records = control.execute("log", since=since)
            except CommandError:
                if since and options.follow:
                    return 0  # the system has ended, and everything it said before has been shown
                raise
            for record in records:
                record["level"] = names(LogLevel)[record["level"]]
                since = record["number"]
                print(json.dumps(record) if options.json else line(record), flush=options.follow)
            if not options.follow:
                return 0
            time.sleep(POLL_SECONDS)


def line(record: dict[str, Any]) -> str:
    """A record as one line for people: time of day, level, component and epoch, text."""
    seconds = record["time"]
    clock = time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds * 1e6) % 1_000_000:06d}"
    who = f"{record['component']}#{record['epoch']}"
    return f"{clock} {record['level']:7} {who:24} {printable(record['text'])}"
