"""Everybody dies by lot, inside the hypervisor process of a system under test. See `plan.Lot`.

Nothing waits for a time. Each instance draws what it is to die of: at the n-th passage of a point in its
code, or after n requests, by a kill or by SIGKILL from outside; now and then another is struck down at the
same moment. And at each step of the handling of a death it is drawn whether somebody is struck: the
successor, who is not ready yet, the reincarnation server, which decides, any other, a spare, a device, or the
zygote, of which all processes come.
What is drawn depends on the seed and the number of the instance or step alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
from collections import Counter
from typing import Any, NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.faults import FaultRecord
from hypervisor.instances import Instance
from hypervisor.process import Hypervisor
from tests.system.plan import PLANTED, Lot, number_of
from vmm.launch import Disk, ProcessLauncher

LOOK_S = 0.001  # how often it is looked how many requests there were
TOGETHER = 0.15  # how probable it is that another is struck down at the same moment
AT_STEP = 0.05  # and that somebody is at a step
WAYS = ("point", "kill", "SIGKILL")
OTHERS = {"spare": 6, "device": 3, "zygote": 1}  # how many lots each has; a component has as many as a spare
WAY_OF = {
    abi.Fault.KILLED: "kill", abi.Fault.TENDER_DIED: "SIGKILL", abi.Fault.DEVICE_DIED: "its device died"
}  # fmt: skip

# What somebody dies of who waits for his process for too long.
WITHOUT_TENDER = (abi.Fault.HUNG, abi.Fault.TENDER_UNRESPONSIVE)


class Fate(NamedTuple):
    """Instance `epoch` of a component is struck after so many requests."""

    epoch: int
    requests: int
    way: str


class Lottery:
    """Draws and strikes, and counts what everybody has really died of."""

    def __init__(self, lot: Lot) -> None:
        self._lot = lot
        self._system: Hypervisor | None = None
        self._fates: dict[str, Fate] = {}
        self._planted: dict[str, int] = {}
        self._steps: Counter[tuple[str, str]] = Counter()
        self._away: set[str] = set()
        self._kills: dict[str, Counter[str]] = {name: Counter() for name in (*lot.requests, *OTHERS)}
        self._overlapping = 0  # while another component was away
        self._unready = 0  # of a successor that was not ready yet
        self._unmeant: list[str] = []
        victims = [*lot.requests, *OTHERS]
        self._victims = [name for name in victims for _ in range(OTHERS.get(name, OTHERS["spare"]))]

    def begin(self, system: Hypervisor) -> None:
        """The system is about to boot."""
        self._system = system
        system.loop.call_later(LOOK_S, self._look)

    def end(self) -> None:
        """Nobody else is to die."""
        system, self._system = self._system, None
        for live in system.components.values() if system else ():
            if live.running:
                live.running.telemetry.map[PLANTED : PLANTED + 4] = bytes(4)

    def _dice(self, *what: object) -> random.Random:
        return random.Random(" ".join(map(str, (self._lot.seed, *what))))

    # -- what is drawn --------------------------------------------------------------------------------

    def adopted(self, component: LiveComponent, instance: Instance) -> None:
        """Draw what this instance is to die of."""
        mean = self._lot.requests.get(component.name)
        if mean is None or self._system is None:
            return
        dice = self._dice(component.name, instance.epoch)
        way = dice.choice(WAYS)
        if way == "point":  # there are those that it may never pass: then it dies later of something else
            number, passage = number_of(dice.choice(self._lot.points[component.name])), dice.randint(1, mean)
            self._planted[component.name] = number
            instance.telemetry.map[PLANTED : PLANTED + 8] = struct.pack("<II", number, passage)
            requests, way = 3 * mean, "kill"
        else:
            requests = dice.randint(1, 2 * mean - 1)
        self._fates[component.name] = Fate(instance.epoch, requests, way)

    def _look(self) -> None:
        if self._system is None:
            return
        for name, fate in list(self._fates.items()):
            instance = self._system.components[name].running
            if instance and instance.epoch == fate.epoch:
                said = instance.telemetry_counters()
                if said.served + said.calls >= fate.requests:
                    del self._fates[name]
                    self._strike(name, fate.way)
                    dice = self._dice("together", name, fate.epoch)
                    if dice.random() < TOGETHER:
                        self._strike(dice.choice(self._victims), dice.choice(WAYS))
        if self._system:
            self._system.loop.call_later(LOOK_S, self._look)

    def reached(self, step: str, of: str) -> None:
        """A step in the handling of a death has been reached."""
        self._steps[step, of] += 1
        dice = self._dice(step, of, self._steps[step, of])
        if self._system and dice.random() < AT_STEP:
            self._strike(dice.choice(self._victims), dice.choice(WAYS))

    def _strike(self, victim: str, way: str) -> None:
        """Kill, if it is there; a point is no way to die at once, and means a kill."""
        system = self._system
        assert system
        if victim == "device":
            dice = self._dice(victim, self._kills[victim].total())
            backend = dice.choice(list(system.devices.values())).backend
            if not isinstance(backend, Disk) or backend._pidfd < 0:
                return
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                signal.pidfd_send_signal(backend._pidfd, signal.SIGKILL)
        elif victim == "spare":
            spares = [spare for live in system.components.values() for spare in live.spares]
            if not spares:
                return
            self._dice(victim, self._kills[victim].total()).choice(spares).kill()
        elif victim == "zygote":
            assert isinstance(system.launcher, ProcessLauncher)
            # Our child: nobody else has this number until we have waited for it.
            os.kill(system.launcher._zygote.pid, signal.SIGKILL)
        else:
            live = system.components[victim]
            if way == "SIGKILL" and live.running:
                live.running.kill()  # nobody is told: its pidfd or its socket has to tell
            else:
                system.blame(live, abi.Fault.KILLED, "by lot")
            return  # counted when it has died
        self._kills[victim]["SIGKILL"] += 1

    # -- what happens ---------------------------------------------------------------------------------

    def died(self, record: FaultRecord) -> None:
        """Count a death."""
        if record.kind == abi.Fault.REPLACED or record.component not in self._lot.requests:
            return
        planted = record.kind == abi.Fault.EXCEPTION and record.address == self._planted.get(record.component)
        way = "point" if planted else WAY_OF.get(abi.Fault(record.kind))
        if record.kind in WITHOUT_TENDER and not self._has_tender(record.component):
            way = "no zygote"
        if way is None:
            self._unmeant.append(f"{record.component} {record.epoch}: {record.describe()}")
        else:
            self._kills[record.component][way] += 1
        self._overlapping += bool(self._away - {record.component})
        self._unready += record.component in self._away
        self._away.add(record.component)

    def _has_tender(self, name: str) -> bool:
        """Whether the component's instance has got its process; not while there is no zygote."""
        instance = self._system.components[name].instance if self._system else None
        return instance is None or instance.pidfd >= 0 or not self._kills["zygote"]

    def ready(self, name: str) -> None:
        """A successor serves."""
        self._away.discard(name)

    def report(self) -> dict[str, Any]:
        """How many died of what, how many deaths overlapped with others, and what was not meant."""
        return {
            "by_lot": {name: dict(ways) for name, ways in self._kills.items()},
            "overlapping": self._overlapping,
            "before_ready": self._unready,
            "unmeant": self._unmeant,
        }
