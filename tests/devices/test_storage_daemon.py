"""Any vhost-user back-end can be the device: qemu-storage-daemon serving a qcow2."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from hypervisor.dma import Window
from tests.devices.machine import Loop, make_image
from tests.devices.queue_driver import (
    DISCARD,
    FLUSH,
    OK,
    RANGE,
    READ_REQUEST,
    WRITE_REQUEST,
    Memory,
    Piece,
    QueueDriver,
)


class Daemon:
    """qemu-storage-daemon with one vhost-user-blk export of two queues over a qcow2 image."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.qcow2, self.path = folder / "disk.img", folder / "disk.qcow2", folder / "disk.sock"
        self.content = make_image(self.raw)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", self.raw, self.qcow2], check=True)
        self.process = subprocess.Popen(
            [
                "qemu-storage-daemon",
                "--blockdev", f"driver=file,node-name=file,filename={self.qcow2},discard=unmap",
                "--blockdev", "driver=qcow2,node-name=disk,file=file,discard=unmap",
                "--export",
                "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=2,"
                f"addr.type=unix,addr.path={self.path}",
            ]
        )  # fmt: skip

    def connect(self) -> socket.socket:
        deadline = time.monotonic() + 10
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.path))
                return sock
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                assert time.monotonic() < deadline and self.process.poll() is None, (
                    "the daemon does not listen"
                )
                time.sleep(0.01)

    def end(self) -> bytes:
        """Ends it; the disk's contents as qemu-img reads them."""
        self.process.terminate()
        self.process.wait(10)
        subprocess.run(["qemu-img", "convert", "-O", "raw", self.qcow2, self.raw], check=True)
        return self.raw.read_bytes()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.process.kill()
    daemon.process.wait()


class Epoch:
    """A driver epoch on the daemon's two queues."""

    def __init__(self, loop: Loop, settle: bool = True, before: Epoch | None = None) -> None:
        """With `before`, the one that ends: its pool and its eventfds are kept."""
        self.memory = Memory(2)
        self.drivers = [QueueDriver(self.memory, index) for index in range(2)]
        if before:
            new, old = self.memory, before.memory
            new.pool_fd, old.pool_fd, new.pool, old.pool = old.pool_fd, new.pool_fd, old.pool, new.pool
            for one, two in zip(self.drivers, before.drivers, strict=True):
                one.kick, two.kick, one.call, two.call = two.kick, one.kick, two.call, one.call
        loop.backend.start([driver.setup() for driver in self.drivers], self.memory.windows())
        if settle:
            loop.settled()
        assert not loop.lost


def test_a_qcow2_through_several_epochs(daemon: Daemon) -> None:
    expected = bytearray(daemon.content)
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    assert int.from_bytes(loop.backend.config[:8], "little") == 2048
    assert loop.backend.queues == 2
    numbers = random.Random(2)
    for _ in range(5):
        epoch = Epoch(loop)
        for driver in epoch.drivers:
            sector = numbers.randrange(1900)
            assert driver.read(sector, 65536) == expected[sector * 512 : sector * 512 + 65536]
            data = numbers.randbytes(4096)
            assert driver.write(sector, data) == OK
            expected[sector * 512 : sector * 512 + 4096] = data
            assert driver.do(FLUSH, 0, []) == OK
            RANGE.pack_into(epoch.memory.pool, 0, 1920, 128, 0)
            assert driver.do(DISCARD, 0, [Piece(abi.POOL_IOVA, 16)]) == OK
            expected[1920 * 512 : 2048 * 512] = bytes(128 * 512)
        assert loop.finish(loop.backend.stop)
    loop.backend.close()
    assert daemon.end() == expected


def test_windows_per_request(daemon: Daemon) -> None:
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    epoch = Epoch(loop)
    fd = os.memfd_create("grant", os.MFD_CLOEXEC)
    os.ftruncate(fd, 65536)
    window = Window(fd, 65536, abi.GRANT_IOVA)
    assert loop.finish(loop.backend.open_window, window)
    assert epoch.drivers[0].do(READ_REQUEST, 8, [Piece(abi.GRANT_IOVA, 65536, True)]) == OK
    assert os.pread(fd, 65536, 0) == daemon.content[4096 : 4096 + 65536]
    assert loop.finish(loop.backend.close_window, window)
    assert not loop.lost
    os.close(fd)


def test_stop_waits_for_requests_that_the_daemon_has_in_flight(daemon: Daemon) -> None:
    """It answers GET_VRING_BASE at once and breaks when a request ends later; so nothing may be left by then,
    not even what a driver that died did not tell it of."""
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    for turn in range(10):
        epoch = Epoch(loop)
        driver = epoch.drivers[0]
        for position in range(30):
            data = [Piece(abi.POOL_IOVA + position * 131072, 131072)]
            driver.submit(WRITE_REQUEST, 1024 + position, data, kick=position != 29)
        time.sleep(turn * 0.0002)
        assert loop.finish(loop.backend.stop)
        assert driver.used_index == 30
        successor = Epoch(loop)
        time.sleep(0.01)
        assert successor.drivers[0].used_index == 0
        assert successor.drivers[0].read(0, 4096) == daemon.content[:4096]
        assert loop.finish(loop.backend.stop)
    assert not loop.lost


def test_start_and_stop_again_while_it_drains(daemon: Daemon) -> None:
    """A start during a drain is carried out after it; a stop before that takes it back."""
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    epoch = Epoch(loop)
    answers: list[bool] = []
    for turn in range(10):
        for position in range(30):
            epoch.drivers[0].submit(
                WRITE_REQUEST, 1024, [Piece(abi.POOL_IOVA + position * 131072, 131072)], kick=False
            )
        loop.backend.stop(2.0, answers.append)
        old, epoch = epoch, Epoch(loop, settle=False)
        if turn % 2:
            loop.backend.stop(2.0, answers.append)
            epoch = Epoch(loop, settle=False)
        old.memory.close()
        loop.settled()
        assert epoch.drivers[1].read(0, 4096) == daemon.content[:4096]
    assert answers == [True] * 15
    assert not loop.lost


def test_a_successors_kick_is_not_lost_in_the_drain(daemon: Daemon) -> None:
    """The kick descriptor lasts; the daemon reads it for the old epoch, and looks only when kicked."""
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    epoch = Epoch(loop)
    for turn in range(20):
        old = epoch
        for position in range(30):
            data = [Piece(abi.POOL_IOVA + position * 131072, 131072)]
            old.drivers[0].submit(WRITE_REQUEST, 1024, data)
        loop.backend.stop(2.0, lambda ok: None)
        epoch = Epoch(loop, settle=False, before=old)
        epoch.drivers[0].submit(READ_REQUEST, 8 * turn, [Piece(abi.POOL_IOVA, 4096, True)])
        loop.settled()
        assert [status for _, status, _ in epoch.drivers[0].wait()] == [OK]
        assert epoch.memory.pool[:4096] == daemon.content[turn * 4096 : turn * 4096 + 4096]
    assert not loop.lost


def test_a_pool_that_stays(daemon: Daemon) -> None:
    """Epochs that differ in their rings only; the pool stays the same bytes, mapped again or not."""
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    epoch = Epoch(loop)
    for turn in range(10):
        assert epoch.drivers[1].read(turn, 4096) == daemon.content[turn * 512 : turn * 512 + 4096]
        for position in range(20):
            data = [Piece(abi.POOL_IOVA + (1 + position) * 131072, 131072, True)]
            epoch.drivers[0].submit(READ_REQUEST, 256, data)
        answers: list[bool] = []
        loop.backend.stop(2.0, answers.append)
        epoch = Epoch(loop, settle=False, before=epoch)
        loop.until(lambda: answers)  # noqa: B023
        pool = epoch.memory.pool
        assert answers == [True] and pool[131072 : 21 * 131072] == daemon.content[131072:262144] * 20
        pool[:] = bytes(len(pool))
        loop.settled()
        assert epoch.drivers[0].read(turn, 512) == daemon.content[turn * 512 : turn * 512 + 512]
        assert pool[131072:] == bytes(len(pool) - 131072), "all that was under way had ended"
    assert not loop.lost


def test_given_up_while_it_drains(daemon: Daemon) -> None:
    """Nothing is begun any more, with memory that may be gone."""
    for lost in (False, True):
        loop = Loop(daemon.connect(), foreign=True)
        loop.backend.negotiate()
        epoch = Epoch(loop)
        for position in range(30):
            data = [Piece(abi.POOL_IOVA + position * 131072, 131072)]
            epoch.drivers[0].submit(WRITE_REQUEST, 1024, data, kick=False)
        answers: list[bool] = []
        if lost:
            daemon.process.kill()
        loop.backend.stop(2.0, answers.append)
        successor = Epoch(loop, settle=False)
        if lost:
            loop.until(answers.__len__)
            assert answers == [False] and len(loop.lost) == 1
        else:
            time.sleep(0.1)  # it has ended, and nobody has looked
            assert epoch.drivers[0].used_index == 30 and not answers
        loop.backend.close()
        successor.memory.close()
        end = time.monotonic() + 0.05
        loop.until(lambda: time.monotonic() > end)  # noqa: B023
        assert answers == [False] * lost, "nobody is told of what is given up"


def test_a_killed_daemon_is_reported(daemon: Daemon) -> None:
    loop = Loop(daemon.connect(), foreign=True)
    loop.backend.negotiate()
    Epoch(loop)
    daemon.process.kill()
    loop.until(lambda: loop.lost)
    assert str(loop.lost[0]) in (
        "the back-end closed the connection",
        "the back-end's socket failed: Connection reset by peer",  # it had not read everything
    )
