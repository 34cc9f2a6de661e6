"""The front-end: epochs, draining, windows, and back-ends that refuse, lie, stall or die."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from hypervisor.dma import Window
from tests.devices.conftest import Rig, Start
from tests.devices.machine import Loop
from tests.devices.queue_driver import (
    FLUSH,
    IOERR,
    OK,
    READ_REQUEST,
    WRITE_REQUEST,
    Memory,
    Piece,
    QueueDriver,
)
from vmm.vhost_user import VhostUserError
from vmm.vhost_user_messages import HEADER, NEED_REPLY, REPLY, U64, VERSION, Request


def test_an_epoch_after_the_other(rig: Rig, image: Path) -> None:
    content = image.read_bytes()
    for epoch in range(20):
        assert rig.driver.read(epoch, 4096) == content[epoch * 512 : epoch * 512 + 4096]
        assert rig.loop.finish(rig.backend.stop)
        rig.renew()
        rig.start()
    assert not rig.loop.lost


def test_start_may_follow_stop_at_once(rig: Rig, image: Path) -> None:
    """Commands are carried out in order: recovery need not wait for the old epoch's drain."""
    old = rig.memory
    answers: list[bool] = []
    for _ in range(40):
        rig.driver.submit(READ_REQUEST, 0, [Piece(abi.POOL_IOVA, 131072, True)])
    rig.backend.stop(1.0, answers.append)
    rig.renew()
    assert rig.start().read(9, 512) == image.read_bytes()[9 * 512 : 10 * 512]
    assert answers == [True]
    old.close()


def test_nothing_lands_after_stop(start_device: Start, image: Path) -> None:
    """After stop no request is taken, and no byte of memory or disk changes."""
    for turn in range(15):
        rig = Rig(start_device())
        driver = rig.start()
        rig.memory.pool[:] = bytes([turn + 1]) * len(rig.memory.pool)
        for position in range(40):
            driver.submit(WRITE_REQUEST, position * 32, [Piece(abi.POOL_IOVA + position * 16384, 16384)])
        time.sleep(turn * 0.0002)
        assert rig.loop.finish(rig.backend.stop)
        used, disk, pool = driver.used_index, image.read_bytes(), rig.memory.pool[:]
        driver.submit(WRITE_REQUEST, 2000, [Piece(abi.POOL_IOVA, 512)])
        driver.ring_bell()
        time.sleep(0.01)
        assert (driver.used_index, image.read_bytes(), rig.memory.pool[:]) == (used, disk, pool)
        # Requests are done in order: the first `used` of them, wholly, and no other.
        for position in range(40):
            want = bytes([turn + 1]) * 16384
            assert (disk[position * 16384 : position * 16384 + 16384] == want) == (position < used)


def test_windows_open_and_close(rig: Rig, image: Path) -> None:
    content = image.read_bytes()
    fd = os.memfd_create("grant", os.MFD_CLOEXEC)
    os.ftruncate(fd, 65536)
    window = Window(fd, 65536, abi.GRANT_IOVA)
    piece = Piece(abi.GRANT_IOVA, 65536, True)
    assert rig.driver.do(READ_REQUEST, 0, [piece]) == IOERR
    for turn in range(5):
        assert rig.loop.finish(rig.backend.open_window, window)
        assert rig.driver.do(READ_REQUEST, turn, [piece]) == OK
        assert os.pread(fd, 65536, 0) == content[turn * 512 : turn * 512 + 65536]
        assert rig.loop.finish(rig.backend.close_window, window)
        os.pwrite(fd, bytes(65536), 0)
        assert rig.driver.do(READ_REQUEST, 0, [piece]) == IOERR
        assert os.pread(fd, 65536, 0) == bytes(65536)
    os.close(fd)


def test_closing_a_window_waits_for_the_request_that_uses_it(rig: Rig) -> None:
    fd = os.memfd_create("grant", os.MFD_CLOEXEC)
    os.ftruncate(fd, 1 << 20)
    window = Window(fd, 1 << 20, abi.GRANT_IOVA)
    for _ in range(30):
        assert rig.loop.finish(rig.backend.open_window, window)
        for _ in range(8):
            rig.driver.submit(READ_REQUEST, 0, [Piece(abi.GRANT_IOVA, 1 << 20, True)])
        assert rig.loop.finish(rig.backend.close_window, window)
        os.pwrite(fd, bytes(1 << 20), 0)
        rig.driver.wait(8)
        assert os.pread(fd, 1 << 20, 0) == bytes(1 << 20)
    os.close(fd)


def test_many_windows(rig: Rig) -> None:
    fd = os.memfd_create("grant", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    windows = [
        Window(fd, 4096, abi.GRANT_IOVA + index * 8192) for index in range(rig.backend.memory_slots - 2)
    ]
    answers: list[bool] = []
    for window in windows:
        rig.backend.open_window(window, 2.0, answers.append)
        rig.loop.until(lambda: len(answers) == len(windows) or not rig.backend._open)
    assert answers == [True] * len(windows)
    rig.backend.open_window(Window(fd, 4096, abi.GRANT_IOVA - 8192), 2.0, answers.append)
    assert answers[-1] is False
    assert rig.driver.do(READ_REQUEST, 0, [Piece(windows[-1].iova, 4096, True)]) == OK
    assert rig.loop.finish(rig.backend.stop)
    os.close(fd)


def test_refused_window_loses_the_back_end(rig: Rig) -> None:
    fd = os.memfd_create("short", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    assert not rig.loop.finish(rig.backend.open_window, Window(fd, 8192, abi.GRANT_IOVA))
    assert str(rig.loop.lost[0]) == "the back-end refused ADD_MEM_REG"
    os.close(fd)


def test_a_killed_device_is_reported_once(start_device: Start, image: Path) -> None:
    """In the middle of requests; commands that are open, or come later, are told False."""
    rig = Rig(start_device())
    rig.start()
    for _ in range(30):
        rig.driver.submit(READ_REQUEST, 0, [Piece(abi.POOL_IOVA, 131072, True)])
    answers: list[bool] = []
    rig.device.kill(signal.SIGSTOP)
    rig.backend.stop(1.0, answers.append)
    rig.device.kill()
    rig.loop.until(lambda: rig.loop.lost)
    assert re.search("closed the connection|socket failed", str(rig.loop.lost[0]))
    assert answers == [False]
    rig.backend.stop(1.0, answers.append)
    rig.backend.open_window(Window(rig.memory.pool_fd, 4096, 0), 1.0, answers.append)
    assert answers == [False, False, False]
    assert len(rig.loop.lost) == 1
    # Its successor serves the next epoch.
    successor = Rig(start_device())
    assert successor.start().read(0, 512) == image.read_bytes()[:512]


def test_a_stopped_device_misses_its_deadline(rig: Rig) -> None:
    rig.device.kill(signal.SIGSTOP)
    begin = time.monotonic()
    assert not rig.loop.finish(rig.backend.stop, deadline=0.2)
    assert 0.2 <= time.monotonic() - begin < 1.0
    assert str(rig.loop.lost[0]) == "the back-end did not answer GET_VRING_BASE in time"


def test_the_front_end_going_away_ends_the_device(rig: Rig) -> None:
    rig.driver.do(FLUSH, 0, [])
    rig.backend.close()
    assert rig.device.wait_end() == 0
    assert not rig.loop.lost


def test_start_takes_no_nonsense(rig: Rig) -> None:
    setup = [rig.driver.setup()]
    with pytest.raises(ValueError, match="1 of 1 queues are running"):
        rig.backend.start(setup, rig.memory.windows())
    assert rig.loop.finish(rig.backend.stop)
    with pytest.raises(ValueError, match="cannot start 2 queues with 2 windows"):
        rig.backend.start(setup * 2, rig.memory.windows())
    with pytest.raises(ValueError, match="cannot start 1 queues with 9 windows"):
        rig.backend.start(setup, rig.memory.windows()[:1] * 9)


# -- back-ends made by hand


class Puppet:
    """A back-end that says what the test wants it to say."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        self.loop = Loop(ours)
        self.backend = self.loop.backend

    def say(self, request: int, payload: bytes, flags: int = VERSION | REPLY) -> None:
        self.sock.send(HEADER.pack(request, flags, len(payload)) + payload)

    def say_good_morning(self, queues: int = 1, slots: int = 8) -> None:
        """All answers of a negotiation, ahead of the questions: each is buffered until it is asked."""
        self.say(Request.GET_FEATURES, U64.pack(1 << 32 | 1 << 30 | 1 << 29))
        self.say(Request.GET_PROTOCOL_FEATURES, U64.pack(1 | 1 << 3 | 1 << 9 | 1 << 15))
        self.say(Request.GET_QUEUE_NUM, U64.pack(queues))
        self.say(Request.GET_MAX_MEM_SLOTS, U64.pack(slots))
        self.say(Request.GET_CONFIG, bytes(12) + bytes(60))


@pytest.mark.parametrize(
    ("replies", "text"),
    [
        ([], "did not answer GET_FEATURES in time"),
        (
            [(Request.GET_FEATURES, U64.pack(1 << 30), VERSION | REPLY)],
            "it offers features 0x40000000",
        ),
        (
            [(Request.GET_FEATURES, U64.pack(1 << 32), VERSION | REPLY)],
            "it offers features 0x100000000",
        ),
        (
            [(Request.GET_FEATURES, b"", VERSION | REPLY)],
            "answered message 1 with 0 bytes where 8",
        ),
        (
            [(Request.GET_FEATURES, bytes(9), VERSION | REPLY)],
            "with 9 bytes where 8 for GET_FEATURES",
        ),
        ([(Request.GET_FEATURES, bytes(8), VERSION)], "where 8 for GET_FEATURES was due"),
        ([(Request.GET_FEATURES, bytes(8), REPLY | 2)], "where 8 for GET_FEATURES was due"),
        ([(Request.GET_CONFIG, bytes(8), VERSION | REPLY)], "answered message 24"),
    ],
)
def test_back_ends_that_cannot_be_used(replies: list[tuple[int, bytes, int]], text: str) -> None:
    puppet = Puppet()
    for request, payload, flags in replies:
        puppet.say(request, payload, flags)
    begin = time.monotonic()
    with pytest.raises(VhostUserError, match=text):
        puppet.backend.negotiate(0.1)
    assert time.monotonic() - begin < 1.0
    assert len(puppet.loop.lost) == 1


def answering(puppet: Puppet, request: int, payload: bytes) -> None:
    puppet.say(request, payload)
    puppet.loop.backend.on_readable()


def negotiated() -> Puppet:
    """A puppet that has been through a negotiation."""
    puppet = Puppet()
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(8):
                request, _, size = HEADER.unpack(puppet.sock.recv(12, socket.MSG_WAITALL))
                if size:
                    puppet.sock.recv(size, socket.MSG_WAITALL)
                answers = {
                    Request.GET_FEATURES: U64.pack(1 << 32 | 1 << 30 | 1 << 29),
                    Request.GET_PROTOCOL_FEATURES: U64.pack(1 | 1 << 3 | 1 << 9 | 1 << 15),
                    Request.GET_QUEUE_NUM: U64.pack(1),
                    Request.GET_MAX_MEM_SLOTS: U64.pack(8),
                    Request.GET_CONFIG: bytes(72),
                }
                if request in answers:
                    puppet.say(request, answers[Request(request)])
        finally:
            os._exit(0)
    puppet.backend.negotiate()
    os.waitpid(pid, 0)
    return puppet


def test_a_reply_to_nothing() -> None:
    puppet = negotiated()
    answering(puppet, Request.GET_FEATURES, bytes(8))
    assert str(puppet.loop.lost[0]) == "the back-end answered message 1 with 8 bytes where nothing was due"


def test_garbage_and_half_messages() -> None:
    puppet = negotiated()
    puppet.sock.send(b"\0" * 5)
    puppet.backend.on_readable()
    assert not puppet.loop.lost  # might become something
    puppet.sock.send(b"\xff" * 100000)
    puppet.backend.on_readable()
    assert "where nothing was due" in str(puppet.loop.lost[0])


def test_answers_out_of_order() -> None:
    puppet = negotiated()
    memory = Memory()
    driver = QueueDriver(memory)
    puppet.backend.start([driver.setup()], memory.windows())
    answering(puppet, Request.SET_VRING_ENABLE, U64.pack(0))
    assert "answered message 18 with 8 bytes where 8 for SET_MEM_TABLE was due" in str(puppet.loop.lost[0])


def test_start_is_refused_later() -> None:
    puppet = negotiated()
    memory = Memory()
    driver = QueueDriver(memory)
    puppet.backend.start([driver.setup()], memory.windows())
    answering(puppet, Request.SET_MEM_TABLE, U64.pack(0))
    assert not puppet.loop.lost
    answering(puppet, Request.SET_VRING_ENABLE, U64.pack(5))
    assert str(puppet.loop.lost[0]) == "the back-end refused SET_VRING_ENABLE"


def test_a_back_end_that_does_not_read(capfd: pytest.CaptureFixture[str]) -> None:
    """The caller is never blocked, however many commands pile up."""
    puppet = negotiated()
    window = Window(puppet.sock.fileno(), 4096, 0)
    answers: list[bool] = []
    for _ in range(5000):
        if puppet.backend.lost is not None:
            break
        puppet.backend.open_window(window, 5.0, answers.append)
        puppet.backend.close_window(window, 5.0, answers.append)
    assert str(puppet.backend.lost) == "the back-end does not read its socket"
    assert answers and not any(answers)


def test_descriptors_sent_by_the_back_end_are_not_taken() -> None:
    puppet = negotiated()
    before = len(os.listdir("/proc/self/fd"))
    answers: list[bool] = []
    puppet.backend.stop(1.0, answers.append)
    reply = HEADER.pack(Request.GET_FEATURES, VERSION | REPLY, 8) + bytes(8)
    socket.send_fds(puppet.sock, [reply], [0, 1, 2])
    puppet.backend.on_readable()
    assert answers == [True]
    assert len(os.listdir("/proc/self/fd")) == before


def test_replies_flagged_as_wanting_a_reply_are_replies() -> None:
    """Some back-ends copy the flags of the request into the reply."""
    puppet = negotiated()
    answers: list[bool] = []
    puppet.backend.stop(1.0, answers.append)
    puppet.say(Request.GET_FEATURES, bytes(8), VERSION | REPLY | NEED_REPLY)
    puppet.backend.on_readable()
    assert answers == [True]
