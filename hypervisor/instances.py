"""Instances: one run of a component in one VM, from the warm spare to the kept evidence.

Lifecycle (each arrow is a guarded transition):

    SPAWNING -> SPARE -> RUNNING -> ENDED
        \\---------\\---------------/
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.memory import MemoryObject
from hypervisor.policy import Component

BURIAL_S = 0.008  # from a death to what can wait, until the recovery is over
STEPS_MAX = 128  # of one record, lest it carry more descriptors than one can
_U64 = (1 << 64) - 1
_numbers = itertools.count(1)
_CPUCLOCK_SCHED = 2  # the clock of a process's CPU time, clock_getcpuclockid(3)


class Lifecycle(IntEnum):
    """Where an instance is in its life: it may leave out some of these, but never goes back."""

    SPAWNING = 0  # the tender is being made
    SPARE = 1  # ready to be adopted
    RUNNING = 2
    ENDED = 3


class LifecycleError(Exception):
    """A transition that makes no sense: a bug of ours."""


class Step(NamedTuple):
    """One operation of an APPLY: `fd` is passed along where given, `info` follows for INFO."""

    operation: int
    a: int = 0
    b: int = 0
    c: int = 0
    fd: int = -1
    info: bytes = b""


class Outfit(NamedTuple):
    """What a tender has been given for one epoch: (address, memory) to write to, and info pages."""

    memory: list[tuple[int, MemoryObject]]
    info: bytes


def pack_steps(steps: Sequence[Step]) -> tuple[bytes, list[int]]:
    """The body of an APPLY or RESULT, and the descriptors that go with it."""
    packed: list[bytes] = []
    blobs: list[bytes] = []
    fds: list[int] = []
    for step in steps:
        packed.append(wire.OPERATION.pack(step.operation, len(fds), step.a, step.b, step.c))
        if step.fd >= 0:
            fds.append(step.fd)
        blobs.append(step.info)
    return b"".join(packed + blobs), fds


class Stats:
    """The tender's counters: u64 words of its stats page, by name."""

    WORDS = (
        "exits", "hypercalls", "waits", "doorbells", "signals", "faults", "wakeups",
        "first_instruction_ns", "thread", "wait_timeouts", "state", "state_since_ns", "rests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.memory = MemoryObject("r3s3:stats", abi.PAGE_SIZE)

    def read(self, name: str) -> int:
        """One counter."""
        return self.memory.read_u64(8 * self.WORDS.index(name))


class Instance:
    """One VM with its tender. Owns its memory objects, its socket and its pidfd."""

    def __init__(self, component: Component) -> None:
        self.component = component
        self.number = next(_numbers)
        self.epoch = 0
        self.state = Lifecycle.SPAWNING
        self.ram = MemoryObject(f"r3s3:{component.name}", component.memory)
        self.telemetry = MemoryObject("r3s3:telemetry", abi.PAGE_SIZE)
        self.stats = Stats()
        self.grant_objects: list[MemoryObject] = []
        self.outfit = Outfit([], b"")
        self.sock, self.tender_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.sock, self.tender_end):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.sock.setblocking(False)  # a tender that does not read must not stop the event loop
        self.pid = 0
        self.pidfd = -1
        self.started_ns = 0  # the moment RUN was sent
        self.ready_ns = 0  # the moment it called `ready`
        self.replays_seen = 0
        self.doomed = False  # to be killed as soon as its pid is known
        self.calling = False  # a hypercall waits for its answer
        self.pinged = False  # a PING has not been answered
        self.last_pong_ns = time.monotonic_ns()
        self.holds: list[Callable[[], None]] = []  # to be called once it cannot touch anything any more
        self._cpu_ns = 0
        self._sequence = 0
        self._acknowledged = 0
        self._waiting: dict[int, Callable[[], None]] = {}

    def move(self, state: Lifecycle) -> None:
        """Change the lifecycle state; LifecycleError where the change is not allowed."""
        if state <= self.state:
            raise LifecycleError(f"{self.component.name} #{self.number}: {self.state!r} -> {state!r}")
        self.state = state

    @property
    def alive(self) -> bool:
        """False from the moment it was judged dead, whether or not its processes are gone yet."""
        return self.state is not Lifecycle.ENDED

    def spawned(self, pid: int, pidfd: int) -> None:
        """The tender exists."""
        self.pid, self.pidfd = pid, pidfd
        self.tender_end.close()
        if self.doomed:
            self.kill()

    def send(
        self, kind: int, args: Sequence[int], steps: Sequence[Step] = (), sequence: int = 0, data: bytes = b""
    ) -> None:
        """Send one record. A tender that has gone, or does not read, is ended: its pidfd will tell."""
        body, fds = pack_steps(steps)
        try:
            wire.send(self.sock, kind, sequence, args, body + data, fds)
        except OSError:
            self.kill()

    def apply(self, steps: Sequence[Step], done: Callable[[], None] | None = None) -> None:
        """Have the tender carry out `steps` in order; `done` when it has done all of them."""
        while len(steps) > STEPS_MAX:
            self.apply(steps[:STEPS_MAX])
            steps = steps[STEPS_MAX:]
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        if done is not None:
            self._waiting[self._sequence] = done
        self.send(wire.Kind.APPLY, (len(steps),), steps, self._sequence)

    def acknowledged(self, sequence: int) -> bool:
        """An ACK of success came; False if it was not due: a tender answers each APPLY once, in order."""
        due = self._acknowledged != self._sequence and sequence == self._acknowledged + 1 & 0xFFFFFFFF
        if due:
            self._acknowledged = sequence
            done = self._waiting.pop(sequence, None)
            if done is not None:
                done()
        return due

    def result(self, rax: int, rdx: int = 0, steps: Sequence[Step] = (), data: bytes = b"") -> None:
        """Answer the hypercall the vCPU is waiting in; `data` goes into the guest's memory."""
        if self.alive:
            self.calling = False
            self.send(wire.Kind.RESULT, (rax & _U64, rdx & _U64, len(steps)), steps, data=data)

    def freeze(self) -> None:
        """Stop the tender for good, to be killed later: ending keeps a CPU busy for a millisecond."""
        self.kill(signal.SIGSTOP)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """SIGKILL the tender; returns at once."""
        self.doomed = True
        self.cpu_ns()  # as long as it can be read
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                signal.pidfd_send_signal(self.pidfd, number)

    @property
    def gone(self) -> bool:
        """True once the tender process has really ended."""
        if self.pidfd < 0:
            return False
        poll = select.poll()  # not select(), which knows only descriptors below 1024
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def cpu_ns(self) -> int:
        """CPU time the tender has used, ns; as last read when it cannot be any more."""
        if self.pid:  # 0: not there yet; and process 0 would mean ourselves
            with contextlib.suppress(OSError):
                self._cpu_ns = time.clock_gettime_ns(~self.pid << 3 | _CPUCLOCK_SCHED)
        return self._cpu_ns

    def telemetry_counters(self) -> abi.Telemetry:
        """What the guest says of itself; never trusted."""
        return abi.Telemetry.unpack(self.telemetry.map[: abi.Telemetry.SIZE])

    def new_replays(self) -> list[abi.ReplayEntry]:
        """Replay ring entries since the last call; a guest that lies here falsifies only its own figures."""
        slots, size = abi.TELEMETRY_REPLAY_SLOTS, abi.ReplayEntry.SIZE
        count = self.telemetry_counters().replay_count
        first = max(self.replays_seen, count - slots)
        self.replays_seen = count
        fresh = range(first, min(count, first + slots))
        places = [abi.TELEMETRY_REPLAYS + (number % slots) * size for number in fresh]
        return [abi.ReplayEntry.unpack(self.telemetry.map[at : at + size]) for at in places]

    def close(self) -> None:
        """Give up everything but the guest's memory, which evidence may keep."""
        self._waiting.clear()  # what they refer to may refer to this
        self.sock.close()
        self.tender_end.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.telemetry.close()
        self.stats.memory.close()
