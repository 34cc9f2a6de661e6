"""Exactly once through two hops: front -> relay -> counter, while the relay dies, and the counter too.

The counter's ledger must hold 1, 2, 3, ... N at the end, whatever died meanwhile: none lost, none twice, in
order.
"""

from __future__ import annotations

import pytest

from tests.bed import dose
from tests.system.plan import Plan, Point
from tests.system.stage import Stage

pytestmark = pytest.mark.kvm

CHAIN = """
[components.counter]
manifest = "{manifests}/counter.toml"

[components.relay]
manifest = "{manifests}/relay.toml"

[routes]
"relay.next" = "counter.count"
"program.count" = "relay.count"
"program.audit" = "counter.count"
"program.log" = "console.log"
"""
COUNT = 600
PAUSE_US = "200"  # so that everybody has to sleep now and then
PASSAGES = (100, 1, 2, 5)
SELDOM = {"client.before_sleep": (5, 1, 2, 1), "client.before_replay": (1, 1, 1)}
STATE_POINTS = ("state.after_log", "state.before_commit", "state.after_commit", "state.in_copy")
RELAY_POINTS = (
    *STATE_POINTS, "relay.before_reply",
    "server.before_dispatch", "server.before_publish", "server.before_doorbell",
    "client.before_submit", "client.before_doorbell", "client.before_sleep", "client.before_replay",
)  # fmt: skip
COUNTER_POINTS = (*STATE_POINTS, "server.before_publish")


@pytest.fixture
def chain(stage: Stage) -> Stage:
    """The parts of the chain are in place."""
    stage.change("relay")
    stage.change("counter")
    return stage


def check(stage: Stage, count: int) -> None:
    """Every amount was counted once, and nobody was told of an error."""
    said = stage.said
    assert said | {"replayed": 0, "longest_ms": 0} == {
        "answered": count, "failed": 0, "error": 0, "longest_ms": 0, "replayed": 0,
        "entries": count, "in_order": True, "doubled": 0,
    }  # fmt: skip


@pytest.mark.parametrize("point", RELAY_POINTS)
def test_the_middle_dies_at(chain: Stage, point: str) -> None:
    others = [Point("counter", "server.before_publish", (40,) * 8)] if point == "client.before_replay" else []
    passages = SELDOM.get(point, PASSAGES)
    plan = Plan((Point("relay", point, passages), *others))
    with chain.play(CHAIN, "front", str(COUNT), PAUSE_US, plan=plan) as scene:
        assert scene.end() == 0
    check(chain, COUNT)
    assert len(scene.deaths("relay")) == len(passages)


@pytest.mark.parametrize("component", ["relay", "counter"])
def test_one_dies_undoing_what_it_died_of(chain: Stage, component: str) -> None:
    """The first instance in the midst of a transaction, the next ones while they undo it."""
    undoing = Point(component, "state.in_rollback", (1,) * 4)
    plan = Plan((undoing, Point(component, "state.after_log", (100,))))
    with chain.play(CHAIN, "front", str(COUNT), PAUSE_US, plan=plan) as scene:
        assert scene.end() == 0
    check(chain, COUNT)
    assert len(scene.deaths(component)) == len(undoing.passages)


@pytest.mark.parametrize("point", COUNTER_POINTS)
def test_the_last_one_dies_at(chain: Stage, point: str) -> None:
    with chain.play(CHAIN, "front", str(COUNT), plan=Plan((Point("counter", point, PASSAGES),))) as scene:
        assert scene.end() == 0
    check(chain, COUNT)
    assert len(scene.deaths("counter")) == len(PASSAGES)


@pytest.mark.parametrize("seed", [1, 2])
def test_both_die_at_random(chain: Stage, seed: int) -> None:
    count = dose(6000)
    kill = (("relay", 30.0), ("counter", 15.0))
    with chain.play(CHAIN, "front", str(count), "200", kill=kill, seed=seed) as scene:
        assert scene.end() == 0
    check(chain, count)
    assert scene.report["kills"] > 10
    assert scene.report["failed_requests"] == 0


def test_without_the_log_it_would_be_noticed(stage: Stage) -> None:
    """The same with a relay that writes nothing down: what was counted but not answered is counted twice."""
    stage.change("relay", name="naive_relay")
    stage.change("counter")
    naive = CHAIN.replace("relay", "naive_relay")
    point = Point("naive_relay", "relay.before_reply", PASSAGES)
    with stage.play(naive, "front", str(COUNT), plan=Plan((point,))) as scene:
        assert scene.end() == 0
    assert stage.said["doubled"] > 0
