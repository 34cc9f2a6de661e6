"""A driver that breaks the rules of the ring breaks its queue, or one request, and nothing else."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.devices.conftest import Rig, Start
from tests.devices.queue_driver import (
    INDIRECT,
    IOERR,
    NEXT,
    OK,
    READ_REQUEST,
    WRITE,
    WRITE_REQUEST,
    Piece,
    QueueDriver,
)
from vmm.devices.device import BREAKAGES

AT = abi.VRING_IOVA + abi.VRING_PRIVATE
POOL = abi.POOL_IOVA


def put_chain(driver: QueueDriver, *descriptors: tuple[int, int, int, int], head: int = 0) -> None:
    """(address, length, flags, next) from descriptor 0 on; offers `head`."""
    driver.memory.vring[abi.VRING_PRIVATE : abi.VRING_PRIVATE + 32] = bytes(16) + b"\xff" * 16
    for index, descriptor in enumerate(descriptors):
        driver.descriptor(index, *descriptor)
    driver.offer(head)


def head_out_of_range(driver: QueueDriver) -> None:
    driver.offer(driver.size)


def next_out_of_range(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, driver.size))


def loop_of_one(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 0))


def loop_of_three(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (POOL, 512, NEXT, 2), (POOL, 512, NEXT, 0))


def loop_of_all(driver: QueueDriver) -> None:
    put_chain(driver, *((POOL, 512, NEXT, (index + 1) % driver.size) for index in range(driver.size)))


def index_jump(driver: QueueDriver) -> None:
    driver.put_word(abi.VRING_AVAILABLE + 2, driver.size + 1)


def index_backwards(driver: QueueDriver) -> None:
    driver.put_word(abi.VRING_AVAILABLE + 2, 0xFFFF)


def empty_descriptor(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (POOL, 0, WRITE | NEXT, 2), (AT + 16, 1, WRITE, 0))


def readable_after_writable(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (AT + 16, 1, WRITE | NEXT, 2), (POOL, 512, 0, 0))


def indirect(driver: QueueDriver) -> None:
    put_chain(driver, (POOL, 48, INDIRECT, 0))


def no_status(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (POOL, 512, 0, 0))


def status_outside(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (POOL, 512, WRITE | NEXT, 2), (0x1000, 1, WRITE, 0))


def status_at_the_end_of_the_address_space(driver: QueueDriver) -> None:
    put_chain(driver, (AT, 16, NEXT, 1), (2**64 - 1, 1, WRITE, 0))


CRIMES: list[tuple[Callable[[QueueDriver], None], str]] = [
    (head_out_of_range, "head out of range"),
    (next_out_of_range, "next out of range"),
    (loop_of_one, "chain too long or a loop"),
    (loop_of_three, "chain too long or a loop"),
    (loop_of_all, "chain too long or a loop"),
    (index_jump, "available index ahead of the queue"),
    (index_backwards, "available index ahead of the queue"),
    (empty_descriptor, "empty descriptor"),
    (readable_after_writable, "readable descriptor after a writable one"),
    (indirect, "indirect descriptor, which was not offered"),
    (no_status, "no status byte"),
    (status_outside, "status byte outside the windows"),
    (status_at_the_end_of_the_address_space, "status byte outside the windows"),
]


@pytest.mark.parametrize(("crime", "breakage"), CRIMES, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_ring_stops_its_queue_only(
    start_device: Start, image: Path, crime: Callable[[QueueDriver], None], breakage: str
) -> None:
    content = image.read_bytes()
    error = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    rig = Rig(start_device(queues=2), queues=2, error_fd=error)
    rig.start()
    bad, good = rig.drivers
    crime(bad)
    bad.ring_bell()
    assert select.select([error], [], [], 5.0)[0], "the error descriptor was not signalled"
    rig.loop.until(lambda: rig.device.counters(0).broken == 1)
    counters = rig.device.counters(0)
    assert (counters.broken, BREAKAGES[counters.last_breakage]) == (1, breakage)
    for _ in range(3):  # it stays quiet
        bad.ring_bell()
        assert good.read(3, 4096) == content[3 * 512 : 3 * 512 + 4096]
    assert bad.used_index == 0
    # The other queue never suffered; the next epoch is as good as new.
    assert rig.loop.finish(rig.backend.stop)
    rig.renew()
    rig.start()
    assert rig.driver.read(0, 512) == content[:512]
    assert image.read_bytes() == content
    os.close(error)


@pytest.mark.parametrize(
    ("address", "size"),
    [
        (0x1000, 512),
        (POOL - 512, 1024),
        (POOL + (4 << 20) - 512, 1024),
        (POOL + (4 << 20), 512),
        (2**64 - 512, 512),
        (2**64 - 512, 1024),
        (POOL, 0xFFFFFE00),
        (abi.GRANT_IOVA, 512),
    ],
)
@pytest.mark.parametrize("kind", [READ_REQUEST, WRITE_REQUEST])
def test_data_outside_the_windows_fails_the_request(
    start_device: Start, image: Path, kind: int, address: int, size: int
) -> None:
    content = image.read_bytes()
    error = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    rig = Rig(start_device(), error_fd=error)
    driver = rig.start()
    before = rig.memory.pool[:]
    assert driver.do(kind, 0, [Piece(address, size, kind == READ_REQUEST)]) == IOERR
    assert select.select([error], [], [], 5.0)[0]
    counters = rig.device.counters()
    assert counters.dma_faults == 1
    assert counters.broken == 0
    inside = address <= counters.last_dma_fault <= address + size or address + size >= 2**64
    assert inside
    assert rig.memory.pool[:] == before
    assert driver.read(0, 512) == content[:512]
    assert image.read_bytes() == content
    os.close(error)


def test_header_outside_the_windows(rig: Rig) -> None:
    put_chain(rig.driver, (0x1000, 16, NEXT, 1), (POOL, 512, WRITE | NEXT, 2), (AT + 16, 1, WRITE, 0))
    rig.driver.ring_bell()
    assert rig.driver.wait() == [(0, IOERR, 1)]
    assert rig.device.counters().dma_faults == 1


def test_short_header(rig: Rig) -> None:
    put_chain(rig.driver, (AT, 15, NEXT, 1), (POOL, 512, WRITE | NEXT, 2), (AT + 16, 1, WRITE, 0))
    rig.driver.ring_bell()
    assert rig.driver.wait() == [(0, IOERR, 1)]


def test_the_longest_chain(rig: Rig, image: Path) -> None:
    """Every descriptor of the queue in one request is allowed."""
    driver = rig.driver
    pieces = [Piece(POOL + index * 512, 512, True) for index in range(driver.size - 2)]
    assert driver.do(READ_REQUEST, 0, pieces) == OK
    assert rig.memory.pool[: 126 * 512] == image.read_bytes()[: 126 * 512]


def test_too_much_data_in_one_request(rig: Rig) -> None:
    pieces = [Piece(POOL, 4 << 20, True)] * 17
    assert rig.driver.do(READ_REQUEST, 0, pieces) == IOERR


def test_vring_as_data_target(rig: Rig, image: Path) -> None:
    """A driver may aim the device at its own rings: that is its own loss, and the device lives on."""
    rig.driver.submit(READ_REQUEST, 0, [Piece(abi.VRING_IOVA, 0x8000, True)])
    rig.loop.until(lambda: rig.device.counters().requests + rig.device.counters().broken >= 1)
    assert rig.loop.finish(rig.backend.stop)
    rig.renew()
    assert rig.start().read(1, 512) == image.read_bytes()[512:1024]


def test_memory_that_vanishes_breaks_the_queue(rig: Rig, image: Path) -> None:
    """A memory object truncated under the device: no bus error ends it."""
    os.ftruncate(rig.memory.vring_fd, 0)
    os.eventfd_write(rig.driver.kick, 1)
    rig.loop.until(lambda: rig.device.counters().broken == 1)
    assert BREAKAGES[rig.device.counters().last_breakage] == "memory object shrank"
    assert rig.loop.finish(rig.backend.stop)
    rig.renew()
    assert rig.start().read(1, 512) == image.read_bytes()[512:1024]


def test_pool_that_vanishes_fails_the_request(rig: Rig, image: Path) -> None:
    os.ftruncate(rig.memory.pool_fd, 0)
    assert rig.driver.do(READ_REQUEST, 0, [Piece(POOL, 4096, True)]) == IOERR
    assert rig.driver.do(WRITE_REQUEST, 0, [Piece(POOL, 4096)]) == IOERR


def test_doorbell_storm_without_work(rig: Rig, image: Path) -> None:
    for _ in range(2000):
        rig.driver.ring_bell()
    assert rig.driver.read(0, 512) == image.read_bytes()[:512]
    assert rig.device.counters().requests == 1
