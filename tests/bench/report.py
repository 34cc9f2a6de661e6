"""Puts all figures together: which keys there are, in which order, and what is printed of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import boot, calls, footprint, host, rebirth, recovery, stream, systems, update
from tests.bench.budget import Budget
from tests.bench.data import Data
from tests.bench.figures import Figure, NotMeasured, Target, missing
from tests.bench.plan import Plan
from tests.bench.systems import Progress
from vmm.cli.command import Table

TARGETS: dict[str, Target] = {
    **calls.TARGETS, **stream.TARGETS, **recovery.TARGETS, **rebirth.TARGETS, **update.TARGETS,
    "boot_ms": boot.TARGET, **footprint.TARGETS,
}  # fmt: skip
UNITS: dict[str, str] = {
    **calls.UNITS, **stream.UNITS, **recovery.UNITS, **rebirth.UNITS, **update.UNITS, "boot_ms": boot.UNIT,
    **footprint.UNITS,
}  # fmt: skip
# What is measured of other people's software has no strict mode.
BESIDE = ("socketpair_us", "socketpair_per_s", "supervisor_restart_ms")
# No device takes part in these, so that the DMA mode makes no difference.
WITHOUT_DEVICE = (*calls.TARGETS, *rebirth.TARGETS, "trusted_lines")
KEYS = (
    "call_spin_us", "call_server_asleep_us", "call_both_asleep_us", "tx_overhead_ns", "socketpair_us",
    "pipelined_calls_per_s", "socketpair_per_s", "exits_per_io", "seq_read_ratio_kernel",
    "seq_read_ratio_fuse", "recovery_ms", "supervisor_restart_ms", "kill10_speed_ratio",
    *rebirth.UNITS, "update_blackout_ms", "update_failed_requests", "boot_ms", "component_overhead_mib",
    "trusted_lines",
)  # fmt: skip
STRICT_KEYS = tuple(f"{key}_strict" for key in KEYS if key not in BESIDE)
SUFFIX = "_strict"
GROUPS = ("calls", "stream", "recovery", "update", "boot", "footprint")


def measure(plan: Plan, groups: tuple[str, ...], progress: Progress) -> dict[str, Any]:
    """Everything in build/bench.json: the figures of `groups`, the others null."""
    begin = time.monotonic()
    result: dict[str, Any] = {key: _empty(key, "not measured in this run") for key in (*KEYS, *STRICT_KEYS)}
    for key in WITHOUT_DEVICE:
        result[key + SUFFIX] = _empty(key, "no device takes part: the same in both DMA modes")
    result["machine"] = host.describe()
    data = Data(plan, progress)
    budget = Budget(plan.seconds)
    steps = [step for step in _steps(plan, data, budget, progress) if step.group in groups]
    whole = sum(step.share for step in steps)
    with systems.own_runtime_directory():
        for step in steps:
            budget.begin(step.share / whole)
            try:
                result |= step.work()
            except NotMeasured as problem:
                result |= {key: _empty(key, str(problem), broken=problem.broken) for key in step.keys}
            except Exception as error:  # a bug here or there must not cost ten minutes of other figures
                traceback.print_exc()
                result |= {key: _empty(key, repr(error), broken=True) for key in step.keys}
            budget.end(step.keys[0])
    seconds = round(time.monotonic() - begin, 1)
    result["run"] = {"plan": plan.name, "seconds": seconds, "groups": groups, "steps": budget.taken}
    return result


class Step(NamedTuple):
    """What can be measured on its own: if it fails, its figures are null, and the others are measured."""

    group: str
    share: float  # of the time
    keys: tuple[str, ...]
    work: Callable[[], dict[str, Figure]]


def _steps(plan: Plan, data: Data, budget: Budget, progress: Progress) -> list[Step]:
    """Everything there is to do, in its order."""

    def alone(group: str, share: float, key: str, function: Callable[[], Figure]) -> Step:
        return Step(group, share, (key,), lambda: {key: function()})

    def named(function: Callable[[], dict[str, Figure]], suffix: str) -> Callable[[], dict[str, Figure]]:
        return lambda: {key + suffix: each for key, each in function().items()}

    modes = {"": systems.DEFAULT, SUFFIX: systems.STRICT}
    streams = tuple(key + suffix for suffix in modes for key in stream.UNITS)
    lines = partial(footprint.measure_trusted_lines, progress)
    steps = [
        alone("footprint", 0.02, "trusted_lines", lines),
        Step("calls", 0.1, tuple(calls.UNITS), lambda: calls.measure(plan, budget, progress)),
        Step("stream", 0.4, streams, lambda: stream.measure(plan, data, budget, progress)),
    ]
    for suffix, file in modes.items():
        recover = partial(recovery.measure_recovery, plan, data, budget, progress, file)
        ratio = partial(recovery.measure_speed_ratio, plan, data, budget, progress, file)
        boots = partial(boot.measure, plan, data, budget, progress, file)
        overhead = partial(footprint.measure_overhead, data, progress, file)
        updates = partial(update.measure, plan, data, budget, progress, file)
        steps += [
            Step("update", 0.05, tuple(key + suffix for key in update.UNITS), named(updates, suffix)),
            alone("recovery", 0.11, f"recovery_ms{suffix}", recover),
            alone("recovery", 0.07, f"kill10_speed_ratio{suffix}", ratio),
            alone("boot", 0.03, f"boot_ms{suffix}", boots),
            alone("footprint", 0.01, f"component_overhead_mib{suffix}", overhead),
        ]
    reborn = Step("recovery", 0.1, tuple(rebirth.UNITS), lambda: rebirth.measure(plan, budget, progress))
    restart = partial(recovery.measure_supervisor, plan, progress)
    return [*steps, reborn, alone("recovery", 0.04, "supervisor_restart_ms", restart)]


def _empty(key: str, reason: str, *, broken: bool = False) -> Figure:
    plain = key.removesuffix(SUFFIX)
    return missing(reason, UNITS[plain], TARGETS.get(plain), broken=broken)


def broken(result: dict[str, Any]) -> list[str]:
    """The figures that should have been measured and could not be."""
    return [key for key in (*KEYS, *STRICT_KEYS) if result[key].get("broken")]


def is_shown(key: str) -> bool:
    """Is there anything to show of it?"""
    return not (key.endswith(SUFFIX) and key.removesuffix(SUFFIX) in WITHOUT_DEVICE)


def show(result: dict[str, Any], path: Path) -> None:
    """Print the machine and the table."""
    machine, run = result["machine"], result["run"]
    print(
        f"{machine['cpu']}, {machine['cpus']} CPUs ({machine['cpus_busy_before']} busy before), "
        f"Linux {machine['kernel']}, {machine['kvm']}, exit {machine['exit_us']} us; "
        f"{run['plan']} run, {run['seconds']} s; all of it in {path}"
    )
    table = Table(
        ["figure", "median", "p99", "n", "unit", "to reach", "reached", "beside"], ["median", "p99", "n"]
    )
    for key in filter(is_shown, (*KEYS, *STRICT_KEYS)):
        each = result[key]
        reached = {True: "yes", False: "NO", None: None}[each["reached"]]
        beside = each.get("reason") or _beside(key.removesuffix(SUFFIX), each)
        cells = [_number(each["median"]), _number(each["p99"]), each["n"] or None]
        table.row(key, *cells, each["unit"], each["target"], reached, beside)
    table.show()


def markdown(result: dict[str, Any]) -> str:
    """The table for a README."""
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, {machine['kvm']}:",
        "",
        "| figure | median | p99 | to reach | beside it in the same run |",
        "|---|---|---|---|---|",
    ]
    for key in filter(is_shown, (*KEYS, *STRICT_KEYS)):
        each = result[key]
        beside = each.get("reason") or _beside(key.removesuffix(SUFFIX), each)
        target = each["target"] or "-"
        if each["reached"] is not None:
            target += ", reached" if each["reached"] else ", missed"
        median, p99 = _number(each["median"]) or "-", _number(each["p99"]) or "-"
        lines.append(f"| `{key}` | {median} {each['unit']} | {p99} | {target} | {beside} |")
    return "\n".join(lines)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:g}"


def _beside(key: str, each: Figure) -> str:
    """The few words that go with a figure in the table; everything is in the file."""
    parts = []
    if "spin_us_per_call" in each:
        parts.append(f"spinning {each['spin_us_per_call']:g} us/call")
    if "idle_polling_us_per_call" in each:
        parts.append(f"idle CPUs polling {each['idle_polling_us_per_call']:g} us/call")
    if "cpus_sleep" in each:
        parts.append(f"CPUs sleep {_number(each['cpus_sleep']['median'])}")
    if "cpus_kept_awake" in each:
        parts.append(f"CPUs kept awake {_number(each['cpus_kept_awake']['median'])}")
    if "several_messages_per_system_call" in each:
        parts.append(f"{_number(each['several_messages_per_system_call'])} with several in a system call")
    for name in ("r3s3", "kernel", "squashfuse"):
        if name in each:
            parts.append(f"{name} {each[name]['mb_per_s']:g} MB/s, {each[name]['cpu_s_per_gib']:g} CPU s/GiB")
    if (alone := each.get("one_cpu", {}).get("median")) is not None:
        parts.append(f"one CPU {alone:g}")
    for name in (
        "killed_by_hypervisor",
        "guest_fault",
        "sigkill_from_outside",
        "with_16_clients",
        "without_spare",
        "foreseen",
    ):
        if name in each:
            parts.append(
                f"{name.replace('_', ' ')} {_number(each[name]['median'])}/{_number(each[name]['p99'])}"
            )
    if key == "kill10_speed_ratio":
        equal = "equal" if each["digest_equal"] else "DIFFERENT"
        parts.append(f"{each['kills']} kills, {each['failed_requests']} failed, digest {equal}")
    if "whole_command_ms" in each:
        parts.append(f"whole command {each['whole_command_ms']:g} ms")
    return "; ".join(parts)
