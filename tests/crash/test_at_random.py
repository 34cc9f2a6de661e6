"""Deaths at named points and steps, but which, whose and how often is drawn by lot from a seed.

The tables of tests/system say what must be survived one by one; here several come together.
"""

from __future__ import annotations

import random

import pytest

from tests.system.conftest import digests, disk, guests, stage
from tests.system.plan import STEPS, Plan, Point, Strike, seeds
from tests.system.stage import ASKED, COMPONENTS, FILES, Stage
from tests.system.test_kill_points import POINTS

__all__ = ["digests", "disk", "guests", "stage"]
pytestmark = pytest.mark.kvm

DEATHS = 6  # of each component at its points, at most
STRIKES = 6
PASSES = 2
LATEST = {"reincarnation_server": 3, "console": 5}  # they have little to do; others: passage 60
CAUSE = Point("disk_driver", "driver.before_reply", (40, 10, 10))


def drawn_points(dice: random.Random) -> tuple[Point, ...]:
    """A point for each component, and the passages at which its instances die there."""
    points = []
    for component in COMPONENTS:
        name = dice.choice([name for name, owner in POINTS if owner == component])
        latest = LATEST.get(component, 60)
        passages = tuple(dice.randint(1, latest) for _ in range(dice.randint(1, DEATHS)))
        points.append(Point(component, name, passages))
    return tuple(points)


def drawn_strikes(dice: random.Random) -> tuple[Strike, ...]:
    """Somebody is killed at steps of the handling of somebody's deaths."""
    return tuple(
        Strike(
            dice.choice(STEPS),
            of=dice.choice(COMPONENTS),
            victim=dice.choice(COMPONENTS),
            number=dice.randint(1, 3),
            how=dice.choice(("kill", "SIGKILL")),
        )
        for _ in range(STRIKES)
    )


def play(stage: Stage, digests: list[str], plan: Plan, dice: random.Random) -> None:
    """Read everything while the plan is carried out, in a system that foresees some restarts."""
    for component in COMPONENTS[1:]:
        stage.change(component, restart=dice.choice(('policy = "always"', ASKED)))
    with stage.play(FILES, "sha256tree", *["/"] * PASSES, plan=plan) as scene:
        assert scene.end() == 0, plan
    assert stage.lines == digests * PASSES, plan
    assert scene.report["failed_requests"] == 0, plan
    assert scene.fully_recovered(), plan


@pytest.mark.parametrize("seed", range(3))
def test_points(stage: Stage, digests: list[str], seed: int) -> None:
    dice = random.Random(seed)
    play(stage, digests, Plan(drawn_points(dice)), dice)


@pytest.mark.parametrize("seed", range(3))
def test_steps(stage: Stage, digests: list[str], seed: int) -> None:
    dice = random.Random(seed)
    play(stage, digests, Plan((CAUSE,), drawn_strikes(dice)), dice)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(500))
def test_points_and_steps(stage: Stage, digests: list[str], seed: int) -> None:
    dice = random.Random(seed)
    play(stage, digests, Plan(drawn_points(dice), drawn_strikes(dice)), dice)
