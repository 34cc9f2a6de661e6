"""A hypervisor process with a plan: what `vmm.system_process` does, with the plan's deaths.

Its report has, besides the usual: `records`, every fault record in the order of the deaths; `struck`, the
strikes that were carried out; `trails`, per component the numbers of the last points each of its instances
has passed, and `passed`, of all points seen there; `trace`, the functions of the hypervisor that deaths have
gone through. With a lot it has what that counts (`lottery.py`).
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from hypervisor import control, hypercalls, process, recovery, update
from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.evidence import Evidence
from hypervisor.faults import FaultRecord
from hypervisor.instances import Instance, Step
from hypervisor.policy import Component
from hypervisor.process import Hypervisor
from hypervisor.recovery import Recovery
from hypervisor.supervision import Supervision
from hypervisor.update import WARM_S, Update
from tests.system.lottery import Lottery
from tests.system.plan import (
    ENVIRONMENT,
    HANG,
    PLANTED,
    SEEN,
    SEEN_SLOTS,
    TRAIL,
    TRAIL_COUNT,
    TRAIL_SLOTS,
    Plan,
    number_of,
)  # fmt: skip
from vmm import system_process
from vmm.zygote import Zygote

PLAN = Plan.read(os.environ[ENVIRONMENT])
TRAILS_MAX = 64  # of one component; the last ones are kept
counts: dict[tuple[str, str], int] = {}
struck: list[str] = []
trace: list[str] = []
trails: dict[str, list[list[int]]] = {}
passed: dict[str, set[int]] = {}
lottery = Lottery(PLAN.lot) if PLAN.lot else None


class PlannedComponent(LiveComponent):
    """Plants the points its instances are to die at, and keeps their trails."""

    def adopt(self, instance: Instance, start: int) -> list[Step]:
        """See `LiveComponent.adopt`."""
        steps = super().adopt(instance, start)
        for point in PLAN.points:
            if point.component == self.name and self.epoch <= len(point.passages):
                passage = point.passages[self.epoch - 1] | (HANG if point.hang else 0)
                words = struct.pack("<II", number_of(point.name), passage)
                instance.telemetry.map[PLANTED : PLANTED + len(words)] = words
        if lottery:
            lottery.adopted(self, instance)
        return steps

    def bury(self, instance: Instance) -> None:
        """See `LiveComponent.bury`."""
        super().bury(instance)
        self.keep_trail(instance)

    def keep_trail(self, instance: Instance) -> None:
        """Keep the numbers of the points that `instance` has passed."""
        (count,) = struct.unpack_from("<I", instance.telemetry.map, TRAIL_COUNT)
        numbers = struct.unpack_from(f"<{TRAIL_SLOTS}H", instance.telemetry.map, TRAIL)
        first = max(0, count - TRAIL_SLOTS)
        kept = trails.setdefault(self.name, [])
        kept.append([numbers[each % TRAIL_SLOTS] for each in range(first, count)])
        seen = struct.unpack_from(f"<{SEEN_SLOTS}H", instance.telemetry.map, SEEN)
        passed.setdefault(self.name, set()).update(number for number in seen if number)
        del kept[:-TRAILS_MAX]


def reached(system: Hypervisor, step: str, of: str) -> None:
    """A step in the handling of a death has been reached: strike if the plan says so."""
    counts[step, of] = number = counts.get((step, of), 0) + 1
    if lottery:
        lottery.reached(step, of)
    for strike in PLAN.strikes:
        if (strike.step, strike.of, strike.number) != (step, of, number):
            continue
        victim = system.components[strike.victim]
        instance = victim.running
        if instance is None:
            struck.append(f"{step} {of}: {strike.victim} was dead already")
        elif strike.how == "SIGKILL":
            instance.kill()  # nobody is told: its pidfd or its socket has to tell
            struck.append(f"{step} {of}: {strike.victim}")
        else:
            system.blame(victim, abi.Fault.KILLED, f"at {step} of {of}")
            struck.append(f"{step} {of}: {strike.victim}")


class PlannedRecovery(Recovery):
    """Tells of the steps a death goes through."""

    def begin(self) -> None:
        """See `Recovery.begin`."""
        if lottery:
            lottery.died(self.record)
        super().begin()
        reached(self.system, "died", self.component.name)

    def _verdict_in(self, value: int) -> None:
        reached(self.system, "verdict", self.component.name)
        super()._verdict_in(value)

    def _restart(self) -> None:
        super()._restart()
        reached(self.system, "adopted", self.component.name)

    def ready(self) -> None:
        """See `Recovery.ready`."""
        super().ready()
        if lottery:
            lottery.ready(self.component.name)
        reached(self.system, "ready", self.component.name)


class PlannedUpdate(Update):
    """Tells of the steps an update goes through; each is of the component whose turn it is."""

    def __init__(self, system: Hypervisor, wanted: Sequence[Component]) -> None:
        super().__init__(system, wanted)
        name = self.parts[0].old.name
        system.loop.call_later(WARM_S / 2, lambda: reached(system, "spawned", name))

    def quiesced(self, component: LiveComponent) -> bool:
        """See `Update.quiesced`."""
        rests = super().quiesced(component)
        if rests:
            reached(self._system, "rests", component.name)
        return rests

    def ready(self, component: LiveComponent) -> None:
        """See `Update.ready`."""
        reached(self._system, "converted", component.name)
        if self._system.update is self:
            super().ready(component)

    def _switch(self) -> None:
        super()._switch()
        for part in self.parts:
            reached(self._system, "switched", part.old.name)


def planned_dispatch(call: hypercalls.Call) -> None:
    """See `hypercalls.dispatch`."""
    found = call.end(call.args[0]) if call.number == abi.Hypercall.RECONNECT else None
    if found:
        channel, is_client = found[0].channel, found[0].role == abi.Role.CLIENT
        reached(call.system, "reconnect", channel.server if is_client else channel.client)
        if call.component.running is not call.instance:
            return  # a hypercall of a dead instance is not looked at
    _dispatch(call)


_dispatch = hypercalls.dispatch


class PlannedRun(system_process.Run):
    """A run whose report tells what has happened."""

    def __init__(self, link: system_process.Link, request: dict[str, Any], hypervisor: Hypervisor) -> None:
        super().__init__(link, request, hypervisor)
        if lottery:
            lottery.begin(hypervisor)

    def _program_ended(self, component: LiveComponent, record: FaultRecord | None) -> None:
        if lottery:
            lottery.end()
        super()._program_ended(component, record)

    def report(self) -> dict[str, Any]:
        """See `Run.report`."""
        for live in self.hypervisor.components.values():
            if live.running and isinstance(live, PlannedComponent):
                live.keep_trail(live.running)
        return super().report() | {
            "records": [
                asdict(record) | {"registers": record.registers.hex()}
                for record in self.hypervisor.evidence.records
            ],
            "struck": struck,
            "trails": trails,
            "passed": {name: sorted(numbers) for name, numbers in passed.items()},
            "trace": trace,
            **(lottery.report() if lottery else {}),
        }


def traced(owner: type, name: str) -> None:
    """Note in `trace` each time `owner.name` is called: FILE NAME."""
    function: Callable[..., Any] = getattr(owner, name)
    file = function.__code__.co_filename.removeprefix(f"{system_process.__file__.rsplit('/', 2)[0]}/")

    @functools.wraps(function)
    def noting(*args: Any, **more: Any) -> Any:
        trace.append(f"{file} {name}")
        return function(*args, **more)

    setattr(owner, name, noting)


def main(zygote: Zygote) -> int:
    """`vmm.system_process.main`, with the plan."""
    if PLAN.trace:
        for owner, name in (
            (Hypervisor, "_on_fault"), (Hypervisor, "fail"), (Recovery, "begin"), (Evidence, "keep"),
            (Supervision, "foresees_restart"), (Supervision, "fault"), (Recovery, "_verdict_in"),
            (Recovery, "_restart"), (Recovery, "ready"),
        ):  # fmt: skip
            traced(owner, name)
    if PLAN.hasty_ns:
        setattr(recovery, "HASTY_NS", PLAN.hasty_ns)  # noqa: B010
    setattr(process, "LiveComponent", PlannedComponent)  # noqa: B010 (a type checker would refuse it)
    setattr(process, "Recovery", PlannedRecovery)  # noqa: B010
    setattr(update, "LiveComponent", PlannedComponent)  # noqa: B010
    setattr(control, "Update", PlannedUpdate)  # noqa: B010
    setattr(hypercalls, "dispatch", planned_dispatch)  # noqa: B010
    setattr(system_process, "Run", PlannedRun)  # noqa: B010
    return system_process.main(zygote)
