"""Grants between two components in VMs: all kinds, taken back while in use, by whoever does not give back.

What the hypervisor does with each single hypercall is in tests/hypervisor; here the memory itself is looked
at.
"""

from __future__ import annotations

import signal

import pytest

from hypervisor.abi import generated as abi
from tests.bed import dose
from tests.system.stage import Stage, strike

pytestmark = pytest.mark.kvm

PAIR = """
[components.borrower]
manifest = "{manifests}/borrower.toml"

[routes]
"program.blk" = "borrower.blk"
"program.log" = "console.log"
"""
RACES = 20
DEADLINE_US = 100_000  # hypervisor.hypercalls.REVOKE_DEADLINE_S


@pytest.fixture
def pair(stage: Stage) -> Stage:
    """A lender and a borrower."""
    stage.change("borrower")
    return stage


def test_kinds(pair: Stage) -> None:
    with pair.play(PAIR, "grantor", "kinds") as scene:
        assert scene.end() == 0
    assert scene.report["deaths"] == {}


def test_taken_back_while_the_borrower_runs_on_it(pair: Stage) -> None:
    """Not one write arrives after `revoke` has returned; the borrower dies of the next, each time."""
    with pair.play(PAIR, "grantor", "race", str(RACES)) as scene:
        assert scene.end() == 0
    kinds = [record["kind"] for record in scene.deaths("borrower")]
    assert set(kinds) == {abi.Fault.WINDOW}
    assert RACES - 1 <= len(kinds) <= RACES  # the last one may have no time to


def test_a_borrower_that_does_not_give_back_is_killed(pair: Stage) -> None:
    """Its tender is stopped. The owner waits for the deadline and the end of the process, not for ever."""
    with pair.play(PAIR, "grantor", "stopped") as scene:
        pid = scene.tender("borrower")
        scene.until(lambda: bool(scene.row("borrower")["cpu_ms"] > 50), "the borrower does not run")
        strike(pid, signal.SIGSTOP)
        assert scene.end() == 0
    assert [record["kind"] for record in scene.deaths("borrower")] == [abi.Fault.REVOKE_DEADLINE]
    assert DEADLINE_US <= pair.said["revoke_us"] < 20 * DEADLINE_US


def test_borrower_killed_again_and_again(pair: Stage) -> None:
    """Whatever it has mapped at that moment."""
    with pair.play(PAIR, "grantor", "dies", str(dose(3000)), kill=(("borrower", 40.0),)) as scene:
        assert scene.end() == 0
    assert scene.report["deaths"]["borrower"] >= 1
