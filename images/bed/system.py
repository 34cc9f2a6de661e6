"""Systems in the bed, for machines that have no KVM: `r3s3 run --bed here` inside, its report brought out.

Its control socket is at the usual place of this host, and connects with the one inside.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from images.bed import BedError, kernel
from images.bed.bed import MEMORY_MIB, Bed
from images.bed.machine import check_memory, find_qemu
from vmm.cli import control
from vmm.cli.command import CommandError, unit
from vmm.cli.compile import compile_policy
from vmm.cli.launch import Ending, Request

SOCKETS = "/run/r3s3"  # in the bed


def perform(request: Request, stdout: int, low_latency: bool) -> Ending:
    """Run it in a bed of its own. CommandError if it needs what is not there; BedError without a bed.

    Times and rates in the report are by the bed's clock; it names bed and slowness.
    """
    if request.disk and request.disk.startswith(("vhost-user:", "pci:")):
        raise CommandError(f"{request.disk}: is not in the test bed; give a disk image with --disk")
    if request.sound:
        raise CommandError(f"{request.sound}: the test bed has no sound device; run it with --bed here")
    victims = [victim for victim, _ in request.kill]
    policy = compile_policy(request.system_file, request.program, request.programs, victims)
    find_qemu()
    kernel.find()  # which may take long; only then others see this system's name
    listener, path = control.listen(request.name or policy.name, chosen=request.name is not None)
    try:
        with listener:
            return _perform(replace(request, name=path.stem), stdout, low_latency, listener)
    finally:
        control.forget(path)


def _perform(request: Request, stdout: int, low_latency: bool, listener: socket.socket) -> Ending:
    with tempfile.TemporaryDirectory(prefix="r3s3-bed-") as folder, Bed(writable=[folder]) as bed:
        bed.connect(listener, f"{SOCKETS}/{request.name}.sock")
        report = Path(folder) / "report.json"
        environment = {**os.environ, "R3S3_RUNTIME_DIR": SOCKETS}
        status = bed.run(words(request, report, low_latency), env=environment, stdin=None, stdout=stdout)
        if not report.exists():
            return Ending(status, {})
        return Ending(status, json.loads(report.read_text()) | {"bed": bed.name, "slowed_by": bed.slow})


def ready() -> str:
    """What a bed would be made of; BedError if something is missing. Nothing is downloaded."""
    _, version = find_qemu()
    check_memory(MEMORY_MIB)
    if not os.environ.get("R3S3_BED_KERNEL") and not kernel.kernels():
        name, package, size = kernel.newest()
        what = f"its kernel, package {name} {package} ({unit(size)}), is not here yet"
        raise BedError(f"{what}; r3s3 bed build fetches it, as the first run does")
    found = kernel.find()
    return f"QEMU {version}, {found.package} {found.version}"


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
