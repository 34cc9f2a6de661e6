"""Live update: new versions of components take over while their peers wait a moment.

Each new instance is started beside the old one. One after another the old ones come to rest: asked by their
status page, they take no more requests, answer those they have, and make the hypercall `quiesce`, in which
they wait. The new one then gets copies of the state regions, converts and checks them, and calls `ready`.
When all are ready they are switched at once, and peers reconnect and repeat what was not answered. Until then
nothing that the old ones have was changed: whatever fails ends the update, they return from `quiesce`, and
nobody has noticed. A new version that fails within ROLLBACK_S after the switch is replaced by the old one,
with the present state, if that has the same schema; else it is restarted like any other, for what it has
acknowledged must not be lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.faults import FaultRecord
from hypervisor.instances import BURIAL_S, Instance
from hypervisor.policy import Component
from hypervisor.recovery import Recovery

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor

WARM_S = 0.02
DEADLINE_S = 2.0  # for everything until the switch
ROLLBACK_S = 1.0


class Part:
    """One component of an update: `new` is to take the place of `old`."""

    def __init__(self, system: Hypervisor, component: Component) -> None:
        name = component.name
        self.old = old = system.components[name]
        if old.policy.is_program or not old.running or name in system.recoveries:
            raise ValueError(f"{name} is not running just now, or a program; try again when it has recovered")
        if abi.Hypercall.QUIESCE not in old.policy.hypercalls or (old.device and old.device.policy.bars):
            raise ValueError(f"{name} drives a real device, or its manifest does not allow quiesce")
        self.new = system.make(component, b"")
        self.new.epoch = old.epoch
        self.instance: Instance
        self.resting, self.asked_ns = False, 0  # does the old one rest, and when was it asked to?


class Update:
    """An update under way. ValueError or PlacementError if there cannot be one."""

    def __init__(self, system: Hypervisor, wanted: Sequence[Component]) -> None:
        if system.update:
            raise ValueError("another is under way; try again when it is over")
        if not 0 < len(wanted) == len({component.name for component in wanted}):
            raise ValueError("it names a component twice, or none")
        self._system = system
        self.parts = [Part(system, component) for component in wanted]
        for part in self.parts:  # they wait, all warm
            part.instance = system.spawn(part.new, warm=True)
        self._coming = iter(self.parts)  # those that are still to come to rest, and then to be ready
        system.updated = None
        self._timer = system.loop.call_later(DEADLINE_S, lambda: self.cancel("it took too long"))
        system.loop.call_later(WARM_S, self._next)

    def part_of(self, instance: Instance) -> Part | None:
        """The part that `instance` is the new one of."""
        return next((part for part in self.parts if part.instance is instance), None)

    def concerns(self, component: LiveComponent) -> bool:
        """Whether it is one of its old or new ones."""
        return any(component in (part.old, part.new) for part in self.parts)

    def _next(self) -> None:
        if self._system.update is not self:
            return
        part = next(self._coming, None)
        if part:
            part.asked_ns = time.monotonic_ns()
            part.old.ask_quiesce(True)
        else:
            self._switch()

    def quiesced(self, component: LiveComponent) -> bool:
        """The running instance of `component` rests; False if nobody has asked it to."""
        part = next((each for each in self.parts if each.old is component and each.asked_ns), None)
        if part is None or part.resting:
            return False
        part.resting = True
        new, instance = part.new, part.instance
        before = {state.name: memory for state, memory in part.old.state_regions()}
        for state, memory in new.state_regions():
            if state.name in before and "update" in state.survives:
                size = min(memory.size, before[state.name].size)
                memory.map[:size] = before[state.name].map[:size]
        for end, connection in new.connections:
            told = abi.ChannelState.GONE if connection.gone else abi.ChannelState.DEAD
            new.set_state(end, told, connection.epoch)
        if new.device:
            new.device.renew()  # who rests keeps what is mapped there, and so does the device
        new.begin(instance, abi.Start.UPDATE)
        return True

    def ready(self, component: LiveComponent) -> None:
        """The new version of a component has taken over the state and checked it."""
        if any(component is part.new for part in self.parts):
            self._next()

    def cancel(self, why: str) -> None:
        """The old ones go on with what they have."""
        self._end(why)
        for part in self.parts:
            self._system.discard(part.instance)
            part.new.close()
            self._system.launcher.forget(part.new.policy)
            part.old.ask_quiesce(False)
            if part.resting and part.old.running:
                part.old.running.result(0)

    def _end(self, why: str) -> None:
        self._timer.cancel()
        self._system.update, self._system.updated = None, why

    def _switch(self) -> None:
        self._end("")
        recoveries = [self._take_over(part) for part in self.parts]
        for recovery in recoveries:
            recovery.reconnect(abi.ChannelState.REOPEN)
        for recovery in recoveries:
            recovery.start_device()
            recovery.component.ask_quiesce(False)  # which wakes it
            recovery.offer_reopen()
        self._system.restock_soon()

    def _take_over(self, part: Part) -> Recovery:
        """The new one takes the old one's place; what it gets anew is as after a death."""
        system, old, new, before = self._system, part.old, part.new, part.old.instance
        assert before is not None
        version = f"updated from {old.policy.version} to {new.policy.version}"
        record = FaultRecord(new.name, old.epoch, abi.Fault.REPLACED, message=version, time_ns=part.asked_ns)
        system.lay_down(old, before)
        system.record(before, record)
        while old.spares:
            system.discard(old.spares.pop())
        new.deaths, new.recoveries, new.former = old.deaths, old.recoveries, old.policy
        new.totals, new.unburied = old.totals, old.unburied
        stay_s = ROLLBACK_S if new.policy.states == old.policy.states else 0
        system.loop.call_later(stay_s, lambda: self._settle(new))
        system.components[new.name] = new
        recovery = Recovery(system, new, record)
        recovery.rests = True
        recovery.leaving = system.leave_device(old) if old.device else []
        system.loop.call_later(BURIAL_S, lambda: system.bury(new, before))
        system.quarantine([old.status, *old.states, *old.grant_objects])
        if system.supervision:
            system.supervision.configure(new.policy)
        return recovery

    def _settle(self, new: LiveComponent) -> None:
        """There is no going back from here."""
        if new.former:
            self._system.launcher.forget(new.former)
            new.former = None
