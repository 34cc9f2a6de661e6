"""Launching: the zygote's client side, prepared images, and virtual devices for one hypervisor.

This is the `hypervisor.process.Launcher` of a real system. Images are parsed once, before anything starts;
a tender is then one message to the zygote. A zygote that dies is started again and asked again.

Exceptions: LaunchError (`status` 125, 126 or 127: the exit status of the command line).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from hypervisor import wire
from hypervisor.abi.generated import LOG_LEVEL_ERROR
from hypervisor.dma import Done, LiveDevice, Queue, Window
from hypervisor.instances import Instance
from hypervisor.loop import Loop, Timer
from hypervisor.policy import Component, Policy
from hypervisor.process import Hypervisor
from vmm import probe
from vmm.tender import loader, zygote
from vmm.vhost_user import Backend, VhostUserError

NEGOTIATE_S = 2.0
SLICE_NS, BRIEF_SLICE_NS = 400_000, 200_000  # a program's is the host's default, some milliseconds
VHOST_USER = "vhost-user:"


class LaunchError(Exception):
    """Something that is needed cannot be used. `status` is the command line's exit status."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message)
        self.status = status


class Zygote:
    """The warm process all others are forked from. The first is forked at once, later ones are exec'd."""

    def __init__(self, keep_out: Sequence[int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            for fd in keep_out:
                os.close(fd)
            zygote.main(theirs)
        theirs.close()
        self.sock = ours

    def restart(self) -> None:
        """Replace a zygote that has died: a new interpreter, for this process has opened too much by now."""
        self.sock.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "vmm.tender.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self.sock, self.pid = ours, process.pid


class Disk:
    """A virtual device's process as the hypervisor sees it: the back-end and the loop's callbacks for it."""

    def __init__(self, loop: Loop, backend: Backend, error_fd: int, misled: Callable[[], None]) -> None:
        self._loop, self._backend, self._error_fd = loop, backend, error_fd
        self.features, self.config = backend.features, backend.config
        self._pidfd = -1
        self._timer: Timer | None = None
        self._misled = misled
        self._closed = False
        loop.post(self._watch)

    def spawned(self, pidfd: int) -> None:
        """The device's process, so that one that does not answer can be killed."""
        self._pidfd = pidfd
        if self._closed:
            self._kill()

    def _watch(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._backend.fileno(), self._readable)
            self._loop.add_reader(self._error_fd, self._error)

    def _readable(self) -> None:
        fd = self._backend.fileno()
        self._backend.on_readable()
        if self._backend.lost:
            self._loop.remove_reader(fd)

    def _error(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._error_fd)
        self._misled()

    def _arm(self) -> None:
        """Look after the oldest open command's deadline."""
        deadline = self._backend.next_deadline()
        if deadline is not None and self._timer is None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        if not self._closed:
            self._backend.on_deadline()
            self._arm()

    def start(self, queues: Sequence[Queue], windows: Sequence[Window]) -> None:
        """See `hypervisor.dma.Backend`."""
        self._backend.start(queues, windows)
        self._arm()

    def stop(self, deadline_s: float, done: Done) -> None:
        """See `hypervisor.dma.Backend`."""
        self._backend.stop(deadline_s, done)
        self._arm()

    def open_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """See `hypervisor.dma.Backend`."""
        self._backend.open_window(window, deadline_s, done)
        self._arm()

    def close_window(self, window: Window, deadline_s: float, done: Done) -> None:
        """See `hypervisor.dma.Backend`."""
        self._backend.close_window(window, deadline_s, done)
        self._arm()

    def close(self) -> None:
        """End the device process."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._backend.fileno())
        self._loop.remove_reader(self._error_fd)
        self._backend.close()
        os.close(self._error_fd)
        self._kill()

    def _kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
            self._pidfd = -1


class ProcessLauncher:
    """Makes the processes of one system."""

    def __init__(self, policy: Policy, zygote_: Zygote, disk: str | None) -> None:
        self._zygote = zygote_
        self._supervisor = policy.trust.supervisor
        self._drivers = [device.component for device in policy.devices]
        self._disk = disk
        choices = probe.choose()
        self.tsc_khz, self.cpus, self.spin_ns = choices.tsc_khz, choices.cpus, choices.spin_ns
        self._templates = {component.name: _load(component) for component in policy.components}
        self._images = {component.name: component for component in policy.components}
        if policy.devices and disk is None:
            raise LaunchError(
                "no disk: this system drives one; build it with r3s3 image build, give it with --disk"
            )
        self._backing = _open_disk(disk, all(d.read_only for d in policy.devices)) if policy.devices else -1
        self._system: Hypervisor | None = None
        self._unanswered: dict[int, Instance] = {}
        self._devices: dict[int, Callable[[int], None]] = {}
        self._device_numbers = 1 << 31
        self._lock = threading.Lock()

    def heap(self, component: str) -> tuple[int, int]:
        """(address, bytes) of the heap that the component's image leaves free."""
        template = self._templates[component]
        return template.heap_base, template.heap_size

    def attach(self, system: Hypervisor) -> None:
        """Report to `system` from now on."""
        self._system = system
        system.loop.add_reader(self._zygote.sock.fileno(), self._on_zygote)

    # -- tenders --------------------------------------------------------------------------------------

    def spawn(self, instance: Instance) -> None:
        """Ask the zygote for a tender."""
        self._unanswered[instance.number] = instance
        self._ask(instance)

    def _ask(self, instance: Instance) -> None:
        component = self._images[instance.component.name]
        template = self._templates[component.name]
        body = json.dumps(
            {
                "name": component.name,
                "memory": component.memory,
                "memory_kind": component.memory_kind,
                "segments": [segment._asdict() for segment in template.segments],
                "entry": template.entry,
                "heap_base": template.heap_base,
                "heap_size": template.heap_size,
                "allow": sorted(component.hypercalls),
                "slice_ns": self._slice_ns(component),
            }
        ).encode()
        fds = [
            instance.tender_end.fileno(),
            instance.ram.fd,
            template.fd,
            instance.telemetry.fd,
            instance.stats.memory.fd,
        ]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), self._lock:
            wire.send(self._zygote.sock, wire.Kind.SPAWN_TENDER, instance.number, body=body, fds=fds)

    def _slice_ns(self, component: Component) -> int:
        """Who works more briefly is let in sooner: the supervisor and drivers, then servers, then programs."""
        brief = {self._supervisor, *self._drivers}
        return 0 if component.is_program else BRIEF_SLICE_NS if component.name in brief else SLICE_NS

    def _on_zygote(self) -> None:
        assert self._system is not None
        try:
            message = wire.receive(self._zygote.sock)
        except (wire.WireError, ConnectionResetError):
            message = None
        if message is None:
            self._restart_zygote(self._system)
        elif message.kind == wire.Kind.SPAWNED and not message.fds:
            self._system.log.add("zygote", 0, message.body.decode("utf-8", "replace"), LOG_LEVEL_ERROR)
        elif message.kind == wire.Kind.SPAWNED and message.sequence in self._unanswered:
            del self._unanswered[message.sequence]
            if message.fds:
                self._system.tender_spawned(message.sequence, message.args[0], message.fds[0])
            else:
                self._system.tender_failed(message.sequence, message.body.decode("utf-8", "replace"))
        elif message.kind == wire.Kind.SPAWNED and message.sequence in self._devices and message.fds:
            self._devices.pop(message.sequence)(message.fds[0])
        else:
            message.close()

    def _restart_zygote(self, system: Hypervisor) -> None:
        system.log.add("zygote", 0, "died; starting another")
        system.loop.remove_reader(self._zygote.sock.fileno())
        self._zygote.restart()
        system.loop.add_reader(self._zygote.sock.fileno(), self._on_zygote)
        for instance in list(self._unanswered.values()):
            self._ask(instance)

    # -- devices --------------------------------------------------------------------------------------

    def make_backend(
        self, device: LiveDevice, lost: Callable[[str], None], misled: Callable[[], None]
    ) -> Disk:
        """Start (or connect to) the device and negotiate; blocks NEGOTIATE_S at most, then LaunchError."""
        assert self._system is not None
        number = self._device_numbers = self._device_numbers + 1
        made: list[Disk] = []
        waiting: list[int] = []

        def spawned(pidfd: int) -> None:
            if made:
                made[0].spawned(pidfd)
            else:
                waiting.append(pidfd)

        self._devices[number] = spawned
        assert self._disk is not None
        foreign = self._disk.startswith(VHOST_USER)
        sock = self._connect() if foreign else self._spawn_device(device, number)
        error_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        backend = Backend(sock, time.monotonic, lambda error: lost(str(error)), error_fd, drains=not foreign)
        try:
            backend.negotiate(NEGOTIATE_S)
        except VhostUserError as error:
            backend.close()
            os.close(error_fd)
            raise LaunchError(f"disk {self._disk}: {error}") from error
        made.append(Disk(self._system.loop, backend, error_fd, misled))
        for pidfd in waiting:
            made[0].spawned(pidfd)
        return made[0]

    def _spawn_device(self, device: LiveDevice, number: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        config = {
            "kind": "disk",
            "name": device.policy.name,
            "read_only": device.policy.read_only,
            "queues": device.policy.queues,
        }
        with theirs, self._lock:
            fds = [theirs.fileno(), self._backing]
            body = json.dumps(config).encode()
            wire.send(self._zygote.sock, wire.Kind.SPAWN_DEVICE, number, body=body, fds=fds)
        return ours

    def _connect(self) -> socket.socket:
        assert self._disk is not None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._disk.removeprefix(VHOST_USER))
        except OSError as error:
            sock.close()
            raise LaunchError(f"disk {self._disk}: {error.strerror}; start the back-end first") from error
        return sock

    def close(self) -> None:
        """End the zygote; what it has started ends with the hypervisor's sockets."""
        self._zygote.sock.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._zygote.pid, signal.SIGKILL)
            os.waitpid(self._zygote.pid, 0)


def _load(component: Component) -> loader.Template:
    status = 126 if component.is_program else 125
    try:
        return loader.load(component.image, component.memory)
    except loader.LoadError as error:
        raise LaunchError(str(error), status) from error


def _open_disk(disk: str | None, read_only: bool) -> int:
    """The backing file, opened here because the jailed device cannot; -1 for an external back-end."""
    assert disk is not None
    if disk.startswith(VHOST_USER):
        return -1
    try:
        return os.open(disk, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchError(f"disk {disk}: {error.strerror}; build one with r3s3 image build") from error
