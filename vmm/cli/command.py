"""What all commands share: their one exception, the argument parser, and output for people and machines.

Exceptions: CommandError (its message is one line: what, where, what to do; `status` the exit status).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

FAILED = 125  # r3s3 itself failed, bad input included


class CommandError(Exception):
    """A command ends without having done its work."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Command:
    """A command of `r3s3`. `module` is imported when the command is run, and not before.

    The module has `add_arguments(parser)` and `run(options) -> int` (the exit status). One that
    `takes_program` finds the words after -- in `options.program`.
    """

    module: str
    summary: str
    takes_program: bool = False

    @property
    def description(self) -> str:
        """The summary as a sentence."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and a failure of r3s3 itself."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see {self.prog} --help")


def say(message: str) -> None:
    """A message of r3s3's own."""
    print(f"r3s3: {message}", file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """`value` on standard output, for machines."""
    json.dump(value, sys.stdout, indent=1)
    sys.stdout.write("\n")


def add_system_option(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """-s NAME, for the commands that speak to a running system."""
    parser.add_argument(
        "-s", "--system", metavar="NAME", default=default or os.environ.get("R3S3_SYSTEM") or None,
        help="which running system, where there are several (default: $R3S3_SYSTEM)",
    )  # fmt: skip


def kill_rate(text: str) -> tuple[str, float]:
    """The component and kills a second of "X@N"."""
    component, at, rate = text.rpartition("@")
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if not (component and at and 0 <= value <= 1000):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not COMPONENT@KILLS_A_SECOND (for example disk_driver@10)"
        )
    return component, value


def add_kill_options(parser: argparse.ArgumentParser) -> None:
    """--kill and --seed, for the commands that run a system."""
    parser.add_argument(
        "--kill", metavar="X@N", type=kill_rate, action="append", default=[],
        help="kill component X N times a second, at random times, while the program runs (repeatable)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="makes the times of --kill repeatable")


def unit(value: float, units: Sequence[str] = ("B", "KiB", "MiB", "GiB", "TiB")) -> str:
    """Bytes as people read them."""
    index = 0
    while abs(value) >= 1024 and index < len(units) - 1:
        value, index = value / 1024, index + 1
    return f"{value:.0f} {units[index]}" if index == 0 else f"{value:.1f} {units[index]}"


class Table:
    """Rows under headings: drawn on a terminal, tab-aligned text where output is piped.

    Columns named in `right` hold numbers.
    """

    def __init__(self, headings: Sequence[str], right: Sequence[str] = ()) -> None:
        self._headings = list(headings)
        self._right = {self._headings.index(heading) for heading in right}
        self._rows: list[list[str]] = []

    def row(self, *cells: object) -> None:
        """Add one row; None is shown as "-"."""
        self._rows.append(["-" if cell is None else printable(str(cell)) for cell in cells])

    def show(self) -> None:
        """Print the table on standard output."""
        if sys.stdout.isatty():
            self._draw()
            return
        lines = [self._headings, *self._rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self._headings))]
        for line in lines:
            cells = [
                cell.rjust(width) if column in self._right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            print("  ".join(cells).rstrip())

    def _draw(self) -> None:
        """For a terminal: numbers that do not fit beside the rest are left out from the right, text folds."""
        import rich.box
        import rich.console
        import rich.table
        import rich.text

        console = rich.console.Console()
        lines = [self._headings, *self._rows]
        widths = [max(len(line[column]) for line in lines) + 2 for column in range(len(self._headings))]
        shown = len(widths)
        while sum(widths[:shown]) > console.width and shown - 1 in self._right:
            shown -= 1
        words = [max(len(word) for line in lines for word in line[n].split(" ")) for n in range(shown)]
        roomy = sum(words) + 3 * shown + 2 <= console.width  # words need not be broken
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for column, heading in enumerate(self._headings[:shown]):
            number, one_word = column in self._right, not any(" " in row[column] for row in self._rows)
            table.add_column(
                heading,
                justify="right" if number else "left",
                no_wrap=number or column == 0 or (roomy and one_word),
                overflow="fold",
                min_width=len(heading) if roomy else None,
            )
        for row in self._rows:
            table.add_row(*(rich.text.Text(cell) for cell in row[:shown]))
        console.print(table)
        if shown < len(widths):
            console.print(f"not shown: {', '.join(self._headings[shown:])} (a wider terminal, or --json)")


def printable(text: str) -> str:
    """`text` with what would disturb a terminal or a line-by-line reader escaped, each byte that is not UTF-8
    (a surrogate, in Python's way) as \\xNN."""
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) & 0xFF:02x}"
    return character.encode("unicode_escape").decode()


class Progress:
    """A progress bar on standard error, only where that is a terminal. A context manager."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage, self._began = "", 0.0
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            import rich.console
            import rich.progress

            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.DownloadColumn(binary_units=True),
                rich.progress.TextColumn("{task.fields[speed]}"),
                console=rich.console.Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """`done` bytes of `total` are done in what is now going on."""
        if self._bar is None:
            return
        if stage != self._stage:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._stage, self._task = stage, self._bar.add_task(stage, total=total, speed="")
            self._began = time.monotonic()
        speed = done / 1e6 / max(1e-3, time.monotonic() - self._began)
        self._bar.update(self._task, completed=done, total=total, speed=f"{speed:,.0f} MB/s")
