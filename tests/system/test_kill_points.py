"""A component dies at every named point in a request's life; the program that reads notices nothing.

The first instance dies at some passage in the middle, its successor at its first passage, and the next one at
its second. What is asserted: the digests are right, no request failed, and the deaths are those planted.
"""

from __future__ import annotations

import hashlib

import pytest

from hypervisor.abi import generated as abi
from tests.system.conftest import FILE_BYTES
from tests.system.plan import Plan, Point, Points, number_of
from tests.system.stage import ASKED, FILES, Stage
from tests.system.test_audio import AUDIO_POINTS
from tests.system.test_conversion import CONVERTER_POINTS
from tests.system.test_exactly_once import STATE_POINTS

pytestmark = pytest.mark.kvm

PAGE_FAULT, WRITE_FROM_CPL3 = 14, 6

# point -> the component that dies there, and the passages at which its first instances do.
POINTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("client.before_submit", "file_server"): (30, 1, 2),
    ("client.before_doorbell", "file_server"): (30, 1, 2),
    ("client.before_sleep", "file_server"): (12, 1, 2),
    ("client.before_replay", "file_server"): (1,),
    ("server.before_dispatch", "file_server"): (17, 1, 2),
    ("server.before_publish", "file_server"): (17, 1, 2),
    ("server.before_doorbell", "file_server"): (17, 1, 2),
    ("server.before_dispatch", "disk_driver"): (30, 1, 2),
    ("server.before_publish", "disk_driver"): (30, 1, 2),
    ("server.before_doorbell", "disk_driver"): (30, 1, 2),
    ("server.before_dispatch", "reincarnation_server"): (2, 1, 2),
    ("server.before_publish", "reincarnation_server"): (2, 1, 2),
    ("server.before_doorbell", "reincarnation_server"): (2, 1, 2),
    ("server.before_dispatch", "console"): (4, 1, 2),
    ("server.before_publish", "console"): (4, 1, 2),
    ("server.before_doorbell", "console"): (4, 1, 2),
    ("driver.before_kick", "disk_driver"): (40, 1, 2),
    ("driver.before_reply", "disk_driver"): (40, 1, 2),
    ("files.before_attempt", "file_server"): (20, 1, 2),
    ("files.before_copy", "file_server"): (20, 1, 2),
    ("files.before_checksum", "file_server"): (500, 1, 2),
    ("files.before_reply", "file_server"): (20, 1, 2),
    ("supervisor.before_keeping", "reincarnation_server"): (1, 1, 1),
    ("supervisor.before_verdict", "reincarnation_server"): (1, 1, 1),
    # In four transactions it is told of the components; the fifth is a verdict.
    **{(name, "reincarnation_server"): (5, 1, 1) for name in STATE_POINTS if name != "state.in_copy"},
    ("state.in_copy", "reincarnation_server"): (4, 1),  # not in an instance's first
}


@pytest.mark.parametrize(("point", "component"), POINTS, ids=[f"{name}-{who}" for name, who in POINTS])
def test_death_at(stage: Stage, digests: list[str], point: str, component: str) -> None:
    passages = POINTS[point, component]
    # Replaying and judging need somebody else's deaths.
    others = [Point("disk_driver", "driver.before_reply", (25, 30))] if component != "disk_driver" else []
    plan = Plan((Point(component, point, passages), *others))
    with_much_output = component == "console"
    passes = 4 if point == "client.before_sleep" else 1  # on a busy machine it seldom has to
    words = ("cat", "/file0", "/file1") if with_much_output else ("sha256tree", *["/"] * passes)
    with stage.play(FILES, *words, plan=plan) as scene:
        assert scene.end() == 0
    if with_much_output:
        halves = (stage.output[:FILE_BYTES], stage.output[FILE_BYTES:])
        wanted = [line.split()[0] for line in digests[:2]]
        assert [hashlib.sha256(half).hexdigest() for half in halves] == wanted
    else:
        assert stage.lines == digests * passes
    assert scene.report["failed_requests"] == 0
    planted = [
        (record["epoch"], record["kind"], record["vector"], record["error_code"], record["address"])
        for record in scene.deaths(component)
    ]
    assert planted == [
        (epoch, abi.Fault.EXCEPTION, PAGE_FAULT, WRITE_FROM_CPL3, number_of(point))
        for epoch in range(1, len(passages) + 1)
    ]
    assert scene.fully_recovered()


def test_the_supervisor_dies_undoing_what_it_died_of(stage: Stage, digests: list[str]) -> None:
    """In the midst of a verdict; its successors while they take it back. The last one is asked again."""
    supervisor, undoing = "reincarnation_server", "state.in_rollback"
    stage.change("disk_driver", restart=ASKED)
    plan = Plan(
        (
            Point(supervisor, undoing, (1,) * 4),
            Point(supervisor, "state.after_log", (5,)),
            Point("disk_driver", "driver.before_reply", (25, 30)),
        )
    )
    with stage.play(FILES, "sha256tree", "/", plan=plan) as scene:
        assert scene.end() == 0
    assert stage.lines == digests
    assert scene.report["failed_requests"] == 0
    died_at = [record["address"] for record in scene.deaths(supervisor)]
    assert died_at == [number_of("state.after_log"), *[number_of(undoing)] * 3]
    assert len(scene.deaths("disk_driver")) == 2
    assert scene.fully_recovered()


def test_the_supervisor_dies_of_its_state(stage: Stage, digests: list[str]) -> None:
    """Ten times at once after its start, of what it is asked; then it begins anew, and is told all again."""
    supervisor, deaths = "reincarnation_server", 10
    stage.change("disk_driver", restart=ASKED)
    plan = Plan(
        (
            Point(supervisor, "supervisor.before_verdict", (1,) * deaths),
            Point("disk_driver", "driver.before_reply", (25,)),
        ),
        hasty_ns=10**9,
    )
    with stage.play(FILES, "sha256tree", *["/"] * 2, plan=plan) as scene:
        scene.until(lambda: scene.row("disk_driver")["restarts"] == 1, "the driver does not come back")
        first = scene.texts(supervisor)
        scene.ask("kill", component="disk_driver")  # and it judges as before
        assert scene.end() == 0
    assert stage.lines == digests * 2
    assert scene.report["failed_requests"] == 0
    by_the_hypervisor, by_itself = (text for text in first if "poisoned" in text)
    assert by_the_hypervisor.startswith("poisoned: fresh; ")
    assert by_itself == "state components: poisoned, begun anew"
    assert [record["epoch"] for record in scene.deaths(supervisor)] == list(range(1, deaths + 1))
    assert len(scene.deaths("disk_driver")) == 2
    assert scene.fully_recovered()


def test_every_point_is_covered() -> None:
    """Also: no two points have the same number, and each is an address at which nothing is ever mapped."""
    files = Points.of_tree().files
    elsewhere = {name for name in files if files[name].startswith("tests/guests/")}
    elsewhere |= {*AUDIO_POINTS, *CONVERTER_POINTS, "state.in_rollback"}
    assert {name for name, _ in POINTS} == files.keys() - elsewhere
    numbers = [number_of(name) for name in files]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < abi.NULL_GUARD_END for number in numbers)
