"""Deliberate deaths: seeded, at the rate asked for, and never of one that is dead already."""

from __future__ import annotations

import math
import time

import pytest

from vmm.cli.control import Control, RefusedError
from vmm.cli.killer import Killer


class FakeControl(Control):
    """Remembers kills, or refuses them."""

    def __init__(self) -> None:
        self.alive = True
        self.killed: list[str] = []

    def execute(self, command: str, **arguments: object) -> object:
        assert command == "kill"
        if not self.alive:
            raise RefusedError("NotRunning", "driver is not running just now")
        self.killed.append(str(arguments["component"]))
        return {}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def gaps(now: list[float], name: str, rate: float, seed: int) -> list[float]:
    """The gaps before 200 kills that are always in time."""
    control = FakeControl()
    killer = Killer(control, name, rate, seed)
    found = []
    for _ in range(200):
        found.append(killer.due - now[0])
        now[0] = killer.due
        killer.strike()
    assert killer.kills == 200 and control.killed == [name] * 200
    return [round(gap, 9) for gap in found]


def test_the_same_seed_gives_the_same_gaps(now: list[float]) -> None:
    first = gaps(now, "driver", 10, 7)
    assert first == pytest.approx(gaps(now, "driver", 10, 7), abs=1e-6)
    assert first != pytest.approx(gaps(now, "driver", 10, 8), abs=1e-6)
    assert first != pytest.approx(gaps(now, "files", 10, 7), abs=1e-6), "two victims do not die in step"


def test_gaps_lie_around_the_mean(now: list[float]) -> None:
    found = gaps(now, "driver", 20, 1)
    assert all(0.025 <= gap <= 0.075 for gap in found)
    assert sum(found) / len(found) == pytest.approx(0.05, rel=0.1)


def test_nothing_happens_before_its_time(now: list[float]) -> None:
    control = FakeControl()
    killer = Killer(control, "driver", 10, 1)
    killer.strike()
    assert killer.kills == 0 and not control.killed


def test_one_that_is_dead_is_tried_again_soon(now: list[float]) -> None:
    control = FakeControl()
    killer = Killer(control, "driver", 10, 1)
    control.alive = False
    for _ in range(3):
        now[0] = killer.due
        killer.strike()
        assert killer.kills == 0 and killer.due == pytest.approx(now[0] + 0.001)
    control.alive = True
    now[0] = killer.due
    killer.strike()
    assert killer.kills == 1 and killer.due > now[0] + 0.04


def test_rate_zero_never_kills(now: list[float]) -> None:
    assert Killer(FakeControl(), "driver", 0, 1).due == math.inf
