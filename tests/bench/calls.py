"""Null calls between two components, beside a UNIX socketpair between two host processes."""

from __future__ import annotations

import array
import statistics
import subprocess
from typing import Any, NamedTuple

from tests.bench import systems
from tests.bench.budget import Budget
from tests.bench.figures import Figure, NotMeasured, Target, figure, missing, percentile, spread, summarised
from tests.bench.host import COMMAND_S, opponent
from tests.bench.plan import Plan
from tests.bench.systems import Progress
from vmm.cli.awake import Awake

TARGETS = {
    "call_spin_us": Target("<=", 0.5),
    "call_server_asleep_us": Target("<=", 40),
    "call_both_asleep_us": Target("<=", 110),
    "pipelined_calls_per_s": Target(">=", 4e6),
    "tx_overhead_ns": Target("<=", 100),
}
UNITS = {
    "call_spin_us": "us",
    "call_server_asleep_us": "us",
    "call_both_asleep_us": "us",
    "socketpair_us": "us",
    "pipelined_calls_per_s": "calls/s",
    "tx_overhead_ns": "ns",
    "socketpair_per_s": "calls/s",
}


class Way(NamedTuple):
    """A way of calling."""

    mode: str  # of tests/guests/caller
    file: str  # the system
    low_latency: bool = False
    beside: tuple[str, str] = ("", "")  # a figure of another key, and what it is called there
    program: str = "caller"


WAYS = {
    "call_spin_us": Way("spin", "calls.toml"),
    "plain": Way("plain", "calls_plain.toml", beside=("call_spin_us", "by_the_runtime_alone")),
    "call_server_asleep_us": Way("asleep", "calls_asleep.toml", True),
    "server": Way("asleep", "calls_asleep.toml", beside=("call_server_asleep_us", "cpus_sleep")),
    "call_both_asleep_us": Way("both", "calls_asleep.toml", True),
    "both": Way("both", "calls_asleep.toml", beside=("call_both_asleep_us", "cpus_sleep")),
    "pipelined_calls_per_s": Way("pipelined", "calls.toml"),
    "tx_overhead_ns": Way("state", "calls_state.toml", program="caller_state"),
}
DEPTH = 64


def measure(plan: Plan, budget: Budget, progress: Progress) -> dict[str, Figure]:
    """All figures of this group. The kinds of calls take turns, so that a disturbance hits all of them."""
    said: dict[str, list[dict[str, Any]]] = {key: [] for key in WAYS}
    failures: dict[str, str] = {}
    pairs: list[tuple[list[float], float]] = []
    awake_pairs: list[float] = []
    rates: dict[str, list[float]] = {"pipelined": [], "batched": []}
    counts = dict.fromkeys(WAYS, plan.paused_calls)
    counts |= {"call_spin_us": plan.calls, "pipelined_calls_per_s": plan.pipelined_calls}
    counts["tx_overhead_ns"] = plan.calls // 2
    for number in range(plan.call_runs):
        if number and budget.spent:
            break
        progress(f"calls, run {number + 1} of {plan.call_runs}")
        for key, way in WAYS.items():
            if key not in failures:
                try:
                    said[key].append(_call(plan, way, counts[key]))
                except NotMeasured as problem:  # the others are measured all the same
                    failures[key] = str(problem)
        pairs.append(_socketpair_pingpong(plan.calls // 4))
        awake = Awake(lambda: 0)
        try:
            awake_pairs += _socketpair_pingpong(plan.calls // 4)[0]
        finally:
            awake.close()
        for how, found in rates.items():
            found.append(_socketpair_rate(how, plan.pipelined_calls // 4))
    result = {
        key: missing(failures[key], UNITS[key], TARGETS[key], broken=True)
        if key in failures
        else _rate(plan, said[key])
        if key == "pipelined_calls_per_s"
        else _overhead(said[key])
        if key == "tx_overhead_ns"
        else _latency(key, said[key])
        for key in WAYS
        if key in UNITS
    }
    for name, way in WAYS.items():
        key, title = way.beside
        if key and said[name]:
            result[key] |= {title: _latency(name, said[name])}
    return result | _socketpair_figures(pairs, awake_pairs, rates)


def _socketpair_figures(
    pairs: list[tuple[list[float], float]], awake: list[float], rates: dict[str, list[float]]
) -> dict[str, Figure]:
    cpu_us = statistics.median(each for _, each in pairs)
    latency = summarised(
        [statistics.median(samples) for samples, _ in pairs],
        [percentile(samples, 0.99) for samples, _ in pairs],
        sum(len(samples) for samples, _ in pairs), UNITS["socketpair_us"],
        cpu_us_per_call=round(cpu_us, 3), cpus_kept_awake=spread(awake),
    )  # fmt: skip
    rate = figure(
        rates["pipelined"], UNITS["socketpair_per_s"],
        depth=DEPTH, several_messages_per_system_call=round(statistics.median(rates["batched"])),
    )  # fmt: skip
    return {"socketpair_us": latency, "socketpair_per_s": rate}


def _rate(plan: Plan, runs: list[dict[str, Any]]) -> Figure:
    key = "pipelined_calls_per_s"
    return figure(
        [each["calls_per_s"] for each in runs], UNITS[key], TARGETS[key],
        depth=DEPTH, calls=plan.pipelined_calls, spin_us_per_call=_spin(runs),
        waits=[each["waits"] for each in runs],
    )  # fmt: skip


def _overhead(runs: list[dict[str, Any]]) -> Figure:
    """What a transaction of 64 bytes adds to a call: the difference of the medians of each run."""
    key = "tx_overhead_ns"
    return figure(
        [each["with_ns"] - each["without_ns"] for each in runs], UNITS[key], TARGETS[key],
        calls=sum(each["calls"] for each in runs), call_without_ns=_median("without_ns", runs),
        call_with_ns=_median("with_ns", runs), exits_per_call=_median("exits_per_call", runs),
    )  # fmt: skip


def _call(plan: Plan, way: Way, count: int) -> dict[str, Any]:
    """What `caller` says of one run; CPU time that client and server spun, and that idle CPUs polled away."""
    words = [way.program, way.mode, str(count), str(DEPTH)]
    what = systems.request(words, None, systems.SYSTEMS / way.file)
    outcome = systems.run(what, plan.run_s, low_latency=way.low_latency)
    if outcome.said.get("failed") != 0:
        raise NotMeasured(f"caller {way.mode}: {outcome.said}", broken=True)
    report = outcome.report
    return outcome.said | {
        "exits_per_call": report["exits"] / outcome.said["calls"],
        "spin_us_per_call": report["spin_ms"] * 1000 / count,
        "idle_polling_us_per_call": report["idle_polling_s"] * 1e6 / count,
    }


def _spin(said: list[dict[str, Any]]) -> float:
    return _median("spin_us_per_call", said)


def _median(name: str, said: list[dict[str, Any]]) -> float:
    return round(statistics.median(float(each[name]) for each in said), 3)


def _latency(key: str, said: list[dict[str, Any]]) -> Figure:
    medians = [each["median_ns"] / 1000 for each in said]
    p99s = [each["p99_ns"] / 1000 for each in said]
    calls = sum(each["calls"] for each in said)
    return summarised(
        medians, p99s, calls, "us", TARGETS.get(key), spin_us_per_call=_spin(said),
        idle_polling_us_per_call=_median("idle_polling_us_per_call", said),
    )  # fmt: skip


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
