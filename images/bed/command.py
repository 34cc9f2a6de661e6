"""`r3s3 bed`: a stock kernel with its own KVM in an emulated machine, and commands in it."""

from __future__ import annotations

import argparse
import os
import re

from images.bed import BedError, initramfs, kernel
from images.bed.bed import BOOT_SECONDS, MEMORY_MIB
from images.bed.bed import run as run_in_bed
from images.bed.machine import PACKAGE, SLOW, find_qemu
from vmm.cli.command import CommandError, Parser, Table, print_json, unit

EPILOG = """Everything after -- is a command of this host. It is run in the test bed with this folder and
environment; its output, input, signals and exit status are ours (124 if --time-limit was too short). What it
writes to files is lost at its end, except in folders named with --writable."""


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 bed`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.usage = "%(prog)s run [options] -- COMMAND [ARGUMENT ...]\n       %(prog)s build | show [--json]"
    parser.add_argument(
        "action", choices=["run", "build", "show"],
        help="run a command in it; fetch the newest kernel for it; say what it is made of",
    )  # fmt: skip
    parser.add_argument(
        "--memory", metavar="MIB", type=int, default=MEMORY_MIB, help="(default: %(default)s)"
    )
    parser.add_argument("--vcpus", metavar="N", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument(
        "--slow", metavar="N", type=float, default=SLOW,
        help="how many seconds one of its seconds takes, lest time-outs come too soon (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--iommu", action="store_true", help="with an IOMMU (VT-d) and VFIO")
    parser.add_argument(
        "--device", metavar="WORDS", action="append", default=[], help="a device in QEMU's words (repeatable)"
    )
    parser.add_argument(
        "--drive", metavar="WORDS", action="append", default=[], help="a drive in QEMU's words (repeatable)"
    )
    parser.add_argument(
        "--vfio", metavar="VENDOR:DEVICE", type=pci_device, action="append", default=[],
        help="give this PCI device (hexadecimal, as in 1234:11e8) to vfio-pci; needs --iommu (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--writable", metavar="DIR", action="append", default=[],
        help="a folder in which files are changed for good (repeatable)",
    )  # fmt: skip
    parser.add_argument("--time-limit", metavar="S", type=float, help="seconds for the command")
    parser.add_argument(
        "--boot-limit", metavar="S", type=float, default=BOOT_SECONDS,
        help="seconds until the command is started (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--console", metavar="FILE", help="keep what the console says")
    parser.add_argument("--json", action="store_true", help="show: for machines")


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit status."""
    if options.action == "run":
        return run_command(options)
    if options.program:
        raise CommandError(f"bed {options.action} takes no command; did you mean: r3s3 bed run -- ...")
    return show(options) if options.action == "show" else build()


def run_command(options: argparse.Namespace) -> int:
    """`r3s3 bed run`."""
    if not options.program:
        raise CommandError("no command given; write it after --, as in r3s3 bed run -- uname -a")
    for name in ("memory", "vcpus", "slow", "time_limit", "boot_limit"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise CommandError(f"--{name.replace('_', '-')} {value}: must be more than 0")
    if options.vfio and not options.iommu:
        raise CommandError("--vfio: devices can be given away only behind an IOMMU; add --iommu")
    return run_in_bed(
        options.program,
        memory=options.memory,
        vcpus=options.vcpus,
        slow=options.slow,
        iommu=options.iommu,
        vfio=options.vfio,
        devices=options.device,
        drives=options.drive,
        writable=options.writable,
        console=options.console,
        boot_limit=options.boot_limit,
        time_limit=options.time_limit,
    )


def pci_device(text: str) -> tuple[int, int]:
    """Vendor and device of "1234:11e8"."""
    if not re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not VENDOR:DEVICE (for example 1234:11e8)")
    vendor, device = (int(part, 16) for part in text.split(":"))
    return vendor, device


def build() -> int:
    """`r3s3 bed build`."""
    _, version = find_qemu()
    the_kernel = kernel.find() if os.environ.get("R3S3_BED_KERNEL") else kernel.build()
    initramfs.compile_init()
    print(f"QEMU {version}, kernel {the_kernel.package} {the_kernel.version} in {the_kernel.folder}")
    return 0


def show(options: argparse.Namespace) -> int:
    """`r3s3 bed show`."""
    try:
        qemu, version = find_qemu()
    except BedError:
        qemu, version = "", ""
    kernels = kernel.kernels()
    if options.json:
        print_json(
            {
                "qemu": {"path": qemu, "version": version} if qemu else None,
                "cache": str(kernel.cache()),
                "kernels": [
                    {
                        "package": each.package,
                        "version": each.version,
                        "folder": str(each.folder),
                        "bytes": size(each),
                        "modules": each.modules,
                        "iommu_modules": each.iommu_modules,
                    }
                    for each in kernels
                ],
            }
        )
        return 0
    table = Table(["part", "version", "size", "where"], right=["size"])
    missing = f"missing; apt-get install --no-install-recommends {PACKAGE}"
    table.row("QEMU", version or None, None, qemu or missing)
    for each in kernels:
        table.row(each.package, each.version, unit(size(each)), each.folder)
    if not kernels:
        table.row("kernel", None, None, f"none in {kernel.cache()} yet; r3s3 bed build fetches it")
    table.show()
    return 0


def size(of: kernel.Kernel) -> int:
    """Bytes that a kernel takes."""
    return sum(file.stat().st_size for file in of.folder.rglob("*") if file.is_file())
