"""`r3s3 doctor`: what this machine can do for R3S3, and how to fix what is missing."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import asdict

from vmm.cli.command import CommandError, Parser, print_json

_WORDS = {True: "ok", False: "NOT OK", None: "missing"}


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 doctor`."""
    parser.add_argument("--json", action="store_true", help="for machines")


def run(options: argparse.Namespace) -> int:
    """Examine; returns the exit status: 1 if something necessary is not ok."""
    try:
        from vmm.examination import examine
    except ImportError as error:
        raise CommandError(f"not built yet ({error}); run: make setup") from None

    def test_bed() -> str:
        """What it is made of; from the layer above, and only where it is wanted."""
        answer: str = importlib.import_module(options.elsewhere).ready()
        return answer

    findings = []
    for finding in examine(test_bed if options.elsewhere else None):
        findings.append(finding)
        if not options.json:
            fix = f"; {finding.fix}" if finding.fix else ""
            print(f"{_WORDS[finding.ok]:8} {finding.subject:20} {finding.what}{fix}", flush=True)
    healthy = all(finding.ok is not False for finding in findings)
    if options.json:
        print_json({"ok": healthy, "findings": [asdict(finding) for finding in findings]})
    return 0 if healthy else 1
