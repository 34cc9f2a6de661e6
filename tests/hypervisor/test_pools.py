"""Whose pool is whose: kept where only the driver is a new one, fresh where the client or the device is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from hypervisor import process
from hypervisor.abi import generated as abi
from hypervisor.dma import DRAIN_DEADLINE_S
from tests.hypervisor.policies import DISK, storage
from tests.hypervisor.world import FakeTender, World

MakeWorld = Callable[..., World]
BOTH = pytest.mark.parametrize("foreseen", [(), (1, 2)], ids=["asked", "foreseen"])


class Watched:
    """A world whose pool and clients are watched: every client instance has had pools of its own only."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connection = world.system.connections[1]
        self.clients: dict[int, FakeTender] = {}
        self.pools: set[int] = set()
        self.look()

    @property
    def pool(self) -> int:
        """The inode of the present one."""
        assert self.connection.pool
        return os.fstat(self.connection.pool.fd).st_ino

    def look(self) -> None:
        """Remember who is there."""
        self.pools.add(self.pool)
        for tender in self.world.launcher.tenders:
            if tender.name == "files":
                self.clients[tender.instance.number] = tender

    def until(self, condition: Callable[[], object]) -> None:
        """`World.until`, watched."""

        def looked() -> object:
            self.look()
            return condition()

        self.world.until(looked)

    def revive(self, *names: str) -> None:
        """`World.revive`, watched."""
        for name in names:
            self.until(lambda name=name: self.world.live(name).running and self.world.tender(name).started)  # type: ignore[misc]
            self.world.ready(name)

    def settle(self) -> None:
        """All live, and the client has mapped what there is; then everybody reaches the present pool, and no
        instance of the client has ever had a pool of another."""
        world = self.world
        self.until(lambda: world.live("driver").running and world.live("files").running)
        for name in ("driver", "files"):
            if not world.tender(name).instance.ready_ns:
                self.revive(name)
        self.until(lambda: not world.system.recoveries)
        if world.state("files", 1)[0] == "reopen":
            world.call("files", abi.Hypercall.RECONNECT, 0)
        place = world.live("files").placement.region(abi.RegionKind.POOL).address
        assert world.tender("files").windows[place].inode == self.pool
        assert world.backend.windows[abi.POOL_IOVA] == self.pool
        assert world.state("driver", 1)[0] == world.state("files", 1)[0] == "open"
        self.look()
        had = [tender.mapped & self.pools for tender in self.clients.values()]
        assert sum(map(len, had)) == len(set().union(*had)), "a pool of another instance"
        driver = world.tender("driver")
        assert not driver.mapped & self.pools, "the driver has offsets, not bytes"


@pytest.fixture
def watched(make_world: MakeWorld) -> Callable[..., Watched]:
    return lambda *arguments, **options: Watched(make_world(*arguments, **options))


@BOTH
def test_kept_when_only_the_driver_dies(watched: Callable[..., Watched], foreseen: tuple[int, ...]) -> None:
    scene = watched(foreseen=foreseen)
    world, first = scene.world, scene.pool
    rings = {os.fstat(scene.connection.rings.fd).st_ino}
    for death in range(4):
        if death % 2:
            world.tender("driver").fault(abi.Fault.EXCEPTION, 14)
            world.until(lambda death=death: world.live("driver").deaths > death)  # type: ignore[misc]
        else:
            world.kill("driver")
        scene.revive("driver")
        scene.settle()
        assert scene.pool == first
        rings.add(os.fstat(scene.connection.rings.fd).st_ino)
    assert len(rings) == 5, "rings are new in each epoch"
    assert world.backend.calls == ["start"] + 4 * ["stop", "start"]


def test_kept_when_the_client_complains(watched: Callable[..., Watched]) -> None:
    scene = watched()
    first = scene.pool
    scene.world.call("files", abi.Hypercall.COMPLAIN, 0, 1)
    scene.until(lambda: scene.world.live("driver").deaths)
    scene.settle()
    assert scene.pool == first


@BOTH
def test_fresh_when_the_client_dies(watched: Callable[..., Watched], foreseen: tuple[int, ...]) -> None:
    scene = watched(foreseen=foreseen)
    for _ in range(3):
        old, memory = scene.pool, scene.connection.pool
        scene.world.kill("files")
        scene.settle()
        assert scene.pool != old
        scene.until(lambda memory=memory: memory and memory.fd < 0)  # type: ignore[misc]


@pytest.mark.parametrize("died", [("driver", "files"), ("files", "driver")])
@pytest.mark.parametrize("back", [("driver", "files"), ("files", "driver")])
def test_fresh_when_both_die(
    watched: Callable[..., Watched], died: tuple[str, str], back: tuple[str, str]
) -> None:
    """In whatever order they die and are brought back; the first is there before the second is decided on."""
    scene = watched()
    world, old = scene.world, scene.pool
    assert world.supervisor
    world.supervisor.undecided = {1: None, 2: None}
    for name in died:
        world.kill(name)
    scene.until(lambda: world.supervisor and all(world.supervisor.undecided.values()))
    for name in back:
        world.supervisor.decide(world.live(name).policy.index)
        scene.until(lambda name=name: world.live(name).running)  # type: ignore[misc]
    scene.settle()
    assert scene.pool != old


@pytest.mark.parametrize("died", [("driver", "files"), ("files", "driver")])
def test_fresh_when_both_die_and_nobody_waits(watched: Callable[..., Watched], died: tuple[str, str]) -> None:
    scene = watched(foreseen=(1, 2))
    old = scene.pool
    for name in died:
        scene.world.kill(name)
    scene.settle()
    assert scene.pool != old


@BOTH
def test_fresh_when_the_client_dies_before_its_driver_is_back(
    watched: Callable[..., Watched], foreseen: tuple[int, ...]
) -> None:
    scene = watched(foreseen=foreseen)
    old = scene.pool
    scene.world.kill("driver")
    scene.until(lambda: scene.world.live("driver").running)  # not ready yet
    assert scene.pool == old
    scene.world.kill("files")
    scene.settle()
    assert scene.pool != old


@BOTH
def test_fresh_when_the_device_dies(watched: Callable[..., Watched], foreseen: tuple[int, ...]) -> None:
    scene = watched(foreseen=foreseen)
    world = scene.world
    for death in range(1, 4):
        old = scene.pool
        world.backend.die()
        scene.until(lambda death=death: world.live("driver").deaths == death)  # type: ignore[misc]
        scene.settle()
        assert scene.pool != old
        assert len(world.launcher.backends) == death + 1 and world.backend.calls == ["start"]


def test_fresh_when_the_device_dies_during_a_recovery(watched: Callable[..., Watched]) -> None:
    """Drained or not."""
    for drained in (True, False):
        scene = watched()
        world, old, device = scene.world, scene.pool, scene.world.backend
        assert world.supervisor
        world.supervisor.undecided[1] = None
        device.slow = not drained
        world.kill("driver")
        world.turns(5)
        device.die()
        scene.until(lambda world=world: len(world.launcher.backends) == 2)  # type: ignore[misc]
        world.supervisor.decide(1)
        scene.settle()
        assert scene.pool != old and world.live("driver").deaths == 1 and device.closed


@BOTH
def test_fresh_when_the_device_is_not_drained_in_time(
    watched: Callable[..., Watched], foreseen: tuple[int, ...]
) -> None:
    """The successor runs already, with a pool that the device may still write to: both are replaced."""
    scene = watched(foreseen=foreseen)
    world, old, device = scene.world, scene.pool, scene.world.backend
    device.slow = True
    world.kill("driver")
    scene.until(lambda: world.live("driver").epoch == 2)
    assert scene.pool == old and DRAIN_DEADLINE_S < 1
    device.die("the back-end did not answer GET_VRING_BASE in time")
    scene.until(lambda: world.live("driver").deaths == 2)
    assert world.record("driver").kind == abi.Fault.DEVICE_DIED
    scene.settle()
    assert scene.pool != old and device.closed and world.backend is not device


def test_fresh_where_the_device_can_be_written_to(watched: Callable[..., Watched]) -> None:
    """What the client prepares for a write must not be overwritten by a read that is still being drained."""
    scene = watched(storage(devices=(replace(DISK, read_only=False),)), foreseen=(1,))
    for _ in range(3):
        old = scene.pool
        scene.world.kill("driver")
        scene.settle()
        assert scene.pool != old


@BOTH
def test_no_driver_runs_before_there_is_a_device(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, foreseen: tuple[int, ...]
) -> None:
    monkeypatch.setattr(process, "DEVICE_RETRY_S", 0.002)
    scene = watched(foreseen=foreseen)
    world, device = scene.world, scene.world.system.devices["driver"]
    world.launcher.no_device = "it closed the stream"
    world.backend.die()
    scene.until(lambda: device.restarts >= 3)
    assert world.live("driver").running is None
    world.launcher.no_device = ""
    scene.settle()
    assert device.backend is world.backend and world.live("driver").deaths == 1
