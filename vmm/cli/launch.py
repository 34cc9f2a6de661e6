"""Starting a system from the command line: spawn its hypervisor process, ask it to run, wait for the end.

The hypervisor process (`vmm.start`) inherits one end of a socketpair. One JSON line asks (with it goes the
system's control socket, listening), and JSON lines come back: started, exited, ended; or error. The end of
the stream means the same in both directions: the other side is gone, tear everything down. So nothing
survives this process, however it dies.

What nobody has to trust but who starts the system happens on this side: reading its files
(`vmm.cli.compile`), looking at the host, the control socket's name, killing on purpose, the report, keeping
the host's CPUs awake.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

from vmm.cli import control
from vmm.cli.awake import Awake
from vmm.cli.command import CommandError, say
from vmm.cli.compile import Files, as_json, check_sound, compile_policy, load_images, open_files
from vmm.cli.faults import in_words
from vmm.cli.killer import Killer
from vmm.cli.report import complete

ROOT = Path(__file__).resolve().parents[2]
MODULE = "vmm.start"
STOP_SECONDS = 2.0
LINE_MAX = 64 << 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Request:
    """What to run: the fields of the launch line."""

    system_file: str
    program: str
    arguments: list[str]  # the first is the program's own name
    disk: str | None = None  # a path, vhost-user:PATH, or pci:ADDRESS
    sound: str | None = None  # a WAV file that a system with a sound device fills
    name: str | None = None  # None: the system file's
    programs: int = 1  # instances of the program
    kill: list[tuple[str, float]] = field(default_factory=list)
    seed: int = 1
    report: bool = False
    spares: bool = True
    started_ns: int = 0  # CLOCK_MONOTONIC when the command line started; boot time counts from here


@dataclass(frozen=True)
class Ending:
    """How it ended. `report` is empty unless the system got as far as its end."""

    status: int
    report: dict[str, Any]


class NoKvm(CommandError):
    """No system can run here, but one could in a test bed."""


class Interrupted(Exception):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def machine() -> dict[str, int]:
    """What the mechanism is told about this host."""
    from vmm import probe  # while the hypervisor process starts

    try:
        return probe.choose()._asdict()
    except probe.NoKvm as error:
        raise NoKvm(str(error), error.status) from None
    except probe.ProbeError as error:
        raise CommandError(str(error), error.status) from None


def raise_file_limit() -> None:
    """To what the host allows, for the hypervisor process: it has about 30 files open for each component."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Launch:
    """One system, from its start to its end. A context manager; leaving it takes the system down.

    `stdout` is where the program's output goes, by default where ours goes. With `low_latency` the
    host's idle CPUs are kept from sleeping while messages are exchanged.
    """

    def __init__(
        self, request: Request, stdout: int | IO[bytes] | None = None, low_latency: bool = False
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        raise_file_limit()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # a terminal's Ctrl-C is for us, who then stop the system in good order
            )
        self.request = request
        self._socket = ours
        self._rest = b""
        self._patience: float | None = None  # seconds without any event
        self._killers: list[Killer] = []
        self._awake: Awake | None = None
        self._low_latency = low_latency
        self._path: Path | None = None
        try:
            self._machine = machine()
            self._ask(request)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, request: Request) -> None:
        """Compile the system, and ask for it, under a name that no other has."""
        victims = [victim for victim, _ in request.kill]
        policy = compile_policy(request.system_file, request.program, request.programs, victims)
        check_sound(policy, request.sound)
        listener, self._path = control.listen(request.name or policy.name, chosen=request.name is not None)
        with listener:
            images = load_images(policy.components)
            files = Files([], None)
            try:
                files = open_files(policy, request.disk, request.sound)
                name = self._path.stem
                policy = replace(policy, name=name, components=images.components)
                made: dict[str, Any] = {"machine": self._machine, "policy": asdict(policy)}
                made |= {"templates": images.templates, "images": images.numbers}
                made |= {"files": len(files.fds), "pci": files.pci}
                self._send(
                    asdict(request) | {"name": name} | made, [listener.fileno(), *files.fds, *images.fds]
                )
            finally:
                for fd in (*files.fds, *images.fds):
                    os.close(fd)

    def _send(self, line: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = json.dumps(line, default=as_json).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [data], fds)
            self._socket.sendall(data[sent:])
        except ConnectionError:
            pass  # it is gone already; the end-of-file says so

    def events(self) -> Iterator[dict[str, Any]]:
        """The lines of the hypervisor process, until it closes the socket. Meanwhile those are killed who are
        to be killed."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                event = json.loads(line)
                if self._follow(event):
                    yield event
                continue
            due = min((each.due for each in self._chores()), default=math.inf)
            pause = max(0.0, due - time.monotonic()) + 1e-5
            self._socket.settimeout(self._patience if due == math.inf else pause)
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                if due == math.inf:
                    raise
                self._do_chores()
                continue
            except ConnectionError:
                return
            if not data or len(self._rest) > LINE_MAX:
                return
            self._rest += data

    def _follow(self, event: dict[str, Any]) -> bool:
        """Do our part in an event; whether it is of interest to others."""
        kind = str(event["event"])
        if kind == "started":
            with contextlib.suppress(CommandError):  # it has ended already
                connection = control.Control(None, self._path)
                self._killers = [Killer(connection, *each, self.request.seed) for each in self.request.kill]
                if self._low_latency:
                    self._awake = Awake(lambda: sum(row["waits"] for row in connection.execute("ps")))
        elif kind == "died":
            say(f"{event['name']} died: {in_words(event['why'])}")
        elif kind == "exited":
            self._stop_chores()
        elif kind == "ended" and event["report"]:
            kills = sum(killer.kills for killer in self._killers)
            khz = self._machine["tsc_khz"]
            polled_s = round(self._awake.polled_s, 6) if self._awake else 0.0
            event["report"] = complete(event["report"], self.request.started_ns, kills, khz, polled_s)
        elif kind == "error" and event.get("number") == errno.EMFILE:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            remedy = f"raise the limit: ulimit -Hn {4 * most}"
            event["message"] = f"{most} open files are too few for this system; {remedy}"
        return kind not in ("died", "exited")

    def _chores(self) -> list[Killer | Awake]:
        """What there is to do while the program runs, each when it is due."""
        return [*self._killers, *([self._awake] if self._awake else [])]

    def _do_chores(self) -> None:
        try:
            for killer in self._killers:
                killer.strike()
            if self._awake:
                self._awake.look()
        except CommandError:  # it has just ended
            self._stop_chores()

    def _stop_chores(self) -> None:
        for killer in self._killers:
            killer.due = math.inf
        if self._awake:
            self._awake.close()

    def wait(self) -> Ending:
        """Wait for the end. SIGINT, SIGTERM and SIGHUP stop the system and give 128 + their number. From then
        on further ones only mean not to wait for good order, until this process ends."""

        def hurry(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

        def interrupt(number: int, frame: FrameType | None) -> None:
            for each in _SIGNALS:
                signal.signal(each, hurry)
            raise Interrupted(number)

        previous = {number: signal.signal(number, interrupt) for number in _SIGNALS}
        try:
            ending = self._wait()
        except Interrupted as interrupted:
            self._stop()
            return Ending(128 + interrupted.number, {})
        for number, handler in previous.items():
            signal.signal(number, handler)
        return ending

    def _wait(self) -> Ending:
        for event in self.events():
            if event["event"] == "error":
                say(event["message"])
                return Ending(event["status"], {})
            if event["event"] == "ended":
                for message in event.get("errors", ()):
                    say(message)
                return Ending(event["status"], event["report"] or {})
        code = self.process.wait()
        how = f"signal {-code}" if code < 0 else f"status {code}"
        raise CommandError(f"the hypervisor process died ({how}), and its system with it; run it again")

    def _stop(self) -> None:
        """End the system in good order within STOP_SECONDS."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            self._stop_chores()
            self._send({"stop": True})
            self._patience = STOP_SECONDS
            for event in self.events():
                if event["event"] == "ended" or time.monotonic() > deadline:
                    return
        except TimeoutError:
            pass

    def close(self) -> None:
        """Take the system down: at the end-of-file by itself, by force after STOP_SECONDS."""
        self._stop_chores()
        self._socket.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._path:
            control.forget(self._path)  # where the hypervisor process did not come to it
