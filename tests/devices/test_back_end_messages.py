"""Front-ends that break the vhost-user protocol get a clean end or a refusal, never a crash."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypervisor.abi import generated as abi
from tests.devices.conftest import Rig, Start
from tests.devices.machine import DeviceProcess, make_image
from tests.devices.queue_driver import Memory
from vmm.devices.back_end import BackEnd, FrontEndError, Message, receive
from vmm.devices.disk import Disk
from vmm.vhost_user_messages import (
    HEADER,
    NEED_REPLY,
    REGION,
    SINGLE_REGION,
    TABLE_HEAD,
    U64,
    VERSION,
    VRING_ADDR,
    VRING_STATE,
    Feature,
    ProtocolFeature,
    Request,
)


def message(request: int, payload: bytes = b"", flags: int = VERSION) -> bytes:
    return HEADER.pack(request, flags, len(payload)) + payload


def region(guest: int = 0, size: int = 4096, user: int = 0, offset: int = 0) -> bytes:
    return REGION.pack(guest, size, user, offset)


TABLE_OF_ONE = TABLE_HEAD.pack(1, 0) + region()

# (what is sent, how many descriptors with it, part of the last words)
FATAL: list[tuple[bytes, int, str]] = [
    (message(1)[:5], 0, "the stream ended inside a message"),
    (message(Request.SET_FEATURES, bytes(8))[:15], 0, "the stream ended inside a message"),
    (HEADER.pack(Request.SET_FEATURES, VERSION, 8), 0, "the stream ended inside message 2"),
    (HEADER.pack(1, VERSION, 0xFFFFFFFF), 0, "message 1 announces 4294967295 bytes; the longest has 264"),
    (HEADER.pack(1, 2, 0), 0, "message 1 has protocol version 2; only 1 exists"),
    (HEADER.pack(1, VERSION | 4, 0), 0, "message 1 is a reply to nothing"),
    (message(0), 0, "message 0 refused: no such message here"),
    (message(77), 0, "message 77 refused: no such message here"),
    (message(Request.GET_FEATURES, b"x"), 0, "GET_FEATURES of 1 bytes with 0 descriptors; it has 0 and none"),
    (message(Request.GET_FEATURES), 1, "GET_FEATURES of 0 bytes with 1 descriptors; it has 0 and none"),
    (message(Request.SET_FEATURES, bytes(7)), 0, "SET_FEATURES of 7 bytes"),
    (message(Request.SET_FEATURES, U64.pack(1 << 60)), 0, "feature bits 0x1000000000000000 were not offered"),
    (message(Request.SET_PROTOCOL_FEATURES, U64.pack(2)), 0, "protocol feature bits 0x2 were not offered"),
    (message(Request.SET_MEM_TABLE, b""), 0, "SET_MEM_TABLE of 0 bytes and -1 regions"),
    (message(Request.SET_MEM_TABLE, TABLE_HEAD.pack(9, 0)), 0, "SET_MEM_TABLE of 8 bytes and 9 regions"),
    (message(Request.SET_MEM_TABLE, TABLE_HEAD.pack(0xFFFFFFFF, 0)), 0, "and 4294967295 regions"),
    (message(Request.SET_MEM_TABLE, TABLE_OF_ONE[:-1]), 1, "SET_MEM_TABLE of 39 bytes and 1 regions"),
    (message(Request.SET_MEM_TABLE, TABLE_OF_ONE), 0, "SET_MEM_TABLE of 1 regions with 0 descriptors"),
    (message(Request.SET_MEM_TABLE, TABLE_OF_ONE), 2, "SET_MEM_TABLE of 1 regions with 2 descriptors"),
    (message(Request.SET_MEM_TABLE, TABLE_OF_ONE), 30, "a message carries more than 8 descriptors"),
    (message(Request.ADD_MEM_REG, bytes(39)), 1, "ADD_MEM_REG of 39 bytes instead of 40"),
    (
        message(Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region())),
        0,
        "ADD_MEM_REG with 0 descriptors instead of one",
    ),
    (message(Request.REM_MEM_REG, SINGLE_REGION.pack(0, region())), 0, "no memory region at 0x0"),
    (message(Request.GET_CONFIG, bytes(3)), 0, "GET_CONFIG of 3 bytes"),
    (
        message(Request.GET_CONFIG, struct.pack("<III", 250, 60, 0) + bytes(60)),
        0,
        "GET_CONFIG of 60 bytes at 250",
    ),
    (
        message(Request.GET_CONFIG, struct.pack("<III", 0, 60, 0)),
        0,
        "GET_CONFIG of 60 bytes at 0 in a message of 12",
    ),
    (
        message(Request.SET_CONFIG, struct.pack("<III", 32, 1, 0) + b"\1"),
        0,
        "nothing in the configuration space",
    ),
    (message(Request.SET_VRING_NUM, VRING_STATE.pack(1, 128)), 0, "there is no queue 1, only 1"),
    (
        message(Request.SET_VRING_NUM, VRING_STATE.pack(0, 0)),
        0,
        "a queue of 0; a power of two up to 1024 is possible",
    ),
    (message(Request.SET_VRING_NUM, VRING_STATE.pack(0, 100)), 0, "a queue of 100"),
    (message(Request.SET_VRING_NUM, VRING_STATE.pack(0, 1 << 31)), 0, "a queue of 2147483648"),
    (message(Request.SET_VRING_BASE, VRING_STATE.pack(0, 1 << 16)), 0, "index 65536 has more than 16 bits"),
    (
        message(Request.SET_VRING_ADDR, VRING_ADDR.pack(0, 1, 0, 0, 0, 0)),
        0,
        "ring flags 0x1; logging was not offered",
    ),
    (
        message(Request.SET_VRING_ADDR, VRING_ADDR.pack(0xFFFFFFFF, 0, 0, 0, 0, 0)),
        0,
        "there is no queue 4294967295",
    ),
    (message(Request.GET_VRING_BASE, VRING_STATE.pack(9, 0)), 0, "there is no queue 9"),
    (message(Request.SET_VRING_KICK, U64.pack(0)), 0, "SET_VRING_KICK of 0x0 with 0 descriptors"),
    (message(Request.SET_VRING_KICK, U64.pack(0)), 2, "SET_VRING_KICK of 0x0 with 2 descriptors"),
    (
        message(Request.SET_VRING_KICK, U64.pack(0x100)),
        0,
        "a queue without a kick descriptor would have to be polled",
    ),
    (message(Request.SET_VRING_KICK, U64.pack(0x100)), 1, "SET_VRING_KICK of 0x100 with 1 descriptors"),
    (
        message(Request.SET_VRING_CALL, U64.pack(1 << 40)),
        1,
        "SET_VRING_CALL of 0x10000000000 with 1 descriptors",
    ),
    (message(Request.SET_VRING_CALL, U64.pack(200)), 1, "there is no queue 200"),
    (
        message(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 2)),
        0,
        "SET_VRING_ENABLE with 2 instead of 0 or 1",
    ),
]


@pytest.mark.parametrize(("sent", "descriptors", "last_words"), FATAL, ids=[case[2] for case in FATAL])
def test_a_broken_message_ends_the_session(
    start_device: Start, sent: bytes, descriptors: int, last_words: str
) -> None:
    device = start_device()
    fds = [os.memfd_create("x", os.MFD_CLOEXEC) for _ in range(descriptors)]
    socket.send_fds(device.sock, [sent], fds)
    device.sock.shutdown(socket.SHUT_WR)
    assert device.wait_end() == 1
    errors = device.errors()
    assert last_words in errors
    assert errors.startswith("disk: ") and errors.count("\n") == 1
    for fd in fds:
        os.close(fd)


def test_a_refusal_is_acknowledged_and_the_session_goes_on(start_device: Start, image: Path) -> None:
    rig = Rig(start_device())
    sock = rig.device.sock
    sock.setblocking(True)
    short = os.memfd_create("short", os.MFD_CLOEXEC)
    os.ftruncate(short, 4096)
    cases: list[tuple[int, bytes, list[int]]] = [
        (77, b"", []),
        (Request.SET_VRING_NUM, VRING_STATE.pack(0, 3), []),
        (Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region(size=8192)), [short]),
        (Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region(size=0)), [short]),
        (Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region(guest=2**64 - 1)), [short]),
        (Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region(offset=2**64 - 4096)), [short]),
        (Request.ADD_MEM_REG, SINGLE_REGION.pack(0, region()), [rig.driver.kick]),
        (
            Request.SET_MEM_TABLE,
            TABLE_HEAD.pack(2, 0) + region() + region(guest=4095, user=1 << 20),
            [short, short],
        ),
        (
            Request.SET_MEM_TABLE,
            TABLE_HEAD.pack(2, 0) + region() + region(guest=1 << 20, user=1),
            [short, short],
        ),
        (Request.SET_VRING_KICK, U64.pack(0), [short]),
    ]
    for request, payload, fds in cases:
        if request == Request.SET_VRING_KICK:  # enabled, but without size and addresses
            sock.send(message(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 1)))
        socket.send_fds(sock, [message(request, payload, VERSION | NEED_REPLY)], fds)
        head = HEADER.unpack(sock.recv(12))
        assert head == (request, VERSION | 4, 8)
        assert sock.recv(8) == U64.pack(1), Request(request).name if request != 77 else 77
    sock.send(message(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 0)))
    sock.send(message(Request.GET_VRING_BASE, VRING_STATE.pack(0, 0)))  # which takes the kick back
    assert len(sock.recv(HEADER.size + VRING_STATE.size)) == HEADER.size + VRING_STATE.size
    sock.setblocking(False)
    assert rig.start().read(0, 512) == image.read_bytes()[:512]
    os.close(short)


def test_rings_must_lie_in_the_windows(start_device: Start) -> None:
    """A queue whose rings are not all in one window each, or not aligned, is not started."""
    base = abi.VRING_IOVA
    for addresses in (
        (base - 4096, base + 0x2000, base + 0x1000),
        (base, base + abi.VRING_STRIDE - 64, base + 0x1000),
        (base, base + 0x2000, 2**64 - 4),
        (base + 8, base + 0x2000, base + 0x1000),
        (base, base + 0x2002, base + 0x1000),
        (base, base + 0x2000, base + 0x1001),
    ):
        rig = Rig(start_device())
        windows = rig.memory.windows()
        sock = rig.device.sock
        table = TABLE_HEAD.pack(1, 0) + region(base, windows[0].size, base)
        socket.send_fds(sock, [message(Request.SET_MEM_TABLE, table)], [windows[0].fd])
        sock.send(
            message(Request.SET_VRING_NUM, VRING_STATE.pack(0, 128))
            + message(
                Request.SET_VRING_ADDR, VRING_ADDR.pack(0, 0, addresses[0], addresses[1], addresses[2], 0)
            )
            + message(Request.SET_VRING_ENABLE, VRING_STATE.pack(0, 1))
        )
        socket.send_fds(sock, [message(Request.SET_VRING_KICK, U64.pack(0))], [rig.driver.kick])
        assert rig.device.wait_end() == 1
        assert "are not aligned or not inside one memory region each" in rig.device.errors()


def queue_is_broken(device: DeviceProcess) -> bool:
    return device.counters().broken == 1


def test_kick_descriptors_that_make_no_sense_break_the_queue(start_device: Start, image: Path) -> None:
    for bad in (os.open(image, os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)):
        rig = Rig(start_device())
        setup = rig.driver.setup()._replace(kick=bad)
        rig.backend.start([setup], rig.memory.windows())
        rig.loop.settled()
        rig.loop.until(partial(queue_is_broken, rig.device))
        assert rig.loop.finish(rig.backend.stop)
        os.close(bad)


def test_reset_stops_the_queues(rig: Rig, image: Path) -> None:
    sock = rig.device.sock
    for request in (Request.RESET_OWNER, Request.RESET_DEVICE):
        sock.send(message(request, b"", VERSION | NEED_REPLY))
        sock.setblocking(True)
        assert HEADER.unpack(sock.recv(12))[0] == request
        assert sock.recv(8) == bytes(8)
        sock.setblocking(False)
        rig.driver.submit(0, 0, [])
        rig.driver.ring_bell()
    rig.backend.close()
    assert rig.device.wait_end() == 0
    assert rig.driver.used_index == 0


# -- fuzzing: seeded, so a failure repeats

FUZZ = settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def fuzzed_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("fuzz") / "disk.img"
    make_image(path, 1 << 16)
    fd = os.open(path, os.O_RDWR)
    yield Disk(fd, queues=2)
    os.close(fd)


@FUZZ
@given(data=st.binary(max_size=600), descriptors=st.integers(0, 9))
def test_any_bytes_are_parsed_or_refused(data: bytes, descriptors: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        fd = os.memfd_create("x", os.MFD_CLOEXEC)
        if data:
            socket.send_fds(theirs, [data], [fd] * descriptors)
        theirs.shutdown(socket.SHUT_WR)
        try:
            while (got := receive(ours)) is not None:
                for each in got.fds:
                    os.close(each)
        except FrontEndError:
            pass
        os.close(fd)
        assert len(os.listdir("/proc/self/fd")) == before


_numbers = st.one_of(
    st.integers(0, 3),
    st.sampled_from([128, 256, 0xFFFF, 0x10000, 2**32 - 1, 2**63, 2**64 - 1]),
    st.sampled_from([abi.VRING_IOVA, abi.VRING_IOVA + 0x1000, abi.VRING_IOVA + 0x2000, abi.POOL_IOVA]),
)
_payloads = st.one_of(
    st.binary(max_size=64),
    st.builds(lambda a, b: VRING_STATE.pack(a & 0xFFFFFFFF, b & 0xFFFFFFFF), _numbers, _numbers),
    st.builds(U64.pack, _numbers),
    st.builds(
        lambda q, d, u, a: VRING_ADDR.pack(q & 3, 0, d, u, a, 0), _numbers, _numbers, _numbers, _numbers
    ),
    st.builds(lambda g, s, u: SINGLE_REGION.pack(0, region(g, s, u)), _numbers, _numbers, _numbers),
    st.builds(
        lambda n, g, s, u: TABLE_HEAD.pack(n & 0xFFFFFFFF, 0) + region(g, s, u),
        _numbers,
        _numbers,
        _numbers,
        _numbers,
    ),
)
_messages = st.tuples(st.sampled_from([*Request, 77]), _payloads, st.integers(0, 2), st.booleans())


@FUZZ
@given(messages=st.lists(_messages, max_size=30))
def test_any_sequence_of_messages_is_survived(
    fuzzed_disk: Disk, messages: list[tuple[int, bytes, int, bool]]
) -> None:
    """Whatever is asked: the one exception is FrontEndError, no descriptor leaks, all stops in the end."""
    memory = Memory(2, 1 << 16)
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        session = BackEnd(ours, fuzzed_disk, lambda text: None)
        session.handle(
            Message(Request.SET_PROTOCOL_FEATURES, VERSION, U64.pack(ProtocolFeature.REPLY_ACK), [])
        )
        session.handle(Message(Request.SET_FEATURES, VERSION, U64.pack(Feature.PROTOCOL_FEATURES), []))
        for request, payload, descriptors, acknowledge in messages:
            fds = [os.dup(memory.vring_fd) for _ in range(descriptors)]
            flags = VERSION | (NEED_REPLY if acknowledge else 0)
            try:
                session.handle(Message(request, flags, payload, fds))
            except FrontEndError:
                pass
        session.stop_all()
    assert len(os.listdir("/proc/self/fd")) == before
    memory.close()
