"""Deaths, one after the other and all at once: what everybody is told, in which order, with which memory."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

import pytest

from hypervisor import process
from hypervisor.abi import generated as abi
from hypervisor.instances import Lifecycle
from hypervisor.policy import StateRegion
from hypervisor.protocols import supervise
from tests.hypervisor.policies import PAGE, STATE, component, storage, strict
from tests.hypervisor.world import World

MakeWorld = Callable[..., World]


def test_a_system_starts(world: World) -> None:
    assert world.programs_started == ["app"]
    assert world.state("app", 2) == world.state("files", 2) == ("open", 1)
    assert world.state("files", 1) == world.state("driver", 1) == ("open", 1)
    assert world.backend.calls == ["start"]
    for name, live in world.system.components.items():
        assert live.epoch == 1 and live.running, name
        info = abi.Info.unpack(world.tender(name).info)
        assert (info.name, info.start, info.epoch) == (name.encode(), abi.Start.FRESH, 1)
        for end, connection in live.connections:
            mapped = world.tender(name).windows[end.address]
            assert mapped == (os.fstat(connection.rings.fd).st_ino, connection.geometry.size, True)
        status = world.tender(name).windows[abi.RO_WINDOW]
        assert not status.writable


def test_a_death_step_by_step(world: World) -> None:
    files, before = world.tender("files"), world.tender("driver")
    connection = world.system.connections[1]
    assert connection.pool is not None
    pool = os.fstat(connection.pool.fd).st_ino
    vring = os.fstat(world.system.devices["driver"].rings.fd).st_ino
    assert world.backend.windows == {abi.VRING_IOVA: vring, abi.POOL_IOVA: pool}
    old = os.fstat(connection.rings.fd).st_ino
    world.backend.slow = True

    before.fault(abi.Fault.EXCEPTION, 14, 6, 0xDEAD, 0x200000, 0, message="write to 0xdead")
    world.until(lambda: world.live("driver").running is None)
    # Frozen, recorded, told, asked.
    assert before.frozen and before.instance.state is Lifecycle.ENDED
    assert world.state("files", 1) == ("dead", 1)
    assert world.record().kind == abi.Fault.EXCEPTION and world.record().address == 0xDEAD
    assert struct.unpack("<20Q", world.record().registers) == tuple(range(20))
    assert list(world.system.evidence.memory["driver"]) == [before.instance.ram]
    assert world.backend.calls == ["start", "stop"]
    assert world.system.recoveries
    spare = world.spares("driver")[0]
    world.until(lambda: world.live("driver").running)
    assert world.supervisor and [f.component for f in world.supervisor.faults] == [1]
    # What the device is to do for the successor waits in the device, behind the drain.
    assert world.backend.calls == ["start", "stop", "start"]
    assert world.backend.windows == {abi.VRING_IOVA: vring, abi.POOL_IOVA: pool}
    world.backend.finish()

    # The warm spare, a new epoch, new rings and virtqueues; the pool stays that of the client, which lives.
    after = world.tender("driver")
    assert after is spare
    assert world.live("driver").epoch == 2
    assert connection.epoch == 2
    new = os.fstat(connection.rings.fd).st_ino
    assert new != old and os.fstat(connection.pool.fd).st_ino == pool
    assert world.backend.calls == ["start", "stop", "start"]
    queues = os.fstat(world.system.devices["driver"].rings.fd).st_ino
    assert queues != vring and world.backend.windows == {abi.VRING_IOVA: queues, abi.POOL_IOVA: pool}
    world.until(lambda: after.started)
    info = abi.Info.unpack(after.info)
    assert (info.start, info.epoch) == (abi.Start.RESTART, 2)
    assert world.state("driver", 1) == ("open", 2)

    # The client maps the new rings only inside its own call.
    assert world.state("files", 1) == ("reopen", 2)
    assert files.windows[world.address("files", 1)].inode == old
    answer = world.call("files", abi.Hypercall.RECONNECT, 0)
    assert answer.args[:2] == (0, 2)
    assert files.windows[world.address("files", 1)].inode == new
    pool_at = world.live("files").placement.region(abi.RegionKind.POOL).address
    assert files.windows[pool_at].inode == pool
    assert world.state("files", 1) == ("open", 2)
    assert world.system.recoveries
    world.ready("driver")
    assert not world.system.recoveries and world.live("driver").recoveries == 1
    world.until(lambda: world.spares("driver"))
    assert world.state("files", 2) == ("open", 1), "nobody else noticed"


def test_kill_while_dead(world: World) -> None:
    world.kill("driver")
    world.system.blame(world.live("driver"), abi.Fault.KILLED, "")
    world.revive("driver")
    assert world.live("driver").deaths == 1


def test_reconnect_in_any_other_state_is_refused(world: World) -> None:
    assert world.status("files", abi.Hypercall.RECONNECT, 0) == abi.Error.AGAIN
    assert world.supervisor
    world.supervisor.undecided[1] = None
    world.kill("driver")
    assert world.status("files", abi.Hypercall.RECONNECT, 0) == abi.Error.AGAIN
    world.until(lambda: world.supervisor and world.supervisor.faults)
    world.supervisor.decide(1)
    world.revive("driver")


def test_a_delay_is_waited_for(world: World) -> None:
    assert world.supervisor
    world.supervisor.verdicts[1] = (supervise.Action.RESTART_AFTER_DELAY, 30)
    world.kill("driver")
    died = world.record().time_ns
    world.revive("driver")
    assert world.tender("driver").instance.started_ns - died >= 30_000_000


def test_a_component_that_is_given_up(world: World) -> None:
    assert world.supervisor
    world.supervisor.verdicts[1] = (supervise.Action.GIVE_UP, 0)
    world.kill("driver")
    world.until(lambda: world.live("driver").gave_up)
    assert world.state("files", 1) == ("gone", 1)
    assert not world.system.recoveries
    world.until(lambda: not [t for t in world.launcher.tenders if t.name == "driver" and not t.gone])
    assert world.status("files", abi.Hypercall.COMPLAIN, 0, 1) == 0
    assert world.state("files", 1) == ("gone", 1), "gone is final"
    # Its client, restarted, is told at once, and keeps its other connections.
    world.kill("files")
    world.revive("files")
    assert world.state("files", 1) == ("gone", 1)
    assert world.state("app", 2) == ("reopen", 2)


def test_a_supervisor_that_refuses_to_answer_gives_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypervisor.supervision.REFUSED_DELAY_MS", 5)
    assert world.supervisor
    world.supervisor.status = abi.Error.NOENT
    world.kill("driver")
    world.revive("driver")
    assert not world.live("driver").gave_up


def test_a_program_dies_for_good(world: World) -> None:
    world.tender("app").fault(abi.Fault.EXCEPTION, 14, 6, 0)
    world.until(lambda: world.ended)
    assert world.ended[0][0] == "app" and world.live("app").exit_status == 128 + 11
    assert world.state("files", 2) == ("gone", 1)
    assert not world.system.recoveries and world.live("app").running is None


def test_a_program_exits(world: World) -> None:
    tender = world.tender("app")
    tender.hypercall(abi.Hypercall.EXIT, 0x1_0000_0003)
    world.until(lambda: world.ended)
    assert world.ended == [("app", None)] and world.live("app").exit_status == 3
    assert world.state("files", 2) == ("gone", 1)
    assert tender.killed and not world.system.evidence.records
    world.kill("files")  # a server's successor has nothing to do with a client that is gone
    world.revive("files")
    assert world.state("files", 2) == ("gone", 1)


def test_a_component_that_exits_is_restarted(world: World) -> None:
    world.tender("files").hypercall(abi.Hypercall.EXIT, 0)
    world.until(lambda: world.live("files").deaths)
    assert world.record().kind == abi.Fault.EXITED
    world.revive("files")


def test_panic(world: World) -> None:
    for text, kind in ((b"out of bounds \x1b[31m", abi.Fault.PANIC), (b"out of memory", abi.Fault.MEMORY)):
        deaths = world.live("files").deaths
        world.tender("files").hypercall(abi.Hypercall.PANIC, 0, 0, body=text)
        world.until(lambda deaths=deaths: world.live("files").deaths > deaths)  # type: ignore[misc]
        assert world.record().kind == kind
        assert "\x1b" not in world.record().describe()
        world.revive("files")


def test_tender_killed_from_outside(world: World) -> None:
    world.tender("driver").die()
    world.until(lambda: world.live("driver").deaths)
    assert world.record().kind == abi.Fault.TENDER_DIED
    world.revive("driver")


def test_tender_that_only_closes_its_socket_is_killed(world: World) -> None:
    tender = world.tender("driver")
    tender.stopped = True
    tender.sock.shutdown(socket.SHUT_WR)
    world.until(lambda: tender.killed)
    assert world.record().kind == abi.Fault.TENDER_DIED
    world.revive("driver")


def test_both_ends_of_a_channel_die_at_the_same_time(world: World) -> None:
    assert world.supervisor
    world.supervisor.undecided[2] = None  # files: later
    first = os.fstat(world.system.connections[1].rings.fd).st_ino
    world.kill("driver")
    world.kill("files")
    world.revive("driver")
    # The driver is back first: to it, its client is dead, so that no deadline runs.
    assert world.state("driver", 1) == ("dead", 2)
    world.supervisor.decide(2)
    # The client brings another pool with it, and the device a driver that begins anew.
    world.until(lambda: world.live("driver").deaths == 2)
    assert world.record().kind == abi.Fault.REPLACED
    world.revive("files", "driver")
    assert world.state("driver", 1) == ("open", 4)
    assert world.state("files", 1) == ("reopen", 4)
    assert world.call("files", abi.Hypercall.RECONNECT, 0).args[1] == 4
    one, two = (world.tender(name).windows[world.address(name, 1)] for name in ("driver", "files"))
    assert one == two and one.inode != first
    assert world.state("app", 2) == ("reopen", 2)


def test_client_first_when_both_ends_die(world: World) -> None:
    assert world.supervisor
    world.supervisor.undecided[1] = None  # driver: later
    world.kill("driver")
    world.kill("files")
    world.revive("files")
    assert world.state("files", 1) == ("dead", 2)
    world.supervisor.decide(1)
    world.revive("driver")
    assert world.state("driver", 1) == ("open", 3)
    assert world.state("files", 1) == ("reopen", 3)


def test_a_client_that_lends_a_pool_to_a_device(world: World) -> None:
    """Its successor lends another one: what the device reaches must be that, and not the dead one's."""
    world.kill("files")
    world.revive("files")
    world.until(lambda: world.live("driver").epoch == 2)
    world.revive("driver")
    pool = world.system.connections[1].pool
    assert pool and world.backend.windows[abi.POOL_IOVA] == os.fstat(pool.fd).st_ino
    assert world.supervisor and [f.component for f in world.supervisor.faults] == [2], (
        "no failure of the driver"
    )
    assert world.state("files", 1) == ("reopen", 3)
    world.call("files", abi.Hypercall.RECONNECT, 0)
    place = world.live("files").placement.region(abi.RegionKind.POOL).address
    assert world.tender("files").windows[place].inode == os.fstat(pool.fd).st_ino


def test_a_client_that_lends_single_objects_leaves_the_driver_alone(make_world: MakeWorld) -> None:
    world = make_world(strict())
    world.kill("files")
    world.revive("files")
    assert world.live("driver").deaths == 0 and world.state("driver", 1) == ("reopen", 2)


def test_death_during_recovery(world: World) -> None:
    world.kill("driver")
    world.until(lambda: world.live("driver").running)
    world.kill("driver")  # before it was ready
    world.revive("driver")
    live = world.live("driver")
    assert (live.epoch, live.deaths, live.recoveries) == (3, 2, 2)
    assert world.state("files", 1) == ("reopen", 3)
    assert not world.system.recoveries


def test_a_successor_that_dies_at_once_each_time(world: World) -> None:
    for _ in range(20):
        world.until(lambda: world.live("driver").running)
        world.kill("driver")
    world.revive("driver")
    assert world.live("driver").epoch == 21 and not world.system.recoveries


def test_without_spares_a_cold_one_is_started(make_world: MakeWorld) -> None:
    world = make_world(spares=False)
    assert not world.spares("driver")
    world.kill("driver")
    world.revive("driver")
    assert world.live("driver").epoch == 2


def test_a_lost_spare_is_replaced_slower_and_slower(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SPARE_DELAY_S", 0.002)
    world.until(lambda: all(world.spares(name) for name in ("rs", "driver", "files")))
    for failure in range(1, 5):
        spare = world.spares("driver")[0]
        spare.fault(abi.Fault.INTERNAL)
        world.until(lambda spare=spare: spare.killed)  # type: ignore[misc]
        assert world.live("driver").spare_failures == failure
        world.until(lambda: world.spares("driver"))
    spare = world.spares("driver")[0]
    spare.die()
    world.until(lambda: world.spares("driver") and world.spares("driver")[0] is not spare)
    assert world.live("driver").deaths == 0 and not world.system.evidence.records


def test_a_spare_that_cannot_be_prepared_is_no_spare(world: World) -> None:
    world.until(lambda: world.spares("driver"))
    spare = world.spares("driver")[0]
    world.kill("driver")
    spare.fails = True  # its adoption does
    world.until(lambda: spare.killed)
    assert world.record().kind == abi.Fault.INTERNAL and "OSError" in world.record().message
    world.revive("driver")
    assert world.live("driver").epoch == 3


def test_zygote_lost_while_a_successor_is_needed(make_world: MakeWorld) -> None:
    world = make_world(spares=False)
    world.launcher.away = True
    world.kill("driver")
    world.until(lambda: world.launcher.asked)
    world.turns(20)
    assert world.live("driver").running and not world.tender("driver").started
    world.launcher.back()
    world.revive("driver")


def test_a_tender_that_cannot_be_made(make_world: MakeWorld) -> None:
    world = make_world(spares=False)
    world.launcher.away = True
    world.kill("driver")
    world.until(lambda: world.launcher.asked)
    asked = world.launcher.asked.pop()
    world.system.tender_failed(asked.instance.number, "no memory")
    assert world.record().message == "no tender: no memory"
    asked.die()
    world.until(lambda: world.launcher.asked)
    world.launcher.back()
    world.revive("driver")


def test_killed_before_its_process_was_known(make_world: MakeWorld) -> None:
    world = make_world(spares=False)
    world.launcher.away = True
    world.kill("driver")
    world.until(lambda: world.live("driver").running)
    first = world.tender("driver")
    world.kill("driver")
    world.launcher.back()
    world.until(lambda: first.killed)
    world.revive("driver")


def test_the_supervisor_itself_dies(world: World) -> None:
    assert world.supervisor
    world.supervisor.alive = False
    world.kill("driver")
    world.turns(5)
    world.kill("rs")
    world.turns(5)
    world.supervisor.alive = True
    world.revive("rs", "driver")
    # The question was asked again of the successor, on new rings.
    assert [fault.component for fault in world.supervisor.faults] == [1]
    assert world.supervisor.epoch == 2
    assert world.live("rs").recoveries == 1


def test_a_supervisor_that_does_not_answer_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.supervision.ANSWER_DEADLINE_NS", 20_000_000)
    assert world.supervisor
    world.supervisor.alive = False
    world.kill("driver")
    world.until(lambda: world.live("rs").deaths == 1)
    assert world.record().kind == abi.Fault.HUNG
    world.revive("rs")
    world.until(lambda: world.live("rs").deaths == 2)  # and so is its successor
    world.supervisor.alive = True
    world.revive("rs", "driver")


def test_a_supervisor_that_never_gets_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.supervision.START_DEADLINE_NS", 20_000_000)
    assert world.supervisor
    world.supervisor.alive = False
    world.kill("rs")
    world.kill("driver")
    world.until(lambda: world.live("rs").deaths == 2)
    world.supervisor.alive = True
    world.revive("rs", "driver")


def test_a_supervisor_with_nothing_to_answer_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypervisor.supervision.ANSWER_DEADLINE_NS", 1)
    world.system.check_supervisor()
    assert world.live("rs").deaths == 0


def test_a_supervisor_that_dies_at_once_each_time_is_restarted_slower(world: World) -> None:
    for _ in range(6):
        world.until(lambda: world.live("rs").running)
        world.tender("rs").fault(abi.Fault.EXCEPTION, 14)
        deaths = world.live("rs").deaths
        world.until(lambda deaths=deaths: world.live("rs").deaths > deaths)  # type: ignore[misc]
    died = world.record().time_ns
    world.revive("rs")
    assert world.tender("rs").instance.started_ns - died >= 32_000_000


def test_a_supervisor_that_keeps_dying_begins_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many deaths in a row, and only then; whoever has lived for a while is left its state."""
    monkeypatch.setattr("hypervisor.recovery.HASTY_SHIFT_MAX", 5)

    def die_and_return(lived_ns: int = 0) -> int:
        tender, deaths = world.tender("rs"), world.live("rs").deaths
        tender.instance.started_ns -= lived_ns
        tender.fault(abi.Fault.EXCEPTION, 14)
        world.until(lambda: world.live("rs").deaths > deaths)
        world.revive("rs")
        return abi.Info.unpack(world.tender("rs").info).cure

    monkeypatch.setattr("hypervisor.recovery.HASTY_NS", 10**9)
    none, fresh = abi.Cure.NONE, abi.Cure.FRESH
    assert [die_and_return() for _ in range(4)] == [none] * 4
    assert die_and_return(lived_ns=2 * 10**9) == none
    assert [die_and_return() for _ in range(6)] == [none] * 4 + [fresh] * 2
    assert die_and_return(lived_ns=2 * 10**9) == none
    world.kill("driver")
    world.revive("driver")


def test_without_supervisor_the_first_death_is_final(make_world: MakeWorld) -> None:
    policy = storage(components=(component("driver"),), channels=(), supervisor=None)
    world = make_world(policy, spares=False)
    world.kill("driver")
    assert world.live("driver").gave_up


# -- the state regions ---------------------------------------------------------------------------------


def test_state_is_handed_over_only_when_the_dead_one_cannot_write_it(make_world: MakeWorld) -> None:
    world = make_world(storage(files={"states": (STATE,)}))
    first = world.tender("files")
    place = world.live("files").placement.region(abi.RegionKind.STATE).address
    inode = first.windows[place].inode
    world.live("files").states[0].map[:5] = b"state"
    first.immortal = True
    world.kill("files")
    world.turns(50)
    assert world.live("files").running is None, "its process may still write"
    first.immortal = False
    first.die()
    world.revive("files")
    assert world.tender("files").windows[place].inode == inode
    assert world.live("files").states[0].map[:5] == b"state"


def test_state_that_does_not_survive_a_crash_is_cleared(make_world: MakeWorld) -> None:
    lasting, passing = (StateRegion(name, PAGE, 1, frozenset({name})) for name in ("crash", "update"))
    world = make_world(storage(files={"states": (lasting, passing)}))
    for memory in world.live("files").states:
        memory.map[-5:] = b"state"
    world.kill("files")
    world.revive("files")
    assert [bytes(memory.map[-5:]) for memory in world.live("files").states] == [b"state", bytes(5)]


def test_a_component_without_state_does_not_wait_for_the_dead(world: World) -> None:
    first = world.tender("driver")
    first.immortal = True
    world.kill("driver")
    world.revive("driver")
    assert not first.gone
    first.die()


# -- the device ----------------------------------------------------------------------------------------


def test_device_lost_while_its_driver_runs(world: World) -> None:
    old = world.backend
    old.die()
    world.until(lambda: world.live("driver").deaths)
    assert world.record().kind == abi.Fault.DEVICE_DIED and old.closed
    world.revive("driver")
    assert world.backend is not old and world.backend.calls == ["start"]
    assert world.system.devices["driver"].restarts == 1


def test_device_lost_while_it_is_drained(world: World) -> None:
    assert world.supervisor
    world.supervisor.undecided[1] = None
    old = world.backend
    old.slow = True
    world.kill("driver")
    world.turns(5)
    old.die()
    world.supervisor.decide(1)
    world.revive("driver")
    assert old.closed and world.backend is not old and world.backend.calls == ["start"]
    assert world.live("driver").deaths == 1 and len(world.launcher.backends) == 2


def test_device_lost_while_it_is_drained_but_the_successor_runs_already(world: World) -> None:
    old = world.backend
    old.slow = True
    world.kill("driver")
    world.until(lambda: world.live("driver").epoch == 2)
    old.die()
    world.until(lambda: world.live("driver").deaths == 2)
    assert world.record().kind == abi.Fault.DEVICE_DIED
    world.revive("driver")
    assert old.closed and world.backend is not old and world.backend.calls == ["start"]
    assert len(world.launcher.backends) == 2


def test_the_successor_dies_before_the_drain_is_over(world: World) -> None:
    backend = world.backend
    backend.slow = True
    world.kill("driver")
    world.until(lambda: world.live("driver").epoch == 2)
    world.kill("driver")
    world.until(lambda: world.live("driver").epoch == 3)
    backend.finish()
    world.revive("driver")
    assert backend.calls == ["start", "stop", "start", "stop", "start"]
    connection = world.system.connections[1]
    assert connection.pool and backend.windows[abi.POOL_IOVA] == os.fstat(connection.pool.fd).st_ino


def test_device_lost_after_its_drain_before_the_successor(world: World) -> None:
    assert world.supervisor
    world.supervisor.undecided[1] = None
    old = world.backend
    world.kill("driver")
    world.turns(10)
    old.die()
    world.turns(3)
    world.supervisor.decide(1)
    world.revive("driver")
    assert world.backend is not old and world.backend.calls == ["start"]
    assert world.live("driver").deaths == 1


def test_no_device_can_be_made_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEVICE_RETRY_S", 0.002)
    world.launcher.no_device = "it closed the stream"
    world.backend.die()
    world.until(lambda: world.system.devices["driver"].restarts >= 3)
    assert world.live("driver").running is None
    assert any("no device: it closed the stream" in r.text for r in world.system.log.since(0))
    world.launcher.no_device = ""
    world.revive("driver")
    assert world.backend.calls == ["start"]


def test_a_device_that_is_lost_before_it_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEVICE_RETRY_S", 0.002)
    make = world.launcher.make_backend
    stillborn: list[object] = []

    def lost_at_once(*args: object) -> object:
        backend = make(*args)  # type: ignore[arg-type]
        if not stillborn:
            stillborn.append(backend)
            backend.lost("its process ended")
        return backend

    monkeypatch.setattr(world.launcher, "make_backend", lost_at_once)
    world.backend.die()
    world.until(lambda: stillborn)
    world.revive("driver")
    assert world.backend is not stillborn[0] and world.backend.calls == ["start"]


def test_a_driver_that_points_its_device_elsewhere(world: World) -> None:
    world.backend.misled(1)
    assert world.record().kind == abi.Fault.DMA
    world.revive("driver")
    assert len(world.launcher.backends) == 1, "the device is not at fault"


# -- complaints ----------------------------------------------------------------------------------------


def test_a_complaint_closes_only_the_own_connection(world: World) -> None:
    assert world.status("app", abi.Hypercall.COMPLAIN, 0, 3) == 0
    world.until(lambda: world.state("app", 2)[0] == "reopen")
    assert world.state("app", 2) == world.state("files", 2) == ("reopen", 2)
    assert world.state("files", 1) == ("open", 1)
    for name, index in (("app", 0), ("files", 1)):
        assert world.call(name, abi.Hypercall.RECONNECT, index).args[1] == 2
    assert not world.system.evidence.records
    texts = [record.text for record in world.system.log.since(0)]
    assert f"complaint about files: {abi.names(abi.Complaint)[3]}" in texts


def test_complaints_in_a_row_take_longer_and_longer(world: World) -> None:
    connection = world.system.connections[2]
    for count in range(1, 4):
        world.call("app", abi.Hypercall.COMPLAIN, 0, 1)
        # While it is closed, more of them change nothing.
        world.call("app", abi.Hypercall.COMPLAIN, 0, 1)
        world.call("files", abi.Hypercall.COMPLAIN, 1, 1)
        assert connection.complaints == count
        world.until(lambda: world.state("app", 2)[0] == "reopen")
        world.call("app", abi.Hypercall.COMPLAIN, 0, 1)
        assert connection.complaints == count and connection.epoch == count + 1
        world.call("app", abi.Hypercall.RECONNECT, 0)
        world.call("files", abi.Hypercall.RECONNECT, 1)
    connection.complained_ns -= process.COMPLAINT_MEMORY_NS + 1
    world.call("app", abi.Hypercall.COMPLAIN, 0, 1)
    assert connection.complaints == 1


def test_a_complaint_and_a_death_do_not_reopen_twice(world: World) -> None:
    connection = world.system.connections[2]
    connection.complaints = 5  # it would take ten seconds
    connection.complained_ns = 1 << 62
    world.call("app", abi.Hypercall.COMPLAIN, 0, 1)
    assert world.state("app", 2) == world.state("files", 2) == ("dead", 1)
    world.kill("files")
    world.system._reopen(connection, 1)  # its time has come while one end is dead
    assert connection.epoch == 1
    world.revive("files")
    world.call("app", abi.Hypercall.RECONNECT, 0)
    world.system._reopen(connection, 1)  # or when it has been reopened
    assert world.state("app", 2) == world.state("files", 2) == ("open", 2)


def test_a_complaint_about_a_pool_that_a_device_can_reach_replaces_the_driver(world: World) -> None:
    world.call("files", abi.Hypercall.COMPLAIN, 0, 1)
    world.until(lambda: world.live("driver").deaths)
    assert world.record().kind == abi.Fault.REPLACED
    assert world.backend.calls[:2] == ["start", "stop"]
    world.revive("driver")
    assert world.state("files", 1) == ("reopen", 2)


def test_the_supervisor_complains_about_the_hypervisor(world: World) -> None:
    assert world.supervisor
    world.call("rs", abi.Hypercall.COMPLAIN, 0, 1)
    world.until(lambda: world.state("rs", 0) == ("reopen", 2))
    world.call("rs", abi.Hypercall.RECONNECT, 0)
    world.kill("driver")
    world.revive("driver")  # it still gets its verdicts


def test_close_ends_everything(world: World) -> None:
    world.system.close()
    world.turns(2)
    assert all(tender.killed for tender in world.launcher.tenders)
    assert world.backend.closed and world.launcher.closed
    assert not world.system.evidence.records, "that was no death"
