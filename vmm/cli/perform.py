"""Running a system where that is possible: on this machine's KVM, or else in a test bed.

A test bed is a matter of the layers above, which name the module: it has `perform(request, stdout,
low_latency) -> Ending` and `ready() -> str`, what the bed is made of; both may raise CommandError.
"""

from __future__ import annotations

import argparse
import importlib

from vmm.cli.command import CommandError, say
from vmm.cli.launch import Ending, Launch, NoKvm, Request

PLACES = ("auto", "here", "stock")


def add_bed_option(parser: argparse.ArgumentParser) -> None:
    """--bed, for the commands that run a system."""
    parser.add_argument(
        "--bed", choices=PLACES, default="auto",
        help="where it runs: here, on this machine's KVM; stock, in an emulated machine with a stock kernel "
        "(slow, and its clock with it); auto (the default), here if /dev/kvm is of use, else stock",
    )  # fmt: skip


def perform(
    request: Request, bed: str, elsewhere: str | None, stdout: int = 1, low_latency: bool = False
) -> Ending:
    """Run it with `stdout` as the program's output; how it ended. `elsewhere` is the module's name."""
    if bed != "stock":
        try:
            with Launch(request, stdout, low_latency) as launch:
                return launch.wait()
        except NoKvm as error:
            if bed == "here" or not elsewhere:
                raise
            say(f"{error}; until then it runs in a test bed, slowly")
    if not elsewhere:
        raise CommandError("--bed stock: this command line has no test bed; use the command r3s3")
    ending: Ending = importlib.import_module(elsewhere).perform(request, stdout, low_latency)
    return ending
