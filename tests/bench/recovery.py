"""Deaths of the disk driver under load: how long a client notices one, and what they cost a reader.

Beside it: how long supervisord needs to restart a plain process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench import systems
from tests.bench.data import MIB, PART, WHOLE, Data
from tests.bench.figures import Figure, NotMeasured, Target, figure, rounded, spread
from tests.bench.host import opponent, tool
from tests.bench.plan import Plan
from tests.bench.systems import Outcome, Progress

TARGETS = {"recovery_ms": Target("<=", 2, 10), "kill10_speed_ratio": Target(">=", 0.9)}
UNITS = {"recovery_ms": "ms", "supervisor_restart_ms": "ms", "kill10_speed_ratio": "ratio"}
VICTIM = "disk_driver"
CLIENTS = 16
FAULT_EVERY_MIB = 50  # see tests/guests/failing_driver
STEADY_S = 1.2  # supervisord takes a process that has lived for a second for a good one
RESTART_S = 10.0


def measure_recovery(plan: Plan, data: Data, progress: Progress, system_file: Path) -> Figure:
    """`recovery_ms`: kills by the hypervisor and faults of the guest together; the other kinds beside it."""
    strict = system_file == systems.STRICT
    rate = _speed(data, system_file)
    kill = (VICTIM, plan.kills_per_s)
    passes = max(1, round(plan.recovery_s * rate / data.bytes))
    words = ["reader", f"--times={passes}", f"/{WHOLE}"]
    progress("recovery from kills by the hypervisor")
    killed = systems.run(systems.request(words, data.erofs, system_file, kill=kill))
    samples = systems.recovery_times(killed)
    kinds = {"killed_by_hypervisor": _described(killed, samples)}
    if not strict:
        progress("recovery from faults of the guest")
        failed = systems.run(systems.request(words, data.erofs, systems.FAILING))
        of_faults = systems.recovery_times(failed, failed.report["faults_ns"])
        kinds["guest_fault"] = _described(failed, of_faults)
        samples += of_faults
    progress("recovery from SIGKILL, with 16 clients, without a spare")
    outside = systems.run(systems.request(words, data.erofs, system_file), kill)
    kinds["sigkill_from_outside"] = _described(outside, systems.recovery_times(outside, outside.kills_ns))
    part = plan.part_mib * MIB
    passes = max(1, round(plan.recovery_s * rate / (CLIENTS * part)))
    many_words = ["reader", f"--times={passes}", f"/{PART}"]
    many = systems.run(systems.request(many_words, data.erofs, system_file, kill=kill, programs=CLIENTS))
    kinds["with_16_clients"] = _described(many, systems.recovery_times(many))
    cold = systems.run(systems.request(words, data.erofs, system_file, kill=kill, spares=False))
    kinds["without_spare"] = _described(cold, systems.recovery_times(cold))
    result = figure(samples, UNITS["recovery_ms"], TARGETS["recovery_ms"], **kinds)
    # Each of the two kinds has to reach it, not only both together.
    judged = [kinds[name] for name in ("killed_by_hypervisor", "guest_fault") if name in kinds]
    target = TARGETS["recovery_ms"]
    result["reached"] = all(each["n"] and target.is_reached(each["median"], each["p99"]) for each in judged)
    return result


def measure_speed_ratio(plan: Plan, data: Data, progress: Progress, system_file: Path) -> Figure:
    """`kill10_speed_ratio`: a run with ten kills a second and one without take turns."""
    ratios, undisturbed, replayed, failed = [], [], 0, 0
    passes = 2 if plan.name == "full" else 1
    words = ["reader", f"--times={passes}", f"/{WHOLE}"]
    kills = recoveries = 0
    for number in range(plan.rounds + 1):
        progress(f"read with 10 kills a second, run {number} of {plan.rounds}")
        alone = systems.run(systems.request(words, data.erofs, system_file))
        killed = systems.run(systems.request(words, data.erofs, system_file, kill=(VICTIM, 10.0)))
        if number == 0:
            continue  # fills the host's caches
        ratios.append(killed.said["bytes_per_s"] / alone.said["bytes_per_s"])
        undisturbed.append(alone.said["bytes_per_s"] / 1e6)
        kills += killed.report["kills"]
        recoveries += killed.report["recoveries"]
        replayed += killed.report["replayed"]
        failed += killed.report["failed_requests"]
    progress("digest of a read with 10 kills a second")
    digested = systems.run(
        systems.request(["reader", "--use=sha256", f"/{WHOLE}"], data.erofs, system_file, kill=(VICTIM, 10.0))
    )
    failed += digested.report["failed_requests"]
    equal = digested.said["sha256"] == data.digest
    result = figure(
        ratios, UNITS["kill10_speed_ratio"], TARGETS["kill10_speed_ratio"],
        undisturbed_mb_per_s=spread(undisturbed)["median"],
        kills=kills, recoveries=recoveries, replayed=replayed, failed_requests=failed,
        digest_equal=equal, kills_while_digesting=digested.report["kills"],
    )  # fmt: skip
    result["reached"] = result["reached"] and equal and failed == 0
    return result


def _speed(data: Data, system_file: Path) -> float:
    """Bytes a second of an undisturbed read, to know how long a read will take."""
    outcome = systems.run(systems.request(["reader", f"/{WHOLE}"], data.erofs, system_file))
    speed: float = outcome.said["bytes_per_s"]
    return speed


def _described(outcome: Outcome, samples: list[float]) -> Figure:
    """The times of one kind of death, and what went with it."""
    report = outcome.report
    recoveries = report["recoveries"]
    return spread(samples) | {
        "recoveries": recoveries,
        "replayed_per_recovery": rounded(report["replayed"] / recoveries) if recoveries else None,
        "ready_ms_median": report["ready_ms"]["median"],
        "failed_requests": report["failed_requests"],
        "spin_ms_per_s": rounded(report["spin_ms"] / report["seconds"]) if report["seconds"] else None,
    }


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
