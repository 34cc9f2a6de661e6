"""A death, step by step: freeze, revoke, record, ask, replace, reopen.

`Recovery` is created the moment an instance is judged dead. Before the successor may start, these must
come together, and nothing else is waited for: the reincarnation server's verdict and the delay it asks for,
unless it has said before that the next death will be answered by a restart at once; a device that lives (its
drain is not waited for: it comes first in what the device has to do); and, where state regions or a real
device's registers are handed over, the real end of the dead instance's process, which might still write to
them. Fresh start, and restart after a death, are two functions, not flags.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING

from hypervisor import supervision
from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.dma import LiveDevice
from hypervisor.faults import FaultRecord
from hypervisor.grants import Grant
from hypervisor.instances import BURIAL_S, Instance

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor


HASTY_NS = 20_000_000  # a reincarnation server that lived no longer than this has died hastily
GROUP_POLL_S = 0.001  # how often one looks whether those before it in its group serve again
HASTY_FREE = 4
HASTY_SHIFT_MAX = 10


class Recovery:
    """One death of one component, until its successor runs or it is given up."""

    def __init__(self, system: Hypervisor, component: LiveComponent, record: FaultRecord) -> None:
        self.system, self.component, self.record = system, component, record
        self.rests = False  # the instance before has not died, but come to rest, for an update
        self.successor: Instance | None = None
        self._verdict: int | None = None
        self._undrained = component.device
        self._device_ready = True
        # A drained device may keep reaching a pool whose client lives. Not where it takes writes: what the
        # client prepares at once could be overwritten by a read that is only now being drained.
        self._keep_pools = component.device is None or component.device.policy.read_only
        self.leaving: list[Grant] = []
        self._dead = component.instance
        # Nobody writes to its state regions, or to its device's registers, any more.
        self._released = not (component.states or (component.device and component.device.policy.bars))

    def begin(self) -> None:
        """Freeze, revoke, record, tell peers, then do or ask what is to happen; drain the device."""
        component, system = self.component, self.system
        instance = self._dead
        assert instance is not None
        self._suspect = instance.telemetry_counters().working
        if not self._released:  # handed over when the process has really ended
            instance.kill()
        else:
            instance.freeze()
        system.loop.call_later(BURIAL_S, lambda: self._bury(instance))
        if component.device:
            self.leaving = system.leave_device(component)
            component.device.renew()
            if not component.device.backend:
                self.stop_device()  # before anything is decided: another device is needed
        system.lay_down(component, instance)
        system.record(instance, self.record)
        for end, connection in component.connections:
            system.tell_peer(end, connection, abi.ChannelState.DEAD)  # deadlines stand still from here on
        if component.name == system.policy.supervisor:  # the hypervisor alone brings it back
            delay_ms = self._own_backoff(instance)
            self._decided(delay_ms, abi.Cure.FRESH if delay_ms >> HASTY_SHIFT_MAX else abi.Cure.NONE)
        elif self.record.kind == abi.Fault.REPLACED:
            self._decided(0)  # by the hypervisor, for a reason of its own
        elif component.policy.is_program or not system.supervision:
            self._decided(supervision.GIVE_UP)
        else:
            foreseen = system.supervision.foresees_restart(component.policy)
            if foreseen:
                self._decided(0)
            system.supervision.fault(component.policy, self.record, self._decided, urgent=not foreseen)
        self.stop_device()

    def stop_device(self) -> None:
        """Drain it, once."""
        device, self._undrained = self._undrained, None
        if device:
            device.stop(self._device_stopped)

    def _bury(self, instance: Instance) -> None:
        self.system.bury(self.component, instance)
        if self.system.supervision:
            self.system.supervision.ring()

    def _own_backoff(self, instance: Instance) -> int:
        """Milliseconds before the reincarnation server's restart: 0 unless it dies again and again."""
        component = self.component
        lived_ns = self.record.time_ns - instance.started_ns
        component.hasty = component.hasty + 1 if lived_ns < HASTY_NS else 0
        return 0 if component.hasty < HASTY_FREE else 1 << min(component.hasty, HASTY_SHIFT_MAX)

    def tender_gone(self, instance: Instance) -> None:
        """The process of `instance` has ended."""
        if instance is self._dead:
            self._released = True
            self._proceed()

    def device_lost(self) -> None:
        """The device, drained already, was lost before the successor started."""
        device = self.component.device
        if device and self._device_ready and self.successor is None:
            self._replace_device(device)

    def _decided(self, delay_ms: int, cure: int = abi.Cure.NONE) -> None:
        if self._verdict is not None:
            return  # it was foreseen
        self.component.cure = cure, self._suspect
        if cure:
            text = f"poisoned: {abi.names(abi.Cure).get(cure, cure)}; it worked on request {self._suspect:#x}"
            self.system.log.add(self.component.name, self.component.epoch, text, abi.LogLevel.WARNING)
        if delay_ms == supervision.GIVE_UP:
            self._give_up()
        elif delay_ms:
            self.system.loop.call_later(delay_ms / 1000, lambda: self._verdict_in(0))
        else:
            self._verdict_in(0)

    def _verdict_in(self, value: int) -> None:
        self._verdict = value
        if self.record.kind != abi.Fault.REPLACED:
            for mate in map(self.system.components.__getitem__, self.component.policy.restart.group):
                self.system.blame(mate, abi.Fault.REPLACED, f"it begins anew with {self.component.name}")
        self._proceed()

    def _device_stopped(self, drained: bool) -> None:
        device = self.component.device
        if drained or not device:
            self._left()
        else:  # it will be killed, but may just now be in the middle of a write
            device.when_gone(self._left)
        if device and self.component.gave_up:
            device.end()
        elif device and not drained and self.successor is None:
            self._replace_device(device)

    def _left(self) -> None:
        for grant in self.leaving:
            grant.busy -= 1
            grant.settle()

    def _replace_device(self, device: LiveDevice) -> None:
        self._device_ready = self._keep_pools = False
        self.system.replace_device(device, self._device_replaced)

    def _device_replaced(self) -> None:
        self._device_ready = True
        self._proceed()

    def _proceed(self) -> None:
        decided = self._verdict is not None and self.successor is None
        ready = decided and self._device_ready and self._released
        before = takewhile(self.component.name.__ne__, self.component.policy.restart.group)
        if ready and any(name in self.system.recoveries for name in before):
            self.system.loop.call_later(GROUP_POLL_S, self._proceed)
        elif ready:
            self._restart()

    def _restart(self) -> None:
        """Raise the epochs, start the successor, and let the peers reconnect."""
        self.reconnect(abi.ChannelState.OPEN)
        self.successor = instance = self.system.take_spare(self.component)
        self.start_device()  # first: its way to being set up is longer than the driver's
        self.component.begin(instance, abi.Start.RESTART)
        self.offer_reopen()

    def reconnect(self, state: int) -> None:
        """New rings for all connections, which the successor is told to be in `state`."""
        component, system = self.component, self.system
        for end, connection in component.connections:
            if not connection.gone:
                # Who rests as a client has no transfers under way, and never runs again.
                keep_pool = self._keep_pools if end.role == abi.Role.SERVER else self.rests
                system.quarantine(connection.renew(keep_pool))
                peer = system.peer_of(end)
                away = peer is not None and not peer.running  # it will offer to reopen when it is back
                component.set_state(end, abi.ChannelState.DEAD if away else state, connection.epoch)

    def start_device(self) -> None:
        """Drain the device, if it was not told yet, and set it up on the new virtqueues."""
        if self.component.device:
            self.stop_device()
            self.component.device.start(self.system.pools_of(self.component))

    def offer_reopen(self) -> None:
        """Tell the peers of the new rings."""
        for end, connection in self.component.connections:
            self.system.offer_reopen(end, connection, self.record.time_ns, same_pool=self.rests)

    def ready(self) -> None:
        """The successor serves."""
        component, system = self.component, self.system
        component.recoveries = component.deaths  # of those before it, too, that were cut short by another
        took_us = (time.monotonic_ns() - self.record.time_ns) // 1000
        system.log.add(
            component.name, component.epoch, f"recovered from {self.record.describe()} in {took_us} us"
        )
        system.figures.ready_us.append(took_us)

    def _give_up(self) -> None:
        component, system = self.component, self.system
        component.gave_up = True
        system.close_all(component)
        system.gave_up(component, self.record)


def other_role(role: int) -> int:
    """The opposite end's role."""
    return abi.Role.SERVER if role == abi.Role.CLIENT else abi.Role.CLIENT
