"""Our virtual disk serves honest drivers: every request kind, several queues, both kinds of notification."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from tests.devices.conftest import Rig, Start
from tests.devices.machine import SECTOR
from tests.devices.queue_driver import (
    DISCARD,
    FLUSH,
    GET_ID,
    IOERR,
    OK,
    RANGE,
    READ_REQUEST,
    UNSUPP,
    WRITE_REQUEST,
    WRITE_ZEROES,
    Piece,
)
from vmm.devices import device, disk


def test_reads_what_the_image_holds(rig: Rig, image: Path) -> None:
    content = image.read_bytes()
    for sector, size in ((0, 512), (7, 4096), (100, 131072), (2047, 512), (0, 1 << 20)):
        assert rig.driver.read(sector, size) == content[sector * SECTOR : sector * SECTOR + size]
    assert rig.device.counters().bytes_read == 512 + 4096 + 131072 + 512 + (1 << 20)


def test_writes_land_in_the_image_and_nowhere_else(rig: Rig, image: Path) -> None:
    expected = bytearray(image.read_bytes())
    numbers = random.Random(1)
    for _ in range(50):
        sector, count = numbers.randrange(2000), numbers.randrange(1, 48)
        data = numbers.randbytes(count * SECTOR)
        assert rig.driver.write(sector, data) == OK
        expected[sector * SECTOR : sector * SECTOR + len(data)] = data
    assert rig.driver.do(FLUSH, 0, []) == OK
    assert image.read_bytes() == expected


def test_scattered_data(rig: Rig, image: Path) -> None:
    pieces = [
        Piece(abi.POOL_IOVA + offset, length, True)
        for offset, length in ((9000, 100), (0, 612), (4096, 1336))
    ]
    assert rig.driver.do(READ_REQUEST, 3, pieces) == OK
    got = b"".join(rig.memory.pool[p.address - abi.POOL_IOVA :][: p.length] for p in pieces)
    assert got == image.read_bytes()[3 * SECTOR :][:2048]


def test_data_across_adjacent_windows(rig: Rig, image: Path) -> None:
    """One descriptor may cover two windows that touch; they need not lie beside each other in the device."""
    fd = os.memfd_create("more", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8192)
    end = abi.POOL_IOVA + len(rig.memory.pool)
    window = rig.memory.windows()[1]._replace(fd=fd, size=8192, iova=end)
    assert rig.loop.finish(rig.backend.open_window, window)
    assert rig.driver.do(READ_REQUEST, 0, [Piece(end - 1024, 2048, True)]) == OK
    assert rig.memory.pool[-1024:] + os.pread(fd, 1024, 0) == image.read_bytes()[:2048]
    os.close(fd)


def test_header_in_pieces(rig: Rig, image: Path) -> None:
    """A driver may split the header over descriptors as it likes."""
    driver = rig.driver
    place = driver.private(0)
    rig.memory.vring[place : place + 16] = (0).to_bytes(8, "little") + (5).to_bytes(8, "little")
    at = abi.VRING_IOVA + place
    pieces = [Piece(at, 3), Piece(at + 3, 13), Piece(abi.POOL_IOVA, 512, True), Piece(at + 16, 1, True)]
    driver.chain([0, 1, 2, 3], pieces)
    driver.offer(0)
    driver.ring_bell()
    assert driver.wait() == [(0, OK, 513)]
    assert rig.memory.pool[:512] == image.read_bytes()[5 * SECTOR : 6 * SECTOR]


def test_discard_and_write_zeroes(rig: Rig, image: Path) -> None:
    expected = bytearray(image.read_bytes())
    before = os.stat(image).st_blocks
    for kind, sector, sectors, flags in (
        (DISCARD, 64, 128, 0),
        (WRITE_ZEROES, 400, 9, 0),
        (WRITE_ZEROES, 512, 64, 1),
    ):
        RANGE.pack_into(rig.memory.pool, 0, sector, sectors, flags)
        assert rig.driver.do(kind, 0, [Piece(abi.POOL_IOVA, 16)]) == OK
        expected[sector * SECTOR : (sector + sectors) * SECTOR] = bytes(sectors * SECTOR)
    assert image.read_bytes() == expected
    assert os.stat(image).st_blocks < before
    for sector, sectors, flags, status in (
        (2040, 9, 0, IOERR),
        (0, 0, 0, IOERR),
        (0, 1, 2, UNSUPP),
        (2**64 - 1, 2, 0, IOERR),
    ):
        RANGE.pack_into(rig.memory.pool, 0, sector, sectors, flags)
        assert rig.driver.do(DISCARD, 0, [Piece(abi.POOL_IOVA, 16)]) == status
    assert image.read_bytes() == expected


def test_identity(start_device: Start) -> None:
    rig = Rig(start_device(name="disk0"))
    driver = rig.start()
    assert driver.do(GET_ID, 0, [Piece(abi.POOL_IOVA, 20, True)]) == OK
    assert rig.memory.pool[:20] == b"disk0".ljust(20, b"\0")
    assert driver.do(GET_ID, 0, [Piece(abi.POOL_IOVA, 19, True)]) == IOERR


@pytest.mark.parametrize(
    ("kind", "sector", "size", "status"),
    [
        (READ_REQUEST, 2048, 512, IOERR),
        (READ_REQUEST, 2047, 1024, IOERR),
        (READ_REQUEST, 2**64 - 1, 1024, IOERR),
        (READ_REQUEST, 2**55, 512, IOERR),
        (READ_REQUEST, 0, 513, IOERR),
        (WRITE_REQUEST, 2048, 512, IOERR),
        (WRITE_REQUEST, 0, 100, IOERR),
        (99, 0, 512, UNSUPP),
    ],
)
def test_requests_that_do_not_fit_the_disk(
    rig: Rig, image: Path, kind: int, sector: int, size: int, status: int
) -> None:
    content = image.read_bytes()
    assert rig.driver.do(kind, sector, [Piece(abi.POOL_IOVA, size, kind != WRITE_REQUEST)]) == status
    assert rig.device.counters().errors == 1
    assert rig.driver.read(0, 512) == content[:512]
    assert image.read_bytes() == content


def test_empty_reads_and_writes_fail(rig: Rig) -> None:
    assert rig.driver.do(READ_REQUEST, 0, []) == IOERR
    assert rig.driver.do(WRITE_REQUEST, 0, []) == IOERR


def test_read_only(start_device: Start, image: Path) -> None:
    content = image.read_bytes()
    rig = Rig(start_device(read_only=True))
    assert rig.backend.features & 1 << 5
    assert not rig.backend.features & 1 << 13
    driver = rig.start()
    assert driver.read(0, 4096) == content[:4096]
    assert driver.write(0, bytes(512)) == IOERR
    RANGE.pack_into(rig.memory.pool, 0, 0, 8, 0)
    assert driver.do(DISCARD, 0, [Piece(abi.POOL_IOVA, 16)]) == IOERR
    assert driver.do(WRITE_ZEROES, 0, [Piece(abi.POOL_IOVA, 16)]) == IOERR
    assert driver.do(FLUSH, 0, []) == OK
    assert image.read_bytes() == content


def test_configuration_space(start_device: Start) -> None:
    rig = Rig(start_device(queues=3))
    fields = disk.CONFIG.unpack(rig.backend.config)
    assert fields[0] == 2048
    assert fields[6] == 512
    assert fields[12] == 3 == rig.backend.queues
    assert rig.backend.memory_slots == device.WINDOWS_MAX


@pytest.mark.parametrize("size", [4, 128, 256])
def test_queue_sizes_and_wrapping_indices(start_device: Start, image: Path, size: int) -> None:
    rig = Rig(start_device(), size=size)
    driver = rig.start()
    content = image.read_bytes()
    depth = size // 3
    for start in range(0, 1500, depth):
        for position in range(depth):
            driver.submit(
                READ_REQUEST, (start + position) % 2048, [Piece(abi.POOL_IOVA + position * 512, 512, True)]
            )
        assert {status for _, status, _ in driver.wait(depth)} == {OK}
        for position in range(depth):
            sector = (start + position) % 2048
            assert (
                rig.memory.pool[position * 512 : position * 512 + 512]
                == content[sector * 512 : sector * 512 + 512]
            )


def test_several_queues_at_once(start_device: Start, image: Path) -> None:
    rig = Rig(start_device(queues=4), queues=4)
    rig.start()
    content = image.read_bytes()
    quarter = len(rig.memory.pool) // 4
    for turn in range(30):
        for driver in rig.drivers:
            base = driver.index * quarter
            for position in range(20):
                sector = (turn * 17 + driver.index * 512 + position * 8) % 2000
                driver.submit(
                    READ_REQUEST, sector, [Piece(abi.POOL_IOVA + base + position * 4096, 4096, True)]
                )
        for driver in rig.drivers:
            assert {status for _, status, _ in driver.wait(20)} == {OK}
            for position in range(20):
                sector = (turn * 17 + driver.index * 512 + position * 8) % 2000
                at = driver.index * quarter + position * 4096
                assert rig.memory.pool[at : at + 4096] == content[sector * 512 : sector * 512 + 4096]
    assert all(rig.device.counters(index).requests == 600 for index in range(4))


def test_interrupts_come_when_asked_for(rig: Rig) -> None:
    """EVENT_IDX: eight requests, one interrupt after the sixth."""
    driver = rig.driver
    driver.set_used_event(5)
    for position in range(8):
        driver.submit(READ_REQUEST, position, [Piece(abi.POOL_IOVA + position * 512, 512, True)], kick=False)
    driver.ring_bell()
    rig.loop.until(lambda: driver.used_index == 8)
    assert len(driver.completions()) == 8
    assert rig.device.counters().calls == 1
    assert os.eventfd_read(driver.call) == 1


def test_kicks_are_asked_for_only_when_idle(rig: Rig) -> None:
    """EVENT_IDX: of forty requests given to a device that does not run, only the first needs a kick."""
    driver = rig.driver
    for turn in range(1, 4):
        rig.device.kill(signal.SIGSTOP)
        for _ in range(40):
            driver.submit(READ_REQUEST, 0, [Piece(abi.POOL_IOVA, 4096, True)])
        assert driver.kicks == turn
        rig.device.kill(signal.SIGCONT)
        assert len(driver.wait(40)) == 40
        rig.loop.until(lambda: driver.avail_event == driver.available)
    assert rig.device.counters().kicks == 3


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        (b"", {}, "disk: the disk image is empty; build one with r3s3 image build DIR -o FILE"),
        (
            bytes(1000),
            {},
            "disk: the disk image has 1000 bytes, which is not a multiple of 512: it is truncated, "
            "or needs truncate -s 1024 FILE",
        ),
        (bytes(512), {"queues": 17}, "disk: 17 queues are not possible; a disk has 1 to 16"),
    ],
)
def test_a_disk_that_cannot_be(
    start_device: Start, tmp_path: Path, content: bytes, config: dict[str, int], message: str
) -> None:
    path = tmp_path / "bad.img"
    path.write_bytes(content)
    device = start_device(path, **config)
    assert device.wait_end() == 2
    assert device.errors() == message + "\n"


def test_read_only_file_for_a_writable_disk(image: Path) -> None:
    fd = os.open(image, os.O_RDONLY)
    with pytest.raises(device.BackingFileError, match="open for reading only, but the disk is not read_only"):
        disk.check_image(fd, "disk", 1, read_only=False)
    os.close(fd)
    reader, writer = os.pipe()
    with pytest.raises(device.BackingFileError, match="neither a regular file nor a block device"):
        disk.check_image(reader, "disk", 1, read_only=True)
    os.close(reader)
    os.close(writer)
