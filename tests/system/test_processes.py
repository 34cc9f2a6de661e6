"""Deaths of processes rather than of guests: tenders, the device, the zygote, the hypervisor; killed and stopped.

The program goes on reading in every case but one: with its hypervisor the whole system goes, at once.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.system import stopping
from tests.system.stage import FILES, Scene, Stage, children, family, is_alive, strike

pytestmark = pytest.mark.kvm

PASSES = 8  # of reading everything: there is time to kill somebody in the middle
GONE_S = 2.0


def read_all(stage: Stage, digests: list[str], scene: Scene, passes: int = PASSES) -> None:
    """The end: all digests are right, and nothing failed."""
    assert scene.end() == 0
    assert stage.lines == digests * passes
    assert scene.report["failed_requests"] == 0
    assert scene.fully_recovered()


def kinds(scene: Scene, component: str) -> list[int]:
    """The kinds of the component's deaths, in order."""
    return [record["kind"] for record in scene.deaths(component)]


def wait_for_reading(scene: Scene) -> None:
    """Until the program is in the middle of its work, and everybody has a spare."""
    scene.until(lambda: bool(scene.row("sha256tree")["bytes"] > 4 << 20), "nothing is read")
    scene.until(lambda: all(row["spares"] for row in scene.ask("ps")[:-1]), "no spares")


# -- tenders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["disk_driver", "file_server", "console", "reincarnation_server"])
def test_tender_killed(stage: Stage, digests: list[str], component: str) -> None:
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        strike(scene.tender(component), signal.SIGKILL)
        read_all(stage, digests, scene)
    assert kinds(scene, component) == [abi.FAULT_TENDER_DIED]


@pytest.mark.parametrize("component", ["disk_driver", "file_server"])
def test_tender_stopped(stage: Stage, digests: list[str], component: str) -> None:
    """Requests wait for it and it does not answer the watch: replaced."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        pid = scene.tender(component)
        strike(pid, signal.SIGSTOP)
        read_all(stage, digests, scene)
        assert not is_alive(pid)
    assert kinds(scene, component) == [abi.FAULT_TENDER_UNRESPONSIVE]


def test_supervisor_stopped(stage: Stage, digests: list[str]) -> None:
    """It is asked, does not answer by its deadline, and is replaced; its successor is asked again."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        strike(scene.tender("reincarnation_server"), signal.SIGSTOP)
        scene.ask("kill", component="disk_driver")
        read_all(stage, digests, scene)
    assert kinds(scene, "reincarnation_server") == [abi.FAULT_HUNG]
    assert kinds(scene, "disk_driver") == [abi.FAULT_KILLED]


# -- the device -----------------------------------------------------------------------------------------


def test_device_killed(stage: Stage, digests: list[str]) -> None:
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        strike(scene.device, signal.SIGKILL)
        read_all(stage, digests, scene)
    assert kinds(scene, "disk_driver") == [abi.FAULT_DEVICE_DIED]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_device_killed_at_its_read(stage: Stage, digests: list[str], after: bool) -> None:
    """Just before, and just after, it has read from the image into the pool."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        pid = scene.device
        try:
            stopping.kill_at(pid, stopping.PREADV, 5, after=after)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                raise
            pytest.skip(f"processes cannot be traced here: {error}")
        read_all(stage, digests, scene)
        assert not is_alive(pid)
    assert kinds(scene, "disk_driver") == [abi.FAULT_DEVICE_DIED]


def test_device_stopped(stage: Stage, digests: list[str]) -> None:
    """Nothing can be seen wrong with the driver, which waits. When it is replaced, its device does not drain in
    time, and is replaced as well."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        pid = scene.device
        strike(pid, signal.SIGSTOP)
        scene.ask("kill", component="disk_driver")
        read_all(stage, digests, scene)
        assert not is_alive(pid)
    assert kinds(scene, "disk_driver")[0] == abi.FAULT_KILLED


# -- the zygote -----------------------------------------------------------------------------------------


def test_zygote_killed(stage: Stage, digests: list[str]) -> None:
    """Everything it has made may go with it or not: the system goes on, and a later death is recovered from."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        zygote = scene.zygote
        strike(zygote, signal.SIGKILL)
        scene.until(lambda: not is_alive(zygote), "it does not die")
        scene.until(lambda: scene.row("disk_driver")["pid"] is not None, "no driver")
        for component in ("disk_driver", "file_server", "disk_driver"):
            epoch = scene.row(component)["epoch"]
            scene.until(lambda: scene.row(component)["pid"] is not None, f"{component} is not back")  # noqa: B023
            scene.ask("kill", component=component)
            scene.until(lambda: scene.row(component)["epoch"] > epoch, f"{component} is not replaced")  # noqa: B023
        assert scene.zygote != zygote
        read_all(stage, digests, scene)


def test_zygote_killed_with_its_spares_and_a_driver(stage: Stage, digests: list[str]) -> None:
    """All that could make a successor quickly is gone at the moment one is needed."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        tender, zygote = scene.tender("disk_driver"), scene.zygote
        running = {row["pid"] for row in scene.ask("ps")} | {scene.device}
        spares = [pid for pid in children(zygote) if pid not in running]
        assert spares
        for pid in (zygote, *spares, tender):
            strike(pid, signal.SIGKILL)
        read_all(stage, digests, scene)


# -- the hypervisor -------------------------------------------------------------------------------------


def memory_of(pids: set[int]) -> list[str]:
    """Names of the memory objects that processes still hold."""
    found = []
    for pid in pids:
        try:
            links = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        found += [link for link in links if link.startswith("/memfd:r3s3")]
    return found


def test_hypervisor_killed(stage: Stage, tmp_path: Path) -> None:
    """No process, no memory object is left within two seconds, and the socket's name is in nobody's way."""
    with stage.play(FILES, "sha256tree", *["/"] * 100) as scene:
        wait_for_reading(scene)
        everybody = family(scene.hypervisor) | {scene.hypervisor}
        assert len(everybody) > 8
        assert memory_of(everybody)
        strike(scene.tender("disk_driver"), signal.SIGSTOP)  # one that cannot notice anything by itself
        began = time.monotonic()
        strike(scene.hypervisor, signal.SIGKILL)
        while any(is_alive(pid) for pid in everybody):
            assert time.monotonic() - began < GONE_S, [pid for pid in everybody if is_alive(pid)]
            time.sleep(0.01)
        assert not memory_of(everybody)
    with stage.play(FILES, "sha256tree", "/") as again:
        assert again.end() == 0
    assert not list(tmp_path.glob("*.sock"))


def test_hypervisor_and_zygote_killed(stage: Stage) -> None:
    """Neither is there to clean up after the other."""
    with stage.play(FILES, "sha256tree", *["/"] * 100) as scene:
        wait_for_reading(scene)
        everybody = family(scene.hypervisor) | {scene.hypervisor}
        strike(scene.tender("file_server"), signal.SIGSTOP)
        zygote, hypervisor = scene.zygote, scene.hypervisor
        began = time.monotonic()
        for pid in (zygote, hypervisor):
            strike(pid, signal.SIGKILL)
        while left := [pid for pid in everybody if is_alive(pid)]:
            assert time.monotonic() - began < GONE_S, left
            time.sleep(0.01)
