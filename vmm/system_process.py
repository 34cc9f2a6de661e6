"""The hypervisor process: compiles the policy, boots the system, and serves it until its program ends.

`python -m vmm.system_process --launch-fd N` is started by the command line with one end of a socketpair. One
JSON line comes in (`vmm.cli.launch.Request`), JSON lines go out: `started`, `error`, `ended`. The end of the
stream, or a line {"stop": true}, ends the system.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypervisor.component import LiveComponent
from hypervisor.control import ControlSocket, runtime_directory
from hypervisor.faults import FaultRecord
from hypervisor.placement import PlacementError
from hypervisor.process import Hypervisor
from vmm import system
from vmm.document import ConfigurationError
from vmm.killer import Killer
from vmm.launch import LaunchError, ProcessLauncher, Zygote
from vmm.probe import ProbeError

INTERNAL = 125
QUIET_DEADLINE_S = 10.0
OUTPUT_DEADLINE_S = 2.0
IO_BYTES = 128 * 1024
SYSTEMS_MAX = 64  # of one name


class Link:
    """The launch socket: one request in, events out."""

    def __init__(self, fd: int) -> None:
        self.sock = socket.socket(fileno=fd)
        self._rest = b""

    def request(self) -> dict[str, Any]:
        """The launch line; EOFError when the command line has gone."""
        while b"\n" not in self._rest:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        request: dict[str, Any] = json.loads(line)
        return request

    def send(self, event: str, **fields: object) -> None:
        """Send one event; a command line that has gone is noticed when reading."""
        with contextlib.suppress(OSError):
            self.sock.sendall(json.dumps({"event": event, **fields}).encode() + b"\n")


class Run:
    """One system for one command line."""

    def __init__(self, link: Link, request: dict[str, Any], hypervisor: Hypervisor) -> None:
        self.link, self.request, self.hypervisor = link, request, hypervisor
        self.control: ControlSocket | None = None
        self.killers: list[Killer] = []
        self.first_ns = 0
        self.last_ns = 0
        self.exits_at_first = 0
        self._left = int(request.get("programs", 1))
        self._status: int | None = None
        self._failed = False

    def begin(self) -> None:
        """Boot, listen, and arrange for the end."""
        vmm = self.hypervisor
        vmm.on_program_started = self._program_started
        vmm.on_program_ended = self._program_ended
        self._check_kills()
        vmm.boot(spares=bool(self.request.get("spares", True)))
        for name, rate in self.request.get("kill", []):
            self.killers.append(Killer(vmm, name, float(rate), int(self.request.get("seed", 1))))
        folder = runtime_directory()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _free_name(folder, vmm.policy.name, chosen=bool(self.request.get("name")))
        self.control = ControlSocket(vmm, str(path), self.report)
        vmm.loop.add_reader(self.link.sock.fileno(), self._on_link)

    def _check_kills(self) -> None:
        known = [component.name for component in self.hypervisor.policy.components]
        for name, _ in self.request.get("kill", []):
            if name not in known:
                raise LaunchError(f"--kill {name}: no such component; this system has {', '.join(known)}")

    def _program_started(self, component: LiveComponent) -> None:
        if self.first_ns:
            return
        assert component.instance is not None and self.control is not None
        self.first_ns = component.instance.stats.read("first_instruction_ns") or time.monotonic_ns()
        self.exits_at_first = self._exits()
        for killer in self.killers:
            killer.start()
        self.link.send(
            "started", name=self.hypervisor.policy.name, control=self.control.path, boot_ms=self._boot_ms()
        )

    def _boot_ms(self) -> float | None:
        begun = int(self.request.get("started_ns") or 0)
        return round((self.first_ns - begun) / 1e6, 3) if begun and self.first_ns else None

    def _program_ended(self, component: LiveComponent, record: FaultRecord | None) -> None:
        self._left -= 1
        if component.exit_status:
            self._status = max(self._status or 0, component.exit_status)
        if record:
            print(f"r3s3: {component.name} died: {record.describe()}", file=sys.stderr)
        if self._left:
            return
        self.last_ns = time.monotonic_ns()
        for killer in self.killers:
            killer.stop()
        self._finish_when_quiet(time.monotonic() + QUIET_DEADLINE_S)

    def _finish_when_quiet(self, deadline: float) -> None:
        vmm = self.hypervisor
        if self.request.get("report") and not vmm.quiet and time.monotonic() < deadline:
            vmm.loop.call_later(0.002, lambda: self._finish_when_quiet(deadline))
        else:
            vmm.loop.running = False

    def _on_link(self) -> None:
        try:
            data = self.link.sock.recv(4096)
        except OSError:
            data = b""
        if not data or b"stop" in data:
            self._status = 128 + signal.SIGINT
            self.hypervisor.loop.running = False

    def _exits(self) -> int:
        return sum(live.counters()["exits"] for live in self.hypervisor.components.values())

    def report(self) -> dict[str, Any]:
        """The figures of the run so far; null where there is no sample."""
        vmm = self.hypervisor
        for live in vmm.components.values():
            if live.running:
                vmm.figures.harvest(live, live.running)
        programs = [live.counters() for live in vmm.components.values() if live.policy.is_program]
        everybody = [live.counters() for live in vmm.components.values()]
        read = sum(each["bytes"] for each in programs)
        end_ns = self.last_ns or time.monotonic_ns()
        exits = sum(each["exits"] for each in everybody) - self.exits_at_first
        return {
            "system": vmm.policy.name,
            "kills": sum(killer.kills for killer in self.killers),
            "deaths": {n: live.deaths for n, live in vmm.components.items() if live.deaths},
            "recoveries": sum(live.recoveries for live in vmm.components.values()),
            "replayed": sum(each["replayed"] for each in everybody),
            "failed_requests": sum(each["failed"] for each in programs),
            **vmm.figures.as_json(),
            "boot_ms": self._boot_ms(),
            "bytes": read,
            "seconds": round((end_ns - self.first_ns) / 1e9, 6) if self.first_ns else None,
            "exits_per_io": round(exits * IO_BYTES / read, 4) if read else None,
            "cpu_ms": sum(each["cpu_ns"] for each in everybody) // 1_000_000,
            "spin_ms": sum(each["spins"] for each in everybody) // max(1, vmm.figures.tsc_khz),
        }

    def end(self) -> int:
        """Tear down; the program's exit status."""
        report = self.report()
        self.hypervisor.output.finish(OUTPUT_DEADLINE_S)
        self.hypervisor.close()
        if self.control:
            self.control.close()
        status = self._status or 0
        self.link.send("ended", status=status, report=report)
        return status


def _free_name(folder: Path, name: str, chosen: bool) -> Path:
    """The socket path for system `name`. Where one of that name runs, the path for NAME-2 and so on, or
    LaunchError if the name was `chosen` by the user."""
    for number in range(1, SYSTEMS_MAX + 1):
        path = folder / (f"{name}.sock" if number == 1 else f"{name}-{number}.sock")
        if path.exists():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                if other.connect_ex(str(path)) == 0:
                    if chosen:
                        raise LaunchError(f'a system "{name}" is already running; choose another with -s')
                    continue
            path.unlink(missing_ok=True)  # left by one that was killed
        return path
    raise LaunchError(f"{SYSTEMS_MAX} systems are running already; end one")


def serve(link: Link, zygote: Zygote) -> int:
    """Run what the launch line asks for; its exit status."""
    request = link.request()
    arguments = [str(each) for each in request["arguments"]]
    policy = system.compile(
        Path(request["system_file"]), request.get("program"), int(request.get("programs", 1))
    )
    if request.get("name"):
        policy = replace(policy, name=str(request["name"]))
    launcher = ProcessLauncher(policy, zygote, request.get("disk"))
    encoded = b"\0".join(os.fsencode(each) for each in arguments) + b"\0"
    programs = {component.name: encoded for component in policy.components if component.is_program}
    hypervisor = Hypervisor(policy, launcher, arguments=programs, stdout_fd=1, stderr_fd=2)
    hypervisor.figures.tsc_khz = launcher.tsc_khz
    run = Run(link, request, hypervisor)
    try:
        run.begin()
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection in the middle of a recovery would cost more than the recovery
        hypervisor.loop.run()
    except BaseException:
        hypervisor.close()
        if run.control:
            run.control.close()
        raise
    return run.end()


def _go_first() -> None:
    """Run before all components: a recovery is a chain of short steps, and each would wait a time slice.

    Only where the host permits it. Children are not preferred.
    """
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def main() -> int:
    """The process's entry; exit status as `r3s3 run` documents it."""
    parser = argparse.ArgumentParser(prog="vmm.system_process")
    parser.add_argument("--launch-fd", type=int, required=True)
    link = Link(parser.parse_args().launch_fd)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    zygote = Zygote(keep_out=[link.sock.fileno()])
    _go_first()
    try:
        return serve(link, zygote)
    except EOFError:
        return INTERNAL
    except (ConfigurationError, LaunchError, ProbeError) as error:
        link.send("error", message=str(error), status=error.status)
        return error.status
    except PlacementError as error:
        link.send("error", message=str(error), status=INTERNAL)
        return INTERNAL
    except OSError as error:
        link.send("error", message=f"{error.strerror}: {error.filename or ''}".rstrip(": "), status=INTERNAL)
        return INTERNAL


if __name__ == "__main__":
    sys.exit(main())
