"""`r3s3 verify`: read every file of a directory through a system, and compare with the host's own digests."""

from __future__ import annotations

import argparse
import hashlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from images import sample
from images.host_tree import HostTree, HostTreeError, digests, walk
from images.image_command import build_image
from vmm.cli.command import (
    CommandError,
    Parser,
    Progress,
    Table,
    add_kill_options,
    print_json,
    printable,
    say,
    unit,
)
from vmm.cli.launch import ROOT, Ending, Request
from vmm.cli.perform import add_bed_option, perform
from vmm.cli.run import check_report, existing_file, seed_or_random, write_report

SYSTEM_FILE = ROOT / "images" / "default.toml"
PROGRAM = "sha256tree"
DIFFERENT = 1  # exit status
JOIN_SECONDS = 10.0
KILLED_BYTES, KILLED_FILES = 1 << 30, 25_000  # read where somebody is killed: enough to kill him often
PASSES_MAX = 32
UNREADABLE_MAX = 1000  # entries left out of an image; more make no sensible one, nor a command line


@dataclass(frozen=True)
class Verdict:
    """One path: `host` and `guest` are the digests, None where that side does not have it."""

    path: bytes
    size: int | None
    host: str | None
    guest: str | None

    @property
    def text(self) -> str:
        """In a word."""
        if self.host is None:
            return "extra" if self.size is None else "vanished"  # from the host, while this ran
        if self.guest is None:
            return "missing"
        return "equal" if self.host == self.guest else "different"


def add_arguments(parser: Parser) -> None:
    """The arguments of `r3s3 verify`."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="any directory (default: a sample is made)"
    )
    add_kill_options(parser)
    add_bed_option(parser)
    parser.add_argument(
        "--passes", metavar="N", type=_passes,
        help="read everything N times (default: once; with --kill as often as it takes to read about 1 GiB)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--report", metavar="FILE", help="write the run's report in JSON at the end")
    parser.add_argument(
        "--file", default=str(SYSTEM_FILE), help="the system file (default: images/default.toml)"
    )


def _passes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def passes_wanted(options: argparse.Namespace, tree: HostTree) -> int:
    """How often the program is to read everything."""
    if options.passes:
        return int(options.passes)
    if not any(rate for _, rate in options.kill):
        return 1
    few_files = max(1, KILLED_FILES // max(1, len(tree.files)))  # many small ones take long enough
    return min(PASSES_MAX, few_files, -(-KILLED_BYTES // max(1, tree.bytes)))


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit status: 0 only if every file is equal."""
    report = Path(options.report) if options.report else None
    if report:
        check_report(report)
    try:
        directory = Path(options.directory) if options.directory else sample.make(cache_folder(None))
        tree = walk(directory.resolve())
        image = cached_image(tree)
        with Progress() as bar:
            host = digests(tree, lambda done: bar.show("sha256sum on the host", done, tree.bytes))
    except HostTreeError as error:
        raise CommandError(str(error)) from None
    passes = passes_wanted(options, tree)
    request = Request(
        system_file=existing_file(options.file),
        program=PROGRAM,
        arguments=[PROGRAM, *["/"] * passes],
        disk=str(image),
        kill=options.kill,
        seed=seed_or_random(options.seed),
        report=True,
        started_ns=time.monotonic_ns(),
    )
    ending, guest = read_in_system(request, tree, passes, options)
    if ending.status and not ending.report:
        return ending.status
    verdicts = compare(tree, host, guest, passes)
    result = summary(tree, verdicts, ending, request.seed, passes)
    if report:
        write_report(report, ending.report | {"seed": request.seed})
    if options.json:
        print_json(result | {"table": [as_json(each) for each in verdicts]})
    else:
        show(tree, verdicts, result)
    bad = [each for each in verdicts if each.text != "equal"]
    if bad:
        say(f"{len(bad)} of {len(verdicts)} files differ; the first: {display(bad[0].path)} is {bad[0].text}")
        return DIFFERENT
    if ending.status:
        say(f"{PROGRAM} ended with status {ending.status}, although all files are equal; see r3s3 log")
    return ending.status


def cache_folder(directory: Path | None) -> Path:
    """A writable folder for images, not inside `directory`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    places = [ROOT / "build" / "verify", Path(home) / "r3s3"]
    if stated := os.environ.get("R3S3_CACHE_DIR"):
        places = [Path(stated)]
    for folder in places:
        if directory is not None and folder.is_relative_to(directory):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise CommandError(
        f"no place for the image of {directory or 'the sample'}; "
        "set R3S3_CACHE_DIR to a writable folder outside of it"
    )


def cached_image(tree: HostTree) -> Path:
    """The image of `tree`, built unless one of exactly this state is there; older ones of it are removed."""
    if len(tree.unreadable) > UNREADABLE_MAX or b"" in tree.unreadable:
        first = display(tree.unreadable[0] or b".")
        raise CommandError(
            f"{tree.directory}: {len(tree.unreadable)} entries cannot be read, the first: {first}; "
            "run as their owner or as root, or choose another directory"
        )
    folder = cache_folder(tree.directory)
    prefix = hashlib.sha256(os.fsencode(tree.directory)).hexdigest()[:16]
    image = folder / f"{prefix}-{tree.fingerprint[:16]}.img"
    if not image.exists():
        for old in folder.glob(f"{prefix}-*.img"):
            old.unlink(missing_ok=True)
        try:
            build_image(str(tree.directory), str(image), tree.unreadable)
        except CommandError as error:
            raise CommandError(str(error).replace("with -o", "with R3S3_CACHE_DIR")) from None
    return image


def read_in_system(
    request: Request, tree: HostTree, passes: int, options: argparse.Namespace
) -> tuple[Ending, dict[bytes, list[str]]]:
    """Run the program; returns how it ended and the digests it printed, by path relative to its root."""
    found: dict[bytes, list[str]] = {}
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb") as output, Progress() as bar:
        reader = threading.Thread(target=_collect, args=(output, tree, passes, found, bar), daemon=True)
        reader.start()
        try:
            ending = perform(request, options.bed, options.elsewhere, writing)
        finally:
            os.close(writing)
        reader.join(JOIN_SECONDS)  # every process that could write has ended by now
    return ending, found


def _collect(
    output: IO[bytes], tree: HostTree, passes: int, found: dict[bytes, list[str]], bar: Progress
) -> None:
    done = 0
    bar.show("sha256tree in the system", done, tree.bytes * passes)
    for line in output:
        path, digest = parse_line(line.removesuffix(b"\n"))
        found.setdefault(path, []).append(digest)
        done += tree.files.get(path, 0)
        bar.show("sha256tree in the system", done, tree.bytes * passes)


def parse_line(line: bytes) -> tuple[bytes, str]:
    """Path (relative to /) and digest in a line of coreutils' form: a leading \\ says the name is escaped."""
    escaped = line.startswith(b"\\")
    digest, _, path = line[escaped:].partition(b"  ")
    if escaped:
        parts = path.split(b"\\\\")
        path = b"\\".join(part.replace(b"\\n", b"\n").replace(b"\\r", b"\r") for part in parts)
    return path.lstrip(b"/"), digest.decode("ascii", "replace")


def compare(
    tree: HostTree, host: dict[bytes, str], guest: dict[bytes, list[str]], passes: int
) -> list[Verdict]:
    """A verdict for every path that either side has, in the order of their names: the worst of all passes."""
    verdicts = []
    for path in sorted(tree.files.keys() | guest.keys()):
        found, right = guest.get(path, []), host.get(path)
        wrong = [digest for digest in found if digest != right]
        complete = len(found) >= passes or right is None
        digest = wrong[0] if wrong else right if complete else None
        verdicts.append(Verdict(path, tree.files.get(path), right, digest))
    return verdicts


def summary(
    tree: HostTree, verdicts: list[Verdict], ending: Ending, seed: int, passes: int
) -> dict[str, Any]:
    """What `--json` says beside the table; the keys of the report are taken over as they are."""
    counts = dict.fromkeys(("equal", "different", "missing", "extra", "vanished"), 0)
    for verdict in verdicts:
        counts[verdict.text] += 1
    seconds = ending.report.get("seconds")
    return {
        "directory": str(tree.directory),
        "files": len(tree.files),
        "folders": tree.folders,
        "symlinks": tree.symlinks,
        **counts,
        "skipped": [{"path": os.fsdecode(path), "why": why} for path, why in tree.skipped],
        "status": ending.status,
        "seed": seed,
        "total_bytes": tree.bytes,
        "passes": passes,
        "mb_per_s": round(tree.bytes * passes / 1e6 / seconds, 1) if seconds else None,
        **ending.report,
    }


def as_json(verdict: Verdict) -> dict[str, Any]:
    """One row of the table."""
    return {
        "path": os.fsdecode(verdict.path),
        "bytes": verdict.size,
        "digest": verdict.guest,
        "host_digest": verdict.host,
        "equal": verdict.text == "equal",
        "verdict": verdict.text,
    }


def display(path: bytes) -> str:
    """A path for people."""
    return printable(os.fsdecode(path))


def show(tree: HostTree, verdicts: list[Verdict], result: dict[str, Any]) -> None:
    """Print the table of all files, what was left out and why, and the summary."""
    print(f"{'sha256 in the system':64}  {'bytes':>12}  {'on the host':11}  file")
    for each in verdicts:
        size = "-" if each.size is None else each.size
        print(f"{each.guest or '-':64}  {size:>12}  {each.text:11}  {display(each.path)}")
    if tree.skipped:
        print(f"\nnot compared ({len(tree.skipped)}):")
        for path, why in tree.skipped:
            print(f"  {display(path)}: {why}")
    print()
    table = Table(["", "result"])
    recovery = result.get("recovery_ms") or {}
    times = [
        f"{name} {recovery[name]:.2f} ms"
        for name in ("median", "p99", "max")
        if recovery.get(name) is not None
    ]
    rate, passes = result["mb_per_s"], result["passes"]
    rows = {
        "files equal to the host's": f"{result['equal']} of {len(verdicts)}",
        "bytes": f"{tree.bytes:,} ({unit(tree.bytes)})" + (f", read {passes} times" if passes > 1 else ""),
        "speed": f"{rate} MB/s" if rate else None,
        "kills": result.get("kills"),
        "recoveries": result.get("recoveries"),
        "requests replayed": result.get("replayed"),
        "requests failed": result.get("failed_requests"),
        "recovery time": ", ".join(times) or None,
    }
    for name, value in rows.items():
        table.row(name, value)
    table.show()
