"""A tender taken over by its guest: what it sends, and does not read, costs nobody but itself."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import weakref
from collections import Counter
from collections.abc import Callable

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.faults import FaultRecord
from hypervisor.throttle import Throttle
from tests.hypervisor.policies import strict
from tests.hypervisor.world import World


def test_two_hypercalls_at_once(world: World) -> None:
    tender = world.tender("files")
    world.live("files").chatter = Throttle(per_second=1, burst=0)
    tender.hypercall(abi.Hypercall.LOG, 0, 0, 0, body=b"one")  # answered late
    tender.hypercall(abi.Hypercall.LOG, 0, 0, 0, body=b"two")
    world.until(lambda: tender.killed)
    assert world.record("files").message == "its tender sent a record (30) that was not due"
    world.revive("files")


def test_acknowledgements_that_are_not_due(world: World) -> None:
    for sequence in (0, 5, 0xFFFFFFFF):
        tender = world.tender("files")
        tender.send(wire.Kind.ACK, sequence, (0, 0))
        world.until(lambda tender=tender: tender.killed)  # type: ignore[misc]
        assert world.record("files").message == "its tender sent a record (20) that was not due"
        world.revive("files")


def test_acknowledged_out_of_order(world: World) -> None:
    tender = world.tender("files")
    tender.stopped = True
    done: list[int] = []
    for number in range(2):
        tender.instance.apply([], lambda number=number: done.append(number))  # type: ignore[misc]
    tender.send(wire.Kind.ACK, tender.instance._sequence, (0, 0))
    world.until(lambda: tender.killed)
    assert done == []


@pytest.mark.parametrize("kind", [0, 1, 3, 10, 13, 21, 22, 99, 0xFFFFFFFF])
def test_records_out_of_place(world: World, kind: int) -> None:
    """They end their sender: thrown away, they would keep the event loop busy for nothing."""
    tender = world.tender("files")
    tender.send(kind, 7, (1, 2, 3, 4, 5, 6), b"body")
    world.until(lambda: tender.killed)
    assert world.record("files").kind == abi.Fault.INTERNAL
    world.revive("files")


def test_a_flood_does_not_keep_others_waiting(world: World) -> None:
    """The loop takes one record of each tender in a round, whatever else waits."""
    rude, polite = world.tender("files"), world.tender("app")
    sock = rude.instance.sock
    world.system.loop.remove_reader(sock.fileno())
    world.system.loop.add_reader(sock.fileno(), lambda: wire.receive(sock) and None)
    for _ in range(200):
        rude.send(wire.Kind.PONG)
    polite.hypercall(abi.Hypercall.LOG, 2, 0, 0, body=b"polite")
    answered = len(polite.results)
    world.turns(2)
    assert len(polite.results) > answered
    assert wire.receive(sock), "there is more of the flood"


def test_records_that_are_none(world: World) -> None:
    for data in (b"x", bytes(wire.HEADER.size - 1), bytes(wire.HEADER.size + wire.BODY_MAX + 1)):
        tender = world.tender("files")
        tender.sock.send(data)
        world.until(lambda tender=tender: tender.killed)  # type: ignore[misc]
        world.revive("files")


def test_descriptors_are_not_taken(make_world: Callable[..., World]) -> None:
    """Not even for a moment, and with an empty record neither."""
    world = make_world(strict())
    before = len(descriptors())
    for body in (bytes(wire.HEADER.size), b""):
        tender = world.tender("files")
        with socket.socket() as junk:
            socket.send_fds(tender.sock, [body], [junk.fileno()] * 200)
        world.until(lambda tender=tender: tender.killed)  # type: ignore[misc]
        world.revive("files")
        world.until(lambda: world.spares("files"))
        world.turn(0.01)
    # Two more deaths are kept as evidence, by a descriptor each.
    assert len(descriptors()) <= before + 2


@pytest.mark.parametrize("kind", [abi.Fault.KILLED, abi.Fault.REPLACED, 99, 1 << 32, (1 << 64) - 1])
def test_it_cannot_say_what_only_the_hypervisor_says(world: World, kind: int) -> None:
    world.tender("files").fault(kind, *[(1 << 64) - 1] * 5)
    world.until(lambda: world.live("files").deaths)
    assert world.record("files").kind == abi.Fault.INTERNAL
    assert world.record("files").rsp == (1 << 64) - 1
    world.revive("files")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        bytes(159),
        b"\xff" * 160,
        bytes(160) + b"\xff\xfe\x00\x1b[2J",
        b"\xff" * wire.BODY_MAX,
    ],
)
def test_fault_bodies(world: World, body: bytes) -> None:
    """Of registers there are no more than there can be; a text is bounded, and made printable where it is
    shown."""
    world.tender("files").send(wire.Kind.FAULT, 0, (abi.Fault.EXCEPTION, 14), body)
    world.until(lambda: world.live("files").deaths)
    record = world.record("files")
    assert record.registers == body[:160]
    assert len(record.message) <= abi.LOG_MAX and record.describe().isprintable()
    world.revive("files")


@pytest.mark.parametrize("kind", abi.Fault)
@pytest.mark.parametrize("number", [0, 14, 255, (1 << 64) - 1])
def test_fault_numbers(kind: int, number: int) -> None:
    """Whatever a tender's numbers are, there are words for them."""
    record = FaultRecord.reported("files", 1, (kind, *(number,) * 5), b"")
    assert record.describe().isprintable()


def test_fault_of_a_spare(world: World) -> None:
    spare = world.spares("files")[0]
    spare.fault(abi.Fault.EXCEPTION, 14)
    world.until(lambda: spare.killed)
    assert not world.system.evidence.records


def test_hypercalls_of_a_spare_have_no_effect(world: World) -> None:
    for number, body in ((abi.Hypercall.EXIT, b""), (abi.Hypercall.LOG, b"from a spare")):
        world.until(lambda: world.spares("files"))
        spare = world.spares("files")[0]
        spare.hypercall(number, 0, body=body)
        world.until(lambda spare=spare: spare.killed)  # type: ignore[misc]
        assert not spare.results and world.live("files").deaths == 0
    assert not any("from a spare" in record.text for record in world.system.log.since(0))


def test_one_that_does_not_read_is_ended_instead_of_waited_for(world: World) -> None:
    """The hypervisor never waits for room in a socket: the others' calls go on."""
    tender = world.tender("files")
    tender.stopped = True
    for _ in range(20_000):
        if tender.killed:
            break
        tender.hypercall(abi.Hypercall.RECONNECT, 0)
        tender.instance.calling = False
        world.system._on_tender(tender.instance)
    assert tender.killed
    assert world.status("app", abi.Hypercall.LOG, 2, 0, 0, body=b"still here") == 0
    world.revive("files")


def test_an_eventfd_filled_to_the_brim(world: World) -> None:
    """A tender holds both eventfds of each of its channels; a full one refuses the hypervisor's signal."""
    for connection in world.system.connections.values():
        for fd in (connection.client_wake, connection.server_wake):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
            os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE)
            with pytest.raises(BlockingIOError):
                os.eventfd_write(fd, 1)
    world.kill("driver")
    world.revive("driver")
    assert world.state("files", 1) == ("reopen", 2)


def test_telemetry_is_only_looked_at(world: World) -> None:
    instance = world.tender("files").instance
    for pattern in (b"\xff", b"\x01", b"\x80"):
        instance.telemetry.map[:] = pattern * instance.telemetry.size
        world.system.figures.harvest(world.live("files"), instance)
    world.kill("files")
    world.revive("files")
    assert world.live("files").counters()["calls"] > 0


def descriptors() -> list[int]:
    """The open descriptors of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of this very listing
            os.fstat(int(name))
            found.append(int(name))
    return found


def test_two_hundred_deaths_leave_nothing_behind(make_world: Callable[..., World]) -> None:
    """No descriptor, no memory object, no instance: with the collector off, reference cycles would show."""
    world = make_world(strict())
    gc.collect()
    gc.disable()
    try:
        instances: weakref.WeakSet[object] = weakref.WeakSet()

        def die(round_: int) -> None:
            instances.add(world.live("driver").instance)
            instances.add(world.live("files").instance)
            if round_ % 3 == 0:
                world.kill("driver")
            elif round_ % 3 == 1:
                world.tender("driver").fault(abi.Fault.EXCEPTION, 14)
            else:
                world.tender("driver").die()
            if round_ % 5 == 0:
                world.kill("files")
            deaths = round_ + 1
            world.until(lambda: world.live("driver").deaths == deaths)
            world.until(lambda: world.live("driver").running and world.live("files").running)
            world.until(lambda: world.tender("driver").started and world.tender("files").started)
            for name in ("driver", "files"):
                if not world.tender(name).instance.ready_ns:
                    world.ready(name)

        def count() -> list[str]:
            world.until(lambda: world.spares("driver") and world.spares("files"))
            # Four running, three spares; and the quarantine is over.
            world.until(lambda: len(world.system._instances) == 7 and not world.launcher.asked)
            world.turn(0.02)
            world.turns(3)
            for live in world.system.components.values():
                live.counters()  # maps what is mapped only when it is looked at
            return sorted(os.readlink(f"/proc/self/fd/{fd}").split("[")[0] for fd in descriptors())

        for each in range(20):
            die(each)
        before = count()
        for each in range(20, 220):
            die(each)
        assert Counter(count()) - Counter(before) == Counter()
        assert not world.system.recoveries
        assert len(instances) <= 2, "the present ones"
        assert len(world.system.figures._died) <= 1024
    finally:
        gc.enable()
