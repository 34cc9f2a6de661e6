"""Null calls between two components, beside a UNIX socketpair between two host processes."""

from __future__ import annotations

import array
import statistics
import subprocess
from typing import Any

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.figures import Figure, NotMeasured, Target, figure, percentile, summarised
from tests.bench.host import COMMAND_S, opponent
from tests.bench.plan import Plan
from tests.bench.systems import Progress

TARGETS = {
    "call_spin_us": Target("<=", 0.5),
    "call_server_asleep_us": Target("<=", 40),
    "call_both_asleep_us": Target("<=", 110),
    "pipelined_calls_per_s": Target(">=", 4e6),
}
UNITS = {
    "call_spin_us": "us",
    "call_server_asleep_us": "us",
    "call_both_asleep_us": "us",
    "socketpair_us": "us",
    "pipelined_calls_per_s": "calls/s",
    "socketpair_per_s": "calls/s",
}
# key -> mode of tests/guests/caller, system file
MODES = {
    "call_spin_us": ("spin", "calls.toml"),
    "call_server_asleep_us": ("asleep", "calls_asleep.toml"),
    "call_both_asleep_us": ("both", "calls_asleep.toml"),
}
DEPTH = 64


def measure(plan: Plan, budget: Budget, progress: Progress) -> dict[str, Figure]:
    """All figures of this group. The kinds of calls take turns, so that a disturbance hits all of them."""
    said: dict[str, list[dict[str, Any]]] = {key: [] for key in [*MODES, "plain", "pipelined_calls_per_s"]}
    pairs: list[tuple[list[float], float]] = []
    rates: dict[str, list[float]] = {"pipelined": [], "batched": []}
    for number in range(plan.call_runs):
        if number and budget.spent:
            break
        progress(f"calls, run {number + 1} of {plan.call_runs}")
        for key, (mode, file) in MODES.items():
            said[key].append(_call(plan, file, mode, plan.calls if mode == "spin" else plan.paused_calls))
        said["plain"].append(_call(plan, "calls_plain.toml", "plain", plan.calls))
        piped = _call(plan, "calls.toml", "pipelined", plan.pipelined_calls, DEPTH)
        said["pipelined_calls_per_s"].append(piped)
        pairs.append(_socketpair_pingpong(plan.calls // 4))
        for how, found in rates.items():
            found.append(_socketpair_rate(how, plan.pipelined_calls // 4))
    result = {key: _latency(key, said[key]) for key in MODES}
    result["call_spin_us"] |= {"by_the_runtime_alone": _latency("plain", said["plain"])}
    cpu_us = statistics.median(each for _, each in pairs)
    result["socketpair_us"] = summarised(
        [statistics.median(samples) for samples, _ in pairs],
        [percentile(samples, 0.99) for samples, _ in pairs],
        sum(len(samples) for samples, _ in pairs), UNITS["socketpair_us"],
        cpu_us_per_call=round(cpu_us, 3),
    )  # fmt: skip
    runs = said["pipelined_calls_per_s"]
    result["pipelined_calls_per_s"] = figure(
        [each["calls_per_s"] for each in runs],
        UNITS["pipelined_calls_per_s"], TARGETS["pipelined_calls_per_s"],
        depth=DEPTH, calls=plan.pipelined_calls, spin_us_per_call=_spin(runs),
        waits=[each["waits"] for each in runs],
    )  # fmt: skip
    result["socketpair_per_s"] = figure(
        rates["pipelined"], UNITS["socketpair_per_s"],
        depth=DEPTH, several_messages_per_system_call=round(statistics.median(rates["batched"])),
    )  # fmt: skip
    return result


def _call(plan: Plan, file: str, mode: str, count: int, *more: int) -> dict[str, Any]:
    """What `caller` says of one run, and `spin_us_per_call`: client and server together."""
    words = ["caller", mode, str(count), *map(str, more)]
    outcome = systems.run(systems.request(words, None, systems.SYSTEMS / file), plan.run_s)
    if outcome.said.get("failed") != 0:
        raise NotMeasured(f"caller {mode}: {outcome.said}", broken=True)
    return outcome.said | {"spin_us_per_call": outcome.report["spin_ms"] * 1000 / count}


def _spin(said: list[dict[str, Any]]) -> float:
    return round(statistics.median(float(each["spin_us_per_call"]) for each in said), 3)


def _latency(key: str, said: list[dict[str, Any]]) -> Figure:
    medians = [each["median_ns"] / 1000 for each in said]
    p99s = [each["p99_ns"] / 1000 for each in said]
    calls = sum(each["calls"] for each in said)
    return summarised(medians, p99s, calls, "us", TARGETS.get(key), spin_us_per_call=_spin(said))


def _socketpair_pingpong(calls: int) -> tuple[list[float], float]:
    """Microseconds of each round trip; microseconds of CPU time of one, both processes together."""
    output, _, cpu_s = _socketpair("pingpong", calls, 1)
    samples = array.array("I", output)
    return [sample / 1000 for sample in samples], cpu_s * 1e6 / calls


def _socketpair_rate(how: str, calls: int) -> float:
    """Round trips a second, DEPTH outstanding."""
    _, seconds, _ = _socketpair(how, calls, DEPTH)
    return calls / seconds


def _socketpair(how: str, calls: int, depth: int) -> tuple[bytes, float, float]:
    words = [str(opponent("socketpair")), how, str(calls), str(depth)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=COMMAND_S)
    if done.returncode:
        raise NotMeasured(f"socketpair {how}: status {done.returncode}", broken=True)
    seconds, cpu_s = map(float, done.stderr.split())
    return done.stdout, seconds, cpu_s
