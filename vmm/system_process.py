"""The hypervisor process: boots the system of a compiled policy, and serves it until its program ends.

The command line holds the other end of its launch socket. One JSON line comes in (`vmm.cli.launch.Request`,
policy and images; with it come the listening control socket, the files of disk and sound, and the images'
memory), JSON lines go out: `started`, `died`, `exited`, `ended`; or `error`. The end of the stream, or a line
{"stop": true}, ends the system.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

from hypervisor import wire
from hypervisor.abi.generated import LogLevel
from hypervisor.component import LiveComponent
from hypervisor.control import ControlSocket, describe
from hypervisor.faults import FaultRecord
from hypervisor.placement import PlacementError
from hypervisor.policy import Policy, rebuild
from hypervisor.process import Hypervisor
from vmm.launch import LaunchError, ProcessLauncher, Template
from vmm.zygote import Zygote

INTERNAL = 125
QUIET_DEADLINE_S = 10.0
OUTPUT_DEADLINE_S = 2.0
FDS_MAX = 253  # of one message: SCM_MAX_FD of Linux
ERRORS_TOLD = 8  # the last ones of the log


class Link:
    """The launch socket: one request in, events out."""

    def __init__(self, fd: int) -> None:
        self.sock = socket.socket(fileno=fd)

    def request(self) -> tuple[dict[str, Any], list[int]]:
        """The launch line and the descriptors with it; EOFError when the command line has gone."""
        data, fds = b"", list[int]()
        while b"\n" not in data:
            more, received, _ = wire.receive_bytes(self.sock, 1 << 16, FDS_MAX)
            if not more:
                raise EOFError
            data, fds = data + more, fds + received
        return json.loads(data[: data.index(b"\n")]), fds

    def send(self, event: str, **fields: object) -> None:
        """Send one event; a command line that has gone is noticed when reading."""
        with contextlib.suppress(OSError):
            self.sock.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


class Run:
    """One system for one command line. `status` is the program's (the worst, of several)."""

    def __init__(self, link: Link, request: dict[str, Any], hypervisor: Hypervisor) -> None:
        self.link, self.request, self.hypervisor = link, request, hypervisor
        self.status = 0
        self._first_ns = self._last_ns = self._exits_at_first = 0
        self._left = int(request["programs"])
        hypervisor.on_program_started = self._program_started
        hypervisor.on_program_ended = self._program_ended
        hypervisor.loop.add_reader(link.sock.fileno(), self._on_link)

    def _program_started(self, component: LiveComponent) -> None:
        if self._first_ns:
            return
        assert component.instance is not None
        self._first_ns = component.instance.stats.read("first_instruction_ns") or time.monotonic_ns()
        self._exits_at_first = sum(live.counters()["exits"] for live in self.hypervisor.components.values())
        self.link.send("started", name=self.hypervisor.policy.name)

    def _program_ended(self, component: LiveComponent, record: FaultRecord | None) -> None:
        self._left -= 1
        self.status = max(self.status, component.exit_status or 0)
        if record:
            self.link.send("died", name=component.name, why=record.describe())
        if not self._left:
            self._last_ns = time.monotonic_ns()
            self.link.send("exited")
            self._finish_when_quiet(time.monotonic() + QUIET_DEADLINE_S)

    def _finish_when_quiet(self, deadline: float) -> None:
        vmm = self.hypervisor
        if self.request["report"] and vmm.recoveries and time.monotonic() < deadline:
            vmm.loop.call_later(0.002, lambda: self._finish_when_quiet(deadline))
        else:
            vmm.loop.running = False

    def _on_link(self) -> None:
        try:
            data = self.link.sock.recv(4096)
        except OSError:
            data = b""
        if not data or b"stop" in data:
            self.status = 128 + signal.SIGINT
            self.hypervisor.loop.running = False

    def report(self) -> dict[str, Any]:
        """What has been counted: `components` as `ps` shows them, when the program began and ended
        (CLOCK_MONOTONIC), the exits before it began, and the figures of recovery."""
        vmm = self.hypervisor
        for live in vmm.components.values():
            if live.running:
                vmm.figures.harvest(live, live.running)
        return {
            "components": [describe(live) for live in vmm.components.values()],
            "first_ns": self._first_ns,
            "last_ns": self._last_ns or time.monotonic_ns(),
            "exits_at_first": self._exits_at_first,
            "recovery_ms": list(vmm.figures.recovery_ms),
            "ready_us": list(vmm.figures.ready_us),
        }


def serve(link: Link, zygote: Zygote) -> int:
    """Run what the launch line asks for; its exit status."""
    request, (listener, *fds) = link.request()
    files, memory = fds[: request["files"]], fds[request["files"] :]
    policy: Policy = rebuild(Policy, request["policy"])
    templates = [Template(fd, **each) for fd, each in zip(memory, request["templates"], strict=True)]
    images = {name: templates[index] for name, index in request["images"].items()}
    launcher = ProcessLauncher(
        policy, zygote, images, request["disk"], files, request["pci"], request["machine"]
    )
    encoded = b"".join(os.fsencode(str(each)) + b"\0" for each in request["arguments"])
    programs = {component.name: encoded for component in policy.components if component.is_program}
    hypervisor = Hypervisor(policy, launcher, arguments=programs, stdout=1, stderr=2)
    run = Run(link, request, hypervisor)
    control = ControlSocket(hypervisor, socket.socket(fileno=listener))
    try:
        hypervisor.boot(spares=bool(request["spares"]))
        if 2 * len(os.listdir("/proc/self/fd")) > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            raise OSError(errno.EMFILE, "")  # spares and recoveries would want as many again
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection in the middle of a recovery would cost more than the recovery
        hypervisor.loop.run()
        report = run.report()
        hypervisor.output.finish(OUTPUT_DEADLINE_S)
    finally:
        hypervisor.close()
        control.close()
    log = hypervisor.log.since(0)
    errors = [f"{each.component}: {each.text}" for each in log if each.level == LogLevel.ERROR]
    link.send("ended", status=run.status, report=report, errors=errors[-ERRORS_TOLD:])
    return run.status


def _go_first() -> None:
    """Run before all components: a recovery is a chain of short steps, and each would wait a time slice.

    Only where the host permits it. Children are not preferred.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def main(zygote: Zygote) -> int:
    """The process's life; argument 1 is the descriptor of the launch socket."""
    link = Link(int(sys.argv[1]))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _go_first()
    try:
        return serve(link, zygote)
    except EOFError:
        pass
    except (LaunchError, PlacementError) as error:
        link.send("error", message=str(error), status=INTERNAL)
    except OSError as error:
        message = f"{error.strerror}: {error.filename or ''}".rstrip(": ")
        link.send("error", message=message, status=INTERNAL, number=error.errno)
    return INTERNAL
