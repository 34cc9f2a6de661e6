"""`python -m ci.stock [--quick]`: the tests that need KVM, on the stock kernel's own KVM in the test bed.

The bed's clock is slowed by one factor (images/bed/README.md), so no time-out has to be changed: not those
of the tests, nor those of what they test.

What says nothing about KVM (tests without the marker `kvm`) and what measures time (`bench`) is left out.
Results: build/stock.xml (JUnit), output and consoles in build/stock. Exit status: 0 all passed, 1 some
failed, 2 the bed failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from images.bed import BedError, BedStalled
from images.bed.bed import TIMED_OUT, Bed

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "build" / "stock"
TAKEN = RESULTS / "taken"  # which bed runs which tests; whichever is free takes the next (tests/conftest.py)
REPORT = REPOSITORY / "build" / "stock.xml"
SELECTION = "kvm and not bench and not campaign"
QUICK_LIMIT_S, LIMIT_S = 240.0, 2400.0  # where two slow CPUs need 1,500
TO_WRITE_S = 60.0  # for the results of a run whose time is over
BEDS = 2  # side by side, of one CPU each
QUICK = (
    "tests/tender/test_process.py",  # boot, calls, mapping and taking back while a guest runs, SYSCALL
    "tests/tender/test_faults.py",  # exceptions
    "tests/tender/test_fork.py",  # all state saved, and restored in another VM
    "tests/cli/test_doctor.py::test_doctor",  # dirty log and whatever else is tried out
    *(
        f"tests/security/test_alone.py::test_dies_alone[{crime}]"
        for crime in ("write_text", "window_write", "privileged_instruction", "write_status_page")
    ),
    "tests/security/test_peers.py::test_use_of_a_revoked_grant",
    "tests/security/test_peers.py::test_misdirected_dma",
    "tests/system/test_grants.py::test_taken_back_while_the_borrower_runs_on_it",
    "tests/system/test_walks.py::test_crash",
)


class Run:
    """One bed, which takes its share of the tests."""

    def __init__(self, number: int, tests: Sequence[str], limit: float) -> None:
        self.name = f"stock-{number}"
        self.words = ["-m", SELECTION, "--take-from", str(TAKEN), "--taker", self.name, *tests]
        self.report = RESULTS / f"{self.name}.xml"
        self.console = RESULTS / f"{self.name}.console"
        self.end = time.monotonic() + limit
        self.status, self.bed, self.error = 2, "", ""
        self.slow = self.dilation = 0.0
        self.stalled = False

    def __call__(self) -> None:
        """Boot, run the tests, and leave status and results here; again if the machine has stood still."""
        try:
            try:
                self._run()
            except BedStalled as error:  # the emulator's fault, not that of what runs in it
                print(f"stock: {self.name}: {error}; once more", file=sys.stderr)
                self.stalled = True
                self._run()
        except BedError as error:
            self.error = str(error)

    def _run(self) -> None:
        self.report.unlink(missing_ok=True)  # of the run before
        output = RESULTS / f"{self.name}.out"
        with Bed(writable=[RESULTS], console=self.console) as bed, open(output, "wb") as file:
            self.bed, self.slow, self.dilation = bed.name, bed.slow, bed.dilation
            # Interrupted when its time is over, pytest writes down the results so far.
            words = ["timeout", "--signal=INT", str((self.end - time.monotonic()) / bed.slow)]
            words += [sys.executable, "-m", "pytest", "-vv", f"--junit-xml={self.report}", *self.words]
            words += ["--basetemp=/tmp/pytest", "-o", "cache_dir=/tmp/pytest-cache"]
            self.status = bed.run(
                words, cwd=REPOSITORY, stdin=None, stdout=file.fileno(), stderr=file.fileno(),
                time_limit=self.end - time.monotonic() + TO_WRITE_S,
            )  # fmt: skip
            if self.status == TIMED_OUT:
                self.error = "the time is over, and not every test has run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ci.stock", description="Tests on stock KVM.")
    minutes = f"{QUICK_LIMIT_S / 60:.0f} minutes"
    parser.add_argument("--quick", action="store_true", help=f"a part, within {minutes}")
    parser.add_argument("tests", nargs="*", help="what to run instead of everything, as pytest names it")
    options = parser.parse_args(arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    tests = options.tests or (QUICK if options.quick else ["tests"])
    limit = QUICK_LIMIT_S if options.quick else LIMIT_S
    begun = time.monotonic()
    shutil.rmtree(TAKEN, ignore_errors=True)
    TAKEN.mkdir()
    if status := prepare(tests):
        return status
    runs = [Run(number, tests, limit) for number in range(BEDS)]
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return summarize(runs, time.monotonic() - begun)


def prepare(tests: Sequence[str]) -> int:
    """Do here what would take much longer in a bed: build guests, compile Python. Not 0: it failed."""
    for words in (
        ["-c", "from tests.system.stage import build_images; build_images()"],
        ["-c", "from tests.bench.update import build_layouts; build_layouts()"],
        ["-m", "pytest", "--collect-only", "-q", "-m", SELECTION, *tests],
    ):
        done = subprocess.run(
            [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{done.stdout}{done.stderr}stock: nothing has run", file=sys.stderr)
            return 2
    return 0


def summarize(runs: Sequence[Run], seconds: float) -> int:
    """Merge the results, say what came out, and return the exit status."""
    merged = ET.Element("testsuites")
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for run in runs:
        if run.error:
            print(f"stock: {run.name}: {run.error}", file=sys.stderr)
        if not run.report.exists():
            continue
        for suite in ET.parse(run.report).getroot().iter("testsuite"):
            properties = ET.SubElement(suite, "properties")
            told = {"bed": run.bed, "clock slowed by": f"{run.slow:g}", "dilation": f"{run.dilation:.1f}"}
            told["stood still, and begun again"] = str(run.stalled)
            for name, value in told.items():
                ET.SubElement(properties, "property", name=name, value=value)
            for name in counts:
                counts[name] += int(suite.get(name, "0"))
            merged.append(suite)
            for case in suite.iter("testcase"):
                tell(case)
    ET.ElementTree(merged).write(REPORT, encoding="utf-8", xml_declaration=True)
    bad = counts["failures"] + counts["errors"]
    where = next((run.bed for run in runs if run.bed), "no bed")
    passed = counts["tests"] - bad - counts["skipped"]
    result = f"{passed} passed, {bad} failed, {counts['skipped']} skipped in {seconds:.0f} s"
    print(f"stock KVM ({where}): {result}; {os.path.relpath(REPORT)}")
    return max((run.status if run.status in (0, 1) else 2 for run in runs), default=2)


def tell(case: ET.Element) -> None:
    """A line for each test that did not pass, with its reason."""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            why = (found.get("message") or "").split("\n")[0]
            print(f"  {kind}: {case.get('classname')}::{case.get('name')}: {why}")


if __name__ == "__main__":
    sys.exit(main())
