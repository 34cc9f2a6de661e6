"""What the file server keeps for its clients outlives it: positions move once, locks stay, waits go on."""

from __future__ import annotations

import pytest

from hypervisor.abi import generated as abi
from tests.bed import dose
from tests.bench.update import build_layouts
from tests.system.conftest import FILE_BYTES
from tests.system.plan import Plan, Point
from tests.system.stage import FILES, Scene, Stage
from vmm.cli import update
from vmm.cli.command import Parser

pytestmark = pytest.mark.kvm

SERVER = "file_server"
BYTES = 10_000
READS = -(-FILE_BYTES // BYTES)  # in one pass
STATE_POINTS = ("state.after_log", "state.before_commit", "state.after_commit", "state.in_copy")
POINTS = (*STATE_POINTS, "files.before_reply", "server.before_dispatch", "server.before_publish")


def check(stage: Stage, scene: Scene, done: int) -> None:
    """The program has found everything as it must be, and nothing was given up."""
    assert scene.status == 0, stage.output
    assert stage.said | {"replayed": 0} == {"done": done, "wrong": 0, "error": 0, "replayed": 0}
    assert scene.fully_recovered()


def test_positions_move_once(stage: Stage) -> None:
    passes = dose(4)
    words = ["holder", "next", "/file1", str(passes), str(BYTES), "3000"]
    with stage.play(FILES, *words, kill=((SERVER, 20.0), ("disk_driver", 5.0))) as scene:
        scene.end(120)
    check(stage, scene, passes * READS)
    assert scene.report["deaths"][SERVER] >= 50 * passes // 4


@pytest.mark.parametrize("point", POINTS)
def test_positions_at_every_point(stage: Stage, point: str) -> None:
    passages = (60, 3, 4, 40, 7)
    words = ["holder", "next", "/file2", "1", str(BYTES), "0"]
    with stage.play(FILES, *words, plan=Plan((Point(SERVER, point, passages),))) as scene:
        scene.end()
    check(stage, scene, READS)
    assert len(scene.deaths(SERVER)) == len(passages)


def test_locks_are_held_and_waited_for(stage: Stage) -> None:
    rounds = dose(300)
    kill = ((SERVER, 20.0),)
    with stage.play(FILES, "holder", "lock", "/file1", str(rounds), "5000", kill=kill) as scene:
        scene.end(120)
    check(stage, scene, rounds)
    assert scene.report["deaths"][SERVER] >= 50 * rounds // 300
    assert {record["kind"] for record in scene.deaths(SERVER)} == {abi.Fault.KILLED}  # who waits is not hung


def test_the_end_of_a_session_gives_up_its_locks(stage: Stage) -> None:
    """Each of six takes the same lock and ends with it; the others wait, also through deaths."""
    kill = ((SERVER, 10.0),)
    with stage.play(FILES, "holder", "leave", "/file1", "150000", kill=kill, programs=6) as scene:
        assert scene.end() == 0
    assert scene.fully_recovered()


def goes_on(scene: Scene) -> None:
    """Until the program has asked for more."""
    calls = scene.row("sha256tree")["calls"] + 20
    scene.until(lambda: bool(scene.row("sha256tree")["calls"] > calls), "nothing is read")


def renew(stage: Stage, schema: int, *words: str) -> None:
    """`r3s3 update` to a version whose state has another schema."""
    stage.change(SERVER, ("schema = 1", f"schema = {schema}"))
    parser = Parser()
    update.add_arguments(parser)
    manifest = str(stage.manifests / f"{SERVER}.toml")
    assert update.run(parser.parse_args([SERVER, "--manifest", manifest, *words])) == 0


def test_positions_go_through_other_layouts(stage: Stage) -> None:
    """Versions whose state looks otherwise, there and back, while the position moves."""
    images = build_layouts()
    passes = dose(6)
    with stage.play(FILES, "holder", "next", "/file1", str(passes), str(BYTES), "1000") as scene:
        scene.wait_started()
        for schema in range(2, 8):
            renew(stage, schema, "--image", str(images[schema % 2]))
        scene.end()
    check(stage, scene, passes * READS)
    assert len(scene.deaths(SERVER)) == 6


def test_files_are_opened_again_where_the_state_is_lost(stage: Stage, digests: list[str]) -> None:
    """A version that knows no older schema: its clients go on, because they know what they had open."""
    passes = dose(30)
    with stage.play(FILES, "sha256tree", *["/"] * passes) as scene:
        for schema in (2, 3, 4):
            goes_on(scene)
            renew(stage, schema)
        assert scene.end() == 0
    assert stage.lines == digests * passes
    assert scene.report["failed_requests"] == 0
    assert len(scene.deaths(SERVER)) == 3
