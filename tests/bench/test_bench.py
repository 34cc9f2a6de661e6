"""The benchmarks themselves: every key is there in its shape. How long anything took is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.figures import Target, figure, missing, percentile, summarised
from tests.bench.host import ROOT

ALWAYS = {"median", "p99", "min", "max", "n", "unit", "target", "reached"}


def test_figure_has_median_p99_and_verdict() -> None:
    found = figure([3.0, 1.0, 2.0], "ms", Target("<=", 2), note="x")
    assert found == {
        "median": 2.0, "p99": 3.0, "min": 1.0, "max": 3.0, "n": 3, "unit": "ms", "target": "<= 2",
        "reached": True, "note": "x",
    }  # fmt: skip


def test_target_at_the_99th_percentile_counts_too() -> None:
    target = Target("<=", 2, 10)
    assert figure([1.0] * 99 + [11.0], "ms", target)["reached"] is False
    assert figure([1.0] * 200 + [11.0], "ms", target)["reached"] is True
    assert str(target) == "<= 2, p99 <= 10"


def test_target_to_exceed() -> None:
    assert figure([0.9], "ratio", Target(">=", 0.9))["reached"] is True
    assert figure([0.8], "ratio", Target(">=", 0.9))["reached"] is False


def test_percentile_is_a_sample() -> None:
    assert percentile(range(100), 0.99) == 99
    assert percentile([5.0], 0.99) == 5.0


def test_summary_of_runs_keeps_the_number_of_calls() -> None:
    found = summarised([1.0, 3.0, 2.0], [10.0, 30.0, 20.0], 3000, "us")
    assert (found["median"], found["p99"], found["n"], found["runs"]) == (2.0, 20.0, 3000, 3)


def test_missing_figure_says_why() -> None:
    found = missing("only root can loop-mount", "ratio", Target(">=", 0.3))
    assert found["median"] is None and found["reached"] is None
    assert found["reason"] == "only root can loop-mount"


@pytest.mark.kvm
@pytest.mark.bench
@pytest.mark.slow
@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="needs /dev/kvm")
def test_every_key_is_there(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    words = [sys.executable, "-m", "tests.bench", "--tiny", "-o", str(path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found) == {*report.KEYS, *report.STRICT_KEYS, "machine", "run"}
    for key in (*report.KEYS, *report.STRICT_KEYS):
        each = found[key]
        assert set(each) >= ALWAYS, key
        assert each["n"] > 0 or each["reason"], key
        assert each["median"] is not None or each["reached"] is None, key
        if key in report.TARGETS:
            assert each["target"] == str(report.TARGETS[key]), key
    assert found["kill10_speed_ratio"]["digest_equal"] is True
    shown = [key for key in (*report.KEYS, *report.STRICT_KEYS) if report.is_shown(key)]
    assert [row.split("`")[1] for row in report.markdown(found).splitlines()[4:]] == shown
    # Piped, the table is plain: a line for each figure.
    lines = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert lines == shown
