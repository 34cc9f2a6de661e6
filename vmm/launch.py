"""Launching: the zygote's client side, prepared images, and virtual devices for one hypervisor.

This is the `hypervisor.process.Launcher` of a real system. Images have been parsed before anything starts;
a tender is then one message to the zygote. A zygote that dies is started again and asked again, later and
later if it dies at once each time; at last that ends the system.

Exceptions: LaunchError (the exit status of the command line is 125).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypervisor import wire
from hypervisor.abi.generated import LogLevel
from hypervisor.dma import LiveDevice
from hypervisor.instances import Instance
from hypervisor.loop import Loop
from hypervisor.placement import Machine
from hypervisor.policy import Component, Device, Policy
from hypervisor.process import Hypervisor
from vmm.devices.pci import set_command
from vmm.vhost_user import Backend, VhostUserError
from vmm.zygote import Zygote

NEGOTIATE_S = 2.0
HASTY_S = 1.0  # a zygote that has lived no longer, and made nothing, has died at once
ZYGOTE_DELAYS_S = (0.0, 0.01, 0.1, 0.5, 1.0)  # before the next, after so many such deaths in a row
TICK_S = 0.05  # how late the end of a deadline of a device may be noticed
SLICE_NS, BRIEF_SLICE_NS = 400_000, 200_000  # a program's is the host's default, some milliseconds
VHOST_USER, SOUND = "vhost-user:", "virtio-snd"

Lost = Callable[[str], None]  # why a back-end is of no more use: it is to be closed
Misled = Callable[[int], None]  # the device finds its driver at fault; see Hypervisor._device_misled


class LaunchError(Exception):
    """Something that is needed cannot be used."""


class Template(NamedTuple):
    """An image ready to be copied into VMs (vmm.loader). `fd`: a memfd nobody can change any more."""

    fd: int
    segments: list[dict[str, int]]  # which the zygote checks
    entry: int
    heap_base: int
    heap_size: int


class Disk(Backend):
    """A device's process: a back-end that the loop serves, and that is killed when it is closed.

    `pci` is the real device it keeps, and `bars` where these are in it; it is silenced when the process has
    ended.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, lost: Lost, misled: Misled, foreign: bool,
        pci: int = -1, bars: dict[str, int] | None = None,
    ) -> None:  # fmt: skip
        self._loop, self._misled = loop, misled
        self._blame = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pidfd = -1
        self._ended = False
        self._when_gone: list[Callable[[], None]] = [lambda: set_command(pci, 0)] if bars is not None else []
        self.registers = {int(bar): (pci, offset) for bar, offset in (bars or {}).items()}
        later = loop.call_later if foreign else None
        super().__init__(sock, time.monotonic, lambda error: lost(str(error)), self._blame, later)

    def spawned(self, pidfd: int) -> None:
        """The device's process, so that one that does not answer can be killed."""
        self._pidfd = pidfd
        if self._ended:
            self._kill()

    def watch(self) -> None:
        """Be served by the loop from now on."""
        if not self._ended:
            self._loop.add_reader(self.fileno(), self.on_readable)
            self._loop.add_reader(self._blame, self._blamed)
            self._tick()

    def _blamed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._misled(os.eventfd_read(self._blame))

    def _tick(self) -> None:
        if not self.lost:
            self.on_deadline()
            self._loop.call_later(TICK_S, self._tick)

    def close(self) -> None:
        """End the device process, or the connection to it."""
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self.fileno())
        self._loop.remove_reader(self._blame)
        super().close()
        os.close(self._blame)
        self._kill()

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` when the process has ended; at once for a foreign one, whose end nobody here sees."""
        if self._pidfd < 0:
            then()
        else:
            self._when_gone.append(then)

    def _kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._loop.add_reader(self._pidfd, self._gone)

    def _gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        for then in self._when_gone:
            then()


class ProcessLauncher:
    """Makes the processes of one system. `machine` is what the command line has found out about this host,
    `files` what it has opened for the devices (vmm.cli.compile.open_files)."""

    def __init__(
        self, policy: Policy, zygote: Zygote, templates: dict[str, Template], disk: str | None,
        files: Sequence[int], pci: dict[str, Any] | None, machine: dict[str, int],
    ) -> None:  # fmt: skip
        self._zygote = zygote
        self._zygote_started, self._zygote_hasty, self._zygote_said = time.monotonic(), 0, "no reason given"
        self._supervisor = policy.supervisor
        self._drivers = [device.component for device in policy.devices]
        self._disk = disk or ""
        self.machine = Machine(*(int(machine[name]) for name in Machine._fields))
        # By identity, for two versions may be equal.
        self._templates = {id(each): templates[each.name] for each in policy.components}
        self._pci, (self._backing, self._recording, *self._with_pci) = pci, files
        self._system: Hypervisor | None = None
        self._unanswered: dict[int, Instance] = {}
        self._devices: dict[int, Disk] = {}  # whose process is not there yet
        self._device_numbers = itertools.count(1 << 31)

    def add(self, component: Component, fd: int, template: dict[str, Any]) -> None:
        """A version to come, and its image; TypeError if that makes no sense. The zygote looks closer."""
        self._templates[id(component)] = Template(fd, **template)

    def forget(self, component: Component) -> None:
        """No more instances of this version will be wanted."""
        template = self._templates.pop(id(component))
        if template not in self._templates.values():
            os.close(template.fd)

    def heap(self, component: Component) -> tuple[int, int]:
        """(address, bytes) of the heap that the component's image leaves free."""
        template = self._templates[id(component)]
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
        component = instance.component
        template = self._templates[id(component)]
        plan = {
            "name": component.name,
            "memory": component.memory,
            "memory_kind": component.memory_kind,
            "segments": template.segments,
            "entry": template.entry,
            "heap_base": template.heap_base,
            "heap_size": template.heap_size,
            "allow": sorted(component.hypercalls),
            "slice_ns": self._slice_ns(component),
        }
        memory = [instance.ram.fd, template.fd, instance.telemetry.fd, instance.stats.memory.fd]
        self._send(wire.Kind.SPAWN_TENDER, instance.number, plan, [instance.tender_end.fileno(), *memory])

    def _send(self, kind: int, number: int, body: dict[str, object], fds: list[int]) -> None:
        with contextlib.suppress(ConnectionError):  # it has died: the next one will be asked
            wire.send(self._zygote.sock, kind, number, body=json.dumps(body).encode(), fds=fds)

    def _slice_ns(self, component: Component) -> int:
        """Who works more briefly is let in sooner: supervisor and drivers, then servers, programs last."""
        brief = {self._supervisor, *self._drivers}
        return 0 if component.is_program else BRIEF_SLICE_NS if component.name in brief else SLICE_NS

    def _on_zygote(self) -> None:
        assert self._system is not None
        try:
            message = wire.receive(self._zygote.sock)
        except (wire.WireError, ConnectionResetError):
            message = None
        if message is None:
            self._zygote_died(self._system)
        elif message.kind == wire.Kind.SPAWNED:
            self._spawned(self._system, message)
        else:
            message.close()

    def _spawned(self, system: Hypervisor, message: wire.Message) -> None:
        number, why = message.sequence, message.body.decode("utf-8", "replace")
        if not message.fds:
            self._zygote_said = why
            system.log.add("zygote", 0, why, LogLevel.ERROR)
        else:
            self._zygote_started = -math.inf  # it works
        tender, disk = self._unanswered.pop(number, None), self._devices.pop(number, None)
        if tender and message.fds:
            system.tender_spawned(number, message.args[0], message.fds[0])
        elif tender:
            system.tender_failed(number, why)
        elif disk and message.fds:
            disk.spawned(message.fds[0])
        else:
            message.close()

    def _zygote_died(self, system: Hypervisor) -> None:
        """Start another, soon; LaunchError where that is of no use."""
        system.log.add("zygote", 0, "died; starting another", LogLevel.WARNING)
        system.loop.remove_reader(self._zygote.sock.fileno())
        hasty = time.monotonic() - self._zygote_started < HASTY_S
        self._zygote_hasty = self._zygote_hasty + 1 if hasty else 0
        if self._zygote_hasty == len(ZYGOTE_DELAYS_S):
            why = f"the process that starts all others dies at once ({self._zygote_said})"
            raise LaunchError(f"{why}; run r3s3 doctor")
        system.loop.call_later(ZYGOTE_DELAYS_S[self._zygote_hasty], lambda: self._restart_zygote(system))

    def _restart_zygote(self, system: Hypervisor) -> None:
        self._zygote.restart()
        self._zygote_started = time.monotonic()
        system.loop.add_reader(self._zygote.sock.fileno(), self._on_zygote)
        for instance in [each for each in self._unanswered.values() if id(each.component) in self._templates]:
            self._ask(instance)

    # -- devices --------------------------------------------------------------------------------------

    def make_backend(self, device: LiveDevice, lost: Lost, misled: Misled) -> Disk:
        """Start (or connect to) the device and negotiate; blocks NEGOTIATE_S at most, then LaunchError."""
        assert self._system
        name, pci = (f"disk {self._disk}", self._pci) if device.policy.kind != SOUND else ("sound", None)
        if name.startswith(f"disk {VHOST_USER}"):
            disk = Disk(self._system.loop, _connect(self._disk), lost, misled, foreign=True)
        else:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            bars = pci["registers"] if pci else None
            disk = Disk(self._system.loop, ours, lost, misled, False, self._backing, bars)
            with theirs:
                if pci:
                    socket.send_fds(ours, [b" "], self._with_pci[1:])  # but the group, which is only held
                self._spawn_device(disk, device.policy, theirs)
        try:
            disk.negotiate(NEGOTIATE_S)
            served = [c for c in self._system.policy.channels if c.server == device.policy.component]
            windows = 1 + sum(c.grants.count for c in served if c.grants and c.dma == "per_request")
            if disk.memory_slots < windows:
                what = f"it has {disk.memory_slots} memory slots, strict DMA mode needs {windows}"
                raise VhostUserError(f"{what}; lower objects in [grants] of the file server's manifest")
        except VhostUserError as error:
            disk.close()
            raise LaunchError(f"{name}: {error}") from error
        self._system.loop.post(disk.watch)
        return disk

    def _spawn_device(self, disk: Disk, device: Device, theirs: socket.socket) -> None:
        number = next(self._device_numbers)
        self._devices[number] = disk
        config: dict[str, object] = {"kind": device.kind, "name": device.name}
        config |= {"address": self._pci["address"]} if self._pci else {}
        config |= {"read_only": device.read_only, "queues": device.queues}
        backing = self._recording if device.kind == SOUND else self._backing
        self._send(wire.Kind.SPAWN_DEVICE, number, config, [theirs.fileno(), backing])

    def close(self) -> None:
        """End the zygote."""
        self._zygote.close()


def _connect(disk: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(disk.removeprefix(VHOST_USER))
    except OSError as error:
        sock.close()
        raise LaunchError(f"disk {disk}: {error.strerror}; start the back-end first") from error
    return sock
