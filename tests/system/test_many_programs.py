"""Sixteen programs read everything at once through one small cache, while what they read through dies."""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from tests.system.stage import FILES, Stage

pytestmark = pytest.mark.kvm

READERS = 16
CLIENTS = 32  # that the file server has room for


@pytest.mark.parametrize("kill", [(), (("disk_driver", 20.0), ("file_server", 5.0))], ids=["calm", "deaths"])
def test_sixteen_readers(stage: Stage, digests: list[str], kill: tuple[tuple[str, float], ...]) -> None:
    with stage.play(FILES, "sha256tree", "/", kill=kill, programs=READERS) as scene:
        assert scene.end() == 0
    assert sorted(stage.lines) == sorted(digests * READERS)
    assert scene.report["failed_requests"] == 0
    assert bool(scene.report["deaths"]) == bool(kill)


def test_more_programs_than_the_file_server_has_room_for(stage: Stage) -> None:
    """It says so at its start, and serves nobody."""
    changes = (
        ("clients = 16 ", "clients = 64 "),
        ("slots = 32", "slots = 2"),
        ('"128 KiB"\n\n[uses', '"4 KiB"\n\n[uses'),
    )
    stage.change("file_server", *changes, restart='policy = "never"')
    stage.change("console", ("clients = 16", "clients = 64"))
    with stage.play(FILES, "cat", "/file0", programs=CLIENTS + 1) as scene:
        assert scene.end() == 1
    (death,) = scene.deaths("file_server")
    assert death["kind"] == abi.Fault.PANIC
    why = f"{CLIENTS + 1} clients of the file server, which has room for {CLIENTS}: run fewer programs"
    assert why in death["message"]
    assert stage.output == b""
