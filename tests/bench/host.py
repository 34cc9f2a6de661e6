"""The host: what machine this is, programs to compare with, CPU time, and which CPUs are used."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from images import rustc
from tests.bench.figures import NotMeasured
from vmm import probe

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/bench"
OPPONENTS = Path(__file__).with_name("opponents")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SOFTWARE_EXIT_NS = 10_000  # an exit costs less with VMX or SVM
IDLE_S = 0.5
COMMAND_S = 120.0
VERSIONS = {
    "cc": ("cc", "--version"),
    "mkfs.erofs": ("mkfs.erofs", "-V"),
    "mksquashfs": ("mksquashfs", "-version"),
    "squashfuse": ("squashfuse", "--help"),
    "supervisord": ("supervisord", "--version"),
}


def tool(name: str) -> str:
    """The path of a command, found also where only root's PATH leads; NotMeasured if it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise NotMeasured(f"{name} is not installed; run ci/setup bench")
    return path


def command(words: Sequence[str | Path]) -> str:
    """Run a command to its end; its standard output. NotMeasured with what it said if it fails."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=COMMAND_S
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise NotMeasured(f"{words[0]} failed: {said}")
    return done.stdout


def opponent(name: str) -> Path:
    """The C program opponents/NAME.c, compiled."""
    source, product = OPPONENTS / f"{name}.c", FOLDER / name
    if not product.exists() or product.stat().st_mtime < source.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        command([tool("cc"), "-O2", "-Wall", "-o", product, source])
    return product


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """This process, and all it starts inside, use one CPU only."""
    all_cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cpus)


def busy_s() -> float:
    """CPU time that everything on this machine together has used since it started, in seconds."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    user, nice, system, _idle, _wait, interrupts, soft = fields[:7]
    return (user + nice + system + interrupts + soft) / TICKS_PER_S


def describe() -> dict[str, Any]:
    """The machine and the versions of everything that takes part."""
    choices = probe.choose()
    begin, began = busy_s(), time.monotonic()
    time.sleep(IDLE_S)
    others = (busy_s() - begin) / (time.monotonic() - began)
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpus": choices.cpus,
        "memory_mib": int(_field("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "kvm": "this KVM (software)" if choices.exit_ns > SOFTWARE_EXIT_NS else "stock (VMX or SVM)",
        "exit_us": round(choices.exit_ns / 1000, 1),
        "spin_us": choices.spin_ns / 1000,
        "tsc_khz": choices.tsc_khz,
        "cpus_busy_before": round(others, 2),  # with other work: figures of a busy machine say little
        "versions": {"python": platform.python_version(), "rustc": _rustc(), **_versions()},
    }


def _field(path: str, name: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "unknown"


def _rustc() -> str | None:
    try:
        return ".".join(str(number) for number in rustc.find().version)
    except rustc.CompilerError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name, words in VERSIONS.items():
        try:
            path = tool(words[0])
        except NotMeasured:
            found[name] = None
            continue
        done = subprocess.run(
            [path, *words[1:]], capture_output=True, text=True, check=False, timeout=COMMAND_S
        )
        version = re.search(r"\d+\.\d[\w.+-]*", done.stdout + done.stderr)
        found[name] = version[0] if version else "unknown"
    return found
