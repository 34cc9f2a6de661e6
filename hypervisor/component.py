"""A live component: its placement, its present instance and warm spares, and what outlives instances."""

from __future__ import annotations

import struct
import time
from collections import Counter

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.dma import LiveDevice
from hypervisor.instances import Instance, Lifecycle, Step
from hypervisor.memory import MemoryObject
from hypervisor.placement import End, InfoPages, Placement
from hypervisor.policy import Component
from hypervisor.throttle import Throttle

CHATTER_PER_S = 250  # hypercalls that cost their caller nothing (log, complain), after a burst
CHATTER_BURST = 500
_STATUS = struct.Struct("<II")
_IN_USE = (abi.CHANNEL_STATE_OPEN, abi.CHANNEL_STATE_REOPEN)
_COUNTED = ("exits", "hypercalls", "waits", "doorbells", "signals", "wakeups")


class LiveComponent:
    """One component of a running system. `epoch` counts its instances; 0 before the first."""

    def __init__(
        self,
        policy: Component,
        placement: Placement,
        info: InfoPages,
        connections: dict[int, Connection],
        device: LiveDevice | None,
        arguments: bytes,
    ) -> None:
        self.policy = policy
        self.name = policy.name
        self.placement = placement
        self.info = info
        self.device = device
        self.connections = [(end, connections[end.channel.index]) for end in placement.ends]
        self.status = MemoryObject("r3s3:status", abi.PAGE_SIZE, sole_writer=True)
        self.states = [MemoryObject(f"r3s3:state:{state.name}", state.size) for state in policy.states]
        self.arguments: MemoryObject | None = None
        if arguments:
            self.arguments = MemoryObject("r3s3:arguments", len(arguments), sole_writer=True)
            self.arguments.map[: len(arguments)] = arguments
        self.grant_objects: list[MemoryObject] = []
        self.instance: Instance | None = None
        self.spares: list[Instance] = []
        self.epoch = 0
        self.deaths = 0
        self.recoveries = 0
        self.gave_up = False
        self.exit_status: int | None = None  # of a program that has ended
        self.hasty = 0  # deaths in a row soon after the start
        self.spare_failures = 0  # since a spare was last adopted
        self.chatter = Throttle(CHATTER_PER_S, CHATTER_BURST)
        self.totals: Counter[str] = Counter()  # counters of instances that have ended
        self.progress_seen = -1
        self.cpu_at_progress_ns = 0

    # -- adoption -------------------------------------------------------------------------------------

    def preparation(self) -> list[Step]:
        """What a spare can be given before it is needed: nothing of these differs between epochs."""
        op = wire.Operation
        steps = [Step(op.MAP, abi.RO_WINDOW, self.status.size, fd=self.status.read_only_fd)]
        for end, connection in self.connections:
            own, peer = connection.client_wake, connection.server_wake
            if end.role == abi.ROLE_SERVER:
                own, peer = peer, own
            steps.append(Step(op.DOORBELL, abi.DOORBELL_CHANNEL + end.index, fd=peer))
            steps.append(Step(op.WAKE, end.index, fd=own))
        if self.device:
            for queue, (kick, call) in enumerate(self.device.eventfds):
                steps.append(Step(op.DOORBELL, abi.DOORBELL_QUEUE + queue, fd=kick))
                steps.append(Step(op.WAKE, abi.DOORBELL_QUEUE + queue, fd=call))
        if self.arguments:
            place = self.placement.region(abi.REGION_KIND_ARGUMENTS)
            steps.append(Step(op.MAP, place.address, self.arguments.size, fd=self.arguments.read_only_fd))
        whole = self.info.whole()
        steps.append(Step(op.INFO, 0, len(whole), info=whole))
        return steps

    def adopt(self, instance: Instance, start: int) -> list[Step]:
        """Make `instance` the running one: a new epoch, and the steps that begin it."""
        op = wire.Operation
        self.epoch += 1
        instance.epoch = self.epoch
        self.instance = instance
        self.progress_seen = -1
        telemetry = self.placement.region(abi.REGION_KIND_TELEMETRY)
        steps = [Step(op.MAP, telemetry.address, telemetry.size, wire.MAP_WRITABLE, instance.telemetry.fd)]
        for end, connection in self.connections:
            steps += self.ring_steps(end, connection)
        self._renew_grant_objects()
        objects = iter(self.grant_objects)
        states = iter(self.states)
        for region in self.placement.regions:
            memory = None
            if region.kind == abi.REGION_KIND_VRING and self.device:
                memory = self.device.rings
            elif region.kind == abi.REGION_KIND_GRANT_OBJECT:
                memory = next(objects)
            elif region.kind == abi.REGION_KIND_STATE:
                memory = next(states)
            if memory:
                steps.append(Step(op.MAP, region.address, memory.size, wire.MAP_WRITABLE, memory.fd))
        if self.device:
            self.info.set_device(self.device.features, self.device.config)
        epochs = [connection.epoch for _, connection in self.connections]
        self.info.begin(self.epoch, start, instance.number, (time.time_ns(), 0), epochs)
        head = self.info.whole() if self.device else self.info.head()
        steps.append(Step(op.INFO, 0, len(head), info=head))
        steps.append(Step(op.RUN))
        return steps

    def ring_steps(self, end: End, connection: Connection) -> list[Step]:
        """Map the present rings of one end, and the pool if this is the end that lends it."""
        op = wire.Operation
        rings = connection.rings
        steps = [Step(op.MAP, end.address, rings.size, wire.MAP_WRITABLE, rings.fd)]
        if end.role == abi.ROLE_CLIENT and connection.pool:
            place = self.placement.region(abi.REGION_KIND_POOL, end.channel.index)
            pool = connection.pool
            steps.append(Step(op.MAP, place.address, pool.size, wire.MAP_WRITABLE, pool.fd))
        return steps

    def _renew_grant_objects(self) -> None:
        for memory in self.grant_objects:
            memory.close()
        self.grant_objects = [
            MemoryObject("r3s3:grant", region.size)
            for region in self.placement.regions
            if region.kind == abi.REGION_KIND_GRANT_OBJECT
        ]

    # -- what peers are told --------------------------------------------------------------------------

    def set_state(self, end: End, state: int, epoch: int) -> None:
        """Write one entry of this component's status page."""
        _STATUS.pack_into(self.status.map, end.index * abi.STATUS_ENTRY_SIZE, state, epoch)

    def state_of(self, end: End) -> int:
        """The state this component is told for one of its ends."""
        return self.status.read_u32(end.index * abi.STATUS_ENTRY_SIZE)

    # -- watching -------------------------------------------------------------------------------------

    @property
    def running(self) -> Instance | None:
        """The present instance if it is running."""
        instance = self.instance
        return instance if instance and instance.state is Lifecycle.RUNNING else None

    def pending(self) -> tuple[int, int]:
        """(unparked requests waiting for this server, progress counter), summed over its live channels."""
        waiting = progress = 0
        for end, connection in self.connections:
            if end.role == abi.ROLE_SERVER and self.state_of(end) in _IN_USE:
                one, two = connection.pending()
                waiting, progress = waiting + one, progress + two
        return waiting, progress

    def counters(self) -> Counter[str]:
        """Counters over all instances so far: the tender's, and what the guests said of themselves."""
        result = Counter(self.totals)
        if self.instance and self.instance.alive:
            result.update(_counters_of(self.instance))
        return result

    def retire(self, instance: Instance) -> None:
        """Keep the counters of an instance that ends."""
        self.totals.update(_counters_of(instance))


def _counters_of(instance: Instance) -> dict[str, int]:
    values = {name: instance.stats.read(name) for name in _COUNTED}
    said = instance.telemetry_counters()
    values["ring_doorbells"] = said.doorbells
    for name in ("calls", "replies", "failed", "replayed", "bytes", "reconnects", "served", "spins"):
        values[name] = getattr(said, name)
    values["cpu_ns"] = instance.cpu_ns()
    return values
