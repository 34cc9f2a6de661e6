"""Results: kept through any stop, never of two campaigns, and summed up by the definitions."""

from __future__ import annotations

import os
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from images.campaign.outcome import Observation, Outcome
from images.campaign.results import NoResults, OtherPlan, Result, Results, exit_status

PLAN = {"seed": 7, "faults": 10, "targets": ["disk_driver"], "system": "default.toml"}
QUIET = Observation(0, 0, False, 0, (), True, True)
ACTIVE = replace(QUIET, activations=3)
SEEN = (
    QUIET, ACTIVE, replace(ACTIVE, deaths=1), replace(ACTIVE, deaths=2), replace(ACTIVE, program_errors=1),
    replace(ACTIVE, given_up=True),
)  # fmt: skip
BAD = {
    Outcome.SILENT_CORRUPTION: replace(ACTIVE, violations=("digest of /a", "counter")),
    Outcome.HANG: replace(ACTIVE, at_rest=False),
    Outcome.SYSTEM_CRASH: replace(ACTIVE, hypervisor_alive=False),
}


def result(number: int, seen: Observation) -> Result:
    seed, description = 2**64 - 1 - number, f"fault {number}"
    return Result(number, seed, "disk_driver", "off_by_one", description, seen, 1500 + number)


def test_results_are_read_as_they_were_added(tmp_path: Path) -> None:
    added = [result(number, seen) for number, seen in enumerate((*SEEN, *BAD.values()))]
    with Results(tmp_path / "r.sqlite", PLAN) as results:
        for each in reversed(added):
            results.add(each)
        with pytest.raises(sqlite3.IntegrityError):
            results.add(added[0])
    with Results(tmp_path / "r.sqlite") as results:
        assert list(results) == added and results.plan == PLAN


def test_summary_and_exit_status(tmp_path: Path) -> None:
    with Results(tmp_path / "r.sqlite", PLAN) as results:
        assert results.summary()["invisible_ratio"] is None and exit_status(results.summary()) == 0
        for number, seen in enumerate(SEEN):
            results.add(result(number, seen))
        assert results.summary() == {
            "injected": 6, "activated": 5, "manifested": 4, "not_activated": 1, "masked": 1,
            "recovered_invisible": 2, "recovered_error": 1, "degraded": 1, "silent_corruption": 0, "hang": 0,
            "system_crash": 0, "invisible_ratio": 0.5,
        }  # fmt: skip
        assert exit_status(results.summary()) == 0


@pytest.mark.parametrize("defect", BAD)
def test_a_defect_is_exit_status_1(tmp_path: Path, defect: Outcome) -> None:
    with Results(tmp_path / "r.sqlite", PLAN) as results:
        results.add(result(0, BAD[defect]))
        assert results.summary()[defect.value] == 1 and exit_status(results.summary()) == 1


def test_a_killed_campaign_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    pid = os.fork()
    if pid == 0:
        results = Results(path, PLAN)
        for number in (0, 2, 5):
            results.add(result(number, ACTIVE))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    with Results(path, dict(reversed(PLAN.items()))) as results:
        assert results.missing(7) == [1, 3, 4, 6]
        results.add(result(1, QUIET))
        assert results.missing(4) == [3] and results.summary()["injected"] == 4


def test_another_campaigns_file(tmp_path: Path) -> None:
    Results(tmp_path / "r.sqlite", PLAN).close()
    with pytest.raises(OtherPlan, match=r"another campaign \(faults, seed differ\); name another file"):
        Results(tmp_path / "r.sqlite", PLAN | {"seed": 8, "faults": 11})


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(NoResults, match="no such file; run the campaign"):
        Results(tmp_path / "r.sqlite")
    (tmp_path / "text").write_text("not a database, but long enough to be taken for one" * 20)
    for plan in (None, PLAN):
        with pytest.raises(NoResults, match=r"text: .*; name a file of results"):
            Results(tmp_path / "text", plan)
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE thing (number)").connection.close()
    with pytest.raises(NoResults, match="other: no such table: plan"):
        Results(tmp_path / "other", PLAN)
