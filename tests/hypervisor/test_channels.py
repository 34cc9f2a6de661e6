"""Channels: geometry, epochs, what is seen from outside, and the hypervisor's own client end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.abi import generated as abi
from hypervisor.channels import Connection, Geometry, HostClient, Reply
from hypervisor.policy import Pool
from tests.hypervisor.policies import channel
from tests.hypervisor.world import FakeServer

PAGE = abi.PAGE_SIZE


def release(connection: Connection) -> None:
    for memory in (connection.rings, connection.pool, connection._next):
        if memory:
            memory.close()
    os.close(connection.client_wake)
    os.close(connection.server_wake)


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection(channel(0, "a", "b", pool=Pool(2, PAGE)))
    yield made
    release(made)


# -- geometry -------------------------------------------------------------------------------------------


@given(
    st.sampled_from([1 << n for n in range(9)]),
    st.integers(1, abi.SLOT_DATA_MAX // PAGE).map(lambda pages: pages * PAGE),
)
def test_parts_do_not_overlap(slots: int, slot_data: int) -> None:
    geometry = Geometry.of(slots, slot_data)
    assert geometry.replies == abi.CHANNEL_REQUESTS + slots * abi.Slot.SIZE
    assert geometry.data >= geometry.replies + slots * abi.Slot.SIZE
    assert geometry.data % PAGE == geometry.size % PAGE == 0
    assert geometry.data + slots * slot_data <= geometry.size < geometry.data + slots * slot_data + PAGE


# -- epochs ---------------------------------------------------------------------------------------------


def test_every_epoch_has_new_memory(connection: Connection) -> None:
    seen: set[int] = set()
    for epoch in range(1, 6):
        assert connection.epoch == epoch and connection.pool
        inodes = {os.fstat(connection.rings.fd).st_ino, os.fstat(connection.pool.fd).st_ino}
        assert not inodes & seen
        seen |= inodes
        connection.rings.map[:4] = connection.pool.map[:4] = b"used"
        if epoch % 2:
            assert connection.next_rings is connection.next_rings is not connection.rings
        before = [connection.rings, connection.pool]
        old = connection.renew()
        assert old == before, "handed over to be closed"
        assert connection.rings.map[:4] == bytes(4)
        for memory in old:
            memory.close()


def test_what_a_spare_was_given_is_what_the_next_epoch_takes(connection: Connection) -> None:
    given = connection.next_rings
    for memory in connection.renew():
        memory.close()
    assert connection.rings is given


def test_a_pool_may_be_kept(connection: Connection) -> None:
    rings, pool = connection.rings, connection.pool
    assert connection.renew(keep_pool=True) == [rings]
    assert connection.pool is pool and connection.rings is not rings
    rings.close()


# -- seen from outside ----------------------------------------------------------------------------------


def put(connection: Connection, **values: int) -> None:
    for name, value in values.items():
        offset = getattr(abi, f"CHANNEL_{name.upper()}")
        connection.rings.map[offset : offset + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("tail", "head", "answered", "parked", "waiting"),
    [
        (0, 0, 0, 0, 0),
        (3, 1, 1, 0, 2),
        (3, 3, 1, 2, 0),
        (3, 3, 1, 1, 1),
        (1, 0xFFFFFFFF, 0xFFFFFFFF, 0, 2),  # wraps
        (3, 3, 1, 0xFFFFFFFF, 0),  # more parked than there are
        (9, 0, 0, 0, 0),  # more than slots: nonsense
        (0, 5, 5, 0, 0),  # answered before it was asked
    ],
)
def test_pending(
    connection: Connection, tail: int, head: int, answered: int, parked: int, waiting: int
) -> None:
    put(connection, request_tail=tail, request_head=head, reply_tail=answered, parked=parked)
    assert connection.pending() == (waiting, head + answered)


# -- the hypervisor's client end ------------------------------------------------------------------------


class Server(FakeServer):
    """Answers when told to."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.client = HostClient(connection)
        self.answers: list[tuple[int, Reply]] = []
        self.requests: list[abi.Slot] = []

    def submit(self, number: int, data: bytes = b"") -> None:
        args = number.to_bytes(40, "little")
        self.client.submit(2, args, lambda reply: self.answers.append((number, reply)), data)

    def answer(self, slot: abi.Slot) -> None:
        self.requests.append(slot)

    def numbers(self) -> list[int]:
        """First arguments of the requests that have come, which are taken away."""
        self.poll()
        taken, self.requests = self.requests, []
        self.taken = taken
        return [slot.args[0] for slot in taken]

    def done(self) -> list[int]:
        self.client.on_wake()
        return [number for number, _ in self.answers]


@pytest.fixture
def server(connection: Connection) -> Server:
    return Server(connection)


def test_requests_in_order_and_replies_by_tag(server: Server) -> None:
    for number in range(3):
        server.submit(number)
    assert server.numbers() == [0, 1, 2]
    for slot in reversed(server.taken):
        server.reply(slot, status=-5 if slot.args[0] == 1 else 0, args=bytes([slot.args[0]]) * 40)
    assert server.done() == [2, 1, 0]
    assert server.answers[1][1] == Reply(-5, bytes([1]) * 40)
    assert server.client.oldest_ns is None


def test_data_goes_to_the_buffer_of_the_tag(server: Server) -> None:
    server.submit(0, b"first")
    server.submit(1, b"second")
    server.numbers()
    for slot, data in zip(server.taken, (b"first", b"second"), strict=True):
        start = server.connection.geometry.data + (slot.tag & 0xFF) * PAGE
        assert server.connection.rings.map[start : start + slot.length] == data
    with pytest.raises(ValueError, match="a data buffer has 4096"):
        server.submit(2, bytes(PAGE + 1))


def test_no_more_than_slots_are_outstanding(server: Server) -> None:
    for number in range(10):
        server.submit(number)
    seen: list[int] = []
    while len(seen) < 10:
        now = server.numbers()
        assert now and len(now) <= 4
        assert len({slot.tag & 0xFF for slot in server.taken}) == len(now)
        seen += now
        for slot in server.taken:
            server.reply(slot)
        server.done()
    assert seen == list(range(10)) == server.done()


def test_it_asks_to_be_woken_by_the_next_reply(server: Server) -> None:
    rings = server.connection.rings
    for count in range(1, 4):
        assert rings.read_u32(abi.CHANNEL_CLIENT_SLEEP) == 1
        assert rings.read_u32(abi.CHANNEL_CLIENT_WAKE_AT) == count
        server.submit(count)
        server.numbers()
        server.reply(server.taken[0])
        server.done()
    assert rings.read_u32(abi.CHANNEL_REPLY_HEAD) == 3


def test_reopen_sends_everything_unanswered_again_in_order(server: Server) -> None:
    for number in range(7):
        server.submit(number)
    assert server.numbers() == [0, 1, 2, 3]
    server.reply(server.taken[1])
    server.reply(server.taken[2])
    assert sorted(server.done()) == [1, 2]
    assert server.numbers() == [4, 5]
    oldest = server.client.oldest_ns
    for memory in server.connection.renew():
        memory.close()
    server.client.reopen()
    assert server.numbers() == [0, 3, 4, 5]
    assert {slot.epoch for slot in server.taken} == {2}
    assert server.client.oldest_ns == oldest
    for slot in server.taken:
        server.reply(slot)
    server.done()
    assert server.numbers() == [6]


@pytest.mark.parametrize("kind", ["stale epoch", "unknown tag", "buffer", "twice"])
def test_replies_that_break_the_rules_are_dropped(server: Server, kind: str) -> None:
    server.submit(1)
    server.numbers()
    slot = server.taken[0]
    if kind == "twice":
        server.reply(slot)
        server.reply(slot)
        assert server.done() == [1]
        return
    wrong = {
        "stale epoch": abi.Slot(**vars(slot) | {"epoch": slot.epoch + 1}),
        "unknown tag": abi.Slot(**vars(slot) | {"tag": slot.tag + 256}),
        "buffer": abi.Slot(**vars(slot) | {"tag": slot.tag | 0xFF}),
    }[kind]
    server.reply(wrong)
    assert server.done() == []
    server.reply(slot)
    assert server.done() == [1], "the right one still counts"


@pytest.mark.parametrize("tail", [5, 100, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_an_index_that_runs_ahead(server: Server, tail: int) -> None:
    server.submit(1)
    server.store(abi.CHANNEL_REPLY_TAIL, tail)
    for _ in range(3):
        assert server.done() == []


def test_any_rings_whatever(server: Server) -> None:
    """Everything the server can write, written: no exception, no endless loop, no answer."""
    for pattern in (b"\xff", b"\x01", b"\x80", b"\x7f"):
        server.submit(1)
        server.connection.rings.map[:] = pattern * server.connection.geometry.size
        server.done()
    assert server.answers == []


def test_a_full_eventfd_is_as_good_as_a_signal(server: Server) -> None:
    for fd in (server.connection.client_wake, server.connection.server_wake):
        os.eventfd_write(fd, 0xFFFFFFFFFFFFFFFE - (os.eventfd_read(fd) if fd_is_set(fd) else 0))
    server.submit(1)
    server.connection.signal(abi.Role.CLIENT)
    server.connection.signal(abi.Role.SERVER)
    assert server.numbers() == [1]


def fd_is_set(fd: int) -> bool:
    try:
        os.eventfd_write(fd, os.eventfd_read(fd))
    except BlockingIOError:
        return False
    return True
