"""`r3s3 run`: a program in a system; its output is ours, its status too."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from vmm.cli import awake
from vmm.cli.command import CommandError, Parser, add_kill_options
from vmm.cli.launch import Request
from vmm.cli.perform import add_bed_option, perform
from vmm.devices import pci_diagnosis

SECTOR = 512
EPILOG = """Everything after -- is the program and its arguments.

exit status: the program's own; 125 r3s3 failed or the input is bad, 126 the program cannot be run,
127 there is no such program, 128+n its VM died of a fault (n: the signal a process would have got)."""


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 run`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.usage = "%(prog)s [options] FILE --disk DISK -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("file", metavar="FILE", help="the system file, for example images/default.toml")
    parser.add_argument("--disk", help="a disk image, vhost-user:SOCKET of any vhost-user-blk back-end, or "
                        "pci:ADDRESS of a real device that is bound to vfio-pci")  # fmt: skip
    parser.add_argument("--sound", metavar="FILE.wav", help="where the sound goes that a system plays "
                        "(images/audio.toml); what was in the file is replaced")  # fmt: skip
    add_kill_options(parser)
    add_bed_option(parser)
    parser.add_argument("--report", metavar="FILE", help="write a report in JSON at the end")
    parser.add_argument(
        "--low-latency", action="store_true",
        help="keep all idle CPUs of the host from sleeping while messages are exchanged: wake-ups come some "
        "25 us earlier and cost power (root only)",
    )  # fmt: skip
    parser.add_argument("-s", "--system", metavar="NAME", help="what to call this system while it runs")


def run(options: argparse.Namespace) -> int:
    """Run it; returns the exit status."""
    started = time.monotonic_ns()
    if not options.program:
        raise CommandError("no program given; write it after --, as in r3s3 run FILE -- ls /")
    if options.system is not None and not re.fullmatch(r"[\w][\w.-]{0,31}", options.system):
        raise CommandError(f"-s {options.system!r}: not a name; use letters, digits, . - and _")
    if options.low_latency and not os.access(awake.DEVICE, os.W_OK):
        raise CommandError(f"--low-latency: {awake.DEVICE} is not writable; run as root, or leave it out")
    report = Path(options.report) if options.report else None
    if report:
        check_report(report)
    request = Request(
        system_file=existing_file(options.file),
        program=options.program[0],
        arguments=options.program,
        disk=disk_argument(options.disk),
        sound=sound_argument(options.sound),
        name=options.system,
        kill=options.kill,
        seed=seed_or_random(options.seed),
        report=report is not None,
        started_ns=started,
    )
    ending = perform(request, options.bed, options.elsewhere, low_latency=options.low_latency)
    if report and ending.report:
        write_report(report, ending.report | {"seed": request.seed})
    return ending.status


def existing_file(text: str) -> str:
    """The absolute path of the system file `text`."""
    path = Path(text)
    if not path.is_file():
        raise CommandError(f"{text}: no such file; name a system file, for example images/default.toml")
    return str(path.absolute())


def disk_argument(text: str | None) -> str | None:
    """--disk with its path made absolute, because the hypervisor process may stand elsewhere."""
    if text is None:
        return None
    if text.startswith("pci:"):
        if why := pci_diagnosis.problem(text.removeprefix("pci:")):
            raise CommandError(f"{text}: {why}")
        return text
    prefix, colon, path = text.rpartition("vhost-user:")
    if colon and not prefix:
        if not Path(path).is_socket():
            raise CommandError(f"{path}: no such socket; start the vhost-user back-end first")
        return f"vhost-user:{Path(path).absolute()}"
    if not Path(text).exists():
        raise CommandError(f"{text}: no such disk image; build one with: r3s3 image build DIR -o {text}")
    if not (Path(text).is_file() or Path(text).is_block_device()):
        raise CommandError(f"{text}: neither a file nor a block device; name a disk image")
    size = Path(text).stat().st_size
    if Path(text).is_file() and not size:
        raise CommandError(f"{text}: an empty disk image; build one with: r3s3 image build DIR -o {text}")
    if size % SECTOR:
        remedy = f"build it again with: r3s3 image build DIR -o {text}"
        raise CommandError(f"{text}: truncated: {size} bytes are no multiple of {SECTOR}; {remedy}")
    return str(Path(text).absolute())


def sound_argument(text: str | None) -> str | None:
    """--sound with its path made absolute; a file that is there and holds something else is left alone."""
    if text is None:
        return None
    path = Path(text)
    if path.is_dir():
        raise CommandError(f"{text}: is a directory; name a file for the sound")
    if not path.parent.is_dir():
        raise CommandError(f"{text}: no folder {path.parent} for the sound; create it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"{text}: no permission to write the sound there; choose another place")
    if path.exists():
        try:
            head = path.open("rb").read(4) if path.is_file() else b"none"
        except OSError as error:
            raise CommandError(f"{text}: {error.strerror}; choose another name for the sound") from None
        if head not in (b"", b"RIFF"):
            raise CommandError(f"{text}: is there and is no WAV file; choose another name for the sound")
    return str(path.absolute())


def seed_or_random(seed: int | None) -> int:
    """The seed asked for, or a fresh one (the report names it)."""
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed


def check_report(path: Path) -> None:
    """Fail before the run rather than after it."""
    if path.is_dir():
        raise CommandError(f"{path}: is a directory; name a file for the report")
    if not path.parent.is_dir():
        raise CommandError(f"{path}: no folder {path.parent} for the report; create it first")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path}: no permission to write the report there; choose another place")


def write_report(path: Path, report: dict[str, Any]) -> None:
    """The report as JSON: whole, or not at all."""
    data = json.dumps(report, indent=1) + "\n"
    special = path.exists() and not path.is_file()  # a device or a pipe is written in place
    target = path if special else path.with_name(f".{path.name}.{os.getpid()}")
    try:
        target.write_text(data)
        if target != path:
            target.replace(path)
    except OSError as error:
        if target != path:
            target.unlink(missing_ok=True)
        raise CommandError(
            f"{path}: the report was not written: {error.strerror}; make room or choose another place"
        ) from None
