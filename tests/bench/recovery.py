"""Deaths of the disk driver under load: how long a client notices one, and what they cost a reader.

Beside it: how long supervisord needs to restart a plain process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.data import PART, READER, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure, rounded, spread
from tests.bench.host import opponent, tool
from tests.bench.plan import Plan
from tests.bench.systems import Outcome, Progress
from vmm.cli.launch import Request

TARGETS = {"recovery_ms": Target("<=", 2, 10), "kill10_speed_ratio": Target(">=", 0.9)}
UNITS = {"recovery_ms": "ms", "supervisor_restart_ms": "ms", "kill10_speed_ratio": "ratio"}
VICTIM = "disk_driver"
JUDGED = ("killed_by_hypervisor", "guest_fault")  # the kinds that the target is about
CLIENTS = 16
ENDLESS = 1_000_000  # times a file is read: such a run is stopped
Cause = Callable[[Outcome], list[int]] | None
STEADY_S = 1.2  # supervisord takes a process that has lived for a second for a good one
RESTART_S = 10.0


def measure_recovery(plan: Plan, data: Data, budget: Budget, progress: Progress, system_file: Path) -> Figure:
    """`recovery_ms`: kills by the hypervisor and faults of the guest together; the other kinds beside it."""
    kill = (VICTIM, plan.kills_per_s)
    words = [*READER, f"--times={ENDLESS}", f"/{WHOLE}"]
    one = partial(systems.request, words, data.erofs, system_file)
    many = partial(systems.request, [*words[:-1], f"/{PART}"], data.erofs, system_file, programs=CLIENTS)
    bugs = systems.request(words, data.erofs, systems.FAILING)
    # What the launch line asks for, kills from outside, what the deaths came of (None: the hypervisor).
    ways: dict[str, tuple[Request, tuple[str, float] | None, Cause]] = {
        "killed_by_hypervisor": (one(kill=kill), None, None),
        "guest_fault": (bugs, None, lambda outcome: outcome.report["faults_ns"]),
        "sigkill_from_outside": (one(), kill, lambda outcome: outcome.kills_ns),
        "with_16_clients": (many(kill=kill), None, None),
        "without_spare": (one(kill=kill, spares=False), None, None),
    }
    if system_file == systems.STRICT:
        del ways["guest_fault"]
    kinds: dict[str, Figure] = {}
    samples: dict[str, list[float]] = {}
    seconds = min(plan.recovery_s, budget.left_s / len(ways))
    for name, (request, outside, cause) in ways.items():
        progress(f"recovery: {name.replace('_', ' ')}")
        outcome = systems.run(request, plan.run_s, outside, stop_after_s=max(seconds, plan.recovery_s / 4))
        samples[name] = systems.recovery_times(outcome, cause(outcome) if cause else None)
        kinds[name] = _described(outcome, samples[name])
    judged = [name for name in JUDGED if name in kinds]
    target = TARGETS["recovery_ms"]
    together = [each for name in judged for each in samples[name]]
    if not together:
        raise NotMeasured("no recovery was seen", broken=plan.name != "tiny")
    result = figure(together, UNITS["recovery_ms"], target, **kinds)
    # Each kind has to reach it, not only all of them together.
    reached = [
        kinds[name]["n"] > 0 and target.is_reached(kinds[name]["median"], kinds[name]["p99"])
        for name in judged
    ]
    return result | {"reached": all(reached)}


def _described(outcome: Outcome, samples: list[float]) -> Figure:
    """The times of one kind of death, and what went with it."""
    report = outcome.report
    recoveries, seconds = report["recoveries"], report["seconds"]
    return spread(samples) | {
        "recoveries": recoveries,
        "replayed_per_recovery": rounded(report["replayed"] / recoveries) if recoveries else None,
        "stages_ms": systems.recovery_stages(outcome),
        "failed_requests": report["failed_requests"],
        "mb_per_s": rounded(report["bytes"] / 1e6 / seconds),
        "spin_ms_per_s": rounded(report["spin_ms"] / seconds),
    }


def measure_speed_ratio(
    plan: Plan, data: Data, budget: Budget, progress: Progress, system_file: Path
) -> Figure:
    """`kill10_speed_ratio`: a read with ten kills a second and one without take turns; then a digest."""
    words = [*READER, f"/{WHOLE}"]
    quiet = systems.request(words, data.erofs, system_file)
    harsh = systems.request(words, data.erofs, system_file, kill=(VICTIM, 10.0))
    disturbed: list[Outcome] = []
    ratios, speeds = [], []
    for number in range(1 - plan.warm_ups, plan.rounds + 1):
        if number > 1 and budget.spent:
            break
        progress(f"read with 10 kills a second, run {number} of {plan.rounds}")
        alone = systems.run(quiet, plan.run_s)
        killed = systems.run(harsh, plan.run_s)
        if number > 0:
            disturbed.append(killed)
            ratios.append(killed.said["bytes_per_s"] / alone.said["bytes_per_s"])
            speeds.append(alone.said["bytes_per_s"] / 1e6)
    progress("digest of a read with 10 kills a second")
    digest = [*READER, "--use=sha256", f"/{WHOLE}"]
    digested = systems.run(systems.request(digest, data.erofs, system_file, kill=(VICTIM, 10.0)), plan.run_s)
    equal = digested.said["sha256"] == data.digest
    everything = [each.report for each in (*disturbed, digested)]
    totals = {
        name: sum(report[name] for report in everything)
        for name in ("kills", "recoveries", "replayed", "failed_requests")
    }
    result = figure(
        ratios, UNITS["kill10_speed_ratio"], TARGETS["kill10_speed_ratio"],
        undisturbed_mb_per_s=spread(speeds)["median"], **totals,
        digest_equal=equal, kills_while_digesting=digested.report["kills"],
        spin_ms_per_s=rounded(sum(r["spin_ms"] for r in everything) / sum(r["seconds"] for r in everything)),
    )  # fmt: skip
    return result | {"reached": result["reached"] and equal and totals["failed_requests"] == 0}


# -- supervisord --------------------------------------------------------------------------------------


def measure_supervisor(plan: Plan, progress: Progress) -> Figure:
    """`supervisor_restart_ms`: from just before SIGKILL to the beginning of main of the new process."""
    supervisord, process = tool("supervisord"), opponent("plain_process")
    progress("restart of a plain process by supervisord")
    with tempfile.TemporaryDirectory(prefix="r3s3-bench-") as name:
        folder = Path(name)
        (folder / "supervisord.conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={folder}/pid\n"
            f"[program:plain]\ncommand={process} {folder}/starts\nautorestart=true\nstartsecs=0\n"
            "stdout_logfile=NONE\nstderr_logfile=NONE\n",
            encoding="ascii",
        )
        words = [supervisord, "-n", "-c", str(folder / "supervisord.conf")]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                samples = _restarts(folder / "starts", plan.supervisor_restarts)
            finally:
                server.terminate()
                try:
                    server.wait(RESTART_S)
                except subprocess.TimeoutExpired:
                    server.kill()
    return figure(samples, UNITS["supervisor_restart_ms"])


def _restarts(starts: Path, count: int) -> list[float]:
    samples = []
    pid = _start(starts, 0)[1]
    for number in range(1, count + 1):
        time.sleep(STEADY_S)
        begin_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        moment_ns, pid = _start(starts, number)
        samples.append((moment_ns - begin_ns) / 1e6)
    return samples


def _start(starts: Path, number: int) -> tuple[int, int]:
    """(CLOCK_MONOTONIC ns, pid) of the start with this number, once it has come."""
    deadline = time.monotonic() + RESTART_S
    while time.monotonic() < deadline:
        lines = starts.read_text(encoding="ascii").split("\n")[:-1] if starts.exists() else []
        if len(lines) > number:
            moment, pid = lines[number].split()
            return int(moment), int(pid)
        time.sleep(0.002)
    raise NotMeasured("supervisord did not start the process again", broken=True)
