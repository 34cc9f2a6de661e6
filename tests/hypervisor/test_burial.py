"""What can wait until a recovery is over: killing the dead, counting what they did, closing what they had."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from hypervisor import evidence, process, recovery
from hypervisor.abi import generated as abi
from hypervisor.instances import Instance, Stats
from tests.hypervisor.policies import RW, STATE, storage, strict
from tests.hypervisor.world import FakeTender, World

MakeWorld = Callable[..., World]
LATER_S = 0.05


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld) -> Callable[..., World]:
    """A world in which a burial takes a while to come."""

    def make(*arguments: object, **options: object) -> World:
        world = make_world(*arguments, **options)
        monkeypatch.setattr(recovery, "BURIAL_S", LATER_S)
        monkeypatch.setattr(process, "BURIAL_S", LATER_S)  # the close of a tender that has gone follows it
        return world

    return make


def work(tender: FakeTender, exits: int, calls: int) -> None:
    """The tender counts exits, its guest calls."""
    instance = tender.instance
    struct.pack_into("<Q", instance.stats.memory.map, 8 * Stats.WORDS.index("exits"), exits)
    telemetry = instance.telemetry_counters()
    telemetry.calls = calls
    instance.telemetry.map[: abi.Telemetry.SIZE] = telemetry.pack()


def counted(world: World, name: str = "driver") -> tuple[int, int]:
    """(exits, calls) of a component since the system's start."""
    counters = world.live(name).counters()
    return counters["exits"], counters["calls"]


def test_frozen_at_once_killed_and_counted_later(late: MakeWorld) -> None:
    world = late(foreseen=(1,))
    dead, live = world.tender("driver"), world.live("driver")
    work(dead, 1000, 10)
    world.kill("driver")
    assert dead.frozen and not dead.killed
    assert live.unburied == [dead.instance] and not live.totals
    assert counted(world) == (1000, 10), "nothing is missing meanwhile"
    world.revive("driver")
    work(world.tender("driver"), 1, 2)
    assert counted(world) == (1001, 12)
    world.until(lambda: dead.killed)
    assert not live.unburied and live.totals["exits"] == 1000
    assert counted(world) == (1001, 12), "and nothing is counted twice"


def test_what_a_frozen_one_still_counts_is_not_lost(late: MakeWorld) -> None:
    """The last exits of a vCPU that was just leaving the guest."""
    world = late()
    dead = world.tender("driver")
    work(dead, 1000, 10)
    world.kill("driver")
    work(dead, 1003, 11)
    world.until(lambda: dead.killed)
    assert counted(world) == (1003, 11)


def test_killed_at_once_where_state_is_handed_over(late: MakeWorld) -> None:
    world = late(storage(files={"states": (STATE,)}))
    dead = world.tender("files")
    work(dead, 1000, 10)
    world.kill("files")
    assert dead.killed and not dead.frozen
    world.until(lambda: dead.instance.number not in world.system._instances)
    assert counted(world, "files") == (1000, 10), "its process has ended, its counters can be read"
    world.revive("files")
    world.until(lambda: not world.live("files").unburied)
    assert counted(world, "files") == (1000, 10)
    world.until(lambda: dead.instance.stats.memory.fd < 0)


def test_one_that_ended_by_itself_is_counted_before_it_is_closed(late: MakeWorld) -> None:
    world = late()
    dead = world.tender("driver")
    work(dead, 1000, 10)
    dead.die()
    world.until(lambda: world.live("driver").deaths)
    assert dead.instance.stats.memory.fd >= 0
    world.until(lambda: dead.instance.stats.memory.fd < 0)
    assert counted(world) == (1000, 10) and not world.live("driver").unburied


@pytest.mark.parametrize("foreseen", [(), (1,)])
def test_a_second_death_before_the_burial(
    late: MakeWorld, monkeypatch: pytest.MonkeyPatch, foreseen: tuple[int, ...]
) -> None:
    world = late(foreseen=foreseen)
    monkeypatch.setattr(recovery, "BURIAL_S", 0.5)
    live, dead = world.live("driver"), list[FakeTender]()
    for number in range(3):
        world.until(lambda: live.running and world.tender("driver").started)
        dead.append(world.tender("driver"))
        work(dead[-1], 100 << number, 1 << number)
        world.kill("driver")
        assert counted(world) == (sum(100 << n for n in range(number + 1)), (2 << number) - 1)
    assert [tender.instance for tender in dead] == live.unburied
    world.until(lambda: not live.unburied)
    assert all(tender.killed for tender in dead) and counted(world) == (700, 7)
    world.revive("driver")
    assert live.recoveries == live.deaths == 3


def test_a_second_death_after_the_first_process_has_ended(late: MakeWorld) -> None:
    world = late(foreseen=(1,))
    first = world.tender("driver")
    work(first, 5, 5)
    first.die()
    world.until(lambda: world.live("driver").running and world.live("driver").epoch == 2)
    second = world.tender("driver")
    work(second, 7, 7)
    second.die()
    world.until(lambda: world.live("driver").deaths == 2)
    world.revive("driver")
    world.until(lambda: not world.live("driver").unburied)
    assert counted(world) == (12, 12)


def test_a_repeated_answer_noted_just_before_the_death_is_a_sample(late: MakeWorld) -> None:
    world = late()
    world.system.figures.tsc_khz = 1_000_000
    world.kill("driver")
    died = world.record("driver").time_ns
    world.revive("driver")
    instance = world.tender("files").instance
    struct.pack_into("<Q", instance.stats.memory.map, 8 * Stats.WORDS.index("first_instruction_ns"), died)
    telemetry = instance.telemetry_counters()
    telemetry.replay_count = 1
    instance.telemetry.map[: abi.Telemetry.SIZE] = telemetry.pack()
    entry = abi.ReplayEntry(channel=0, epoch=2, tsc=3_000_000)
    at = abi.TELEMETRY_REPLAYS
    instance.telemetry.map[at : at + abi.ReplayEntry.SIZE] = entry.pack()
    world.kill("files")
    assert not world.system.figures.recovery_ms
    world.until(lambda: world.system.figures.recovery_ms)
    assert list(world.system.figures.recovery_ms) == [3.0]


def test_a_program_is_buried_at_once(late: MakeWorld) -> None:
    """Nobody waits for anything, and the report is to have its counters."""
    world = late()
    tender = world.tender("app")
    work(tender, 1000, 10)
    tender.hypercall(abi.Hypercall.EXIT, 0)
    world.until(lambda: world.ended)
    assert tender.killed and counted(world, "app") == (1000, 10)
    assert not world.live("app").unburied and tender.instance.ram.fd < 0


def test_a_program_that_dies_is_counted_in_the_report(late: MakeWorld) -> None:
    world = late()
    tender = world.tender("app")
    work(tender, 1000, 10)
    tender.fault(abi.Fault.EXCEPTION, 14)
    world.until(lambda: world.ended)
    assert counted(world, "app") == (1000, 10)


def test_evidence_that_makes_room_is_closed_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the memory of a VM takes longer than anything else in a recovery."""
    dead: list[Instance] = []
    for _ in range(evidence.KEEP):
        dead.append(world.tender("driver").instance)
        world.kill("driver")
        world.revive("driver")
    monkeypatch.setattr(process, "QUARANTINE_S", LATER_S)
    dead.append(world.tender("driver").instance)
    world.kill("driver")
    world.revive("driver")
    held = world.system.evidence.memory["driver"]
    assert list(held) == [instance.ram for instance in dead[1:]]
    assert dead[0].ram.fd >= 0, "not within the recovery"
    world.until(lambda: dead[0].ram.fd < 0)
    assert all(memory.fd >= 0 for memory in held)


@pytest.mark.parametrize("foreseen", [(), (1, 2)], ids=["asked", "foreseen"])
def test_a_device_of_one_that_is_given_up_is_drained_and_ended(
    make_world: MakeWorld, foreseen: tuple[int, ...]
) -> None:
    """Who has lent it something gets that back only when it cannot reach it any more."""
    world = make_world(strict(), foreseen=foreseen)
    assert world.supervisor
    world.supervisor.verdicts[1] = (2, 0)
    world.supervisor.foreseen.clear()
    if foreseen:  # what was promised is kept once
        world.kill("driver")
        world.revive("driver")
        world.until(lambda: world.supervisor and world.supervisor.faults)
        world.turns(3)
        world.call("files", abi.Hypercall.RECONNECT, 0)
    grant = world.call("files", abi.Hypercall.GRANT, 0, 0, RW).args[1]
    assert world.status("driver", abi.Hypercall.DMA_OPEN, grant, 0) == 0
    device, files = world.backend, world.tender("files")
    device.slow = True
    world.kill("driver")
    world.until(lambda: world.live("driver").gave_up)
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    world.turns(5)
    assert len(files.results) == answered and not device.closed
    device.finish()
    world.until(lambda: len(files.results) > answered)
    assert files.results[-1].args[0] == 0 and device.closed
    assert world.system.devices["driver"].backend is None and not len(world.system.grants._grants)
    world.turns(5)
    assert len(world.launcher.backends) == 1, "nobody needs another"


def test_a_device_that_cannot_be_drained_for_one_that_is_given_up(make_world: MakeWorld) -> None:
    world = make_world(strict())
    assert world.supervisor
    world.supervisor.verdicts[1] = (2, 0)
    device = world.backend
    device.slow = True
    world.kill("driver")
    world.until(lambda: world.live("driver").gave_up)
    device.die("it did not answer")
    world.turns(5)
    assert device.closed and len(world.launcher.backends) == 1 and not world.system.recoveries


def test_given_up_while_another_device_is_being_made(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DEVICE_RETRY_S", 0.002)
    world = make_world()
    device = world.system.devices["driver"]
    assert world.supervisor
    world.supervisor.undecided[1] = None
    world.launcher.no_device = "it closed the stream"
    world.backend.die()
    world.until(lambda: device.restarts >= 2 and world.supervisor and world.supervisor.undecided[1])
    world.supervisor.decide(1, 2)
    world.until(lambda: world.live("driver").gave_up)
    world.launcher.no_device = ""
    world.turn(0.02)
    made = len(world.launcher.backends)
    assert device.backend is None and all(each.closed for each in world.launcher.backends)
    world.turn(0.02)
    assert len(world.launcher.backends) == made, "nor is one tried for again and again"
