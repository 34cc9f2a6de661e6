"""Sequential reading of a file, beside the host's kernel (loop-mounted EROFS) and squashfuse.

The three take turns: one round is one run of each, and the ratio of a round is a sample. Everybody reads
128 KiB at a time into one buffer, from an image in the host's page cache, with nothing of the file in a cache
of his own.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.data import MIB, READER, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure, missing, rounded, spread
from tests.bench.host import COMMAND_S, busy_s, command, one_cpu, opponent, tool
from tests.bench.plan import Plan
from tests.bench.systems import Progress

TARGETS = {
    "seq_read_ratio_kernel": Target(">=", 0.3),
    "seq_read_ratio_fuse": Target(">=", 8),
    "exits_per_io": Target("<=", 0.25),
}
UNITS = {"seq_read_ratio_kernel": "ratio", "seq_read_ratio_fuse": "ratio", "exits_per_io": "exits/128 KiB"}
OPPONENTS = {"seq_read_ratio_kernel": "kernel", "seq_read_ratio_fuse": "squashfuse"}
UNMOUNT_S = 5.0


class Run(NamedTuple):
    """One reading of the file."""

    seconds: float
    cpu_s: float  # of the whole machine
    more: Figure


@dataclass
class Reading:
    """One way of reading, and what has been measured of it."""

    run: Callable[[], Run]
    mb_per_s: list[float] = field(default_factory=list)
    cpu_s_per_gib: list[float] = field(default_factory=list)
    more: list[Figure] = field(default_factory=list)
    reason: str = ""  # why it is not measured
    broken: bool = False


def measure(plan: Plan, data: Data, budget: Budget, progress: Progress) -> dict[str, Figure]:
    """All figures of this group, those of strict DMA mode too."""
    names = ("two CPUs", "one CPU")
    rounds: dict[str, dict[str, Reading]] = {name: _readings(data) for name in names}
    for number in range(1 - plan.warm_ups, plan.rounds + 1):
        if number > 1 and budget.spent:
            break
        for name, readings in rounds.items():
            progress(f"sequential read, {name}, run {number} of {plan.rounds}")
            with one_cpu() if name == "one CPU" else contextlib.nullcontext():
                for reading in readings.values():
                    _take(reading, data, warm_up=number < 1)
    result: dict[str, Figure] = {}
    for suffix, ours in (("", "r3s3"), ("_strict", "r3s3_strict")):
        result |= _figures(rounds["two CPUs"], rounds["one CPU"], ours, suffix)
    return result


def _readings(data: Data) -> dict[str, Reading]:
    return {
        "r3s3": Reading(lambda: _r3s3(data, systems.DEFAULT)),
        "kernel": Reading(lambda: _kernel(data)),
        "squashfuse": Reading(lambda: _squashfuse(data)),
        "r3s3_strict": Reading(lambda: _r3s3(data, systems.STRICT)),
    }


def _take(reading: Reading, data: Data, warm_up: bool) -> None:
    """One run; what fails is not tried again."""
    if reading.reason:
        return
    try:
        seconds, cpu_s, more = reading.run()
    except NotMeasured as problem:
        reading.reason, reading.broken = str(problem), problem.broken
        return
    if not warm_up:
        reading.mb_per_s.append(data.bytes / 1e6 / seconds)
        reading.cpu_s_per_gib.append(cpu_s * 1024 * MIB / data.bytes)
        reading.more.append(more)


def _figures(two: dict[str, Reading], one: dict[str, Reading], ours: str, suffix: str) -> dict[str, Figure]:
    result = {}
    for key, theirs in OPPONENTS.items():
        name, target = key + suffix, TARGETS[key]
        left, right = two[ours], two[theirs]
        if left.reason or right.reason:
            reason, broken = left.reason or right.reason, left.broken or right.broken
            result[name] = missing(reason, UNITS[key], target, broken=broken) | {"r3s3": _described(left)}
            continue
        result[name] = figure(
            _ratios(left, right), UNITS[key], target,
            r3s3=_described(left), **{theirs: _described(right)},
            one_cpu=_one_cpu(one[ours], one[theirs], theirs),
        )  # fmt: skip
    key, left = "exits_per_io", two[ours]
    if left.reason:
        result[key + suffix] = missing(left.reason, UNITS[key], TARGETS[key], broken=left.broken)
    else:
        samples = [more["exits_per_io"] for more in left.more]
        alone = [more["exits_per_io"] for more in one[ours].more]
        result[key + suffix] = figure(
            samples, UNITS[key], TARGETS[key], one_cpu=spread(alone), spin_ms_per_gib=_spin(left)
        )
    return result


def _ratios(left: Reading, right: Reading) -> list[float]:
    return [ours / theirs for ours, theirs in zip(left.mb_per_s, right.mb_per_s, strict=True)]


def _one_cpu(left: Reading, right: Reading, theirs: str) -> Figure:
    if left.reason or right.reason:
        return {"median": None, "reason": left.reason or right.reason}
    return spread(_ratios(left, right)) | {"r3s3": _described(left), theirs: _described(right)}


def _described(reading: Reading) -> Figure:
    """Speed, and what it costs."""
    if reading.reason:
        return {"mb_per_s": None, "reason": reading.reason}
    more: Figure = {}
    if reading.more and "spin_ms" in reading.more[0]:
        more = {
            "component_cpu_s_per_gib": _per_gib(reading, "cpu_ms", 1e-3),
            "spin_ms_per_gib": _spin(reading),
        }
    speed = spread(reading.mb_per_s)
    cpu = rounded(statistics.median(reading.cpu_s_per_gib))
    return {
        "mb_per_s": speed["median"],
        "min": speed["min"],
        "max": speed["max"],
        "cpu_s_per_gib": cpu,
        **more,
    }


def _spin(reading: Reading) -> float:
    return _per_gib(reading, "spin_ms", 1)


def _per_gib(reading: Reading, name: str, factor: float) -> float:
    values = [more[name] * factor * 1024 * MIB / more["bytes"] for more in reading.more]
    return rounded(statistics.median(values))


# -- the ways of reading ------------------------------------------------------------------------------


def _r3s3(data: Data, system_file: Path) -> Run:
    """Program -> file server -> driver -> device. The system is a fresh one: its caches are cold."""
    outcome = systems.run(systems.request([*READER, f"/{WHOLE}"], data.erofs, system_file), data.plan.run_s)
    if outcome.said.get("bytes") != data.bytes:
        raise NotMeasured(f"reader: {outcome.said}", broken=True)
    return Run(outcome.said["ns"] / 1e9, outcome.busy_s, outcome.report)


def _read(path: Path) -> Run:
    begin_s = busy_s()
    bytes_read, seconds = command([opponent("read_file"), path]).split()
    if int(bytes_read) != path.stat().st_size:
        raise NotMeasured(f"{path}: {bytes_read} bytes read, {path.stat().st_size} expected", broken=True)
    return Run(float(seconds), busy_s() - begin_s, {})


@contextlib.contextmanager
def _mount_point() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r3s3-bench-") as folder:
        yield Path(folder)


def _kernel(data: Data) -> Run:
    """The host's kernel: the image loop-mounted for this run."""
    if os.geteuid() != 0:
        raise NotMeasured("only root can loop-mount")
    with _mount_point() as folder:
        command([tool("mount"), "-t", "erofs", "-o", "ro,loop", data.erofs, folder])
        try:
            return _read(folder / WHOLE)
        finally:
            command([tool("umount"), folder])


def _squashfuse(data: Data) -> Run:
    """squashfuse, mounted for this run."""
    with _mount_point() as folder:
        words = [tool("squashfuse"), "-f", str(data.squashfs), str(folder)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                deadline = time.monotonic() + UNMOUNT_S
                while not (folder / WHOLE).exists():
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise NotMeasured("squashfuse does not mount (is /dev/fuse there?)")
                    time.sleep(0.01)
                return _read(folder / WHOLE)
            finally:
                subprocess.run([tool("umount"), folder], check=False, timeout=COMMAND_S, capture_output=True)
                try:
                    server.wait(UNMOUNT_S)
                except subprocess.TimeoutExpired:
                    server.kill()
