"""Running systems for tests of deaths: a program, a plan, what the control socket says, and the report.

A system is put together from the shipped manifests and those of the test guests; all images are the builds
with kill points, which otherwise are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from images.guests import build
from tests.system.plan import ENVIRONMENT, ROOT, Plan
from vmm.cli import launch
from vmm.cli.control import Control
from vmm.cli.launch import Launch, Request

IMAGES = ROOT / "build/guests-kill-points"
PATIENCE_S = 40.0  # machines that test are often busy with other things
COMPONENTS = ("reincarnation_server", "console", "disk_driver", "file_server")
PROGRAMS = ("front", "grantor", "holder", "witness")  # of tests/guests
OTHERS = (
    "borrower", "counter", "data_store", "poisoned", "relay", "silent_server", "subscriber",
    "cat", "sha256tree",
)  # fmt: skip
SOUND = ("audio_driver", "tone", "player")
BAD = ("null_read", "infinite_loop", "denied_hypercall", "hasty")  # new versions that do not work
PROCESS = "tests.system.process"
# A restart policy under which no death is foreseen: the reincarnation server is asked about each.
ASKED = 'policy = "backoff"\nbackoff_ms = [1]'

BARE = """
[system]
name = "deaths"
memory = "1 GiB"
images = "{images}"
supervisor = "reincarnation_server"

[components.reincarnation_server]
manifest = "{manifests}/reincarnation_server.toml"

[components.console]
manifest = "{manifests}/console.toml"

[programs]
folders = ["{root}/guests/programs", "{programs}"]
"""
FILES = """
[components.disk_driver]
manifest = "{manifests}/disk_driver.toml"

[components.file_server]
manifest = "{manifests}/file_server.toml"

[devices.disk0]
component = "disk_driver.disk"
read_only = true

[routes]
"file_server.blk" = "disk_driver.blk"
"program.fs" = "file_server.fs"
"program.log" = "console.log"
"""


class Scene:
    """A running system. Leave the block to end it."""

    def __init__(self, running: Launch) -> None:
        self.running = running
        self.status = -1
        self.report: dict[str, Any] = {}
        self.error = ""
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self._control: Control | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self.running.events():
                if event["event"] == "started":
                    self._started.set()
                elif event["event"] == "ended":
                    self.status, self.report = event["status"], event["report"] or {}
                elif event["event"] == "error":
                    self.error = event["message"]
        except OSError:
            pass  # the block is over, and the system with it
        except Exception as failure:  # for who waits: in this thread nobody would hear of it
            self._failure = failure
        finally:
            self._started.set()
            self._ended.set()

    def _check(self) -> None:
        if self._failure:
            raise self._failure
        assert not self.error, self.error

    def ended(self, seconds: float) -> bool:
        """Whether the program ends within that time."""
        return self._ended.wait(seconds)

    # -- questions ------------------------------------------------------------------------------------

    def wait_started(self) -> None:
        """Until the program runs."""
        assert self._started.wait(PATIENCE_S), "the system does not start"
        self._check()

    def ask(self, command: str, **arguments: object) -> Any:
        """One command on the control socket."""
        self.wait_started()
        if self._control is None:
            self._control = Control(None)
        return self._control.execute(command, **arguments)

    def close(self) -> None:
        """Hang up. The thread's read would keep the launch socket open beyond its closing."""
        if self._control:
            self._control.__exit__()
            self._control = None
        with contextlib.suppress(OSError):
            self.running._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def row(self, component: str) -> dict[str, Any]:
        """The component's row of `ps`."""
        rows: list[dict[str, Any]] = self.ask("ps")
        return next(row for row in rows if row["name"] == component)

    def texts(self, component: str) -> list[str]:
        """What the log says about a component."""
        return [record["text"] for record in self.ask("log") if record["component"] == component]

    def until(self, what: Callable[[], bool], reason: str) -> None:
        """Waits until something has happened."""
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert not self._ended.is_set(), f"{reason}, and the program has ended with status {self.status}"
            assert time.monotonic() < end, f"{reason}\n{self.state()}"
            time.sleep(0.005)

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Waits for the program's end; its exit status."""
        if not self.ended(seconds):
            raise AssertionError(f"the program does not end\n{self.state()}")
        self._check()
        assert self.report, "the hypervisor process died"
        return self.status

    def state(self) -> str:
        """For messages: who is how, and the end of the log."""
        rows = [
            f"{row['name']}: {row['state']}, #{row['epoch']}, {row['calls']} calls, {row['served']} served"
            for row in self.ask("ps")
        ]
        log = [f"{line['component']} {line['epoch']}: {line['text']}" for line in self.ask("log")[-30:]]
        return "\n".join([*rows, *log])

    # -- what has happened ----------------------------------------------------------------------------

    def deaths(self, component: str) -> list[dict[str, Any]]:
        """The component's fault records, in order (after the end)."""
        return [record for record in self.report["records"] if record["component"] == component]

    def fully_recovered(self) -> bool:
        """Whether every death of a component has been recovered from (after the end)."""
        deaths: dict[str, int] = self.report["deaths"]
        return bool(self.report["recoveries"] == sum(deaths.values()))

    # -- processes ------------------------------------------------------------------------------------

    @property
    def hypervisor(self) -> int:
        """Pid of the hypervisor process."""
        return self.running.process.pid

    @property
    def zygote(self) -> int:
        """Pid of the zygote: the hypervisor's only child."""
        (pid,) = children(self.hypervisor)
        return pid

    @property
    def device(self) -> int:
        """Pid of the disk's or sound device's process: the zygote's only child that has the file open."""
        found = [pid for pid in children(self.zygote) if _has_open(pid, (".img", ".wav"))]
        assert len(found) == 1, f"{len(found)} processes have the file open"
        return found[0]

    def tender(self, component: str) -> int:
        """Pid of the component's tender, once it runs."""
        pids: list[int] = []

        def runs() -> bool:
            pids.append(self.row(component)["pid"] or 0)
            return pids[-1] != 0

        self.until(runs, f"{component} does not run")
        return pids[-1]


def children(pid: int) -> list[int]:
    """The children of a process; none if it is gone."""
    with contextlib.suppress(OSError):
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    return []


def family(pid: int) -> set[int]:
    """Every process below `pid`."""
    found: set[int] = set()
    for child in children(pid):
        found |= {child} | family(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
        return state not in ("Z", "X")
    return False


def is_stopped(pid: int) -> bool:
    """Whether every thread of a process has stopped, which takes a while."""
    return all("State:\tT" in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())


def _has_open(pid: int, endings: tuple[str, ...]) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(each).endswith(endings) for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


class Stage:
    """Where systems die. One system at a time."""

    def __init__(self, folder: Path, disk: Path) -> None:
        self.folder, self.disk = folder, disk
        self.manifests = folder / "manifests"
        self.programs = folder / "programs"
        self.manifests.mkdir()
        for name in COMPONENTS:
            self.change(name)
        for name in PROGRAMS:
            self.change(name)

    def change(
        self, component: str, *changes: tuple[str, str], name: str | None = None, restart: str = ""
    ) -> None:
        """Put the manifest of a component in place: under another name if given, with some texts replaced,
        and with another restart policy if given; without what it says of poisoned state."""
        folders = (ROOT / folder for folder in ("components", "tests/guests", "guests/misbehaving"))
        files = (each / component / "manifest.toml" for each in folders)
        text = next(file for file in files if file.is_file()).read_text()
        if restart:
            text = f"{text.partition('[restart]')[0]}[restart]\n{restart}\nheartbeat_ms = 250\n"
        else:  # deaths that are planted in a row look like a request's doing, and no request is to be refused
            text = text.replace('poisoned = ["quarantine"]\n', "")
        for old, new in changes:
            assert old in text, f"{component}: no line {old!r} to replace"
            text = text.replace(old, new)
        if name:
            text = text.replace(f'\nname = "{component}"', f'\nname = "{name}"')
        if component in PROGRAMS:
            (self.programs / component).mkdir(parents=True, exist_ok=True)
            (self.programs / component / "manifest.toml").write_text(text)
        else:
            (self.manifests / f"{name or component}.toml").write_text(text)

    @contextlib.contextmanager
    def play(
        self,
        parts: str,
        *words: str,
        plan: Plan | None = None,
        kill: tuple[tuple[str, float], ...] = (),
        seed: int = 1,
        programs: int = 1,
        sound: Path | None = None,
    ) -> Iterator[Scene]:
        """Runs a program, or so many instances of it, in a system made of `parts`; it ends with the block.
        Its devices are the disk, and a sound device that fills the file `sound`."""
        system_file = self.folder / "system.toml"
        names = {"images": IMAGES, "manifests": self.manifests, "programs": self.programs, "root": ROOT}
        system_file.write_text((BARE + parts).format(**names))
        plan_file = self.folder / "plan.json"
        (plan or Plan()).write(plan_file)
        request = Request(
            system_file=str(system_file),
            program=words[0],
            arguments=list(words),
            disk=str(self.disk) if "disk_driver.disk" in parts else None,
            sound=str(sound) if sound else None,
            programs=programs,
            kill=list(kill),
            seed=seed,
            report=True,
            started_ns=time.monotonic_ns(),
        )
        module, launch.MODULE = launch.MODULE, PROCESS
        os.environ[ENVIRONMENT] = str(plan_file)
        output = (self.folder / "output").open("wb")
        try:
            running = Launch(request, stdout=output)
        finally:
            launch.MODULE = module
            del os.environ[ENVIRONMENT]
        with output, running:
            scene = Scene(running)
            try:
                yield scene
            finally:
                scene.close()
                running.close()

    @property
    def output(self) -> bytes:
        """What the program has printed."""
        return (self.folder / "output").read_bytes()

    @property
    def lines(self) -> list[str]:
        """The lines the program has printed."""
        return self.output.decode().splitlines()

    @property
    def said(self) -> dict[str, Any]:
        """The line of JSON the program has printed."""
        answer: dict[str, Any] = json.loads(self.output)
        return answer


def build_images() -> None:
    """The guests that run here, with kill points."""
    names = [*COMPONENTS, *PROGRAMS, *OTHERS, *SOUND, *BAD]
    build(names, output=IMAGES, report=lambda _: None, cfgs=["kill_points"])


def strike(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
