"""Live updates of the file server under load: how long its client waits for an answer, and what fails.

Of every twenty new versions one dies before it is ready, on purpose.
"""

from __future__ import annotations

import threading
from pathlib import Path

from images.guests import OUTPUT
from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.data import READER, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure
from tests.bench.plan import Plan
from tests.bench.recovery import ENDLESS
from tests.bench.systems import Progress
from vmm.cli import update
from vmm.cli.command import CommandError, Parser

TARGETS = {"update_blackout_ms": Target("<=", 3, 15), "update_failed_requests": Target("<=", 0)}
UNITS = {"update_blackout_ms": "ms", "update_failed_requests": "requests"}
SERVER = "file_server"
BAD = OUTPUT / "null_read.elf"
BAD_EVERY = 20
PAUSE_S = 0.01


class _Updater:
    """Updates the file server again and again from a thread, `times` times."""

    def __init__(self, times: int) -> None:
        self.done = self.refused = self.unexpected = 0
        self._times = times
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._end.set()
        self._thread.join()

    def wait(self) -> None:
        """Until all are done."""
        self._thread.join()

    def _work(self) -> None:
        parser = Parser()
        update.add_arguments(parser)
        for number in range(1, self._times + 1):
            is_bad = number % BAD_EVERY == 0
            words = [SERVER, *(["--image", str(BAD)] if is_bad else [])]
            try:
                update.run(parser.parse_args(words))
                self.done += 1
                self.unexpected += is_bad
            except CommandError:
                self.refused += 1
                self.unexpected += not is_bad
            if self._end.wait(PAUSE_S):
                return


def measure(
    plan: Plan, data: Data, budget: Budget, progress: Progress, system_file: Path
) -> dict[str, Figure]:
    """Both figures, of one run of a program that reads without end."""
    progress(f"{plan.updates} updates of the file server")
    words = [*READER, f"--times={ENDLESS}", f"/{WHOLE}"]
    what = systems.request(words, data.erofs, system_file)
    updaters: list[_Updater] = []

    def begin() -> None:
        updaters.append(_Updater(plan.updates))
        updaters[0].wait()

    outcome = systems.run(what, plan.run_s + plan.updates, meanwhile=begin)
    report, updater = outcome.report, updaters[0]
    samples = report["programs_waited_ms"]
    if not samples:
        raise NotMeasured("no update was seen", broken=plan.name != "tiny")
    beside = {
        "updates": updater.done, "rolled_back": updater.refused, "unexpected": updater.unexpected,
        "mb_per_s": round(report["bytes"] / 1e6 / report["seconds"], 1),
    }  # fmt: skip
    failed = figure(
        [float(report["failed_requests"])],
        UNITS["update_failed_requests"],
        TARGETS["update_failed_requests"],
        **beside,
    )
    blackout = figure(samples, UNITS["update_blackout_ms"], TARGETS["update_blackout_ms"], **beside)
    return {"update_blackout_ms": blackout, "update_failed_requests": failed}
