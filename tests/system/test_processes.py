"""Deaths of processes rather than of guests: tenders, device, zygote, hypervisor; killed and stopped.

The program goes on reading in every case but one: with its hypervisor the whole system goes, at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.system import stopping
from tests.system.plan import Plan, Point
from tests.system.stage import ASKED, FILES, Scene, Stage, children, family, is_alive, is_stopped, strike

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


@contextlib.contextmanager
def standing_still(scene: Scene) -> Iterator[None]:
    """The program does, lest it come to its end while something is waited for; then it reads on."""
    program = scene.tender("sha256tree")
    strike(program, signal.SIGSTOP)
    yield
    read = int(scene.row("sha256tree")["bytes"])
    strike(program, signal.SIGCONT)
    scene.until(lambda: bool(scene.row("sha256tree")["bytes"] > read), "nothing more is read")


def wait_for_reading(scene: Scene) -> None:
    """Until the program is in the middle of its work, and everybody has a spare."""
    scene.until(lambda: bool(scene.row("sha256tree")["bytes"]), "nothing is read")
    everybody = 2 * len(scene.ask("ps"))  # all but the program have a spare, and there is the device
    with standing_still(scene):
        scene.until(lambda: len(children(scene.zygote)) == everybody, "not everybody has a spare")


# -- tenders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["disk_driver", "file_server", "console", "reincarnation_server"])
def test_tender_killed(stage: Stage, digests: list[str], component: str) -> None:
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        strike(scene.tender(component), signal.SIGKILL)
        if component in ("console", "reincarnation_server"):  # the program could do without
            with standing_still(scene):
                scene.until(lambda: bool(scene.row(component)["deaths"]), "nobody notices")
        read_all(stage, digests, scene)
    assert kinds(scene, component) == [abi.Fault.TENDER_DIED]


@pytest.mark.parametrize("component", ["disk_driver", "file_server"])
def test_tender_stopped(stage: Stage, digests: list[str], component: str) -> None:
    """Requests wait for it and it does not answer the watch: replaced."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        pid = scene.tender(component)
        strike(pid, signal.SIGSTOP)
        read_all(stage, digests, scene)
        assert not is_alive(pid)
    assert kinds(scene, component) == [abi.Fault.TENDER_UNRESPONSIVE]


@pytest.mark.parametrize("restart", ["", ASKED], ids=["foreseen", "asked"])
def test_supervisor_stopped(stage: Stage, digests: list[str], restart: str) -> None:
    """It is told or asked, does not answer by its deadline, and is replaced; its successor is told or asked
    again. Who dies meanwhile is back at once where that was foreseen."""
    stage.change("disk_driver", restart=restart)
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        supervisor = scene.tender("reincarnation_server")
        strike(supervisor, signal.SIGSTOP)
        scene.until(lambda: is_stopped(supervisor), "it does not stop")
        scene.ask("kill", component="disk_driver")
        back, noticed = ("disk_driver", "recovered"), ("reincarnation_server", "died:")

        def happened() -> list[tuple[str, str]]:
            events = [(line["component"], line["text"].split()[0]) for line in scene.ask("log")]
            return [event for event in events if event in (back, noticed)]

        with standing_still(scene):
            scene.until(lambda: len(happened()) == 2, "not both are dealt with")
        assert happened() == ([noticed, back] if restart else [back, noticed])
        read_all(stage, digests, scene)
    assert kinds(scene, "reincarnation_server") == [abi.Fault.HUNG]
    assert kinds(scene, "disk_driver") == [abi.Fault.KILLED]


# -- hung guests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "point"),
    [
        ("disk_driver", "driver.before_reply"),
        ("file_server", "files.before_reply"),
        ("console", "server.before_publish"),
        ("reincarnation_server", "supervisor.before_verdict"),
    ],
)
def test_endless_loop(stage: Stage, digests: list[str], component: str, point: str) -> None:
    """Requests wait for it and it only computes: found by the watch or by the deadline of who asked, and
    replaced."""
    passage = 1 if component in ("console", "reincarnation_server") else 20
    points = [Point(component, point, (passage,), hang=True)]
    if component == "reincarnation_server":
        points.append(Point("disk_driver", "driver.before_reply", (40,)))
        stage.change("disk_driver", restart=ASKED)
    with stage.play(FILES, "sha256tree", "/", plan=Plan(tuple(points))) as scene:
        read_all(stage, digests, scene, passes=1)
    assert kinds(scene, component) == [abi.Fault.HUNG]


def test_client_killed_while_asleep(stage: Stage, digests: list[str]) -> None:
    """The file server has asked its driver, whose device stands still, and sleeps: there it dies."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        device = scene.device
        strike(device, signal.SIGSTOP)
        seen: list[int] = []

        def sleeps() -> bool:
            time.sleep(0.05)
            seen.append(scene.row("file_server")["exits"])
            return len(seen) > 3 and seen[-1] == seen[-4]

        scene.until(sleeps, "the file server does not sleep")
        scene.ask("kill", component="file_server")
        strike(device, signal.SIGCONT)
        read_all(stage, digests, scene)
    assert kinds(scene, "file_server") == [abi.Fault.KILLED]


# -- the device -----------------------------------------------------------------------------------------


def test_device_killed(stage: Stage, digests: list[str]) -> None:
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        strike(scene.device, signal.SIGKILL)
        read_all(stage, digests, scene)
    assert kinds(scene, "disk_driver") == [abi.Fault.DEVICE_DIED]


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
    assert kinds(scene, "disk_driver") == [abi.Fault.DEVICE_DIED]


def test_device_stopped(stage: Stage, digests: list[str]) -> None:
    """Nothing can be seen wrong with the driver, which waits. When it is replaced, its device does not drain
    in time, and is replaced as well."""
    with stage.play(FILES, "sha256tree", *["/"] * PASSES) as scene:
        wait_for_reading(scene)
        pid = scene.device
        strike(pid, signal.SIGSTOP)
        scene.ask("kill", component="disk_driver")
        read_all(stage, digests, scene)
        assert not is_alive(pid)
    assert kinds(scene, "disk_driver")[0] == abi.Fault.KILLED


# -- the zygote -----------------------------------------------------------------------------------------


def test_zygote_killed(stage: Stage, digests: list[str]) -> None:
    """All it has made may go with it or not: the system goes on, and later deaths are recovered from."""
    passes = 3 * PASSES
    with stage.play(FILES, "sha256tree", *["/"] * passes) as scene:
        wait_for_reading(scene)
        zygote = scene.zygote
        strike(zygote, signal.SIGKILL)
        with standing_still(scene):
            scene.until(lambda: not is_alive(zygote), "it does not die")
            scene.until(lambda: len(children(scene.hypervisor)) == 1, "no other is started")
        for component in ("disk_driver", "file_server", "disk_driver"):
            scene.tender(component)  # it runs
            scene.ask("kill", component=component)
            scene.tender(component)
        assert scene.zygote != zygote
        read_all(stage, digests, scene, passes)


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


def about(pid: int) -> str:
    """What the kernel says of a process that should have gone."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return "; ".join(line for line in lines if line.startswith(("Name", "State", "Pid", "PPid", "Threads")))


@pytest.mark.alone
def test_hypervisor_killed(stage: Stage, tmp_path: Path) -> None:
    """No process, no memory object is left within two seconds, and the socket's name is in nobody's way."""
    with stage.play(FILES, "sha256tree", *["/"] * 100) as scene:
        wait_for_reading(scene)
        everybody = family(scene.hypervisor) | {scene.hypervisor}
        assert memory_of(everybody)
        strike(scene.tender("disk_driver"), signal.SIGSTOP)  # one that cannot notice anything by itself
        began = time.monotonic()
        strike(scene.hypervisor, signal.SIGKILL)
        while any(is_alive(pid) for pid in everybody):
            assert time.monotonic() - began < GONE_S, [about(pid) for pid in everybody if is_alive(pid)]
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
        stopped, zygote, hypervisor = scene.tender("file_server"), scene.zygote, scene.hypervisor
        strike(stopped, signal.SIGSTOP)
        scene.until(
            lambda: is_stopped(stopped), "it does not stop"
        )  # only then the kernel wakes it at the end
        began = time.monotonic()
        for pid in (zygote, hypervisor):
            strike(pid, signal.SIGKILL)
        while left := [pid for pid in everybody if is_alive(pid)]:
            assert time.monotonic() - began < GONE_S, [about(pid) for pid in left]
            time.sleep(0.01)
