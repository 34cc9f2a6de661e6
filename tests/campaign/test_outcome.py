"""Outcomes: each definition, their order, and that every observation has exactly one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.campaign.outcome import DEFECTS, MANIFESTED, Observation, Outcome, classify

QUIET = Observation(0, 0, False, 0, (), True, True)
# From harmless to worst: what is seen, and the outcome it makes.
SIGNS = (
    ({"activations": 2}, Outcome.MASKED),
    ({"deaths": 1}, Outcome.RECOVERED_INVISIBLE),
    ({"program_errors": 3}, Outcome.RECOVERED_ERROR),
    ({"given_up": True}, Outcome.DEGRADED),
    ({"violations": ("digest of /a",)}, Outcome.SILENT_CORRUPTION),
    ({"at_rest": False}, Outcome.HANG),
    ({"hypervisor_alive": False}, Outcome.SYSTEM_CRASH),
)  # fmt: skip


def test_nothing_seen_is_not_activated() -> None:
    assert classify(QUIET) is Outcome.NOT_ACTIVATED


@given(st.sets(st.integers(0, len(SIGNS) - 1), min_size=1))
def test_the_worst_sign_counts(signs: set[int]) -> None:
    seen = QUIET
    for sign in signs:
        seen = replace(seen, **SIGNS[sign][0])
    assert classify(seen) is SIGNS[max(signs)][1]


def test_sums() -> None:
    assert len(MANIFESTED) == 6 and DEFECTS < MANIFESTED
    assert {outcome for _, outcome in SIGNS} == set(Outcome) - {Outcome.NOT_ACTIVATED}


@pytest.mark.parametrize("name", ["activations", "deaths", "program_errors"])
def test_a_number_of_events_is_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1"):
        replace(QUIET, **dict[str, Any]({name: -1}))
