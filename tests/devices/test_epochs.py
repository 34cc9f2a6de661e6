"""From one driver epoch to the next: what stays mapped, what is exchanged, and what is not said twice."""

from __future__ import annotations

import mmap
import os
import select
import socket
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from hypervisor.dma import Window
from tests.devices.conftest import Rig, Start
from tests.devices.machine import Loop
from tests.devices.queue_driver import IOERR, OK, READ_REQUEST, WRITE_REQUEST, Memory, Piece, QueueDriver
from vmm.vhost_user_messages import (
    HEADER,
    NEED_REPLY,
    REGION,
    REPLY,
    TABLE_HEAD,
    U64,
    VERSION,
    VRING_STATE,
    Request,
)


def mapped(rig: Rig, fd: int) -> list[str]:
    """Where the device has this object mapped. It was forked from here before the object was made."""
    lines = Path(f"/proc/{rig.device.pid}/maps").read_text().splitlines()
    fields = [line.split() for line in lines if "/memfd:" in line]
    return [each[0] for each in fields if int(each[4]) == os.fstat(fd).st_ino]


def begin(rig: Rig, memory: Memory, pools: list[Window]) -> QueueDriver:
    """The next epoch: the rings of `memory`, and these pools."""
    assert rig.loop.finish(rig.backend.stop)
    driver = QueueDriver(memory)
    rig.backend.start([driver.setup()], [memory.windows()[0], *pools])
    rig.loop.settled()
    assert not rig.loop.lost
    return driver


def test_what_stop_leaves_and_start_replaces(rig: Rig, image: Path) -> None:
    """A pool of megabytes that stays is not mapped again; rings are always others."""
    content, pool = image.read_bytes(), rig.memory.windows()[1]
    place, rings = mapped(rig, pool.fd), rig.memory.vring_fd
    assert len(place) == len(mapped(rig, rings)) == 1
    for epoch in range(1, 6):
        assert rig.loop.finish(rig.backend.stop)
        assert mapped(rig, pool.fd) == place and mapped(rig, rings), "until the next epoch"
        memory = Memory()
        driver = begin(rig, memory, [pool])
        assert mapped(rig, pool.fd) == place
        assert not mapped(rig, rings) and len(mapped(rig, memory.vring_fd)) == 1
        rings = memory.vring_fd
        assert driver.do(READ_REQUEST, epoch, [Piece(abi.POOL_IOVA, 4096, True)]) == OK
        assert rig.memory.pool[:4096] == content[epoch * 512 : epoch * 512 + 4096]


def test_another_object_of_the_same_size_is_not_taken_for_it(rig: Rig, image: Path) -> None:
    """The pool of a client that has died is out of the device's reach, whatever the new one looks like."""
    content, old = image.read_bytes(), rig.memory
    memory = Memory()
    driver = begin(rig, memory, [memory.windows()[1]])
    assert not mapped(rig, old.pool_fd) and not mapped(rig, old.vring_fd)
    assert driver.do(READ_REQUEST, 3, [Piece(abi.POOL_IOVA, 4096, True)]) == OK
    assert memory.pool[:4096] == content[3 * 512 : 3 * 512 + 4096]
    assert old.pool[:4096] == bytes(4096)


def test_the_same_memory_elsewhere(rig: Rig, image: Path) -> None:
    pool = rig.memory.windows()[1]
    place, far = mapped(rig, pool.fd), abi.POOL_IOVA + (1 << 32)
    driver = begin(rig, Memory(), [pool._replace(iova=far)])
    assert mapped(rig, pool.fd) == place
    assert driver.do(READ_REQUEST, 3, [Piece(far, 512, True)]) == OK
    assert rig.memory.pool[:512] == image.read_bytes()[3 * 512 : 4 * 512]
    assert driver.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA, 512, True)]) == IOERR


def test_a_part_of_the_same_memory_is_a_part(rig: Rig) -> None:
    """What was reachable before does not stay so because the object is the same."""
    pool = rig.memory.windows()[1]
    driver = begin(rig, Memory(), [pool._replace(size=8192)])
    assert driver.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA + 4096, 4096, True)]) == OK
    rig.memory.pool[8192:12288] = bytes(4096)
    assert driver.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA + 8192, 4096, True)]) == IOERR
    assert rig.memory.pool[8192:12288] == bytes(4096) and len(mapped(rig, pool.fd)) == 1
    driver = begin(rig, Memory(), [pool])
    assert driver.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA + 8192, 4096, True)]) == OK


def test_the_same_memory_twice(rig: Rig) -> None:
    pool = rig.memory.windows()[1]
    place, far = mapped(rig, pool.fd), abi.POOL_IOVA + (1 << 32)
    for windows in ([pool, pool._replace(iova=far)], [pool], [pool._replace(iova=far), pool]):
        driver = begin(rig, Memory(), windows)
        assert len(mapped(rig, pool.fd)) == len(windows)
        for window in windows:
            assert driver.do(READ_REQUEST, 0, [Piece(window.iova, 512, True)]) == OK
    begin(rig, Memory(), [pool])
    assert mapped(rig, pool.fd) == place


def test_windows_of_requests_end_with_their_epoch(rig: Rig) -> None:
    lent = Memory(pool_bytes=65536)
    window = Window(lent.pool_fd, 65536, abi.GRANT_IOVA)
    assert rig.loop.finish(rig.backend.open_window, window)
    assert mapped(rig, lent.pool_fd)
    assert rig.loop.finish(rig.backend.stop)
    assert not mapped(rig, lent.pool_fd), "not with the next one only"
    assert rig.loop.finish(rig.backend.close_window, window), "closed is closed"
    driver = begin(rig, Memory(), [rig.memory.windows()[1]])
    assert driver.do(READ_REQUEST, 0, [Piece(abi.GRANT_IOVA, 512, True)]) == IOERR


def test_a_table_that_is_refused_changes_nothing(rig: Rig, image: Path) -> None:
    """Also not the mappings that it would have taken over."""
    pool, sock = rig.memory.windows()[1], rig.device.sock
    place = mapped(rig, pool.fd)
    short = Memory(pool_bytes=4096)
    good = REGION.pack(pool.iova, pool.size, pool.iova, 0)
    too_long = REGION.pack(1 << 40, 8192, 1 << 40, 0)
    overlapping = REGION.pack(pool.iova + 4096, 4096, 1 << 40, 0)
    sock.setblocking(True)
    for bad in (too_long, overlapping):
        table = TABLE_HEAD.pack(2, 0) + good + bad
        head = HEADER.pack(Request.SET_MEM_TABLE, VERSION | NEED_REPLY, len(table))
        socket.send_fds(sock, [head + table], [pool.fd, short.pool_fd])
        assert sock.recv(HEADER.size + U64.size)[HEADER.size :] == U64.pack(1)
        assert mapped(rig, pool.fd) == place and not mapped(rig, short.pool_fd)
        assert rig.driver.read(7, 4096) == image.read_bytes()[7 * 512 : 7 * 512 + 4096]
    sock.setblocking(False)


def test_memory_that_has_shrunk_meanwhile_is_not_kept(rig: Rig) -> None:
    """Nobody's pool can shrink, it is sealed; a front-end's memory might."""
    pool = rig.memory.windows()[1]
    assert rig.loop.finish(rig.backend.stop)
    os.ftruncate(pool.fd, pool.size - 4096)
    rig.backend.start([rig.driver.setup()], [Memory().windows()[0], pool])
    rig.loop.until(lambda: rig.loop.lost)
    assert str(rig.loop.lost[0]) == "the back-end refused SET_MEM_TABLE"


def test_nothing_of_the_old_epoch_lands_in_a_pool_after_the_drain(rig: Rig) -> None:
    """The pool is the same, so this is what keeps a dead driver's requests out of its successor's epoch."""
    pool = rig.memory.windows()[1]
    for turn in range(20):
        driver = begin(rig, Memory(), [pool])
        for position in range(40):
            driver.submit(READ_REQUEST, turn, [Piece(abi.POOL_IOVA + position * 16384, 16384, True)])
        answers: list[bool] = []
        rig.backend.stop(2.0, answers.append)
        successor = QueueDriver(memory := Memory())
        rig.backend.start([successor.setup()], [memory.windows()[0], pool])
        rig.loop.until(lambda: answers)  # noqa: B023
        assert answers == [True]
        done = driver.used_index
        rig.memory.pool[:] = b"\xee" * len(rig.memory.pool)
        assert successor.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA + 50 * 16384, 512, True)]) == OK
        assert rig.memory.pool[: 40 * 16384] == b"\xee" * (40 * 16384)
        assert driver.used_index == done and done <= 40


def test_a_successors_kick_is_not_lost_in_the_drain(rig: Rig) -> None:
    """The kick descriptor is the same, and the old queue's thread may be the one that reads it."""
    pool = rig.memory.windows()[1]
    for _ in range(30):
        driver = begin(rig, Memory(), [pool])
        for position in range(30):
            driver.submit(READ_REQUEST, 0, [Piece(abi.POOL_IOVA + position * 131072, 131072, True)])
        rig.backend.stop(2.0, lambda ok: None)
        successor = QueueDriver(memory := Memory())
        successor.kick, driver.kick = driver.kick, successor.kick
        successor.submit(READ_REQUEST, 1, [Piece(abi.POOL_IOVA, 512, True)])
        rig.backend.start([successor.setup()], [memory.windows()[0], pool])
        assert [status for _, status, _ in successor.wait()] == [OK]


def test_a_driver_at_fault_is_told_of_in_every_epoch(start_device: Start) -> None:
    """The error descriptor is given once; it is the device's, not the epoch's."""
    error = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    rig = Rig(start_device(), error_fd=error)
    driver = rig.start()
    for _ in range(4):
        assert not select.select([error], [], [], 0)[0]
        assert driver.do(READ_REQUEST, 0, [Piece(0x7000_0000_0000, 512, True)]) == IOERR
        assert os.eventfd_read(error) == 1
        driver = begin(rig, Memory(), [rig.memory.windows()[1]])
    driver.offer(999)  # a head that does not exist breaks the queue
    driver.ring_bell()
    rig.loop.until(lambda: select.select([error], [], [], 0)[0])
    driver = begin(rig, Memory(), [rig.memory.windows()[1]])
    assert driver.do(READ_REQUEST, 0, [Piece(abi.POOL_IOVA, 512, True)]) == OK
    os.close(error)


def test_several_queues(start_device: Start, image: Path) -> None:
    rig = Rig(start_device(queues=3), queues=3)
    rig.start()
    content = image.read_bytes()
    for epoch in range(5):
        for number, driver in enumerate(rig.drivers):
            assert driver.read(epoch + number, 512) == content[(epoch + number) * 512 :][:512]
            driver.submit(WRITE_REQUEST, 2000, [Piece(abi.POOL_IOVA + 4096 * number, 512)])
        answers: list[bool] = []
        rig.backend.stop(2.0, answers.append)
        rig.renew()
        rig.start()
        assert answers == [True]


# -- what is said, and how often


class Listener:
    """A back-end that notes what it is told and agrees to everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.error = os.eventfd(0, os.EFD_CLOEXEC)
        self.loop = Loop(ours, error_fd=self.error)
        self.backend = self.loop.backend
        self.backend.queues, self.backend.memory_slots = 2, 8
        self.sends = 0
        send = socket.send_fds

        def counting(*arguments: object) -> int:
            self.sends += 1
            return send(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "send_fds", counting)

    def hear(self) -> list[tuple[Request, bytes, int]]:
        """(request, payload, descriptors that came with it) of each message since the last call, answered."""
        data, heard = b"", list[tuple[Request, bytes, int]]()
        came: dict[int, int] = {}
        while True:
            try:
                part, fds, _, _ = socket.recv_fds(self.sock, 65536, 16)
            except BlockingIOError:
                break
            for fd in fds:
                os.close(fd)
            came[len(data)] = len(fds)
            data += part
        at = 0
        while at < len(data):
            number, flags, size = HEADER.unpack_from(data, at)
            request, payload = Request(number), data[at + HEADER.size : at + HEADER.size + size]
            heard.append((request, payload, came.pop(at, 0)))
            at += HEADER.size + size
            reply = {Request.GET_VRING_BASE: VRING_STATE.pack(0, 0), Request.GET_FEATURES: bytes(8)}.get(
                request, bytes(8) if flags & NEED_REPLY else None
            )
            if reply is not None:
                self.sock.send(HEADER.pack(request, VERSION | REPLY, len(reply)) + reply)
        assert not any(came.values()), "descriptors in the middle of a message"
        self.backend.on_readable()
        assert not self.loop.lost and not self.backend._open
        return heard


@pytest.mark.parametrize("queues", [1, 2])
def test_what_is_said_in_an_epoch(monkeypatch: pytest.MonkeyPatch, queues: int) -> None:
    """What outlives GET_VRING_BASE is said once to each back-end. Each packet wakes it up, so there are few:
    a descriptor must come with the first byte of its message, everything else goes together."""
    listener = Listener(monkeypatch)
    once = [Request.SET_VRING_NUM, Request.SET_VRING_ENABLE, Request.SET_VRING_ERR]
    always = [
        Request.SET_VRING_BASE, Request.SET_VRING_ADDR, Request.SET_VRING_CALL, Request.SET_VRING_KICK,
    ]  # fmt: skip
    for epoch in range(3):
        memory = Memory(queues)
        setup = [QueueDriver(memory, index).setup() for index in range(queues)]
        before = listener.sends
        listener.backend.start(setup, memory.windows())
        heard = listener.hear()
        said = [request for request, _, _ in heard]
        assert said == [Request.SET_MEM_TABLE] + queues * ((once if epoch == 0 else []) + always)
        given = {Request.SET_MEM_TABLE: 2, **dict.fromkeys((*once[2:], *always[2:]), 1)}
        assert [count for _, _, count in heard] == [given.get(request, 0) for request in said]
        assert listener.sends - before <= 1 + queues * (3 if epoch == 0 else 2)

        before, answers = listener.sends, list[bool]()
        listener.backend.stop(1.0, answers.append)
        assert listener.sends - before == 1
        assert [request for request, _, _ in listener.hear()] == [Request.GET_VRING_BASE] * queues
        assert answers == [True]


def test_windows_of_requests_are_taken_back_with_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same packet, behind it; and the drain is over only when they are closed, too."""
    listener = Listener(monkeypatch)
    memory, answers = Memory(), list[bool]()
    listener.backend.start([QueueDriver(memory).setup()], memory.windows())
    for number in range(2):
        window = Window(memory.pool_fd, 4096, abi.GRANT_IOVA + number * 8192)
        listener.backend.open_window(window, 1.0, answers.append)
    listener.hear()
    before = listener.sends
    listener.backend.stop(1.0, answers.append)
    assert listener.sends == before + 1 and answers == [True, True]
    said = [request for request, _, _ in listener.hear()]
    assert said == [Request.GET_VRING_BASE, Request.REM_MEM_REG, Request.REM_MEM_REG]
    assert answers == [True] * 3


def test_a_map_that_fails_leaks_nothing(rig: Rig) -> None:
    """A hundred refused tables later there is as much mapped as before."""
    sock, pool = rig.device.sock, rig.memory.windows()[1]
    before = Path(f"/proc/{rig.device.pid}/maps").read_text().count("/memfd:")
    sock.setblocking(True)
    region = REGION.pack(1 << 40, mmap.PAGESIZE, 1 << 40, 0)
    table = TABLE_HEAD.pack(2, 0) + region + region  # they overlap
    for _ in range(100):
        head = HEADER.pack(Request.SET_MEM_TABLE, VERSION | NEED_REPLY, len(table))
        socket.send_fds(sock, [head + table], [pool.fd, pool.fd])
        assert sock.recv(HEADER.size + U64.size)[HEADER.size :] == U64.pack(1)
    sock.setblocking(False)
    assert Path(f"/proc/{rig.device.pid}/maps").read_text().count("/memfd:") == before
