"""Boot: from the start of the command line to the program's first instruction."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.data import Data
from tests.bench.figures import Figure, NotMeasured, Target, figure, spread
from tests.bench.host import COMMAND_S, ROOT
from tests.bench.plan import Plan
from tests.bench.systems import Progress

TARGET = Target("<=", 300)
UNIT = "ms"


def measure(plan: Plan, data: Data, budget: Budget, progress: Progress, system_file: Path) -> Figure:
    """`boot_ms`, as `r3s3 run` reports it: the whole default system, its image of full size."""
    samples, whole, spins = [], [], []
    disk = data.erofs
    progress(f"boot, {plan.boots} times")
    with tempfile.TemporaryDirectory(prefix="r3s3-bench-") as folder:
        path = Path(folder) / "report.json"
        words = [
            sys.executable,
            "-m",
            "vmm.cli",
            "run",
            str(system_file),
            "--disk",
            str(disk),
            "-s",
            systems.NAME,
        ]
        words += ["--report", str(path), "--", "ls", "/"]
        for number in range(1 - plan.warm_ups, plan.boots + 1):
            if number > 1 and budget.spent:
                break
            begin = time.monotonic()
            done = subprocess.run(
                words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=COMMAND_S
            )
            if done.returncode:
                raise NotMeasured(done.stderr.strip().rpartition("\n")[2], broken=True)
            if number > 0:
                whole.append((time.monotonic() - begin) * 1000)
                report = json.loads(path.read_text(encoding="utf-8"))
                samples.append(report["boot_ms"])
                spins.append(float(report["spin_ms"]))
    # The whole command: interpreter, boot, the program's own few requests, tearing down.
    return figure(
        samples, UNIT, TARGET, whole_command_ms=spread(whole)["median"], spin_ms=spread(spins)["median"]
    )
