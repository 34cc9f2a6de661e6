"""A hypervisor of a few lines for tests of the tender: one zygote, tenders with guests assembled here."""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.faults import FaultRecord
from vmm import loader
from vmm.cli.faults import meaning
from vmm.tender import zygote

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "tests" / "tender"
MEMORY = 8 << 20
EVERY_CALL = tuple(abi.names(abi.Hypercall))
STATS = (
    "exits calls waits doorbells signals faults wakes first_ns thread timeouts state state_ns".split()  # noqa: SIM905
)

PRELUDE = f"""
.set CALL, {abi.HYPERCALL_PAGE:#x}
.set BELL, {abi.DOORBELL_PAGE:#x}
.set RW, {abi.RW_WINDOW:#x}
.set RO, {abi.RO_WINDOW:#x}
.set INFO, {abi.INFO:#x}
.macro hypercall number
    mov $\\number, %eax
    mov %eax, CALL
.endm
.text
.globl _start
_start:
"""


@cache
def assemble(source: str, *flags: str) -> bytes:
    """An ELF image of AT&T assembly; `_start` is at its beginning, r/o and r/w data may follow. Kept from
    one run to the next."""
    WORK.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(repr((PRELUDE, source, flags)).encode()).hexdigest()[:32]
    made = WORK / f"{digest}.elf"
    if made.exists():
        return made.read_bytes()
    base = WORK / f"{digest}-{os.getpid()}"
    base.with_suffix(".S").write_text(PRELUDE + source + "\n")
    command = ["gcc", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"]
    command += ["-Wl,-z,noexecstack", "-Wl,-Ttext-segment=0x200000", *flags]
    try:
        subprocess.run([*command, "-o", str(base), str(base) + ".S"], check=True, capture_output=True)
        base.replace(made)
        return made.read_bytes()
    finally:
        base.unlink(missing_ok=True)
        base.with_suffix(".S").unlink(missing_ok=True)


# Descriptors a test has made here and not closed: `close_all` at its end.
_open: list[int] = []


def _opened(fd: int) -> int:
    _open.append(fd)
    return fd


def _close(fd: int) -> None:
    _open.remove(fd)
    os.close(fd)


def close_all() -> None:
    """Close every `memory_object`, `read_only` and `event` that is still open."""
    while _open:
        _close(_open[-1])


def event(flags: int = 0) -> int:
    """An eventfd."""
    return _opened(os.eventfd(0, flags))


def memory_object(size: int, *, sealed: bool = True) -> int:
    """A memfd, sealed as the hypervisor's are."""
    fd = _opened(os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(fd, size)
    if sealed:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def read_only(fd: int) -> int:
    """The same memory, never to be mapped writable."""
    return _opened(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))


# The body of a FAULT: struct kvm_regs, CS and SS.
REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip", "rflags", "cs", "ss",
)  # fmt: skip


class Fault:
    """A FAULT record, decoded."""

    def __init__(self, message: wire.Message) -> None:
        self.kind, self.vector, self.error_code, self.address, self.rip, self.rsp = message.args
        record = FaultRecord.reported("guest", 1, message.args, message.body)
        self.registers = dict(zip(REGISTERS, struct.unpack("<20Q", record.registers), strict=True))
        self.message = record.message or meaning(*message.args[:4])

    def __repr__(self) -> str:
        words = f"{self.vector} {self.error_code:#x} {self.address:#x}"
        return f"{abi.names(abi.Fault)[self.kind]} {words} {self.message!r}"


class Guest:
    """One tender as the hypervisor sees it."""

    def __init__(self, system: System, image: bytes, **options: Any) -> None:
        self.memory = options.get("memory", MEMORY)
        template = loader.prepare("guest", image, self.memory)
        self.template = template
        self.ram_fd = memory_object(self.memory, sealed=options.get("sealed", True))
        stats = memory_object(abi.PAGE_SIZE)
        telemetry = memory_object(abi.PAGE_SIZE)
        self.ram = mmap.mmap(self.ram_fd, self.memory)
        self._stats = mmap.mmap(stats, abi.PAGE_SIZE)
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        body = {
            "name": "guest",
            "memory": self.memory,
            "memory_kind": options.get("kind", "shared"),
            "segments": [each._asdict() for each in template.segments],
            "entry": template.entry,
            "heap_base": template.heap_base,
            "heap_size": template.heap_size,
            "allow": list(options.get("allow", EVERY_CALL)),
            "limits": {},
        }
        body |= options.get("body", {})
        fds = [theirs.fileno(), self.ram_fd, template.fd, telemetry, stats]
        try:
            self.pid, self.pidfd = system.spawn(wire.Kind.SPAWN_TENDER, body, fds)
        finally:
            os.close(template.fd)
            theirs.close()
        for fd in (telemetry, stats):
            _close(fd)
        self._sequence = 0
        self._backlog: list[wire.Message] = []

    def stat(self, name: str) -> int:
        """A word of the statistics page."""
        value: int = struct.unpack_from("<Q", self._stats, 8 * STATS.index(name))[0]
        return value

    def word(self, address: int) -> int:
        """A u64 of the guest's RAM."""
        value: int = struct.unpack_from("<Q", self.ram, address)[0]
        return value

    def send_apply(self, steps: Sequence[tuple[int, ...]], fds: Sequence[int] = (), info: bytes = b"") -> int:
        """Send APPLY; a step is (operation, descriptor index, a, b, c)."""
        self._sequence += 1
        body = b"".join(wire.OPERATION.pack(*step) for step in steps) + info
        wire.send(self.sock, wire.Kind.APPLY, self._sequence, (len(steps),), body, fds)
        return self._sequence

    def apply(self, *steps: tuple[int, ...], fds: Sequence[int] = (), info: bytes = b"") -> None:
        """APPLY and its answer."""
        sequence = self.send_apply(steps, fds, info)
        while (message := self._next()).kind != wire.Kind.ACK:
            self._backlog.append(message)  # the guest was faster
        assert message.sequence == sequence

    def ready(self) -> Guest:
        """Wait until the VM has been built."""
        self.apply()
        return self

    def run(self) -> None:
        """Let it run."""
        self.apply((wire.Operation.RUN, 0, 0, 0, 0))

    def _next(self) -> wire.Message:
        message = wire.receive(self.sock)
        assert message is not None, "the tender has gone"
        return message

    def receive(self, kind: int) -> wire.Message:
        """The next record, which must be of `kind`."""
        message = self._backlog.pop(0) if self._backlog else self._next()
        assert message.kind == kind, (message.kind, message.args, message.body)
        return message

    def fault(self) -> Fault:
        """The next record, a FAULT."""
        return Fault(self.receive(wire.Kind.FAULT))

    def hypercall(self) -> wire.Message:
        """The next record, a HYPERCALL."""
        return self.receive(wire.Kind.HYPERCALL)

    def result(self, rax: int = 0, rdx: int = 0, steps: Sequence[tuple[int, ...]] = (), **more: Any) -> None:
        """Answer a hypercall."""
        body = b"".join(wire.OPERATION.pack(*step) for step in steps) + more.get("tail", b"")
        args = (rax & (1 << 64) - 1, rdx, len(steps))
        wire.send(self.sock, wire.Kind.RESULT, 0, args, body, more.get("fds", ()))

    def freeze(self) -> None:
        """SIGSTOP; returns when every thread has stopped."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")
        while not all("State:\tT" in (task / "status").read_text() for task in tasks.iterdir()):
            time.sleep(0.001)

    def ended(self, timeout: float = 5) -> bool:
        """Whether the process has ended, now or within the time (s)."""
        poll = select.poll()  # select() would refuse descriptors above 1023
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close(self) -> None:
        """End it."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        assert self.ended()
        self.sock.close()
        os.close(self.pidfd)
        _close(self.ram_fd)


class System:
    """A zygote and what it forked."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            zygote.main(theirs)
        theirs.close()
        self.guests: list[Guest] = []
        self._sequence = 0

    def spawn(self, kind: int, body: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
        """Spawn something; (pid, pidfd)."""
        self._sequence += 1
        wire.send(self.sock, kind, self._sequence, body=json.dumps(body).encode(), fds=fds)
        message = self.receive(wire.Kind.SPAWNED)
        assert message.sequence == self._sequence
        if not message.args[0]:
            raise RuntimeError(message.body.decode())
        return message.args[0], message.fds[0]

    def receive(self, kind: int) -> wire.Message:
        """The next record of `kind`."""
        while True:
            message = wire.receive(self.sock)
            assert message is not None, "the zygote has gone"
            if message.kind == kind:
                return message

    def guest(self, source: str, **options: Any) -> Guest:
        """A tender for an assembled guest, not yet running."""
        guest = Guest(self, assemble(source), **options)
        self.guests.append(guest)
        return guest

    @staticmethod
    def exit_status(pid: int) -> int:
        """The wait status of a child of the zygote that has ended: nobody reaps it before the next spawn."""
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(" ", 1)[1])

    def close(self) -> None:
        """End everything."""
        for guest in self.guests:
            guest.close()
        self.sock.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("the zygote did not end with its socket")
