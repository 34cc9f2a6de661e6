"""Sequences drawn by hypothesis: calls, deaths, updates and rollbacks, against a model of each component.

Calls are under way while the rest happens. The sequences are the same in each run (in a campaign: for the
same seed); at what moment a death hits is up to the machine.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.bed import IN_BED
from tests.stateful.models import AudioModel, CountModel, Intent, Model, StoreModel
from tests.stateful.theatre import Theatre
from tests.system.plan import seeds

pytestmark = pytest.mark.kvm

NAMES = [each.__name__ for each in (CountModel, AudioModel, StoreModel)]
CALLS_PER_DEED = 6
STEPS_MAX = 40
# A sequence is not shortened when it fails: another moment may have been hit then.
PLAIN = settings(
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def sequences(model: Model) -> st.SearchStrategy[list[Intent]]:
    """Steps of `Theatre.play`: mostly calls."""
    victim = st.sampled_from(model.victims)
    anybody = st.sampled_from([*model.victims, "reincarnation_server"])
    calls = st.tuples(st.just("call"), model.intents())
    deeds = st.one_of(
        st.tuples(st.just("kill"), victim),
        st.tuples(st.just("update"), victim),
        st.tuples(st.just("update_and_kill"), victim, anybody),
        st.tuples(st.sampled_from(["roll_back", "fall_back"]), victim),
    )
    return st.lists(st.one_of(*[calls] * CALLS_PER_DEED, deeds), max_size=STEPS_MAX)


@pytest.mark.parametrize("name", NAMES)
def test_sequences(theatre: Theatre, name: str) -> None:
    model = theatre.models[name]

    @settings(PLAIN, max_examples=10 if IN_BED else 25, derandomize=True)
    @given(sequences(model))
    def run(steps: list[Intent]) -> None:
        theatre.play(model, steps)

    theatre.done.clear()
    run()
    missing = {"kill", "update", "update_and_kill", "roll_back", "fall_back"} - theatre.done.keys()
    assert not missing, theatre.done


def test_changes_are_told_once(theatre: Theatre) -> None:
    """A long sequence about subscriptions alone."""
    dice, store, model = random.Random(5), "data_store", theatre.models["StoreModel"]
    assert isinstance(model, StoreModel)
    steps: list[Intent] = []
    for _ in range(300):
        number, name = dice.choice((0, 0, 1, 2)), dice.choice(model.NAMES)
        intents: list[Intent] = [
            *[("next", number, dice.choice(("seen", "seen", "acknowledged")))] * 4,
            *[("set", name, "any", (3, dice.randbytes(20)))] * 3,
            ("delete", name, "any"),
            ("acknowledge", number, "seen"),
            ("subscribe", number, dice.choice(model.PREFIXES), dice.random() < 0.3),
        ]
        steps.append(("call", dice.choice(intents)))
        if dice.random() < 0.1:
            steps.append((dice.choice(("kill", "kill", "kill", "update")), store))
    theatre.play(model, steps)
    assert len(model.log) > 60


def test_a_subscriber_that_is_too_far_behind(theatre: Theatre) -> None:
    """It is told of a gap, whoever dies or is replaced; who wants no such changes is told of none."""
    store, model = "data_store", theatre.models["StoreModel"]
    assert isinstance(model, StoreModel)

    def calls(*intents: Intent) -> list[Intent]:
        return [("call", each) for each in intents]

    change, following = ("set", b"a", "any", (1, bytes(8))), ("next", 0, "seen")
    theatre.play(
        model,
        [
            *calls(("subscribe", 0, b"a", True), ("subscribe", 1, b"net", True), change, following),
            ("kill", store),
            *calls(("flood",)),
            ("kill", store),
            *calls(following, ("next", 1, "seen"), ("acknowledge", 0, "seen"), following),
            ("update", store),
            *calls(("subscribe", 0, b"a", False), following, ("subscribe", 0, b"a", True), following),
        ],
    )
    assert [each.has_gap for each in model.subscriptions.values()] == [False, False]


@pytest.mark.campaign
@pytest.mark.parametrize("number", seeds(5))
@pytest.mark.parametrize("name", NAMES)
def test_long_sequences(theatre: Theatre, name: str, number: int) -> None:
    model = theatre.models[name]

    @seed(number)
    @settings(PLAIN, max_examples=200)
    @given(sequences(model))
    def run(steps: list[Intent]) -> None:
        theatre.play(model, steps)

    run()
