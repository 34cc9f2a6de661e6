"""A death whose verdict was foreseen: nobody waits for it, and nobody is troubled with it until later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from hypervisor import recovery
from hypervisor.abi import generated as abi
from hypervisor.policy import RestartPolicy
from hypervisor.protocols import supervise
from tests.hypervisor.policies import STATE, storage
from tests.hypervisor.world import FakeSupervisor, World

RS, DRIVER, FILES = 0, 1, 2


class Scene:
    """A world with a reincarnation server that has made promises."""

    def __init__(self, world: World) -> None:
        assert world.supervisor and world.system.supervision
        self.world, self.supervisor, self.supervision = world, world.supervisor, world.system.supervision

    @property
    def driver(self) -> int:
        """The epoch of the driver that runs; 0 if none does."""
        live = self.world.live("driver")
        return live.epoch if live.running else 0

    def asked(self) -> list[int]:
        """Epochs of the driver that the server has been told of."""
        return [fault.epoch for fault in self.supervisor.faults if fault.component == DRIVER]

    def rung(self) -> bool:
        """Whether the server has been woken since this was last asked."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.world.system.connections[RS].server_wake)
            return True
        return False


@pytest.fixture
def scene(make_world: Callable[..., World]) -> Scene:
    return Scene(make_world(foreseen=(DRIVER, FILES)))


def test_nobody_waits_for_the_verdict(scene: Scene) -> None:
    """The successor has its first instruction before the server has so much as been told."""
    scene.supervisor.alive = False
    scene.world.kill("driver")
    assert scene.driver == 2
    scene.world.revive("driver")
    assert not scene.asked() and scene.world.live("driver").recoveries == 1
    scene.supervisor.alive = True
    scene.world.until(lambda: scene.asked() == [1])


def test_the_report_is_rung_at_the_burial(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A doorbell wakes the server, which would want the CPU that the recovery needs. A server that looks by
    itself finds the report before."""
    monkeypatch.setattr(recovery, "BURIAL_S", 0.02)
    scene.supervisor.alive = False
    scene.rung()
    dead = scene.world.kill("driver")
    scene.world.turns(5)
    assert scene.driver == 2 and not scene.rung() and not dead.killed
    scene.world.until(lambda: dead.killed)
    assert scene.rung()
    tail = scene.world.system.connections[RS].rings.read_u32(abi.CHANNEL_REQUEST_TAIL)
    scene.supervisor.alive = True
    scene.world.until(lambda: scene.asked() == [1])
    assert tail == scene.supervisor.head


def test_what_is_not_foreseen_is_rung_and_waited_for(make_world: Callable[..., World]) -> None:
    scene = Scene(make_world())
    scene.supervisor.alive = False
    scene.rung()
    scene.world.kill("driver")
    assert scene.rung()
    scene.world.turns(20)
    assert scene.driver == 0
    scene.supervisor.alive = True
    scene.world.revive("driver")


def test_a_promise_holds_for_one_death(scene: Scene) -> None:
    scene.supervisor.alive = False
    scene.world.kill("driver")
    assert scene.driver == 2
    scene.rung()
    scene.world.kill("driver")
    assert scene.rung()
    scene.world.turns(20)
    assert scene.driver == 0, "nothing has been promised about this one"
    scene.supervisor.alive = True
    scene.world.revive("driver")
    assert scene.asked() == [1, 2] and scene.driver == 3
    # Its answer to the last report has renewed the promise.
    scene.supervisor.alive = False
    scene.world.kill("driver")
    assert scene.driver == 4


def test_a_promise_that_is_not_renewed(scene: Scene) -> None:
    scene.supervisor.foreseen.clear()
    scene.world.kill("driver")
    assert scene.driver == 2
    scene.world.revive("driver")
    scene.world.until(lambda: scene.asked() == [1])
    scene.world.turns(3)
    scene.world.kill("driver")
    assert scene.driver == 0
    scene.world.revive("driver")


@pytest.mark.parametrize(
    "verdict", [(supervise.Action.GIVE_UP, 0), (supervise.Action.RESTART_AFTER_DELAY, 60_000), (99, 5)]
)
def test_a_promise_is_kept_whatever_the_verdict_is_then(scene: Scene, verdict: tuple[int, int]) -> None:
    """A server that promises a restart and then gives up has its way with the next death."""
    world = scene.world
    scene.supervisor.verdicts[DRIVER] = verdict
    scene.supervisor.foreseen.clear()
    world.kill("driver")
    world.revive("driver")
    world.until(lambda: scene.asked() == [1])
    world.turns(20)
    live = world.live("driver")
    assert scene.driver == 2 and not live.gave_up and world.state("files", 1) == ("reopen", 2)
    assert not world.backend.closed and not world.system.recoveries
    world.kill("driver")
    world.until(lambda: scene.asked() == [1, 2])
    world.turns(20)
    if verdict[0] == supervise.Action.GIVE_UP:
        assert live.gave_up and world.state("files", 1) == ("gone", 2) and world.backend.closed
    elif verdict[0] == supervise.Action.RESTART_AFTER_DELAY:
        assert scene.driver == 0 and not live.gave_up, "the delay is waited for"


def test_a_verdict_that_is_an_error_after_a_promise(scene: Scene) -> None:
    scene.supervisor.status = abi.Error.NOENT
    scene.world.kill("driver")
    scene.world.revive("driver")
    scene.world.until(lambda: scene.asked() == [1])
    scene.world.turns(20)
    assert scene.driver == 2


def test_a_configuration_that_is_refused_promises_nothing(make_world: Callable[..., World]) -> None:
    def refusing(supervisor: FakeSupervisor, slot: abi.Slot) -> None:
        supervisor.reply(slot, abi.Error.NOSPC, supervise.ConfigureReturns(1).pack())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSupervisor, "answer", refusing)
        scene = Scene(make_world(foreseen=(DRIVER, FILES)))
    scene.world.kill("driver")
    assert scene.driver == 0
    scene.world.revive("driver")


def test_promises_about_others_do_not_count(make_world: Callable[..., World]) -> None:
    scene = Scene(make_world(foreseen=(FILES, 77)))
    scene.world.kill("driver")
    assert scene.driver == 0
    scene.world.revive("driver")


def test_deaths_that_are_not_asked_about_use_up_no_promise(scene: Scene) -> None:
    """The driver is replaced because of its client's death, the server itself restarted by the hypervisor."""
    world = scene.world
    scene.supervisor.alive = False
    world.kill("files")
    assert world.record("driver").kind == abi.Fault.REPLACED and scene.driver == 2
    world.revive("files", "driver")
    world.kill("rs")
    world.revive("rs")
    world.kill("driver")
    assert scene.driver == 3
    scene.supervisor.alive = True
    world.until(lambda: scene.asked() == [2])


def test_a_program_that_dies_has_nothing_foreseen(make_world: Callable[..., World]) -> None:
    world = make_world(foreseen=(DRIVER, FILES, 3))
    world.kill("app")
    assert world.live("app").gave_up and world.live("app").running is None


def test_the_server_dies_with_reports_that_nobody_has_rung(scene: Scene) -> None:
    """They are sent again to its successor, which gives the verdict of each death once."""
    world = scene.world
    scene.supervisor.alive = False
    world.kill("driver")
    world.kill("rs")
    assert scene.driver == 2
    scene.supervisor.alive = True
    world.revive("rs", "driver")
    world.until(lambda: scene.asked() == [1])
    world.turns(20)
    assert scene.asked() == [1] and scene.supervisor.epoch == 2


def test_a_server_that_never_takes_the_report_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the verdict, but a server that gives none is of no use for the next death."""
    monkeypatch.setattr("hypervisor.supervision.ANSWER_DEADLINE_NS", 20_000_000)
    scene.supervisor.alive = False
    scene.world.kill("driver")
    scene.world.revive("driver")
    scene.world.until(lambda: scene.world.live("rs").deaths == 1)
    assert scene.world.record("rs").kind == abi.Fault.HUNG
    scene.supervisor.alive = True
    scene.world.revive("rs")


def test_more_deaths_than_the_channel_has_slots(scene: Scene) -> None:
    """Reports wait in the hypervisor; none is lost, and all are in order."""
    scene.supervisor.alive = False
    policy = scene.supervision.connection.policy
    for _ in range(policy.slots + 3):
        scene.supervision._foreseen.add(DRIVER)
        scene.world.kill("driver")
        scene.world.until(lambda: scene.driver)
    scene.supervisor.alive = True
    scene.world.until(lambda: scene.asked() == list(range(1, policy.slots + 4)))


def test_state_is_still_waited_for(make_world: Callable[..., World]) -> None:
    """Only the verdict is foreseen; a process that may still write to the state regions must have ended."""
    world = make_world(storage(files={"states": (STATE,)}), foreseen=(DRIVER, FILES))
    dead = world.tender("files")
    dead.immortal = True
    world.kill("files")
    world.turns(20)
    assert world.live("files").running is None
    dead.immortal = False
    dead.die()
    world.revive("files")


def slow_device(world: World) -> None:
    world.backend.slow = True


def lost_device(world: World) -> None:
    world.backend.dead = True


@pytest.mark.parametrize("how", [slow_device, lost_device])
def test_the_device_is_stopped_before_it_is_started(scene: Scene, how: Callable[[World], None]) -> None:
    """In that order, although the successor runs first; and one that cannot be stopped is replaced."""
    world, device = scene.world, scene.world.backend
    how(world)
    world.kill("driver")
    assert scene.driver == 2 and device.calls == ["start", "stop", "start"]
    if device.dead:
        device.lost("it does not answer")
    device.finish()
    world.until(lambda: world.live("driver").deaths == 1 + device.dead)
    world.revive("driver")
    world.until(lambda: not world.system.recoveries)
    assert device.closed == device.dead and world.backend.windows[abi.VRING_IOVA]


def test_what_the_dead_driver_has_left_in_its_rings_is_not_its_successors_doing(scene: Scene) -> None:
    """Until the drain is over, an address outside the windows is one of the old rings."""
    world, device = scene.world, scene.world.backend
    device.misled(1)
    assert world.record("driver").kind == abi.Fault.DMA
    world.revive("driver")
    device.slow = True
    world.kill("driver")
    assert scene.driver == 3
    device.misled(1)
    world.kill("driver")  # again before the drain is over
    world.until(lambda: scene.driver == 4)
    device.misled(1)
    drain, device.waiting = device.waiting[0], device.waiting[1:]
    drain(True)
    device.misled(1)
    world.turns(5)
    assert world.live("driver").deaths == 3 and scene.driver == 4
    device.finish()
    device.misled(1)
    assert world.live("driver").deaths == 4 and world.record("driver").kind == abi.Fault.DMA


def restart(spares: int) -> dict[str, object]:
    return {"restart": RestartPolicy(spares=spares)}


@pytest.mark.parametrize("spares", [0, 1, 3])
def test_a_storm_of_deaths(make_world: Callable[..., World], spares: int) -> None:
    """Foreseen or not as it happens, with spares or without: in the end all live, and each death was told."""
    policy = storage(driver=restart(spares), files=restart(spares), rs=restart(spares))
    scene = Scene(make_world(replace(policy), foreseen=(DRIVER, FILES)))
    world = scene.world
    names: Collection[str] = ("driver", "driver", "files", "driver", "rs", "files", "files", "driver")
    for name in [*names] * 4:
        world.until(lambda name=name: world.live(name).running)  # type: ignore[misc]
        world.kill(name)
        world.turn()
    for name in ("rs", "files", "driver"):
        world.until(lambda name=name: world.live(name).running and world.tender(name).started)  # type: ignore[misc]
        if not world.tender(name).instance.ready_ns:
            world.ready(name)
    world.until(lambda: not world.system.recoveries)
    told = [(fault.component, fault.epoch) for fault in scene.supervisor.faults]
    assert len(told) == len(set(told)), "each once"
    own = [r for r in world.system.evidence.records if r.kind == abi.Fault.KILLED and r.component != "rs"]
    indexes = {"driver": DRIVER, "files": FILES}
    world.until(lambda: len(scene.supervisor.faults) == len(own))
    told = [(fault.component, fault.epoch) for fault in scene.supervisor.faults]
    assert told == [(indexes[r.component], r.epoch) for r in own], "in order"
