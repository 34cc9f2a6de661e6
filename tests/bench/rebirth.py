"""Deaths of a component with 1 MiB of state, of the reincarnation server, and of both at about the same time.

Killed as by `r3s3 kill`, while a program has amounts counted, 32 under way.
"""

from __future__ import annotations

import random
import time
from itertools import pairwise
from typing import Any

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.figures import Figure, NotMeasured, Target, figure, spread
from tests.bench.plan import Plan
from tests.bench.systems import Outcome, Progress
from vmm.cli import history
from vmm.cli.control import Control, RefusedError

TARGETS = {
    "stateful_recovery_ms": Target("<=", 3, 12),
    "rs_recovery_ms": Target("<=", 15, 15),
    "rs_away_extra_ms": Target("<=", 10, 10),
}
UNITS = dict.fromkeys(TARGETS, "ms")
SUPERVISOR = "reincarnation_server"
FORESEEN, ASKED = "large_ledger", "asked_ledger"  # whether its restart has been promised by then
WORDS = ["front", str(1 << 60), "20"]  # a program that does not end, and thinks for 20 us after each answer
PAUSE_S = (0.05, 0.1)  # between deaths: nobody dies of haste, and there are spares again
AWAY_S = 0.001  # the supervisor is away for longer
PATIENCE_S = 5.0


class _Killer:
    """Kills `victims` shortly after each other, `times` times, and then asks for the history."""

    def __init__(self, times: int, budget: Budget, *victims: str) -> None:
        self.lives: list[dict[str, Any]] = []
        self._times, self._budget, self._victims = times, budget, victims
        self._chance = random.Random(1)

    def work(self) -> None:
        """For a thread: until all is done, or the time is over."""
        with Control(systems.NAME) as control:
            for number in range(self._times):
                if number > self._times // 4 and self._budget.spent:
                    break
                time.sleep(self._chance.uniform(*PAUSE_S))
                for victim in self._victims:
                    if victim is not self._victims[0]:
                        time.sleep(self._chance.uniform(0, AWAY_S))
                    self._kill(control, victim)
            time.sleep(PAUSE_S[1])
            self.lives = history.with_times(control.execute("history"))

    def _kill(self, control: Control, victim: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                control.execute("kill", component=victim)
                return
            except RefusedError:  # it is not back yet
                time.sleep(0.001)

    def times_away(self, component: str) -> list[tuple[int, int]]:
        """Of each of its deaths but the last ones: when it died, and when its successor served."""
        lives = [row for row in self.lives if row["component"] == component]
        pairs = pairwise(lives)
        return [(one["ended_ns"], other["ready_ns"]) for one, other in pairs if other["ready_ns"]]


def measure(plan: Plan, budget: Budget, progress: Progress) -> dict[str, Figure]:
    """All figures; beside them restarts that were promised, for which nobody waits."""

    def run(file: str, times: int, *victims: str) -> tuple[Outcome, _Killer]:
        progress(f"{times} deaths of {' and '.join(victims)}")
        killer = _Killer(times, budget, *victims)
        what = systems.request(WORDS, None, systems.SYSTEMS / file)
        outcome = systems.run(what, plan.run_s + times, meanwhile=killer.work)
        if not killer.lives or outcome.report["failed_requests"]:
            raise NotMeasured(f"deaths of {' and '.join(victims)} were noticed", broken=True)
        return outcome, killer

    alone, _ = run("stateful.toml", plan.kills, FORESEEN)
    _, supervisor = run("stateful.toml", plan.kills, SUPERVISOR)
    asked = _extra(*run("stateful_asked.toml", plan.kills, SUPERVISOR, ASKED))
    foreseen = _extra(*run("stateful.toml", plan.kills // 4, SUPERVISOR, FORESEEN))
    times_ms = [(ready - died) / 1e6 for died, ready in supervisor.times_away(SUPERVISOR)]
    return {
        "stateful_recovery_ms": _figure(
            "stateful_recovery_ms", systems.recovery_times(alone), stages_ms=systems.recovery_stages(alone)
        ),
        "rs_recovery_ms": _figure("rs_recovery_ms", times_ms),
        "rs_away_extra_ms": _figure("rs_away_extra_ms", asked, foreseen=spread(foreseen)),
    }


def _figure(key: str, samples: list[float], **more: object) -> Figure:
    return figure(samples, UNITS[key], TARGETS[key], **more)


def _extra(outcome: Outcome, killer: _Killer) -> list[float]:
    """Of each death while the supervisor was away: how much longer than the supervisor's own recovery it took
    until a client had its first repeated request answered."""
    away = killer.times_away(SUPERVISOR)
    return [
        ((answered - died) - (served - began)) / 1e6
        for died, *_, answered in outcome.report["recoveries_ns"]
        for began, served in away
        if began <= died < served
    ]
