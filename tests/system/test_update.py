"""Live update: while a program reads, components are replaced by new versions, some of which do not work."""

from __future__ import annotations

import threading
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hypervisor.abi import generated as abi
from tests.bed import IN_BED, dose
from tests.system.plan import UPDATE_STEPS, Plan, Strike
from tests.system.stage import COMPONENTS, FILES, IMAGES, Scene, Stage
from vmm.cli import history, update
from vmm.cli.command import CommandError, Parser

pytestmark = pytest.mark.kvm

RS, CONSOLE, DRIVER, SERVER = COMPONENTS
PASSES = dose(30)
LONG = dose(160)  # longer than an update is given
# Every fifth has each step, each victim and both ways.
MIDDLES = tuple(product(UPDATE_STEPS, (SERVER, DRIVER, RS), ("kill", "SIGKILL")))


def renew(*words: str) -> None:
    """`r3s3 update` of the system that runs; CommandError where it says why not."""
    parser = Parser()
    update.add_arguments(parser)
    assert update.run(parser.parse_args(words)) == 0


def lives(scene: Scene, component: str) -> list[dict[str, Any]]:
    """The component's instances, as `r3s3 history` has them."""
    return [row for row in history.with_times(scene.ask("history")) if row["component"] == component]


def reads_on(scene: Scene) -> None:
    """Until the program has read more than a while ago."""
    before = scene.row("sha256tree")["bytes"]
    scene.until(lambda: bool(scene.row("sha256tree")["bytes"] > before), "nothing is read any more")


def check(stage: Stage, scene: Scene, digests: list[str], passes: int = PASSES) -> None:
    """The program has noticed nothing."""
    assert stage.lines == digests * passes
    assert scene.report["failed_requests"] == 0
    assert scene.fully_recovered()


@pytest.mark.parametrize("name", COMPONENTS)
def test_each(stage: Stage, digests: list[str], name: str) -> None:
    rounds = 1 if IN_BED else 3
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        reads_on(scene)
        for _ in range(rounds):
            renew(name)
            reads_on(scene)
        ends = [row.get("why") for row in lives(scene, name) if "pool" not in row.get("why", "")]
        assert scene.end() == 0
    check(stage, scene, digests)
    assert ends == ["replaced: updated from 1.0.0 to 1.0.0"] * rounds + [None]


def test_all_at_once(stage: Stage, digests: list[str]) -> None:
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        reads_on(scene)
        renew(*COMPONENTS)
        reads_on(scene)
        assert {name: lives(scene, name)[-1]["epoch"] for name in COMPONENTS} == dict.fromkeys(COMPONENTS, 2)
        assert scene.end() == 0
    check(stage, scene, digests)
    assert scene.report["records"] and {each["kind"] for each in scene.report["records"]} == {
        abi.Fault.REPLACED
    }


@pytest.mark.parametrize(
    ("image", "why", "others"),
    [
        ("null_read", "exception 14", []),
        ("null_read", "exception 14", [DRIVER, RS]),
        ("infinite_loop", "took too long", []),
        ("denied_hypercall", "denied_hypercall", []),
    ],
)
def test_a_version_that_does_not_come_up(
    stage: Stage, digests: list[str], image: str, why: str, others: list[str]
) -> None:
    """The old ones go on, all of them."""
    with stage.play(FILES, "sha256tree", *["/"] * LONG) as scene:
        reads_on(scene)
        images = [str(IMAGES / f"{name}.elf") for name in (image, *others)]
        with pytest.raises(CommandError, match=f"not updated, and unchanged: .*{why}"):
            renew(SERVER, *others, *(word for each in images for word in ("--image", each)))
        reads_on(scene)
        assert all(lives(scene, name)[-1]["epoch"] == 1 for name in (SERVER, *others))
        assert scene.end() == 0
    check(stage, scene, digests, LONG)
    assert scene.report["records"] == []


@pytest.mark.parametrize("name", [SERVER, DRIVER, CONSOLE])
def test_a_version_that_fails_soon(stage: Stage, digests: list[str], name: str) -> None:
    """The old one comes back, by an ordinary recovery."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        reads_on(scene)
        before = lives(scene, name)[0]["digest"]
        renew(name, "--image", str(IMAGES / "hasty.elf"))
        reads_on(scene)
        scene.until(lambda: lives(scene, name)[-1]["ready_ns"] > 0, "it does not come back")
        assert lives(scene, name)[-1]["digest"] == before
        assert scene.end() == 0
    check(stage, scene, digests)
    assert [each["kind"] for each in scene.deaths(name)][-2:] == [abi.Fault.REPLACED, abi.Fault.PANIC]


@pytest.mark.parametrize(("step", "victim", "how"), MIDDLES[:: 5 if IN_BED else 1])
def test_death_in_the_middle(stage: Stage, digests: list[str], step: str, victim: str, how: str) -> None:
    """Of the one that is updated, or of another: the update succeeds or changes nothing."""
    plan = Plan((), (Strike(step, SERVER, victim, how=how),))
    with stage.play(FILES, "sha256tree", *["/"] * PASSES, plan=plan) as scene:
        reads_on(scene)
        try:
            renew(SERVER)
        except CommandError as error:
            assert f"{SERVER}: not updated, and unchanged: " in str(error)
        reads_on(scene)
        assert scene.end() == 0
    check(stage, scene, digests)
    assert len(scene.report["struck"]) == 1


def test_under_fire(stage: Stage, digests: list[str]) -> None:
    """Updates, some of them to versions that fail, while everybody is killed at random."""
    kill = ((DRIVER, 8.0), (SERVER, 3.0), (CONSOLE, 2.0), (RS, 4.0))
    passes, done, failed = PASSES, 0, 0
    with stage.play(FILES, "sha256tree", *["/"] * passes, kill=kill) as scene:
        scene.wait_started()
        for number in range(dose(40)):
            bad = ["--image", str(IMAGES / ("hasty.elf" if number % 4 == 1 else "null_read.elf"))]
            try:
                renew(COMPONENTS[number % 4 if number % 5 else 3], *(bad if number % 4 == 1 else []))
                done += 1
            except CommandError:
                failed += 1
            if scene._ended.is_set():
                break
        assert scene.end() == 0
    check(stage, scene, digests, passes)
    assert done


def refused(words: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        renew(*words)
    assert message in str(caught.value)


def test_bad_input(stage: Stage, digests: list[str], tmp_path: Path) -> None:
    text = (stage.manifests / f"{SERVER}.toml").read_text()
    greedy, grown, other = (tmp_path / f"{name}.toml" for name in ("greedy", "grown", "other"))
    greedy.write_text(text.replace('"quiesce",', '"quiesce", "output",'))
    grown.write_text(text.replace('operations = ["info", "read"]', 'operations = ["info", "read", "write"]'))
    other.write_text(text.replace('"statfs"', '"statfs"').replace('"stat", ', ""))
    not_elf = tmp_path / "image.elf"
    not_elf.write_text("no image at all\n")
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        reads_on(scene)
        refused(["nobody"], "no component 'nobody' in this system; there are")
        refused(["sha256tree"], "is not running just now, or a program")
        refused([SERVER, SERVER], "named twice")
        refused([SERVER, DRIVER, "--image", "x.elf"], "1 times --image for 2 components")
        refused([SERVER, "--image", str(not_elf)], "not an ELF file")
        refused([SERVER, "--image", "/none.elf"], "/none.elf: No such file")
        refused(
            [SERVER, "--manifest", str(greedy)], "asks for more: hypercall output; allow it with --allow-new"
        )
        refused([SERVER, "--manifest", str(grown)], "blk asks for write more than the running version")
        refused([SERVER, "--manifest", str(other)], "fs does not serve stat, which sha256tree uses")
        renew(SERVER, "--manifest", str(greedy), "--allow-new-authority")
        reads_on(scene)
        allowed = next(each for each in scene.ask("policy")["components"] if each["name"] == SERVER)
        assert abi.Hypercall.OUTPUT in allowed["hypercalls"]
        assert scene.end() == 0
    check(stage, scene, digests)


def test_two_at_a_time(stage: Stage, digests: list[str]) -> None:
    """The second is told to wait."""
    with stage.play(FILES, "sha256tree", *["/"] * LONG) as scene:
        reads_on(scene)
        slow = ["--image", str(IMAGES / "infinite_loop.elf")]
        first = threading.Thread(target=lambda: refused([SERVER, *slow], "took too long"))
        first.start()
        scene.until(lambda: scene.ask("updated") is None, "the first does not begin")
        refused([DRIVER], "another is under way; try again when it is over")
        first.join()
        renew(DRIVER)
        assert scene.end() == 0
    check(stage, scene, digests, LONG)


def test_one_that_is_down(stage: Stage, digests: list[str]) -> None:
    """It is told so; its policy has it wait a while before it comes back."""
    stage.change(SERVER, restart='policy = "backoff"\nbackoff_ms = [1500]')
    with stage.play(FILES, "sha256tree", "/", "/") as scene:
        reads_on(scene)
        scene.ask("kill", component=SERVER)
        refused([SERVER], "is not running just now")
        assert scene.end() == 0
    check(stage, scene, digests, 2)
