"""The watch: who is hung, who only waits, and who is not asked at all."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from hypervisor import watch
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from tests.hypervisor.policies import storage
from tests.hypervisor.world import World

HEARTBEAT_MS = 40


class Watched:
    """A system whose driver has a heartbeat and CPU time as the test says."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.cpu_ns = 0
        monkeypatch.setattr("hypervisor.instances.Instance.cpu_ns", lambda _: self.cpu_ns)
        monkeypatch.setattr(watch, "PERIOD_S", 0.002)
        self.connection: Connection = world.system.connections[1]

    def put(self, **values: int) -> None:
        for name, value in values.items():
            offset = getattr(abi, f"CHANNEL_{name.upper()}")
            self.connection.rings.map[offset : offset + 4] = value.to_bytes(4, "little")

    def look(self, rounds: int = 1, cpu_ns: int = 0) -> int:
        """So many rounds of the watch; the driver's deaths."""
        for _ in range(rounds):
            self.cpu_ns += cpu_ns
            live = self.world.live("driver")
            if live.running:
                self.world.system.watch._look(live, live.running)
            self.world.turn()
        return self.world.live("driver").deaths


@pytest.fixture
def watched(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(make_world(storage(driver={"heartbeat_ms": HEARTBEAT_MS})), monkeypatch)


TICK = 10_000_000


def test_busy_without_progress_is_hung(watched: Watched) -> None:
    watched.put(request_tail=1)
    assert watched.look(4, TICK) == 0
    assert watched.look(2, TICK) == 1
    record = watched.world.record()
    assert record.kind == abi.Fault.HUNG and "1 requests wait, no progress" in record.message
    watched.world.revive("driver")
    assert watched.look(10, TICK) == 1, "the successor starts with a clean slate"


def test_waiting_for_something_else_is_not(watched: Watched) -> None:
    watched.put(request_tail=2)
    assert watched.look(30) == 0
    assert watched.world.tender("driver").pings > 0, "it was asked whether its tender lives"


@pytest.mark.parametrize("counter", ["request_head", "reply_tail"])
def test_progress_is_any_index_that_moves(watched: Watched, counter: str) -> None:
    watched.put(request_tail=4)
    for value in range(1, 4):
        watched.put(**{counter: value})
        assert watched.look(3, TICK) == 0
    assert watched.look(5, TICK) == 1


def test_parked_requests_do_not_wait(watched: Watched) -> None:
    watched.put(request_tail=2, request_head=2, parked=2)
    assert watched.look(30, TICK) == 0


def test_nothing_to_do_is_no_reason(watched: Watched) -> None:
    assert watched.look(30, TICK) == 0


@pytest.mark.parametrize("tail", [5, 1000, 0xFFFFFFFF])
def test_a_client_that_claims_more_requests_than_there_are_slots(watched: Watched, tail: int) -> None:
    watched.put(request_tail=tail)
    assert watched.look(30, TICK) == 0


def test_what_a_dead_client_has_left_does_not_wait(watched: Watched) -> None:
    watched.put(request_tail=1)
    watched.world.supervisor.alive = False  # type: ignore[union-attr]
    watched.world.kill("files")
    assert watched.look(30, TICK) == 0


def test_a_silent_tender(watched: Watched) -> None:
    watched.put(request_tail=1)
    tender = watched.world.tender("driver")
    tender.silent = True
    watched.look(3)
    assert tender.pings == 1, "one at a time"
    tender.instance.last_pong_ns -= watch.UNRESPONSIVE_HEARTBEATS * HEARTBEAT_MS * 1_000_000
    assert watched.look(2) == 1
    assert watched.world.record().kind == abi.Fault.TENDER_UNRESPONSIVE


def test_nobody_is_silent_while_the_whole_machine_is_stopped(watched: Watched) -> None:
    watched.put(request_tail=1)
    tender = watched.world.tender("driver")
    tender.silent = True
    watched.look(3)
    tender.instance.last_pong_ns -= 40_000_000_000
    watched.world.system.watch._looked_ns -= 40_000_000_000
    watched.world.system.watch._round()
    assert watched.look(2) == 0
    watched.world.system.watch._resumed_ns -= watch.UNRESPONSIVE_HEARTBEATS * HEARTBEAT_MS * 1_000_000
    assert watched.look(2) == 1, "it still does not answer"


def test_a_silent_tender_nobody_wants_anything_of(watched: Watched) -> None:
    tender = watched.world.tender("driver")
    tender.silent = True
    tender.instance.last_pong_ns = 0
    assert watched.look(5) == 0


def test_without_heartbeat_nobody_looks(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(storage())
    monkeypatch.setattr(watch, "PERIOD_S", 0.0)
    monkeypatch.setattr(world.system.watch, "_look", lambda _: pytest.fail("looked"))
    for _ in range(5):
        world.system.watch._round()


def test_rounds_collect_garbage_only_when_nobody_recovers(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(1))
    system, world = watched.world.system, watched.world
    monkeypatch.setattr(system.watch, "_rounds", watch.COLLECT_EVERY - 1)
    system.watch._round()
    assert collected == [1]
    world.kill("driver")
    monkeypatch.setattr(system.watch, "_rounds", watch.COLLECT_EVERY - 1)
    system.watch._round()
    assert collected == [1]
    world.revive("driver")
