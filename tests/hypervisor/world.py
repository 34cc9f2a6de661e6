"""A whole hypervisor without KVM: fake tenders, devices and reincarnation server, driven step by step.

`World` boots a `Hypervisor` whose tenders are `FakeTender`s: peers on the real sockets which carry out (and
remember) what they are told, and do and say what a test wants. Nothing runs on its own: `World.turn` is one
round of everything, `World.until` repeats it until something has come true.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import pytest

from hypervisor import process, recovery, supervision, wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.component import LiveComponent
from hypervisor.dma import Done, LiveDevice, Queue, Window
from hypervisor.faults import FaultRecord
from hypervisor.instances import Instance
from hypervisor.memory import MemoryObject
from hypervisor.placement import Machine
from hypervisor.policy import Component, Policy
from hypervisor.process import Hypervisor
from hypervisor.protocols import supervise

PATIENCE_S = 5.0
PID_MAX = 1 << 22  # no process has a larger number


class Mapped(NamedTuple):
    """What a tender has mapped at an address."""

    inode: int
    length: int
    writable: bool


class FakeTender:
    """The process at the other end of an instance's socket."""

    def __init__(self, instance: Instance, pid: int) -> None:
        self.instance = instance
        self.name = instance.component.name
        self.pid = pid
        self.sock = socket.socket(fileno=os.dup(instance.tender_end.fileno()))
        self.sock.setblocking(False)
        self.exit = os.eventfd(0, os.EFD_CLOEXEC)  # its pidfd: readable once it has ended
        self.silent = False  # reads, but neither acknowledges nor answers pings
        self.stopped = False  # does not even read
        self.fails = False  # ends with the next APPLY
        self.immortal = False  # a kill has no effect yet
        self.spawned = False
        self.frozen = False
        self.killed = False
        self.gone = False
        self.windows: dict[int, Mapped] = {}
        self.mapped: set[int] = set()  # inodes of all that it ever had in its windows
        self.operations: list[list[int]] = []  # of each APPLY
        self.doorbells: dict[int, int] = {}
        self.info = bytearray(abi.INFO_PAGES * abi.PAGE_SIZE)
        self.warm = False
        self.started = False
        self.results: list[wire.Message] = []
        self.pings = 0

    def pump(self) -> None:
        """Carry out everything that has been sent."""
        while self.spawned and not (self.gone or self.stopped or self.frozen):
            try:
                message = wire.receive(self.sock)
            except BlockingIOError:
                return
            if message is None:
                self.die()
                return
            self._take(message)

    def _take(self, message: wire.Message) -> None:
        if message.kind == wire.Kind.APPLY:
            if self.fails:
                self.fault(abi.Fault.INTERNAL, message="the tender failed: OSError: no memory")
            else:
                self._apply(message, message.args[0])
                if not self.silent:
                    self.send(wire.Kind.ACK, message.sequence)
        elif message.kind == wire.Kind.RESULT:
            self._apply(message, message.args[2])
            self.results.append(message)
        elif message.kind == wire.Kind.PING:
            self.pings += 1
            if not self.silent:
                self.send(wire.Kind.PONG)
        message.close()

    def _apply(self, message: wire.Message, count: int) -> None:
        size = count * wire.OPERATION.size
        rest = message.body[size:]
        if message.kind == wire.Kind.APPLY:
            self.operations.append([each[0] for each in wire.OPERATION.iter_unpack(message.body[:size])])
        for kind, index, a, b, c in wire.OPERATION.iter_unpack(message.body[:size]):
            if kind == wire.Operation.MAP:
                self.windows[a] = Mapped(os.fstat(message.fds[index]).st_ino, b, bool(c))
                self.mapped.add(self.windows[a].inode)
            elif kind == wire.Operation.UNMAP:
                self.windows.pop(a, None)
            elif kind == wire.Operation.DOORBELL:
                self.doorbells[a] = os.fstat(message.fds[index]).st_ino
            elif kind == wire.Operation.INFO:
                self.info[a : a + b], rest = rest[:b], rest[b:]
            elif kind == wire.Operation.WARM:
                self.warm = True
            elif kind == wire.Operation.RUN:
                self.started = True

    def send(
        self,
        kind: int,
        sequence: int = 0,
        args: Sequence[int] = (),
        body: bytes = b"",
        fds: Sequence[int] = (),
    ) -> None:
        """Send a record, if the hypervisor still listens."""
        if not self.gone:
            try:
                wire.send(self.sock, kind, sequence, args, body, fds)
            except (BrokenPipeError, BlockingIOError):
                pass

    def hypercall(self, number: int, *args: int, body: bytes = b"") -> None:
        """The guest makes a hypercall."""
        self.send(wire.Kind.HYPERCALL, 0, (number, *args), body)

    def fault(self, kind: int = abi.Fault.EXCEPTION, *words: int, message: str = "") -> None:
        """The guest faults."""
        registers = struct.pack("<20Q", *range(20))
        self.send(wire.Kind.FAULT, 0, (kind, *words), registers + message.encode())

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        if not self.immortal:
            self.die()

    def die(self) -> None:
        """The process ends."""
        if not self.gone:
            self.gone = True
            self.sock.close()
            os.eventfd_write(self.exit, 1)


class FakeBackend:
    """A device behind a `LiveDevice`."""

    def __init__(self, lost: Callable[[str], None], misled: Callable[[int], None]) -> None:
        self.features, self.config = 0x1234, b"config"
        self.registers: dict[int, tuple[int, int]] = {}
        self.lost, self.misled = lost, misled
        self.calls: list[str] = []
        self.windows: dict[int, int] = {}  # iova -> inode
        self.lasting: set[int] = set()  # the windows that came with `start`
        self.queues = 0
        self.closed = False
        self.dead = False
        self.slow = False  # keeps `done` callbacks until `finish`
        self.full = False  # no room for windows
        self.lingers = False  # closing does not end it yet: `gone` does
        self.ends: list[Callable[[], None]] = []
        self.waiting: list[Callable[[bool], None]] = []

    def _done(self, effect: Callable[[], None], done: Done) -> None:
        def finish(ok: bool) -> None:
            if ok:
                effect()
            done(ok)

        if self.dead:
            finish(False)
        elif self.slow:
            self.waiting.append(finish)
        else:
            finish(True)

    def finish(self, ok: bool = True) -> None:
        """What waits is done, or has failed."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each(ok)

    def die(self, why: str = "its process ended") -> None:
        """The device is lost: first what is under way fails, then it is told."""
        self.dead = True
        self.finish(False)
        self.lost(why)

    def start(self, queues: Sequence[Queue], windows: Sequence[Window]) -> None:
        self.calls.append("start")
        self.queues = len(queues)

        opened = {window.iova: self._inode(window) for window in windows}  # descriptors go along at once

        def reach(_: bool = True) -> None:
            self.windows, self.lasting = dict(opened), set(opened)

        if self.waiting:  # in order: after the drain
            self.waiting.append(reach)
        else:
            reach()

    def _inode(self, window: Window) -> int:
        assert os.fstat(window.fd).st_size == window.size
        return os.fstat(window.fd).st_ino

    def stop(self, deadline_s: float, done: Done) -> None:
        self.calls.append("stop")
        self._done(self._withdraw, done)

    def _withdraw(self) -> None:
        self.windows = {iova: each for iova, each in self.windows.items() if iova in self.lasting}

    def open_window(self, window: Window, deadline_s: float, done: Done) -> None:
        self.calls.append("open")
        if self.full:
            done(False)
        else:
            inode = self._inode(window)
            self._done(lambda: self.windows.__setitem__(window.iova, inode), done)

    def close_window(self, window: Window, deadline_s: float, done: Done) -> None:
        self.calls.append("close window")
        self._done(lambda: self.windows.__delitem__(window.iova), done)

    def close(self) -> None:
        self.calls.append("close")
        self.waiting.clear()  # nobody is told
        self.closed = True
        if not self.lingers:
            self.gone()

    def when_gone(self, then: Callable[[], None]) -> None:
        if self.closed and not self.lingers:
            then()
        else:
            self.ends.append(then)

    def gone(self) -> None:
        """Its process has really ended."""
        self.lingers = False
        ends, self.ends = self.ends, []
        for then in ends:
            then()


class FakeLauncher:
    """Makes fake tenders and devices."""

    def __init__(self) -> None:
        self.machine = Machine(1_000_000, 2, 1000)
        self.system: Hypervisor | None = None
        self.tenders: list[FakeTender] = []
        self.backends: list[FakeBackend] = []
        self.away = False  # the zygote is dead: spawns wait for its successor
        self.asked: list[FakeTender] = []
        self.no_device = ""  # why no device can be made
        self.closed = False

    def add(self, component: Component, fd: int, template: dict[str, Any]) -> None:
        """Nothing is kept of it."""

    def forget(self, component: Component) -> None:
        """Nothing was kept of it."""

    def heap(self, component: Component) -> tuple[int, int]:
        return 4 * abi.PAGE_SIZE, 8 * abi.PAGE_SIZE

    def spawn(self, instance: Instance) -> None:
        tender = FakeTender(instance, pid=PID_MAX + instance.number)
        self.tenders.append(tender)
        self.asked.append(tender)
        if not self.away:
            self.back()

    def back(self) -> None:
        """The zygote answers what it was asked."""
        self.away = False
        assert self.system is not None
        asked, self.asked = self.asked, []
        for tender in asked:
            self.system.loop.post(lambda tender=tender: self._spawned(tender))  # type: ignore[misc]

    def _spawned(self, tender: FakeTender) -> None:
        assert self.system is not None
        tender.spawned = True
        self.system.tender_spawned(tender.instance.number, tender.pid, os.dup(tender.exit))

    def make_backend(
        self, device: LiveDevice, lost: Callable[[str], None], misled: Callable[[int], None]
    ) -> FakeBackend:
        backend = FakeBackend(lost, misled)
        self.backends.append(backend)
        if self.no_device:
            lost(self.no_device)  # as a real one that is lost in the middle of its negotiation
            backend.close()
            raise OSError(self.no_device)
        return backend

    def attach(self, system: Hypervisor) -> None:
        self.system = system

    def close(self) -> None:
        self.closed = True


class FakeServer:
    """The server end of a channel, following its epochs: answers every request as `answer` says."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.epoch = 0
        self.head = self.replied = 0
        self.alive = True
        self.seen: list[abi.Slot] = []

    def poll(self) -> None:
        """Take in and answer what is there."""
        connection = self.connection
        if self.epoch != connection.epoch:
            self.epoch, self.head, self.replied = connection.epoch, 0, 0
        while self.alive and self.head != connection.rings.read_u32(abi.CHANNEL_REQUEST_TAIL):
            at = abi.CHANNEL_REQUESTS + self.head % connection.policy.slots * abi.Slot.SIZE
            slot = abi.Slot.unpack(connection.rings.map[at : at + abi.Slot.SIZE])
            self.head += 1
            self.store(abi.CHANNEL_REQUEST_HEAD, self.head)
            self.seen.append(slot)
            self.answer(slot)

    def store(self, offset: int, value: int) -> None:
        self.connection.rings.map[offset : offset + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    def answer(self, slot: abi.Slot) -> None:
        self.reply(slot)

    def reply(self, slot: abi.Slot, status: int = 0, args: bytes = bytes(40)) -> None:
        """Publish a reply and wake the client."""
        words = [int.from_bytes(args[at : at + 8], "little") for at in range(0, 40, 8)]
        reply = abi.Slot(**vars(slot) | {"status": status, "length": 0, "args": tuple(words)})
        at = self.connection.geometry.replies + self.replied % self.connection.policy.slots * abi.Slot.SIZE
        self.connection.rings.map[at : at + abi.Slot.SIZE] = reply.pack()
        self.replied += 1
        self.store(abi.CHANNEL_REPLY_TAIL, self.replied)
        self.connection.signal(abi.Role.CLIENT)


class FakeSupervisor(FakeServer):
    """A reincarnation server that gives the verdicts it is told to, and makes the promises."""

    def __init__(self, connection: Connection, foreseen: Collection[int] = ()) -> None:
        super().__init__(connection)
        self.foreseen = set(foreseen)  # components whose next death means a restart at once
        self.verdicts: dict[int, tuple[int, int]] = {}  # component index -> (action, delay_ms)
        self.faults: list[supervise.FaultArgs] = []
        self.undecided: dict[int, abi.Slot | None] = {}  # components whose verdict has to wait for `decide`
        self.status = 0

    def answer(self, slot: abi.Slot) -> None:
        args = b"".join(each.to_bytes(8, "little") for each in slot.args)
        returns = bytes(40)
        if slot.op == supervise.Operation.CONFIGURE:
            component = supervise.ConfigureArgs.unpack(args).component
            returns = supervise.ConfigureReturns(component in self.foreseen).pack()
        elif slot.op == supervise.Operation.FAULT:
            fault = supervise.FaultArgs.unpack(args)
            self.faults.append(fault)
            if fault.component in self.undecided:
                self.undecided[fault.component] = slot
                return
            verdict = self.verdicts.get(fault.component, (supervise.Action.RESTART, 0))
            returns = supervise.FaultReturns(*verdict, fault.component in self.foreseen).pack()
        self.reply(slot, self.status, returns)

    def decide(self, component: int, action: int = supervise.Action.RESTART) -> None:
        """Give the verdict that has been waited for."""
        slot = self.undecided.pop(component)
        assert slot
        self.reply(slot, 0, supervise.FaultReturns(action, 0).pack())


class World:
    """A booted system of fakes."""

    def __init__(
        self,
        policy: Policy,
        monkeypatch: pytest.MonkeyPatch,
        *,
        spares: bool = True,
        foreseen: Collection[int] = (),
    ) -> None:
        monkeypatch.setattr(signal, "pidfd_send_signal", self._signal)
        monkeypatch.setattr(process, "QUARANTINE_S", 0.002)
        monkeypatch.setattr(recovery, "BURIAL_S", 0.0005)
        monkeypatch.setattr(supervision, "ANSWER_DEADLINE_NS", 10_000_000_000)  # this machine may be busy
        monkeypatch.setattr(process, "SPARE_DELAY_S", 0.0005)
        self._memory: list[MemoryObject] = []  # every one that was ever made
        make = MemoryObject.__init__

        def making(made: MemoryObject, *arguments: Any, **options: Any) -> None:
            self._memory.append(made)
            make(made, *arguments, **options)

        monkeypatch.setattr(MemoryObject, "__init__", making)
        self.stdout, self._stdout = os.pipe()
        self.launcher = FakeLauncher()
        self.system = Hypervisor(
            policy, self.launcher, arguments={"app": b"app\0"}, stdout=self._stdout, stderr=self._stdout
        )
        self.ended: list[tuple[str, FaultRecord | None]] = []
        self.programs_started: list[str] = []
        self.system.on_program_ended = lambda live, record: self.ended.append((live.name, record))
        self.system.on_program_started = lambda live: self.programs_started.append(live.name)
        self.system.boot(spares=spares)
        self.system._restock()
        self.supervisor: FakeSupervisor | None = None
        if policy.supervisor:
            self.supervisor = FakeSupervisor(self.system.connections[0], foreseen)
        self.until(lambda: all(self.tender(name).started for name in self.system.components))
        for name in self.system.components:
            self.ready(name)

    def close(self) -> None:
        """End it, and give back every descriptor, which a hypervisor leaves to the end of its process."""
        system = self.system
        system.close()
        system.output.finish(0.1)
        fds = [self.stdout, self._stdout, system.loop._wake]
        for tender in self.launcher.tenders:
            tender.sock.close()
            fds += [tender.exit] if tender.exit >= 0 else []
        for instance in system._instances.values():
            instance.close()
        for connection in system.connections.values():
            fds += [connection.client_wake, connection.server_wake]
        for device in system.devices.values():
            fds += [fd for pair in device.eventfds for fd in pair]
        for each in self._memory:
            each.close()
        system.loop._epoll.close()
        for fd in fds:
            os.close(fd)

    def _signal(self, pidfd: int, number: int) -> None:
        for tender in self.launcher.tenders:
            if tender.instance.pidfd == pidfd and not tender.gone:
                if number == signal.SIGSTOP:
                    tender.frozen = True
                else:
                    assert number == signal.SIGKILL
                    tender.kill()

    # -- looking ---------------------------------------------------------------------------------------

    def live(self, name: str) -> LiveComponent:
        """A component."""
        return self.system.components[name]

    def tender(self, name: str) -> FakeTender:
        """The tender of a component's present instance."""
        instance = self.live(name).instance
        return next(each for each in reversed(self.launcher.tenders) if each.instance is instance)

    def spares(self, name: str) -> list[FakeTender]:
        """The tenders of a component's spares."""
        return [each for each in self.launcher.tenders if each.instance in self.live(name).spares]

    def state(self, name: str, channel: int) -> tuple[str, int]:
        """What a component's status page says about its end of a policy channel: (state, epoch)."""
        live = self.live(name)
        end = next(end for end, _ in live.connections if end.channel.index == channel)
        at = end.index * abi.STATUS_ENTRY_SIZE
        return abi.names(abi.ChannelState)[live.status.read_u32(at)], live.status.read_u32(at + 4)

    def address(self, name: str, channel: int) -> int:
        """Where a component has the rings of a policy channel."""
        return next(end.address for end, _ in self.live(name).connections if end.channel.index == channel)

    def record(self, name: str = "") -> FaultRecord:
        """The last death, or the last one of component `name`."""
        records = self.system.evidence.records
        return next(each for each in reversed(records) if name in ("", each.component))

    @property
    def backend(self) -> FakeBackend:
        """The present device."""
        return self.launcher.backends[-1]

    # -- doing -----------------------------------------------------------------------------------------

    def turn(self, seconds: float = 0.0) -> None:
        """One round: tenders, supervisor, the hypervisor's loop."""
        for tender in self.launcher.tenders:
            tender.pump()
        if self.supervisor and self.live("rs").running:
            self.supervisor.poll()
        loop = self.system.loop
        loop.call_later(seconds, lambda: setattr(loop, "running", False))
        loop.run()
        self.launcher.tenders = [each for each in self.launcher.tenders if not self._buried(each)]

    def _buried(self, tender: FakeTender) -> bool:
        """Forgotten by the hypervisor: give its last descriptor back."""
        buried = tender.gone and tender.instance.number not in self.system._instances
        if buried and tender.exit >= 0:
            os.close(tender.exit)
            tender.exit = -1
        return buried and tender.instance is not self.live(tender.name).instance

    def turns(self, count: int) -> None:
        """Several rounds."""
        for _ in range(count):
            self.turn()

    def until(self, condition: Callable[[], object]) -> None:
        """Rounds until `condition`; fails after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "what was waited for has not come true"
            self.turn(0.0002)

    def call(self, name: str, number: int, *args: int, body: bytes = b"") -> wire.Message:
        """A hypercall of a component's guest, and its answer."""
        tender = self.tender(name)
        answered = len(tender.results)
        tender.hypercall(number, *args, body=body)
        self.until(lambda: len(tender.results) > answered)
        return tender.results[-1]

    def status(self, name: str, number: int, *args: int, body: bytes = b"") -> int:
        """The same; its result as a signed number."""
        rax = self.call(name, number, *args, body=body).args[0]
        return rax - (1 << 64) if rax >> 63 else rax

    def ready(self, name: str) -> None:
        """A component's guest calls `ready`, which nobody answers."""
        tender = self.tender(name)
        tender.hypercall(abi.Hypercall.READY)
        self.until(lambda: tender.instance.ready_ns)

    def revive(self, *names: str) -> None:
        """Until the components have been restarted, then their `ready`."""
        for name in names:
            self.until(lambda name=name: self.live(name).running and self.tender(name).started)  # type: ignore[misc]
            self.ready(name)

    def kill(self, name: str) -> FakeTender:
        """The operator kills a component; its late tender."""
        tender = self.tender(name)
        assert self.live(name).running
        self.system.blame(self.live(name), abi.Fault.KILLED, "")
        return tender
