"""Sixteen programs read everything at once through one small cache, while what they read through dies."""

from __future__ import annotations

import pytest

from tests.system.stage import FILES, Stage

pytestmark = pytest.mark.kvm

READERS = 16


@pytest.mark.parametrize("kill", [(), (("disk_driver", 20.0), ("file_server", 5.0))], ids=["calm", "deaths"])
def test_sixteen_readers(stage: Stage, digests: list[str], kill: tuple[tuple[str, float], ...]) -> None:
    with stage.play(FILES, "sha256tree", "/", kill=kill, programs=READERS) as scene:
        assert scene.end() == 0
    assert sorted(stage.lines) == sorted(digests * READERS)
    assert scene.report["failed_requests"] == 0
    assert bool(scene.report["deaths"]) == bool(kill)
