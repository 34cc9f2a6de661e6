"""`r3s3 history`: every instance that a component of a running system has had."""

from __future__ import annotations

import argparse
from typing import Any

from vmm.cli.command import CommandError, Parser, Table, add_system_option, print_json
from vmm.cli.control import Control


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 history`."""
    parser.add_argument("component", metavar="COMPONENT", nargs="?", help="only of this one")
    parser.add_argument("--json", action="store_true", help="for machines, with every field")
    add_system_option(parser)


def run(options: argparse.Namespace) -> int:
    """Show it; returns the exit status."""
    with Control(options.system) as control:
        rows = with_times(control.execute("history"))
    if options.component:
        known = sorted({row["component"] for row in rows})
        rows = [row for row in rows if row["component"] == options.component]
        if not rows:
            raise CommandError(f"no component {options.component!r} here; there are {', '.join(known)}")
    if options.json:
        print_json(rows)
        return 0
    table = Table(
        ["component", "epoch", "version", "image", "away ms", "lived s", "ended by", "working on"],
        ["epoch", "away ms", "lived s"],
    )
    for row in rows:
        away, lived = row["away_ms"], row["lived_s"]
        table.row(
            row["component"], row["epoch"], row["version"], row["digest"][:12],
            None if away is None else f"{away:.1f}", None if lived is None else f"{lived:.3f}",
            row.get("why"), f"{row['working']:#x}" if row["working"] and "why" in row else None,
        )  # fmt: skip
    table.show()
    return 0


def with_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows by component and epoch, with `lived_s`, and `away_ms`: from the end of the one before to the
    moment that this one served (None where that is not so yet)."""
    rows = sorted(rows, key=lambda row: (row["component"], row["epoch"]))
    for number, row in enumerate(rows):
        before = rows[number - 1] if number and rows[number - 1]["component"] == row["component"] else None
        served = row["ready_ns"] or None
        ended = before and before.get("ended_ns")
        row["away_ms"] = max(0.0, (served - ended) / 1e6) if served and ended else None
        row["lived_s"] = (row["ended_ns"] - row["began_ns"]) / 1e9 if "ended_ns" in row else None
    return rows
