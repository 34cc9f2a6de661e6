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
from typing import TYPE_CHECKING

from hypervisor import supervision
from hypervisor.abi import generated as abi
from hypervisor.component import LiveComponent
from hypervisor.dma import LiveDevice
from hypervisor.faults import FaultRecord
from hypervisor.grants import Grant
from hypervisor.instances import BURIAL_S, Instance, Lifecycle

if TYPE_CHECKING:
    from hypervisor.process import Hypervisor


HASTY_NS = 20_000_000  # a reincarnation server that lived no longer than this has died hastily
HASTY_FREE = 4
HASTY_SHIFT_MAX = 10


class Recovery:
    """One death of one component, until its successor runs or it is given up."""

    def __init__(self, system: Hypervisor, component: LiveComponent, record: FaultRecord) -> None:
        self.system = system
        self.component = component
        self.record = record
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
        self._tell_peers(abi.ChannelState.DEAD)
        if component.name == system.policy.supervisor:
            self._decided(self._own_backoff(instance))  # the hypervisor alone brings it back
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

    def _tell_peers(self, state: int) -> None:
        """Deadlines of requests to this component stand still from here on."""
        for end, connection in self.component.connections:
            if connection.gone:
                continue
            self.system.tell_peer(end, connection, state)

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

    def _decided(self, delay_ms: int) -> None:
        if self._verdict is not None:
            pass  # it was foreseen
        elif delay_ms == supervision.GIVE_UP:
            self._give_up()
        elif delay_ms:
            self.system.loop.call_later(delay_ms / 1000, lambda: self._verdict_in(0))
        else:
            self._verdict_in(0)

    def _verdict_in(self, value: int) -> None:
        self._verdict = value
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
        ready = self._verdict is not None and self._device_ready and self._released
        if ready and self.successor is None:
            self._restart()

    def _restart(self) -> None:
        """Raise the epochs, start the successor, and let the peers reconnect."""
        component, system = self.component, self.system
        for end, connection in component.connections:
            if not connection.gone:
                keep_pool = end.role == abi.Role.SERVER and self._keep_pools
                system.quarantine(connection.renew(keep_pool))
                peer = system.peer_of(end)
                away = peer is not None and not peer.running  # it will offer to reopen when it is back
                state = abi.ChannelState.DEAD if away else abi.ChannelState.OPEN
                component.set_state(end, state, connection.epoch)
        self.successor = instance = system.take_spare(component)
        if component.device:  # first: its way to being set up is longer than the driver's
            self.stop_device()
            component.device.start(system.pools_of(component))
        instance.apply(component.adopt(instance, abi.Start.RESTART))
        instance.started_ns = time.monotonic_ns()
        instance.move(Lifecycle.RUNNING)
        for end, connection in component.connections:
            system.offer_reopen(end, connection, self.record.time_ns)

    def ready(self) -> None:
        """The successor serves."""
        component, system = self.component, self.system
        component.recoveries = component.deaths  # of those before it, too, that were cut short by another
        took_us = (time.monotonic_ns() - self.record.time_ns) // 1000
        system.log.add(
            component.name, component.epoch, f"recovered from {self.record.describe()} in {took_us} us"
        )
        system.figures.ready_us.append(took_us)
        if system.supervision and component.name != system.policy.supervisor:
            system.supervision.recovered(component.policy, component.epoch, took_us)

    def _give_up(self) -> None:
        component, system = self.component, self.system
        component.gave_up = True
        system.close_all(component)
        system.gave_up(component, self.record)


def other_role(role: int) -> int:
    """The opposite end's role."""
    return abi.Role.SERVER if role == abi.Role.CLIENT else abi.Role.CLIENT
