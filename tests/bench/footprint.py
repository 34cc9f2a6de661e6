"""What a component costs beside its own memory, and how many lines everybody has to trust."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from ci import trusted_lines
from tests.bench import systems
from tests.bench.data import READER, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure
from tests.bench.systems import Progress
from vmm.cli.command import CommandError
from vmm.cli.control import Control

TARGETS = {"component_overhead_mib": Target("<=", 4), "trusted_lines": Target("<=", trusted_lines.LIMIT)}
UNITS = {"component_overhead_mib": "MiB", "trusted_lines": "lines"}
PASSES = 1_000_000  # longer than the measuring takes; the system is taken down then

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")
# The VM's own: its memory, rings, pools, state. The page of the tender's counters is not.
_OWN = re.compile(r"^/memfd:r3s3:(?!stats)")


def measure_overhead(data: Data, progress: Progress, system_file: Path) -> Figure:
    """`component_overhead_mib`: private memory of each tender at work, without what is the VM's own."""
    progress("memory of the tenders")
    words = [*READER, f"--times={PASSES}", f"/{WHOLE}"]
    with systems.started(systems.request(words, data.erofs, system_file), subprocess.DEVNULL) as running:
        for event in running.events():
            if event["event"] == "started":
                break
            raise NotMeasured(f"{event.get('message', event['event'])}", broken=True)
        try:
            with Control(systems.NAME) as control:
                rows = control.execute("ps")
                while sum(row["bytes"] for row in rows) < data.bytes:  # until everybody has done some work
                    time.sleep(0.02)
                    rows = control.execute("ps")
        except CommandError as error:
            raise NotMeasured(str(error), broken=True) from None
        found = {row["name"]: private_mib(row["pid"]) for row in rows if row["pid"]}
    samples = [overhead for overhead, _ in found.values()]
    by_component = {
        name: {"overhead_mib": round(overhead, 2), "own_mib": round(own, 2)}
        for name, (overhead, own) in found.items()
    }
    return figure(
        samples, UNITS["component_overhead_mib"], TARGETS["component_overhead_mib"], of=by_component
    )


def private_mib(pid: int) -> tuple[float, float]:
    """Private memory of a tender, MiB: its own process's, and the VM's."""
    kib = {True: 0, False: 0}
    own = False
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            if mapping := _MAPPING.match(line):
                own = bool(_OWN.match(mapping[1]))
            elif line.startswith(("Private_Clean:", "Private_Dirty:")):
                kib[own] += int(line.split()[1])
    return kib[False] / 1024, kib[True] / 1024


def measure_trusted_lines(progress: Progress) -> Figure:
    """`trusted_lines`: counted from what is really loaded."""
    progress("trusted lines")
    files = trusted_lines.count()
    largest = dict(sorted(files.items(), key=lambda item: -item[1])[:5])
    return figure([sum(files.values())], "lines", TARGETS["trusted_lines"], files=len(files), largest=largest)
