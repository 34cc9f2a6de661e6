"""The zygote: who lives, who dies, and who is told."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from tests.tender.system import Guest, System, assemble, event, memory_object

pytestmark = pytest.mark.kvm


@pytest.fixture
def own() -> Iterator[System]:
    """A zygote for one test, which may kill it."""
    system = System()
    yield system
    for guest in system.guests:
        guest.close()
    system.sock.close()
    try:
        os.kill(system.pid, signal.SIGKILL)
        os.waitpid(system.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_tenders_outlive_the_zygote(own: System) -> None:
    guest = own.guest(f"mov $-1, %rdi\n hypercall {abi.Hypercall.WAIT}\n hypercall {abi.Hypercall.EXIT}")
    wake = event()
    guest.apply((wire.Operation.WAKE, 0, 0, 0, 0), (wire.Operation.RUN, 0, 0, 0, 0), fds=[wake])
    os.kill(own.pid, signal.SIGKILL)
    os.waitpid(own.pid, 0)
    time.sleep(0.05)
    os.eventfd_write(wake, 1)
    assert guest.hypercall().args[0] == abi.Hypercall.EXIT


def test_end_of_the_zygotes_socket_ends_everything(own: System) -> None:
    """Even children that are stopped, whose own sockets are still open."""
    guests = [own.guest("1: jmp 1b").ready() for _ in range(3)]
    for guest in guests:
        guest.run()
    signal.pidfd_send_signal(guests[0].pidfd, signal.SIGSTOP)
    own.sock.close()
    assert os.waitpid(own.pid, 0)[1] == 0
    for guest in guests:
        assert guest.ended()


def test_death_of_the_hypervisor_ends_everything() -> None:
    """The parent is killed; zygote and tenders are gone soon after."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            system = System()
            guests = [system.guest("1: jmp 1b").ready() for _ in range(2)]
            for guest in guests:
                guest.run()
            os.write(writer, " ".join(str(each) for each in (system.pid, *(g.pid for g in guests))).encode())
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writer)
    pids = [int(word) for word in os.read(reader, 1000).split()]
    os.close(reader)
    assert len(pids) == 3
    watched = [os.pidfd_open(each) for each in pids]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for fd in watched:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(5000)
        os.close(fd)


def test_nonsense_is_answered(own: System) -> None:
    with pytest.raises(RuntimeError, match="record of kind 1 with 0 descriptors"):
        own.spawn(wire.Kind.SPAWN_TENDER, {}, [])
    with pytest.raises(RuntimeError, match="malformed: KeyError"):
        own.spawn(wire.Kind.SPAWN_TENDER, {}, [memory_object(4096) for _ in range(5)])
    with pytest.raises(RuntimeError, match="record of kind 77 with 1 descriptors"):
        own.spawn(77, {}, [memory_object(4096)])


def test_restarted_zygote_is_an_ordinary_program() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "vmm.tender.zygote", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        wire.send(ours, wire.Kind.SPAWN_TENDER, 9)
        message = wire.receive(ours)
        assert message is not None
        assert (message.kind, message.sequence, message.args[0]) == (wire.Kind.SPAWNED, 9, 0)
        ours.close()
        assert process.wait(5) == 0


def test_children_leave_no_descriptors_behind(own: System) -> None:
    def count() -> int:
        return len(os.listdir(f"/proc/{own.pid}/fd"))

    own.guest("1: jmp 1b").ready().close()
    own.guests.clear()
    before = count()
    for _ in range(5):
        guest = own.guest("1: jmp 1b").ready()
        guest.close()
        assert guest.ended()
        own.guests.clear()
    assert count() <= before


def test_many_at_once(own: System) -> None:
    guests = [own.guest(f"hypercall {abi.Hypercall.EXIT}") for _ in range(20)]
    for guest in guests:
        guest.run()
    for guest in guests:
        assert guest.hypercall().args[0] == abi.Hypercall.EXIT


class Asker:
    """Asks a zygote for things, and does not wait for answers."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def spawn(self, kind: int, body: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
        """Nothing is known of what is spawned."""
        wire.send(self.sock, kind, 1, body=json.dumps(body).encode(), fds=fds)
        return 0, -1


def test_a_tender_that_nobody_was_told_of_ends() -> None:
    """Its zygote dies before it has said so; the next one will be asked for the same instance."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: a few answers
    command = [sys.executable, "-m", "vmm.tender.zygote", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as zygote:
        theirs.close()
        asked = 50
        for number in range(asked):
            wire.send(ours, 77, number)
        wire.receive(ours)  # it is up
        time.sleep(0.3)
        zygote.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        fitting = 0
        while select.select([ours], [], [], 0)[0]:
            wire.receive(ours)
            fitting += 1
        assert 0 < fitting < asked - 1
        zygote.send_signal(signal.SIGCONT)
        for _ in range(asked - 1 - fitting):
            wire.receive(ours)

        for number in range(fitting):  # then it waits with the next answer
            wire.send(ours, 77, number)
        guest = Guest(cast(System, Asker(ours)), assemble("1: jmp 1b"))
        children = Path(f"/proc/{zygote.pid}/task/{zygote.pid}/children")
        deadline = time.monotonic() + 5
        while not children.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pidfd = os.pidfd_open(int(children.read_text()))
        time.sleep(0.2)
        zygote.kill()
    ours.close()
    ended = select.select([pidfd], [], [], 5)[0]
    os.close(pidfd)
    guest.sock.close()  # not before: it would end with that
    assert ended
