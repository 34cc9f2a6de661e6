"""Running systems for the benchmarks: one program to its end, its output, and the report of the run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import NotMeasured, rounded
from tests.bench.host import ROOT, busy_s
from vmm.cli import launch
from vmm.cli.command import CommandError
from vmm.cli.control import Control
from vmm.cli.launch import Launch, Request

SYSTEMS = Path(__file__).with_name("systems")
DEFAULT = ROOT / "images/default.toml"
STRICT = ROOT / "images/strict.toml"
FAILING = SYSTEMS / "failing.toml"
PROCESS = "tests.bench.process"
STAGES = ("died", "let_run", "first_instruction", "ready", "answered")  # of a recovery, see there
NAME = f"bench-{os.getpid()}"


@dataclass(frozen=True)
class Outcome:
    """One run. `said` is the line of JSON that programs of the benchmarks print (the first, of several)."""

    said: dict[str, Any]
    report: dict[str, Any]
    busy_s: float  # CPU time of the whole machine from the program's start to the system's end
    kills_ns: list[int]  # of kills from outside


@contextlib.contextmanager
def own_runtime_directory() -> Iterator[None]:
    """Control sockets in a folder of our own, so that a system that runs already is not in the way."""
    before = os.environ.get("R3S3_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="r3s3-bench-") as folder:
        os.environ["R3S3_RUNTIME_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["R3S3_RUNTIME_DIR"]
            else:
                os.environ["R3S3_RUNTIME_DIR"] = before


def request(
    words: list[str],
    disk: Path | None,
    system_file: Path = DEFAULT,
    *,
    kill: tuple[str, float] | None = None,
    spares: bool = True,
    programs: int = 1,
) -> Request:
    """What the launch line asks for."""
    return Request(
        system_file=str(system_file), program=words[0], arguments=words, disk=str(disk) if disk else None,
        name=NAME, programs=programs, kill=[kill] if kill else [], report=True, spares=spares,
        started_ns=time.monotonic_ns(),
    )  # fmt: skip


class System(Launch):
    """A system that can be asked to end early, with its report."""

    def stop(self) -> None:
        """It ends with the status of a command that was interrupted."""
        self._send({"stop": True})


@contextlib.contextmanager
def started(what: Request, stdout: Any = None, low_latency: bool = False) -> Iterator[System]:
    """A system whose hypervisor process keeps samples; taken down at the end."""
    module, launch.MODULE = launch.MODULE, PROCESS
    try:
        running = System(what, stdout, low_latency)
    finally:
        launch.MODULE = module
    with running:
        yield running


def run(
    what: Request,
    seconds: float,
    kill_outside: tuple[str, float] | None = None,
    stop_after_s: float | None = None,
    low_latency: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome:
    """Run a system to the end of its program; NotMeasured (broken) if it fails or takes longer.

    `kill_outside` sends the component's tender SIGKILL so many times a second, as anybody on the host could.
    With `stop_after_s` the system is stopped so long after the program's start; nothing is said then. With
    `low_latency` idle CPUs are kept from sleeping, as by `r3s3 run --low-latency`. `meanwhile` is called in a
    thread of its own when the program has started, and the system stopped when it returns.
    """
    with tempfile.TemporaryFile() as output:
        try:
            with started(what, output, low_latency) as running, _bounded(running, seconds):
                killer = _OutsideKiller(*kill_outside) if kill_outside else None
                try:
                    report, used_s = _wait(running, " ".join(what.arguments), stop_after_s, meanwhile)
                finally:
                    kills = killer.stop() if killer else []
        except CommandError as error:
            raise NotMeasured(str(error), broken=True) from None
        output.seek(0)
        said = output.read().decode("utf-8", "replace").splitlines()
    return Outcome(json.loads(said[0]) if said else {}, report, used_s, kills)


def _wait(
    running: System, what: str, stop_after_s: float | None, meanwhile: Callable[[], None] | None
) -> tuple[dict[str, Any], float]:
    """The report at the end, and the CPU time the machine has spent since the program's start."""
    begin_s = 0.0
    good = 0 if stop_after_s is None and meanwhile is None else 128 + signal.SIGINT

    def stop_after(work: Callable[[], None]) -> None:
        work()
        running.stop()

    for event in running.events():
        if event["event"] == "started":
            begin_s = busy_s()
            if stop_after_s is not None:
                # Events must be waited for meanwhile: whoever kills does so in between.
                threading.Timer(stop_after_s, running.stop).start()
            if meanwhile is not None:
                threading.Thread(target=stop_after, args=(meanwhile,), daemon=True).start()
        elif event["event"] == "error":
            raise NotMeasured(event["message"], broken=True)
        elif event["event"] == "ended" and event["status"] == good and event["report"]:
            return event["report"], busy_s() - begin_s
        else:
            raise NotMeasured(f"{what}: {event['event']}, status {event.get('status')}", broken=True)
    raise NotMeasured(f"{what}: the hypervisor process died or took too long", broken=True)


@contextlib.contextmanager
def _bounded(running: Launch, seconds: float) -> Iterator[None]:
    """Ends a system that takes too long: a benchmark never hangs."""
    timer = threading.Timer(seconds, running.process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _OutsideKiller:
    """Sends SIGKILL to the tender of a component, at random times, from a thread."""

    def __init__(self, component: str, rate: float) -> None:
        self._component, self._rate = component, rate
        self._kills_ns: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """The moments just before the kills."""
        self._end.set()
        self._thread.join()
        return self._kills_ns

    def _work(self) -> None:
        chance = random.Random(1)
        while not self._end.wait(chance.uniform(0.5, 1.5) / self._rate):
            with contextlib.suppress(CommandError, ProcessLookupError):
                # A connection for each question: the answer must be of now, and the system may have ended.
                with Control(NAME) as control:
                    rows = {row["name"]: row for row in control.execute("ps")}
                row, program = rows[self._component], list(rows.values())[-1]
                if row["pid"] and row["state"] == "running" and program["bytes"]:
                    moment = time.monotonic_ns()
                    os.kill(row["pid"], signal.SIGKILL)
                    self._kills_ns.append(moment)


def recovery_times(outcome: Outcome, causes_ns: list[int] | None = None) -> list[float]:
    """Milliseconds from just before each death to the first replayed request answered at the client.

    Without `causes_ns` from the moment the hypervisor struck; else from the last of these moments before it
    noticed the death, so that its own delay counts.
    """
    times = []
    for died_ns, *_, answered_ns in outcome.report["recoveries_ns"]:
        begin_ns = died_ns
        if causes_ns is not None:
            begin_ns = max((cause for cause in causes_ns if cause <= died_ns), default=0)
            if not begin_ns:
                continue  # it died of something else
        times.append((answered_ns - begin_ns) / 1e6)
    return times


def recovery_stages(outcome: Outcome) -> dict[str, float]:
    """Median milliseconds of each part of the recoveries: how long until what the key names."""
    whole = [moments for moments in outcome.report["recoveries_ns"] if None not in moments]
    if not whole:
        return {}
    return {
        stage: rounded(statistics.median((each[at] - each[at - 1]) / 1e6 for each in whole))
        for at, stage in enumerate(STAGES)
        if at
    }


Progress = Callable[[str], None]
