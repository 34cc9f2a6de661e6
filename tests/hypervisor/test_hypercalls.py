"""Hypercalls with hostile arguments, and grants from lending to taking back, in a system of fakes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from hypervisor import hypercalls
from hypervisor.abi import generated as abi
from hypervisor.instances import Lifecycle
from hypervisor.placement import GRANT_SLOT
from hypervisor.throttle import Throttle
from tests.hypervisor.policies import RW, storage, strict
from tests.hypervisor.world import World
from vmm.cli.faults import in_words

MakeWorld = Callable[..., World]
PAGE = abi.PAGE_SIZE
ALL_ONES = (1 << 64) - 1


@pytest.fixture
def lending(make_world: MakeWorld) -> World:
    """A system in which files lends two objects of a page to the driver, channel 0 of both."""
    return make_world(strict())


def lend(world: World, index: int = 0, rights: int = RW) -> int:
    """The number of a grant of files' object `index` to the driver."""
    rax, rdx = world.call("files", abi.Hypercall.GRANT, index, 0, rights).args[:2]
    assert rax == 0
    return rdx


def inode(world: World, index: int = 0) -> int:
    """The inode of files' grant object."""
    return os.fstat(world.live("files").grant_objects[index].fd).st_ino


@pytest.mark.parametrize(
    ("number", "args"),
    [
        (abi.Hypercall.RECONNECT, (1,)),
        (abi.Hypercall.RECONNECT, (ALL_ONES,)),
        (abi.Hypercall.COMPLAIN, (64, 0)),
        (abi.Hypercall.GRANT, (2, 0, RW)),
        (abi.Hypercall.GRANT, (ALL_ONES, 0, RW)),
        (abi.Hypercall.GRANT, (0, 9, RW)),
        (abi.Hypercall.GRANT, (0, 0, 0)),
        (abi.Hypercall.GRANT, (0, 0, 8)),
        (abi.Hypercall.MAP_GRANT, (0, 9)),
        (abi.Hypercall.COPY_FROM_GRANT, (0, ALL_ONES, 0, 0, 1)),
    ],
)
def test_arguments_no_correct_program_sends_are_faults(
    lending: World, number: int, args: tuple[int, ...]
) -> None:
    name = "driver" if number == abi.Hypercall.RECONNECT else "files"
    lending.tender(name).hypercall(number, *args)
    lending.until(lambda: lending.live(name).deaths)
    assert lending.record().kind == abi.Fault.BAD_ARGUMENT
    lending.revive(name)


@pytest.mark.parametrize("number", [0, 17, 63, 64, ALL_ONES])
def test_unknown_hypercalls(world: World, number: int) -> None:
    world.tender("files").hypercall(number)
    world.until(lambda: world.live("files").deaths)
    assert (world.record().kind, world.record().address) == (abi.Fault.UNKNOWN_HYPERCALL, number)


def test_a_hypercall_that_is_not_in_the_manifest(make_world: MakeWorld) -> None:
    world = make_world(storage(files={"hypercalls": frozenset((abi.Hypercall.READY,))}))
    world.tender("files").hypercall(abi.Hypercall.LOG, 0, 0, 0)
    world.until(lambda: world.live("files").deaths)
    assert world.record().kind == abi.Fault.DENIED_HYPERCALL
    assert in_words(world.record().describe()).startswith("denied_hypercall log, ")


@pytest.mark.parametrize("number", sorted(abi.names(abi.Hypercall)))
def test_no_arguments_whatever_end_the_hypervisor(lending: World, number: int) -> None:
    """Every call, with numbers that break what is done carelessly."""
    for value in (0, 1, ALL_ONES, 1 << 63, 0xFFFFFFFF, 1 << 32):
        for name in ("files", "driver", "app"):
            tender = lending.tender(name)
            if tender.instance.state is Lifecycle.RUNNING:
                tender.hypercall(number, *[value] * 5, body=b"\xff\x00" * 40)
        lending.turns(4)
    assert lending.live("rs").running


def test_log(world: World) -> None:
    world.call("files", abi.Hypercall.LOG, ALL_ONES, 0, 0, body=b"\x1b[2J clear \xff" + b"x" * 5000)
    record = world.system.log.since(0)[-1]
    assert record.text.startswith("\\x1b[2J clear \ufffd") and len(record.text) < 1100
    assert (record.level, record.component) == (abi.LogLevel.DEBUG, "files")


def test_who_logs_all_the_time_waits_for_it(world: World) -> None:
    """A flood costs the one that makes it, not the others' time."""
    world.live("files").chatter = Throttle(per_second=50, burst=1)
    begun = time.monotonic()
    for _ in range(4):
        assert world.status("files", abi.Hypercall.LOG, 2, 0, 0, body=b"again") == 0
    assert time.monotonic() - begun >= 0.05
    begun = time.monotonic()
    assert world.status("app", abi.Hypercall.LOG, 2, 0, 0, body=b"hello") == 0
    assert time.monotonic() - begun < 1.0


def test_ready_for_the_second_time(world: World) -> None:
    """Nobody waits for its answer, so that a guest could send any number of them."""
    world.tender("files").hypercall(abi.Hypercall.READY)
    world.until(lambda: world.live("files").deaths)
    assert world.record().kind == abi.Fault.BAD_ARGUMENT
    world.revive("files")


def test_output(world: World) -> None:
    write = abi.Hypercall.OUTPUT
    assert world.call("app", write, abi.Stream.STDOUT, 0, 5, 0, body=b"hello").args[:2] == (0, 5)
    assert world.call("app", write, abi.Stream.STDOUT, 0, 5, 0, body=b"hello").args[:2] == (0, 5)
    assert world.call("app", write, abi.Stream.STDOUT, 0, 5, 3, body=b"lo world").args[:2] == (0, 11)
    assert world.status("app", write, abi.Stream.STDOUT, 0, 5, 12, body=b"gap") == abi.Error.INVAL
    assert world.status("app", write, 3, 0, 5, 0, body=b"no such stream") == abi.Error.INVAL
    assert world.status("app", write, ALL_ONES, 0, 5, ALL_ONES, body=b"?") == abi.Error.INVAL
    assert os.read(world.stdout, 100) == b"hello world"


# -- grants ---------------------------------------------------------------------------------------------


def test_lend_map_and_take_back(lending: World) -> None:
    grant = lend(lending)
    rax, address = lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0).args[:2]
    assert rax == 0 and address == lending.live("driver").placement.grants_writable
    assert lending.tender("driver").windows[address] == (inode(lending), PAGE, True)
    # While it is taken back its owner waits, and the grantee can do nothing new with it.
    driver, files = lending.tender("driver"), lending.tender("files")
    driver.stopped = True
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(5)
    assert len(files.results) == answered
    driver.stopped = False
    lending.until(lambda: len(files.results) > answered)
    assert files.results[-1].args[0] == 0 and address not in driver.windows
    assert lending.status("driver", abi.Hypercall.MAP_GRANT, grant, 0) == abi.Error.NOENT, "stale"
    assert len(lending.system.grants._grants) == 0
    # The object may be lent again, under another number.
    assert lend(lending) != grant


def test_read_only_grants_go_into_the_read_only_window(lending: World) -> None:
    grant = lend(lending, rights=abi.GrantRights.READ)
    address = lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0).args[1]
    assert address >= abi.RO_WINDOW
    assert lending.tender("driver").windows[address] == (inode(lending), PAGE, False)


def test_two_mappings_do_not_overlap(lending: World) -> None:
    one, two = lend(lending, 0), lend(lending, 1)
    first = lending.call("driver", abi.Hypercall.MAP_GRANT, one, 0).args[1]
    second = lending.call("driver", abi.Hypercall.MAP_GRANT, two, 0).args[1]
    assert second == first + GRANT_SLOT
    assert lending.status("driver", abi.Hypercall.UNMAP_GRANT, one, 0) == 0
    assert first not in lending.tender("driver").windows
    assert lending.call("driver", abi.Hypercall.MAP_GRANT, one, 0).args[1] == first


def test_what_a_grantee_may_not_do(lending: World) -> None:
    grant = lend(lending)
    assert lending.status("files", abi.Hypercall.GRANT, 0, 0, RW) == abi.Error.BUSY
    for name, call, args, error in (
        ("files", abi.Hypercall.MAP_GRANT, (grant, 0), abi.Error.PERM),  # the owner
        ("app", abi.Hypercall.MAP_GRANT, (grant, 0), abi.Error.NOENT),  # another channel
        ("files", abi.Hypercall.MAP_GRANT, (grant, 1), abi.Error.NOENT),
        ("driver", abi.Hypercall.REVOKE, (grant,), abi.Error.NOENT),
        ("driver", abi.Hypercall.MAP_GRANT, (grant + 1, 0), abi.Error.NOENT),
        ("driver", abi.Hypercall.MAP_GRANT, (0, 0), abi.Error.NOENT),
        ("driver", abi.Hypercall.UNMAP_GRANT, (grant, 0), abi.Error.NOENT),
        ("driver", abi.Hypercall.DMA_CLOSE, (grant, 0), abi.Error.NOENT),
        ("files", abi.Hypercall.DMA_OPEN, (grant, 0), abi.Error.PERM),  # no device
    ):
        assert lending.status(name, call, *args) == error, (name, call)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    assert lending.status("driver", abi.Hypercall.MAP_GRANT, grant, 0) == abi.Error.BUSY
    only = lend(lending, 1, abi.GrantRights.COPY | abi.GrantRights.READ)
    assert lending.status("driver", abi.Hypercall.MAP_GRANT, only, 0) == abi.Error.PERM


def test_more_than_was_offered_cannot_be_lent(make_world: MakeWorld) -> None:
    world = make_world(strict(rights=abi.GrantRights.READ))
    assert world.status("files", abi.Hypercall.GRANT, 0, 0, RW) == abi.Error.PERM


def test_copies(lending: World) -> None:
    grant = lend(lending, 0, RW | abi.GrantRights.COPY)
    write, read = abi.Hypercall.COPY_TO_GRANT, abi.Hypercall.COPY_FROM_GRANT
    assert lending.status("driver", write, grant, 0, 10, 0x300000, 5, body=b"hello") == 0
    assert lending.live("files").grant_objects[0].map[10:15] == b"hello"
    answer = lending.call("driver", read, grant, 0, 10, 0x300000, 5)
    assert (answer.args[:3], answer.body) == ((0, 0, 0), b"hello")
    for offset, length in ((PAGE, 1), (PAGE - 1, 2), (ALL_ONES, 1), (0, ALL_ONES), (1, ALL_ONES)):
        assert lending.status("driver", read, grant, 0, offset, 0, length) == abi.Error.RANGE
        assert lending.status("driver", write, grant, 0, offset, 0, length, body=b"") == abi.Error.RANGE
    assert lending.call("driver", read, grant, 0, PAGE, 0, 0).body == b""
    read_only = lend(lending, 1, abi.GrantRights.READ)
    assert lending.status("driver", write, read_only, 0, 0, 0, 1, body=b"x") == abi.Error.NOENT
    lending.tender("driver").hypercall(write, grant, 0, 0, 0, 5, body=b"less")
    lending.until(lambda: lending.live("driver").deaths)
    assert lending.record().kind == abi.Fault.BAD_ARGUMENT


def test_a_grantee_that_does_not_give_back_is_killed(lending: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercalls, "REVOKE_DEADLINE_S", 0.01)
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    driver, files = lending.tender("driver"), lending.tender("files")
    driver.stopped = driver.immortal = True
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.until(lambda: driver.killed)
    assert lending.record().kind == abi.Fault.REVOKE_DEADLINE
    lending.turns(10)
    assert len(files.results) == answered, "its process can still reach the object"
    driver.die()
    lending.until(lambda: len(files.results) > answered)
    assert files.results[-1].args[0] == 0 and not lending.system.grants._grants


def test_a_tender_that_says_it_could_not_unmap_is_killed(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    lending.tender("driver").fails = True
    assert lending.status("files", abi.Hypercall.REVOKE, grant) == 0
    assert lending.record().kind == abi.Fault.INTERNAL and lending.record().component == "driver"


def test_the_owner_dies(lending: World) -> None:
    grant = lend(lending)
    address = lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0).args[1]
    old = inode(lending)
    lending.kill("files")
    lending.revive("files")
    lending.until(lambda: not lending.system.grants._grants)
    assert address not in lending.tender("driver").windows
    assert inode(lending) != old, "its successor lends other memory"
    assert lending.status("driver", abi.Hypercall.MAP_GRANT, grant, 0) == abi.Error.NOENT


def test_the_owner_dies_while_it_revokes(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    driver = lending.tender("driver")
    driver.stopped = True
    lending.tender("files").hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    lending.kill("files")
    driver.stopped = False
    lending.until(lambda: not lending.system.grants._grants)
    assert lending.live("driver").deaths == 0
    lending.revive("files")


def test_the_grantee_dies_and_its_successor_maps_it_again(lending: World) -> None:
    """At once, although the dead one's process still is there; the owner gets it back only after that."""
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    dead = lending.tender("driver")
    dead.immortal = True
    lending.kill("driver")
    lending.revive("driver")
    assert lending.status("driver", abi.Hypercall.MAP_GRANT, grant, 0) == 0
    files = lending.tender("files")
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(20)
    assert len(files.results) == answered
    dead.die()
    lending.until(lambda: len(files.results) > answered)
    assert not lending.system.grants._grants


def test_the_grantee_dies_while_it_unmaps(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    driver = lending.tender("driver")
    driver.stopped = True
    driver.hypercall(abi.Hypercall.UNMAP_GRANT, grant, 0)
    lending.turns(3)
    lending.kill("driver")
    lending.revive("driver")
    assert lending.status("files", abi.Hypercall.REVOKE, grant) == 0


def test_a_revoke_and_an_unmap_at_once(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.MAP_GRANT, grant, 0)
    driver = lending.tender("driver")
    driver.stopped = True
    driver.hypercall(abi.Hypercall.UNMAP_GRANT, grant, 0)
    lending.turns(2)
    lending.tender("files").hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(2)
    driver.stopped = False
    lending.until(lambda: not lending.system.grants._grants)
    lending.turns(5)
    assert not lending.system.evidence.records


# -- DMA windows of single requests ---------------------------------------------------------------------


def test_a_window_for_one_request(lending: World) -> None:
    grant = lend(lending)
    rax, iova = lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0).args[:2]
    assert rax == 0 and lending.backend.windows[iova] == inode(lending)
    assert lending.status("driver", abi.Hypercall.DMA_OPEN, grant, 0) == abi.Error.BUSY
    assert lending.status("driver", abi.Hypercall.DMA_CLOSE, grant, 0) == 0
    assert iova not in lending.backend.windows
    again = lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0).args[1]
    assert again > iova, "a late access of the device hits nothing"
    assert lending.status("files", abi.Hypercall.REVOKE, grant) == 0
    assert again not in lending.backend.windows


def test_a_window_needs_the_right_to_write(lending: World) -> None:
    for index, rights in enumerate((abi.GrantRights.READ, RW | abi.GrantRights.COPY)):
        grant = lend(lending, index, rights)
        assert lending.status("driver", abi.Hypercall.DMA_OPEN, grant, 0) == abi.Error.PERM


def test_a_device_without_room(lending: World) -> None:
    lending.backend.full = True
    grant = lend(lending)
    for _ in range(3):
        assert lending.status("driver", abi.Hypercall.DMA_OPEN, grant, 0) == abi.Error.IO
    assert not lending.system.devices["driver"]._windows
    assert lending.status("files", abi.Hypercall.REVOKE, grant) == 0


def test_revoked_while_the_window_is_being_opened(lending: World) -> None:
    grant = lend(lending)
    backend, files = lending.backend, lending.tender("files")
    backend.slow = True
    lending.tender("driver").hypercall(abi.Hypercall.DMA_OPEN, grant, 0)
    lending.turns(3)
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    assert len(files.results) == answered
    backend.finish()  # it is open now, and asked to close
    lending.turns(3)
    assert len(files.results) == answered and backend.calls[-1] == "close window"
    backend.finish()
    lending.until(lambda: len(files.results) > answered)
    assert set(backend.windows) == {abi.VRING_IOVA}


def test_revoked_while_the_window_is_being_closed(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0)
    backend, files = lending.backend, lending.tender("files")
    backend.slow = True
    lending.tender("driver").hypercall(abi.Hypercall.DMA_CLOSE, grant, 0)
    lending.turns(3)
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    assert len(files.results) == answered, "busy"
    backend.finish()
    lending.until(lambda: len(files.results) > answered)
    assert backend.calls.count("close window") == 1


def test_the_driver_dies_with_windows_open(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0)
    lending.kill("driver")
    lending.revive("driver")
    assert set(lending.backend.windows) == {abi.VRING_IOVA}
    # The successor opens its own for the request that is replayed.
    assert lending.status("driver", abi.Hypercall.DMA_OPEN, grant, 0) == 0


def test_the_successor_opens_a_window_before_the_drain_is_over(lending: World) -> None:
    grant = lend(lending)
    old = lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0).args[1]
    backend, files = lending.backend, lending.tender("files")
    backend.slow = True
    lending.kill("driver")
    lending.revive("driver")
    driver = lending.tender("driver")
    driver.hypercall(abi.Hypercall.DMA_OPEN, grant, 0)
    lending.turns(3)
    assert old in backend.windows
    backend.finish()
    lending.until(lambda: driver.results)
    rax, new = driver.results[-1].args[:2]
    assert rax == 0 and new != old and set(backend.windows) == {abi.VRING_IOVA, new}
    # Its owner gets it back only when that one is closed, too.
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    assert len(files.results) == answered
    backend.finish()
    lending.until(lambda: len(files.results) > answered)
    assert set(backend.windows) == {abi.VRING_IOVA}


def test_the_driver_dies_while_it_opens_a_window(lending: World) -> None:
    """What it asked for is opened all the same, and closed with the drain: until then it is in use."""
    grant = lend(lending)
    backend, files = lending.backend, lending.tender("files")
    backend.slow = True
    lending.tender("driver").hypercall(abi.Hypercall.DMA_OPEN, grant, 0)
    lending.turns(3)
    lending.kill("driver")
    lending.revive("driver")
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    opening, backend.waiting = backend.waiting[0], backend.waiting[1:]
    opening(True)
    lending.turns(3)
    assert len(files.results) == answered and len(backend.windows) == 2
    backend.finish()
    lending.until(lambda: len(files.results) > answered)
    assert set(backend.windows) == {abi.VRING_IOVA}


def test_a_device_that_does_not_close_a_window_is_ended_first(lending: World) -> None:
    grant = lend(lending)
    lending.call("driver", abi.Hypercall.DMA_OPEN, grant, 0)
    backend, files = lending.backend, lending.tender("files")
    backend.slow = True
    answered = len(files.results)
    files.hypercall(abi.Hypercall.REVOKE, grant)
    lending.turns(3)
    backend.finish(False)  # its deadline has passed: it is lost, which is told next
    lending.turns(3)
    assert len(files.results) == answered and not backend.closed
    backend.lost("no answer in time")
    lending.until(lambda: len(files.results) > answered)
    assert backend.closed
    lending.revive("driver")
