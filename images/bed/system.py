"""Systems in the bed, for machines that have no KVM: `r3s3 run --bed here` inside, its report brought out."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from images.bed.bed import Bed
from vmm.cli.command import CommandError
from vmm.cli.launch import Ending, Request


def perform(request: Request, stdout: int, low_latency: bool) -> Ending:
    """Run it in a bed of its own. CommandError if it needs what is not there; BedError without a bed.

    Times and rates in the report are by the bed's clock; it names bed and slowness.
    """
    if request.disk and request.disk.startswith(("vhost-user:", "pci:")):
        raise CommandError(f"{request.disk}: is not in the test bed; give a disk image with --disk")
    with tempfile.TemporaryDirectory(prefix="r3s3-bed-") as folder, Bed(writable=[folder]) as bed:
        report = Path(folder) / "report.json"
        status = bed.run(words(request, report, low_latency), stdin=None, stdout=stdout)
        if not report.exists():
            return Ending(status, {})
        return Ending(status, json.loads(report.read_text()) | {"bed": bed.name, "slowed_by": bed.slow})


def words(request: Request, report: Path, low_latency: bool) -> list[str]:
    """The command line that makes `request` again."""
    found = [sys.executable, "-m", "images.cli", "run", "--bed", "here", request.system_file]
    if request.disk:
        found += ["--disk", request.disk]
    if request.name:
        found += ["--system", request.name]
    for component, rate in request.kill:
        found += ["--kill", f"{component}@{rate}"]
    if low_latency:
        found.append("--low-latency")
    if request.report:
        found += ["--report", str(report)]
    return [*found, "--seed", str(request.seed), "--", request.program, *request.arguments[1:]]
