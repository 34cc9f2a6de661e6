"""Output while the console dies: every byte arrives once, in order."""

from __future__ import annotations

import hashlib

import pytest

from tests.system.conftest import FILE_BYTES
from tests.system.conftest import FILES as COUNT
from tests.system.stage import FILES, Stage

pytestmark = pytest.mark.kvm


def check(stage: Stage, digests: list[str]) -> None:
    """The output is all files, one after the other."""
    pieces = [stage.output[at : at + FILE_BYTES] for at in range(0, len(stage.output), FILE_BYTES)]
    assert [hashlib.sha256(piece).hexdigest() for piece in pieces] == [line.split()[0] for line in digests]


def test_console_killed_again_and_again(stage: Stage, digests: list[str]) -> None:
    files = [f"/file{number}" for number in range(COUNT)]
    kill = (("console", 60.0), ("disk_driver", 10.0))
    with stage.play(FILES, "cat", *files, kill=kill, seed=3) as scene:
        assert scene.end() == 0
    check(stage, digests)
    assert scene.report["deaths"]["console"] >= 1
    assert scene.report["failed_requests"] == 0
