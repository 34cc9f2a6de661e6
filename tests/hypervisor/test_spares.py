"""Warm spares: dressed ahead for the next epoch, and lost when they do anything but wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from hypervisor import process, watch, wire
from hypervisor.abi import generated as abi
from hypervisor.instances import Instance
from hypervisor.memory import MemoryObject
from hypervisor.policy import RestartPolicy
from tests.hypervisor.policies import STATE, component, storage, strict
from tests.hypervisor.world import FakeTender, World

MakeWorld = Callable[..., World]
Op = wire.Operation
SERVERS = ("rs", "driver", "files")


def inode(memory: MemoryObject) -> int:
    return os.fstat(memory.fd).st_ino


def info(tender: FakeTender) -> abi.Info:
    """What its info pages say."""
    return abi.Info.unpack(tender.info)


def channel_epochs(tender: FakeTender) -> list[int]:
    """The epochs of its channels, as its info pages say."""
    at, size = abi.INFO_CHANNELS, abi.ChannelEntry.SIZE
    entries = [tender.info[at + size * n : at + size * (n + 1)] for n in range(info(tender).channels)]
    return [abi.ChannelEntry.unpack(entry).epoch for entry in entries]


def spare(world: World, name: str, number: int = 0) -> FakeTender:
    """A spare that has been given everything."""
    world.until(lambda: len(world.spares(name)) > number and world.spares(name)[number].warm)
    return world.spares(name)[number]


def check(world: World, name: str) -> None:
    """The running instance has what the present epoch is made of."""
    live, tender = world.live(name), world.tender(name)
    assert (info(tender).epoch, info(tender).instance) == (live.epoch, tender.instance.number)
    for end, connection in live.connections:
        if world.state(name, end.channel.index)[0] == "open":
            assert tender.windows[end.address].inode == inode(connection.rings)
    if live.device:
        vring = live.placement.region(abi.RegionKind.VRING)
        assert tender.windows[vring.address].inode == inode(live.device.rings)
    telemetry = live.placement.region(abi.RegionKind.TELEMETRY)
    assert tender.windows[telemetry.address].inode == inode(tender.instance.telemetry)


# -- dressed ahead -----------------------------------------------------------------------------------------


def test_what_a_spare_is_given_before_the_death(make_world: MakeWorld) -> None:
    world = make_world(storage(files={"states": (STATE,)}))
    for name in SERVERS:
        live, tender = world.live(name), spare(world, name)
        assert not tender.started
        assert (info(tender).epoch, info(tender).start) == (2, abi.Start.RESTART)
        assert channel_epochs(tender) == [2] * len(live.connections)
        for end, connection in live.connections:
            assert tender.windows[end.address].inode == inode(connection.next_rings)
            assert connection.next_rings is not connection.rings
        kinds = {region.kind: region.address for region in live.placement.regions}
        assert tender.windows[kinds[abi.RegionKind.TELEMETRY]].inode == inode(tender.instance.telemetry)
        assert not tender.windows[abi.RO_WINDOW].writable, "the status page"
        if live.device:
            assert tender.windows[kinds[abi.RegionKind.VRING]].inode == inode(live.device.next_rings)
        # What the running instance has beside these is its own until it is dead.
        for kind in (abi.RegionKind.POOL, abi.RegionKind.STATE):
            assert kinds.get(kind) not in tender.windows


def test_adoption_sends_only_what_differs(make_world: MakeWorld) -> None:
    world = make_world(storage(files={"states": (STATE,)}))
    spares = {name: spare(world, name) for name in SERVERS}
    for name, operations in {
        "rs": [Op.RUN],
        "driver": [Op.RUN],
        "files": [Op.MAP, Op.MAP, Op.RUN],  # a fresh pool, and its predecessor's state
    }.items():
        world.kill(name)
        world.until(lambda name=name: spares[name].started)  # type: ignore[misc]
        assert world.tender(name) is spares[name]
        assert spares[name].operations[-1] == operations
        world.ready(name)
        check(world, name)
        if name == "files":
            world.revive("driver")  # replaced, because of the pool


def test_a_cold_one_gets_everything_at_once(make_world: MakeWorld) -> None:
    world = make_world(spares=False)
    world.kill("driver")
    world.revive("driver")
    assert not world.tender("driver").warm and world.tender("driver").operations[-1][-1] == Op.RUN
    check(world, "driver")


def test_dressed_anew_after_a_peer_has_died(world: World) -> None:
    before = spare(world, "files")
    connection = world.system.connections[1]
    given = connection.next_rings
    world.kill("driver")
    world.revive("driver")
    assert connection.rings is given, "what the spare has is in use now"
    place = world.address("files", 1)
    world.until(lambda: before.windows[place].inode == inode(connection.next_rings))
    assert channel_epochs(before) == [3, 2]
    assert before.operations[-1] == [Op.MAP, Op.INFO], "the rest is as it was"
    # And so it is complete for the next death of its own.
    world.call("files", abi.Hypercall.RECONNECT, 0)
    world.kill("files")
    world.until(lambda: world.tender("files") is before and before.started)
    world.revive("files")
    check(world, "files")


@pytest.mark.parametrize("first", ["driver", "files"])
def test_adopted_before_it_could_be_dressed_anew(
    world: World, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    second = "files" if first == "driver" else "driver"
    adopted = spare(world, second)
    spare(world, first)
    monkeypatch.setattr(process, "SPARE_DELAY_S", 60.0)
    world.kill(first)
    world.revive(first)
    if first == "files":  # the driver has been replaced because of it
        assert world.live("driver").deaths == 1 and world.tender("driver") is adopted
        world.revive("driver")
    else:
        world.kill(second)
        world.until(lambda: world.tender(second) is adopted and adopted.started)
        world.revive(second)
        world.until(lambda: world.live("driver").deaths == 2)
        world.revive("driver")
    for name in ("driver", "files"):
        check(world, name)
    reached = world.tender("driver").windows[world.address("driver", 1)]
    assert reached.inode == inode(world.system.connections[1].rings)
    epoch = world.system.connections[1].epoch
    assert world.state("driver", 1) == ("open", epoch) and world.state("files", 1) == ("reopen", epoch)


def test_adopted_after_a_complaint_has_exchanged_the_rings(world: World) -> None:
    before = spare(world, "files")
    connection = world.system.connections[2]
    world.call("app", abi.Hypercall.COMPLAIN, 0, 3)
    world.until(lambda: world.state("files", 2) == ("reopen", 2))
    for name, index in (("app", 0), ("files", 1)):
        assert world.call(name, abi.Hypercall.RECONNECT, index).args[1] == 2
    world.kill("files")
    world.revive("files")
    assert world.tender("files") is before and connection.epoch == 3
    check(world, "files")
    assert channel_epochs(before)[1] == 3


def test_two_spares_have_nothing_of_their_own_in_common(make_world: MakeWorld) -> None:
    world = make_world(strict(files={"restart": RestartPolicy(spares=2)}))
    one, two = spare(world, "files", 0), spare(world, "files", 1)
    live = world.live("files")
    own = [r.address for r in live.placement.regions if r.kind == abi.RegionKind.GRANT_OBJECT]
    own.append(live.placement.region(abi.RegionKind.TELEMETRY).address)
    assert not {one.windows[each].inode for each in own} & {two.windows[each].inode for each in own}
    assert info(one).instance != info(two).instance
    for _ in range(2):  # the second death comes before the other is dressed for it
        world.kill("files")
        world.until(lambda: live.running and world.tender("files").started)
    assert world.tender("files") is two and live.epoch == 3
    check(world, "files")
    objects = [inode(memory) for memory in live.grant_objects]
    assert [two.windows[each].inode for each in own[:-1]] == objects


def test_what_a_lost_spare_could_have_lent_is_closed(make_world: MakeWorld) -> None:
    world = make_world(strict())
    lost = spare(world, "files")
    objects = lost.instance.grant_objects
    assert len(objects) == 2 and all(memory.fd >= 0 for memory in objects)
    lost.fault(abi.Fault.EXCEPTION, 14)
    world.until(lambda: lost.killed)
    assert all(memory.fd < 0 for memory in objects) and lost.instance.ram.fd < 0


def test_a_device_that_differs_is_told_of_at_the_adoption(world: World) -> None:
    adopted = spare(world, "driver")
    make = world.launcher.make_backend

    def other(*arguments: object) -> object:
        backend = make(*arguments)  # type: ignore[arg-type]
        backend.features, backend.config = 0x4321, b"larger"
        return backend

    world.launcher.make_backend = other  # type: ignore[assignment,method-assign]
    world.backend.die()
    world.until(lambda: world.tender("driver") is adopted and adopted.started)
    said = bytes(adopted.info[abi.INFO_DEVICE : abi.INFO_DEVICE + 14])
    assert said == (0x4321).to_bytes(8, "little") + b"larger"
    world.revive("driver")
    check(world, "driver")


def test_the_wall_clock_is_of_the_adoption(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spare may wait for days; what it has been given ahead does not tell the time."""

    def said(name: str) -> int:
        return world.live(name).status.read_u64(abi.STATUS_WALL_CLOCK)

    adopted, other = spare(world, "driver"), said("files")
    before = bytes(adopted.info)
    for now in (1_700_000_000_000_000_000, 1_600_000_000_000_000_000):  # somebody may set it back
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        world.kill("driver")
        world.revive("driver")
        assert said("driver") == now and said("files") == other
    assert adopted.info == before
    assert abi.STATUS_WALL_CLOCK >= abi.CHANNELS * abi.STATUS_ENTRY_SIZE, "behind all entries"
    assert abi.STATUS_WALL_CLOCK + 8 <= abi.PAGE_SIZE


# -- spares that do not wait -------------------------------------------------------------------------------

CALLS = {
    **{name: (number, 0) for number, name in abi.names(abi.Hypercall).items()},
    "unknown": (9999, 0),
    "output": (abi.Hypercall.OUTPUT, 1, 0, 0, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_spare_that_makes_any_other_call_is_lost(make_world: MakeWorld, call: str) -> None:
    """None of them has an effect, not even those that a tender answers itself."""
    world = make_world(strict())
    grant = world.call("files", abi.Hypercall.GRANT, 0, 0, abi.GrantRights.READ).args[1]
    if call in ("revoke", "map_grant", "copy_from_grant", "dma_open"):
        CALLS[call] = (CALLS[call][0], grant, 0, 0, 0, 1)
    state = [world.state(name, index) for name, index in (("files", 1), ("files", 2), ("driver", 1))]
    for name in ("files", "driver"):
        tender, said = spare(world, name), len(world.system.log.since(0))
        tender.hypercall(*CALLS[call], body=b"from a spare")
        world.until(lambda tender=tender: tender.killed)  # type: ignore[misc]
        assert not tender.results
        assert [each.text for each in world.system.log.since(0)[said:]] == [
            "lost a spare: its tender sent a record (30) that was not due"
        ]
        assert world.live(name).deaths == 0 and world.live(name).instance is not tender.instance
    assert state == [world.state(name, index) for name, index in (("files", 1), ("files", 2), ("driver", 1))]
    assert len(world.system.grants._grants) == 1 and not world.system.evidence.records
    assert world.status("files", abi.Hypercall.REVOKE, grant) == 0


@pytest.mark.parametrize("kind", [wire.Kind.PONG, wire.Kind.ACK, wire.Kind.SPAWNED, 99])
def test_records_that_are_not_due_cost_a_spare_its_place(world: World, kind: int) -> None:
    lost = spare(world, "files")
    world.until(lambda: lost.instance._acknowledged == lost.instance._sequence)
    lost.send(kind, 7)
    world.until(lambda: lost.killed)
    world.until(lambda: world.spares("files") and world.spares("files")[0] is not lost)
    assert world.live("files").deaths == 0


class Clocked:
    """A world in which the CPU time of each instance is what a test says."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.used: dict[int, int] = {}
        monkeypatch.setattr(Instance, "cpu_ns", lambda instance: self.used.get(instance.number, 0))

    def look(self) -> None:
        self.world.system.watch._round()
        self.world.turns(2)


@pytest.fixture
def clocked(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clocked]:
    return lambda *arguments: Clocked(make_world(*arguments), monkeypatch)


def test_a_spare_that_loops_is_lost(clocked: Callable[..., Clocked]) -> None:
    """It never comes to `start`, and has used much more CPU time than that takes."""
    clock = clocked()
    world = clock.world
    looping = spare(world, "files")
    clock.used[looping.instance.number] = watch.SPARE_CPU_NS
    clock.look()
    assert not looping.killed, "not yet"
    clock.used[looping.instance.number] += 1
    clock.look()
    assert looping.killed and looping not in world.spares("files")
    assert "lost a spare: it does not come to `start`" in [r.text for r in world.system.log.since(0)]
    assert world.live("files").deaths == 0 and not world.system.evidence.records
    world.until(lambda: world.spares("files"))
    assert world.status("app", abi.Hypercall.LOG, 2, 0, 0, body=b"nobody noticed") == 0


def test_spares_that_all_loop_are_made_slower_and_slower(
    clocked: Callable[..., Clocked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them costs its CPU time, so they must not follow each other; and a death goes without."""
    monkeypatch.setattr(process, "SPARE_DELAY_S", 0.0005)
    clock = clocked()
    world = clock.world
    for failure in range(1, 8):
        looping = spare(world, "files")
        clock.used[looping.instance.number] = watch.SPARE_CPU_NS + 1
        clock.look()
        assert looping.killed and world.live("files").spare_failures == failure
    monkeypatch.setattr(process, "SPARE_DELAY_S", 60.0)
    world.live("files").spares.clear()
    world.kill("files")
    world.revive("files")
    assert not world.tender("files").warm and world.live("files").spare_failures == 0
    check(world, "files")


def test_two_that_loop_are_both_found(clocked: Callable[..., Clocked]) -> None:
    policy = storage(components=(component("rs"), component("files", 2, restart=RestartPolicy(spares=3))))
    clock = clocked(replace(policy, channels=policy.channels[:1], devices=()))
    world = clock.world
    bad = [spare(world, "files", number) for number in range(2)]
    good = spare(world, "files", 2)
    for each in bad:
        clock.used[each.instance.number] = watch.SPARE_CPU_NS + 1
    clock.look()
    clock.look()
    assert [each.killed for each in (*bad, good)] == [True, True, False]


def test_one_that_sleeps_elsewhere_costs_nothing_and_is_left_alone(clocked: Callable[..., Clocked]) -> None:
    """Whether it waits at `start` cannot be seen from outside. If it does not, its successor's run shows."""
    clock = clocked()
    quiet = spare(clock.world, "files")
    for _ in range(20):
        clock.look()
    assert not quiet.killed and quiet in clock.world.spares("files")


def test_a_fault_that_is_read_only_after_the_adoption(make_world: MakeWorld) -> None:
    """It has faulted before, but is the running instance when that is heard: a death like any other."""
    world = make_world(foreseen=(1,))  # adopted at once
    faulty = spare(world, "driver")
    faulty.fault(abi.Fault.EXCEPTION, 14, message="too early")
    world.kill("driver")
    world.until(lambda: world.live("driver").deaths == 2)
    assert "too early" in world.record("driver").describe()
    world.revive("driver")
    assert world.live("driver").epoch == 3
    check(world, "driver")


def test_a_call_that_is_read_only_after_the_adoption(make_world: MakeWorld) -> None:
    world = make_world(foreseen=(1,))  # adopted at once
    early = spare(world, "driver")
    early.hypercall(abi.Hypercall.LOG, 2, 0, 0, body=b"too early")
    world.kill("driver")
    world.until(lambda: early.results)
    assert world.tender("driver") is early and world.live("driver").deaths == 1
    world.revive("driver")


def test_a_spare_that_dies_in_the_middle_of_its_adoption(make_world: MakeWorld) -> None:
    world = make_world(foreseen=(1,))  # adopted at once
    gone = spare(world, "driver")
    gone.die()
    world.kill("driver")
    world.until(lambda: world.live("driver").deaths == 2)
    assert world.record("driver").kind == abi.Fault.TENDER_DIED
    world.revive("driver")
    check(world, "driver")


def test_spares_of_one_that_is_given_up_are_ended(world: World) -> None:
    kept = spare(world, "files")
    given = spare(world, "driver")
    assert world.supervisor
    world.supervisor.verdicts[1] = (2, 0)
    world.kill("driver")
    world.until(lambda: world.live("driver").gave_up)
    assert given.killed and not world.live("driver").spares
    world.turn(0.01)
    assert not world.live("driver").spares and not kept.killed
