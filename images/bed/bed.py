"""A running bed: boots the machine, and runs commands in it as if they were run here.

A command gets the caller's folder and environment, its three streams byte by byte, and the signals that the
caller gets; its status comes out. It sees the host's files, but what it writes stays in the bed's memory,
except in folders that are `writable`. It runs as the bed's root, whoever the caller is. Its environment says
where it is:
    R3S3_BED        "QEMU 7.2.22, Linux 6.1.192"
    R3S3_DILATION   how many times slower than the host the bed is, measured at its start
Its clock is slower, too: by default a second in the bed takes SLOW seconds, so that what is in time on a host
is in time there, too. Time limits given to this module are the host's.
The protocol is described in `images.bed.agent`.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from images.bed import BedError, BedStalled, initramfs, kernel
from images.bed.agent import CHUNK, reference_work
from images.bed.carrier import Outside
from images.bed.machine import SLOW, Hardware, Machine, check_memory, find_qemu, words
from vmm.cli.command import say

MEMORY_MIB = 3072
BOOT_SECONDS = 120.0
TIMED_OUT = 124  # as timeout(1) has it
PATIENCE = 3  # signals after which the bed ends instead of the command
# The agent says every second that it lives. QEMU 7.2 with multi-threaded TCG now and then stands still for
# good, its CPU threads spinning for its lock.
STALLED_SECONDS = 20.0
DOUBT_SECONDS = 3.0  # of silence, in which no time limit is judged: it may be the machine that has hung
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REFERENCE_TIMES = 5
_PIPE_BYTES = 4096  # PIPE_BUF: as much fits into whatever poll says can be written


class _Interrupted(Exception):
    """A signal asks for the end before there is a command that could get it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class Bed:
    """A bed, from its boot to its end. A context manager; leaving it ends the machine.

    It must be made by a thread that stays: the machine ends with that thread, so that nothing is left however
    the process ends. Use it by one thread at a time.
    """

    def __init__(
        self,
        *,
        memory: int = MEMORY_MIB,
        vcpus: int = 1,
        slow: float = SLOW,
        writable: Sequence[str | Path] = (),
        devices: Sequence[str] = (),
        drives: Sequence[str] = (),
        iommu: bool = False,
        vfio: Sequence[tuple[int, int]] = (),
        boot_limit: float = BOOT_SECONDS,
        console: str | Path | None = None,
    ) -> None:
        """Boot it. `memory` MiB. `slow`: how many seconds one of its seconds takes. `writable`: folders in
        which the host's files are changed. `devices`, `drives`: QEMU's words after -device and -drive.
        `vfio`: (vendor, device) of PCI devices for vfio-pci; needs `iommu`. `boot_limit`: seconds. `console`:
        the file to keep its console's output in. BedError if there is no bed to be had."""
        if vfio and not iommu:
            raise ValueError("vfio needs an IOMMU")
        qemu, self.qemu_version = find_qemu()
        check_memory(memory)
        the_kernel = kernel.find()
        folders = [(f"folder{number}", _folder(path)) for number, path in enumerate(writable)]
        modules = the_kernel.iommu_modules if iommu else the_kernel.modules
        agent = str(Path(__file__).with_name("agent.py"))
        names = [f"{vendor:04x}:{device:04x}" for vendor, device in vfio]
        start = [sys.executable, "-I", "-S", "-B", agent, sys.executable, str(slow), *names]
        archive = initramfs.build(the_kernel, modules, initramfs.plan(modules, folders, start))
        here = reference_work(sys.executable, _REFERENCE_TIMES)
        hardware = Hardware(memory, vcpus, slow, iommu, tuple(devices), tuple(drives))
        begun = time.monotonic()
        self._rest = b""
        self._heard: float | None = None  # CLOCK_MONOTONIC of the last message
        self._sockets: Outside | None = None
        arguments = words(hardware, the_kernel.image, folders)
        try:
            with _signals(_end_early):
                self._machine = Machine(qemu, arguments, archive, Path(console) if console else None)
                try:
                    booted = self._boot(boot_limit)
                except BaseException:
                    self.close()
                    raise
        except _Interrupted as interrupted:
            raise BedError("interrupted while the test bed booted", interrupted.status) from None
        self.kernel_version: str = booted["booted"]
        self.boot_seconds = time.monotonic() - begun
        self.slow = slow
        self.dilation = slow * max(booted["spawn"] / here[0], booted["loop"] / here[1])
        for port in self._machine.ports.values():
            port.setblocking(False)

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the machine, and whatever runs in it."""
        if self._sockets:
            self._sockets.end()
            self._sockets = None
        self._machine.close()

    def connect(self, listener: socket.socket, path: str) -> None:
        """From now on whoever connects to `listener` is connected to the socket at `path` in the bed, as soon
        as there is one. At most one listener; it remains the caller's."""
        assert not self._sockets
        self._sockets = Outside(self._machine.ports["sockets"].fileno(), listener, path, say)

    @property
    def pid(self) -> int:
        """Of QEMU."""
        return self._machine.process.pid

    @property
    def name(self) -> str:
        """What results are to be labelled with."""
        return f"QEMU {self.qemu_version}, Linux {self.kernel_version}"

    def _boot(self, limit: float) -> dict[str, Any]:
        control = self._machine.ports["control"]
        deadline = time.monotonic() + limit
        while True:
            until = deadline if self._heard is None else min(deadline, self._heard + STALLED_SECONDS)
            control.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = control.recv(CHUNK)
            except TimeoutError:
                self._check_life()
                if time.monotonic() < deadline:
                    continue
                raise self._failure(
                    f"the test bed has not booted within {limit:g} s; give it more time or memory"
                ) from None
            for message in self._messages(data):
                if "booted" in message:
                    return message

    def _messages(self, data: bytes) -> list[dict[str, Any]]:
        """The whole lines among what has been received."""
        if not data:
            raise self._failure("the test bed has ended by itself; look at its console for why")
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _silence(self) -> float:
        """Seconds since the machine has last said something; none before it can."""
        return 0.0 if self._heard is None else time.monotonic() - self._heard

    def _check_life(self) -> None:
        """BedStalled, and the machine's end, if it has been silent for too long."""
        if self._silence() >= STALLED_SECONDS:
            self._machine.process.kill()
            message = f"the test bed stands still (no sign of life for {STALLED_SECONDS:g} s); run it again"
            raise BedStalled(message, console=self._machine.last_lines())

    def _failure(self, message: str) -> BedError:
        with suppress(subprocess.TimeoutExpired):
            self._machine.process.wait(0.5)  # it may be about to say why it ends
        return BedError(message, console=self._machine.last_lines())

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = 0,
        stdout: int = 1,
        stderr: int = 2,
        time_limit: float | None = None,
    ) -> int:
        """Run a command and return its status as a shell has it (128+n: signal n).

        `cwd`, `env`: by default this process's own. `stdin` (None: empty), `stdout`, `stderr`: open files.
        SIGINT, SIGTERM and SIGHUP go to the command, if this is the main thread; the third ends the bed.
        `time_limit`: seconds of the host, after which the bed is ended: BedError with status TIMED_OUT.
        """
        environment = dict(os.environ if env is None else env)
        environment |= {"R3S3_BED": self.name, "R3S3_DILATION": f"{self.dilation:.2f}"}
        request = {
            "run": list(argv),
            "cwd": os.path.abspath(cwd or "."),
            "environment": environment,
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        return _Command(self, request, stdin, {"stdout": stdout, "stderr": stderr}, time_limit).wait()


class _Command:
    """A command that runs in a bed, seen from here: bytes are carried both ways until it has ended."""

    def __init__(
        self,
        bed: Bed,
        request: dict[str, Any],
        stdin: int | None,
        outputs: dict[str, int],
        time_limit: float | None,
    ) -> None:
        self._bed, self._ports = bed, bed._machine.ports
        self._stdin, self._stdin_bytes, self._stdin_ended = stdin, 0, False
        self._outputs = outputs
        bed._heard = time.monotonic()  # nobody has listened since the last command
        self._waiting: dict[str, bytes] = {"stdin": b"", **dict.fromkeys(outputs, b"")}
        self._came = dict.fromkeys(outputs, 0)
        self._unread: set[str] = set()
        self._exited: dict[str, Any] | None = None
        self._started = self._ready = False
        self._signalled: list[int] = []
        self._limit = time_limit
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._to_tell = b""
        self._tell(**request)
        if stdin is None:
            self._end_stdin()

    def wait(self) -> int:
        """Carry on until it has ended; its status."""
        try:
            with _signals(self._signal):
                while not (self._ready and self._all_came()):
                    self._step()
        finally:
            os.close(self._wake)
        assert self._exited is not None
        return int(self._exited["exited"])

    def _all_came(self) -> bool:
        return self._exited is not None and all(
            self._came[name] == self._exited[name] and not self._waiting[name] for name in self._outputs
        )

    def _signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled.append(number)
        os.eventfd_write(self._wake, 1)

    def _tell(self, **message: object) -> None:
        self._to_tell += json.dumps(message).encode() + b"\n"

    def _step(self) -> None:
        """Wait until something can be done, and do it."""
        control, stdin = self._ports["control"].fileno(), self._ports["stdin"].fileno()
        actions = [(self._wake, select.POLLIN, self._forward), (control, select.POLLIN, self._listen)]
        if self._to_tell:
            actions.append((control, select.POLLOUT, self._speak))
        if self._waiting["stdin"]:
            actions.append((stdin, select.POLLOUT, self._pass_input_on))
        elif self._started and not self._stdin_ended and self._stdin is not None:
            actions.append((self._stdin, select.POLLIN, self._read_input))
        for name, fd in self._outputs.items():
            if self._waiting[name]:
                actions.append((fd, select.POLLOUT, partial(self._write_output, name)))
            else:
                actions.append((self._ports[name].fileno(), select.POLLIN, partial(self._receive, name)))
        poll, masks = select.poll(), dict[int, int]()
        for fd, event, _ in actions:
            masks[fd] = masks.get(fd, 0) | event
        for fd, mask in masks.items():
            poll.register(fd, mask)
        failed = select.POLLHUP | select.POLLERR | select.POLLNVAL
        ready = dict(poll.poll(self._patience()))
        if control not in ready:
            self._bed._check_life()
        for fd, event, act in actions:
            if ready.get(fd, 0) & (event | failed):
                act()

    def _patience(self) -> int:
        """Milliseconds until there is something to be judged; BedError when the time limit is over."""
        silence = self._bed._silence()
        left = STALLED_SECONDS - silence
        if self._deadline is not None and not self._exited and silence < DOUBT_SECONDS:
            limit = self._deadline - time.monotonic()
            if limit <= 0:
                self._give_up()
            left = min(left, limit)
        return int(max(0.0, left) * 1000) + 1

    def _give_up(self) -> NoReturn:
        console = self._bed._machine.last_lines()
        self._bed._machine.process.kill()
        message = f"not ended within {self._limit:g} s in the test bed, which was ended instead"
        raise BedError(message, TIMED_OUT, console)

    def _forward(self) -> None:
        os.eventfd_read(self._wake)
        if len(self._signalled) >= PATIENCE:
            self._bed._machine.process.kill()
            raise BedError("the command did not end, so the test bed was ended", 128 + self._signalled[-1])
        self._tell(signal=self._signalled[-1])

    def _listen(self) -> None:
        for message in self._bed._messages(_received(self._ports["control"])):
            if "error" in message:
                raise BedError(message["error"])
            if "exited" in message:
                self._exited = message
                if not self._stdin_ended:
                    self._waiting["stdin"] = b""
                    self._end_stdin()
            self._started |= "started" in message
            self._ready |= "ready" in message

    def _speak(self) -> None:
        self._to_tell = self._to_tell[self._ports["control"].send(self._to_tell) :]

    def _end_stdin(self) -> None:
        self._stdin_ended = True
        self._tell(stdin_end=self._stdin_bytes)

    def _read_input(self) -> None:
        assert self._stdin is not None
        if self._stdin_ended:  # just now, with the command
            return
        try:
            data = os.read(self._stdin, CHUNK)
        except OSError:  # closed, or a terminal that is no longer ours
            data = b""
        if data:
            self._waiting["stdin"] = data
        else:
            self._end_stdin()

    def _pass_input_on(self) -> None:
        if waiting := self._waiting["stdin"]:
            sent = self._ports["stdin"].send(waiting)
            self._stdin_bytes += sent
            self._waiting["stdin"] = waiting[sent:]

    def _receive(self, name: str) -> None:
        data = _received(self._ports[name])
        if not data:
            self._bed._messages(b"")
        self._came[name] += len(data)
        if name not in self._unread:
            self._waiting[name] = data

    def _write_output(self, name: str) -> None:
        """Write as much as cannot block; where nobody reads any more the command will notice."""
        try:
            written = os.write(self._outputs[name], self._waiting[name][:_PIPE_BYTES])
        except BlockingIOError:  # somebody else's file that does not block: poll said it can be written
            return
        except OSError:
            self._unread.add(name)
            self._waiting[name] = b""
            self._tell(unread=name)
            return
        self._waiting[name] = self._waiting[name][written:]


def run(argv: Sequence[str], *, time_limit: float | None = None, **options: Any) -> int:
    """Boot a bed (`options` of Bed) and run one command in it, with this process's folder, environment and
    streams; its status."""
    with Bed(**options) as bed:
        return bed.run(argv, time_limit=time_limit)


def _received(port: socket.socket) -> bytes:
    try:
        return port.recv(CHUNK)
    except ConnectionError:
        return b""


def _folder(path: str | Path) -> str:
    if not Path(path).is_dir():
        raise BedError(f"{path}: no such folder, which was to be writable in the test bed; create it first")
    return os.path.realpath(path)


def _end_early(number: int, frame: FrameType | None) -> None:
    raise _Interrupted(number)


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals that ask for an end go to `handler` meanwhile, where that can be: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
