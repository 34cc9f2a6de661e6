"""Deliberate deaths: seeded, at the rate asked for, and never of one that is dead already."""

from __future__ import annotations

import pytest

from hypervisor.loop import Timer
from tests.hypervisor.world import World
from vmm.killer import Killer


class Gaps:
    """Replaces the loop's clock: remembers when the killer wants to strike, and lets it."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gaps: list[float] = []
        self.alive = True
        self.next: Timer | None = None
        monkeypatch.setattr(world.system.loop, "call_later", self.call_later)
        monkeypatch.setattr(world.system, "kill", lambda *_: self.alive)

    def call_later(self, seconds: float, callback: object) -> Timer:
        self.gaps.append(seconds)
        assert callable(callback)
        self.next = Timer(callback)
        return self.next

    def strike(self, times: int) -> None:
        for _ in range(times):
            assert self.next and self.next.callback
            self.next.callback()


def gaps(world: World, monkeypatch: pytest.MonkeyPatch, name: str, rate: float, seed: int) -> list[float]:
    with monkeypatch.context() as patch:
        clock = Gaps(world, patch)
        killer = Killer(world.system, name, rate, seed)
        killer.start()
        clock.strike(200)
        assert killer.kills == 200
        return clock.gaps


def test_the_same_seed_gives_the_same_moments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = gaps(world, monkeypatch, "driver", 10, 7)
    assert first == gaps(world, monkeypatch, "driver", 10, 7)
    assert first != gaps(world, monkeypatch, "driver", 10, 8)
    assert first != gaps(world, monkeypatch, "files", 10, 7), "two victims do not die in step"


def test_gaps_lie_around_the_mean(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gaps(world, monkeypatch, "driver", 20, 1)
    assert all(0.025 <= gap <= 0.075 for gap in found)
    assert sum(found) / len(found) == pytest.approx(0.05, rel=0.1)


def test_one_that_is_dead_is_tried_again_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Gaps(world, monkeypatch)
    killer = Killer(world.system, "driver", 10, 1)
    killer.start()
    clock.alive = False
    clock.strike(3)
    assert killer.kills == 0 and clock.gaps[1:] == [0.001] * 3
    clock.alive = True
    clock.strike(1)
    assert killer.kills == 1


def test_rate_zero_and_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Gaps(world, monkeypatch)
    killer = Killer(world.system, "driver", 0, 1)
    killer.start()
    killer.stop()
    assert clock.gaps == []
    killer = Killer(world.system, "driver", 5, 1)
    killer.start()
    strike = clock.next and clock.next.callback
    killer.stop()
    assert clock.next and clock.next.callback is None and strike
    strike()
    assert killer.kills == 0 and len(clock.gaps) == 1


def test_it_really_kills(world: World) -> None:
    killer = Killer(world.system, "driver", 500, 1)
    killer.start()
    world.until(lambda: killer.kills == 3)
    killer.stop()
    world.revive("driver")
    assert world.live("driver").deaths == 3
