"""Everybody is killed, at moments drawn by lot: 150 times each time, 10,000 times in a campaign."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bed import dose
from tests.crash.kills import RESULTS, campaign, described, is_flawless
from tests.system.plan import seeds

pytestmark = pytest.mark.kvm


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the systems put what they need, and their control sockets."""
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_150_kills(folder: Path) -> None:
    figures = campaign(dose(150), 1, folder, print, amounts=dose(1600))
    assert is_flawless(figures), described(figures)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", seeds(1))
def test_10_000_kills(folder: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    figures = campaign(10_000, seed, folder, say, results=RESULTS)
    say(described(figures))
    assert is_flawless(figures), described(figures)
