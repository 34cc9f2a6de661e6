"""The strict DMA mode: a piece of the file server's cache is lent for each read, and taken back before it is
looked at. Everything works as with a pool, deaths included, and what is wrong is noticed where it lies."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from images.image import BLOCK
from tests.system.conftest import FILE_BYTES, SEED
from tests.system.plan import ROOT, Plan, Point
from tests.system.stage import FILES, PATIENCE_S, Stage, strike
from vmm import system

pytestmark = pytest.mark.kvm

MANIFEST = ROOT / "components/file_server/manifest_strict.toml"
POINTS = {
    "disk_driver": (
        "server.before_dispatch", "driver.before_kick", "driver.before_reply", "server.before_publish",
        "server.before_doorbell",
    ),
    "file_server": (
        "client.before_submit", "client.before_doorbell", "files.before_copy", "files.before_reply",
    ),
}  # fmt: skip
PAIRS = [(component, point) for component, points in POINTS.items() for point in points]
PASSAGES = (7, 1, 2)  # there are some 20 reads; the first few are of the file server's start


@pytest.fixture
def strict(stage: Stage) -> Stage:
    """The file server lends per request."""
    (stage.manifests / "file_server.toml").write_text(MANIFEST.read_text())
    return stage


def test_the_shipped_system_file() -> None:
    """It differs from the default in that alone, and costs no more memory."""
    default = system.compile(ROOT / "images/default.toml", "cat")
    strict = system.compile(ROOT / "images/strict.toml", "cat")
    assert [each.name for each in strict.components] == [each.name for each in default.components]
    assert (strict.devices, strict.supervisor) == (default.devices, default.supervisor)
    channel, other = (
        next(each for each in policy.channels if each.client == "file_server") for policy in (strict, default)
    )
    assert (channel.dma, channel.pool, other.dma, other.grants) == ("per_request", None, "pool", None)
    assert channel.grants and other.pool
    memory, other_memory = (
        next(each.memory for each in policy.components if each.name == "file_server")
        for policy in (strict, default)
    )
    lent = channel.grants.count * channel.grants.pages * abi.PAGE_SIZE
    assert memory + lent <= other_memory + other.pool.size + (1 << 20)


@pytest.mark.parametrize(("component", "point"), PAIRS)
def test_death_at(strict: Stage, digests: list[str], component: str, point: str) -> None:
    plan = Plan((Point(component, point, PASSAGES),))
    with strict.play(FILES, "sha256tree", "/", plan=plan) as scene:
        assert scene.end() == 0
    assert strict.lines == digests
    assert scene.report["failed_requests"] == 0
    assert [record["kind"] for record in scene.deaths(component)] == [abi.Fault.EXCEPTION] * 3
    others = [record for record in scene.report["records"] if record["component"] != component]
    assert not others


def test_both_killed_at_random(strict: Stage, digests: list[str]) -> None:
    rates = (("disk_driver", 30.0), ("file_server", 10.0))
    with strict.play(FILES, "sha256tree", *["/"] * 10, kill=rates) as scene:
        assert scene.end() == 0
    assert strict.lines == digests * 10
    assert scene.report["failed_requests"] == 0
    assert len(scene.deaths("disk_driver")) >= 3
    assert scene.deaths("file_server")
    assert {record["kind"] for record in scene.report["records"]} == {abi.Fault.KILLED}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_device(strict: Stage, digests: list[str], number: signal.Signals) -> None:
    """Killed or stopped, it does not close a window in time: it is replaced, and the driver with it."""
    with strict.play(FILES, "sha256tree", *["/"] * 8) as scene:
        scene.until(lambda: bool(scene.row("sha256tree")["bytes"] > 4 << 20), "nothing is read")
        strike(scene.device, number)
        assert scene.end() == 0
    assert strict.lines == digests * 8
    assert scene.report["failed_requests"] == 0
    assert [record["kind"] for record in scene.deaths("disk_driver")] == [abi.Fault.DEVICE_DIED]
    assert not scene.deaths("file_server")


def test_wrong_data_is_noticed_where_it_lies(strict: Stage, digests: list[str]) -> None:
    """The device puts it where the cache keeps its blocks; still nobody ever gets it."""
    dice = random.Random(SEED)
    content = [dice.randbytes(FILE_BYTES) for _ in range(2)][1]
    image = bytearray(strict.disk.read_bytes())
    at = image.index(content[:BLOCK]) + FILE_BYTES // 2  # all that is read together with it is of this file
    image[at] ^= 4
    strict.disk = strict.folder / "broken.img"
    strict.disk.write_bytes(image)
    with strict.play(FILES, "sha256tree", "/") as scene:
        assert scene.end() == 1
    assert strict.lines == [digests[0], *digests[2:]]
    assert not scene.report["records"]


@pytest.fixture
def daemon(strict: Stage) -> Iterator[Path]:
    """qemu-storage-daemon serves the disk as a qcow2; its socket."""
    qcow2, path = strict.folder / "disk.qcow2", strict.folder / "disk.sock"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", strict.disk, qcow2], check=True)
    server = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev", f"driver=file,node-name=file,filename={qcow2},read-only=on",
            "--blockdev", "driver=qcow2,node-name=disk,file=file,read-only=on",
            "--export", f"type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={path}",
        ]
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert server.poll() is None and time.monotonic() < end, "the daemon does not listen"
            time.sleep(0.01)
        yield path
    finally:
        server.kill()
        server.wait()


def test_a_foreign_back_end(strict: Stage, digests: list[str], daemon: Path) -> None:
    """Its windows open and close for each request, too, and a driver that dies leaves nothing behind."""
    strict.disk = Path(f"vhost-user:{daemon}")
    with strict.play(FILES, "sha256tree", *["/"] * 8, kill=(("disk_driver", 10.0),)) as scene:
        assert scene.end() == 0
    assert strict.lines == digests * 8
    assert scene.report["failed_requests"] == 0
    assert scene.deaths("disk_driver")
    assert not scene.deaths("file_server")


def test_a_back_end_with_too_few_memory_slots(strict: Stage, daemon: Path) -> None:
    """Said at the start: later it would refuse a window now and then."""
    text = MANIFEST.read_text()
    (strict.manifests / "file_server.toml").write_text(text.replace("\nobjects = 16\n", "\nobjects = 60\n"))
    strict.disk = Path(f"vhost-user:{daemon}")
    with strict.play(FILES, "sha256tree", "/") as scene, pytest.raises(AssertionError) as caught:
        scene.wait_started()
        pytest.skip("this daemon has more")
    assert str(caught.value).startswith(
        f"disk {strict.disk}: it has 32 memory slots, strict DMA mode needs 61; "
        "lower objects in [grants] of the file server's manifest"
    )
