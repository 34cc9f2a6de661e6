"""A live component: its placement, its present instance and warm spares, and what outlives instances."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypervisor import wire
from hypervisor.abi import generated as abi
from hypervisor.channels import Connection
from hypervisor.dma import LiveDevice
from hypervisor.instances import Instance, Lifecycle, Outfit, Step
from hypervisor.memory import MemoryObject
from hypervisor.placement import End, InfoPages, Placement
from hypervisor.policy import Component, StateRegion
from hypervisor.throttle import Throttle

CHATTER_PER_S = 250  # hypercalls that cost their caller nothing (log, complain), after a burst
CHATTER_BURST = 500
_STATUS = struct.Struct("<II")
_CLOCK = struct.Struct("<Q")
_IN_USE = (abi.ChannelState.OPEN, abi.ChannelState.REOPEN)
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
        self.grant_objects: list[MemoryObject] = []  # of the present instance
        self.instance: Instance | None = None
        self.spares: list[Instance] = []
        self.unburied: list[Instance] = []  # dead, but not yet counted
        self.epoch = 0
        self.deaths = self.recoveries = 0
        self.gave_up = False
        self.exit_status: int | None = None  # of a program that has ended
        self.hasty = 0  # deaths in a row soon after the start
        self.spare_failures = 0  # since a spare was last adopted
        self.chatter = Throttle(CHATTER_PER_S, CHATTER_BURST)
        self.totals: Counter[str] = Counter()  # counters of instances that have ended
        self.progress_seen = -1
        self.cpu_at_progress_ns = 0
        self.cure = (0, 0)  # for the next instance: abi.Cure, and what its predecessor worked on
        self.former: Component | None = None  # the version before, to go back to if this one fails soon

    # -- adoption -------------------------------------------------------------------------------------

    def preparation(self) -> list[Step]:
        """What a spare can be given before it is needed: nothing of these differs between epochs."""
        op = wire.Operation
        steps = [Step(op.MAP, abi.RO_WINDOW, self.status.size, fd=self.status.read_only_fd)]
        for end, connection in self.connections:
            own, peer = connection.client_wake, connection.server_wake
            if end.role == abi.Role.SERVER:
                own, peer = peer, own
            steps.append(Step(op.DOORBELL, abi.DOORBELL_CHANNEL + end.index, fd=peer))
            steps.append(Step(op.WAKE, end.index, fd=own))
        if self.device:
            for queue, (kick, call) in enumerate(self.device.eventfds):
                steps.append(Step(op.DOORBELL, abi.DOORBELL_QUEUE + queue, fd=kick))
                steps.append(Step(op.WAKE, abi.DOORBELL_QUEUE + queue, fd=call))
        if self.arguments:
            place = self.placement.region(abi.RegionKind.ARGUMENTS)
            steps.append(Step(op.MAP, place.address, self.arguments.size, fd=self.arguments.read_only_fd))
        return steps

    def adopt(self, instance: Instance, start: int) -> list[Step]:
        """Make `instance` the running one: a new epoch, and the steps that begin it."""
        self.epoch += 1
        instance.epoch = self.epoch
        self.instance = instance
        self.progress_seen = -1
        for memory in self.grant_objects:
            memory.close()
        self.grant_objects = self._own(instance)
        _CLOCK.pack_into(self.status.map, abi.STATUS_WALL_CLOCK, time.time_ns())
        steps = self._put_on(instance, self._outfit(instance, start, 0))
        regions = [each for each in self.placement.regions if each.kind == abi.RegionKind.STATE]
        for region, (state, memory) in zip(regions, self.state_regions(), strict=True):
            if start == abi.Start.RESTART and "crash" not in state.survives:
                memory.map[:] = bytes(memory.size)
            steps.append(_map(region.address, memory))
        for region in self.placement.regions:  # a spare must not touch what its predecessor drives
            if region.kind == abi.RegionKind.MMIO and self.device and self.device.backend:
                fd, offset = self.device.backend.registers[region.unit]
                flags = wire.MAP_WRITABLE | offset
                steps.append(Step(wire.Operation.MAP, region.address, region.size, flags, fd))
        return [*steps, Step(wire.Operation.RUN)]

    def begin(self, instance: Instance, start: int, done: Callable[[], None] | None = None) -> None:
        """Let `instance` run, in a new epoch; `done` when its tender has been told everything."""
        instance.apply(self.adopt(instance, start), done)
        instance.started_ns = time.monotonic_ns()
        instance.move(Lifecycle.RUNNING)

    def dress(self, instance: Instance) -> list[Step]:
        """What a spare will want if the next to die is its predecessor, so that its adoption is one step."""
        return self._put_on(instance, self._outfit(instance, abi.Start.RESTART, 1))

    def _put_on(self, instance: Instance, outfit: Outfit) -> list[Step]:
        """Bring a tender from the outfit it has to another."""
        worn, instance.outfit = instance.outfit, outfit
        steps = [_map(*each) for each in outfit.memory if each not in worn.memory]
        if outfit.info != worn.info:
            steps.append(Step(wire.Operation.INFO, 0, len(outfit.info), info=outfit.info))
        return steps

    def _outfit(self, instance: Instance, start: int, later: int) -> Outfit:
        """The memory of one instance, and its info pages, in the present epoch or one (`later`) after it."""
        memory = [(end.address, each.next_rings if later else each.rings) for end, each in self.connections]
        objects = iter(self._own(instance))
        for region in self.placement.regions:
            if region.kind == abi.RegionKind.TELEMETRY:
                memory.append((region.address, instance.telemetry))
            elif region.kind == abi.RegionKind.VRING and self.device:
                memory.append((region.address, self.device.next_rings if later else self.device.rings))
            elif region.kind == abi.RegionKind.GRANT_OBJECT:
                memory.append((region.address, next(objects)))
        for end, connection in self.connections:
            if end.role == abi.Role.CLIENT and connection.pool and not later:
                memory.append((self._pool_address(end), connection.pool))
        if self.device:
            self.info.set_device(self.device.features, self.device.config)
        epochs = [connection.epoch + later for _, connection in self.connections]
        self.info.begin(self.epoch + later, start, instance.number, epochs, (0, 0) if later else self.cure)
        return Outfit(memory, self.info.whole())

    def _own(self, instance: Instance) -> list[MemoryObject]:
        """The memory that this instance may lend, made when it is first asked for."""
        regions = [each for each in self.placement.regions if each.kind == abi.RegionKind.GRANT_OBJECT]
        if not instance.grant_objects:
            instance.grant_objects = [MemoryObject("r3s3:grant", region.size) for region in regions]
        return instance.grant_objects

    def _pool_address(self, end: End) -> int:
        return self.placement.region(abi.RegionKind.POOL, end.channel.index).address

    def reconnect(self, instance: Instance, end: End, connection: Connection) -> list[Step]:
        """Map the present rings of one end, and a new pool if this is the end that lends it."""
        memory = {address: each for address, each in instance.outfit.memory}
        memory[end.address] = connection.rings
        if end.role == abi.Role.CLIENT and connection.pool:
            memory[self._pool_address(end)] = connection.pool
        return self._put_on(instance, Outfit(list(memory.items()), instance.outfit.info))

    def state_regions(self) -> list[tuple[StateRegion, MemoryObject]]:
        """What the policy says of each state region, and its memory."""
        return list(zip(self.policy.states, self.states, strict=True))

    def ask_quiesce(self, wanted: bool) -> None:
        """Ask the running instance to come to rest, or not to."""
        struct.pack_into("<I", self.status.map, abi.STATUS_QUIESCE, wanted)
        for end, connection in self.connections:
            connection.signal(end.role)

    def close(self) -> None:
        """Give up what outlives instances: another version has taken over, or this one never did."""
        for memory in (self.status, *self.states, *self.grant_objects):
            memory.close()

    # -- what peers are told --------------------------------------------------------------------------

    def set_state(self, end: End, state: int, epoch: int) -> None:
        """Write one entry of this component's status page."""
        _STATUS.pack_into(self.status.map, end.index * abi.STATUS_ENTRY_SIZE, state, epoch)

    def state_of(self, end: End) -> int:
        """The state this component is told for one of its ends."""
        return self.status.read_u32(end.index * abi.STATUS_ENTRY_SIZE)

    def life(self, instance: Instance) -> dict[str, Any]:
        """A row of `history`: an instance, its version, and when it served."""
        row = {"component": self.name, "version": self.policy.version, "digest": self.policy.digest}
        times = {"began_ns": instance.started_ns, "ready_ns": instance.ready_ns}
        telling = {"epoch": instance.epoch, "working": instance.telemetry_counters().working}
        return {**row, "image": self.policy.image, **telling, **times}

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
            if end.role == abi.Role.SERVER and self.state_of(end) in _IN_USE:
                one, two = connection.pending()
                waiting, progress = waiting + one, progress + two
        return waiting, progress

    def counters(self) -> Counter[str]:
        """Counters over all instances so far: the tender's, and what the guests said of themselves."""
        result = Counter(self.totals)
        for instance in (*self.unburied, *([self.running] if self.running else [])):
            result.update(_counters_of(instance))
        return result

    def bury(self, instance: Instance) -> None:
        """Keep the counters of an instance that has ended."""
        self.unburied.remove(instance)
        self.totals.update(_counters_of(instance))


def _map(address: int, memory: MemoryObject) -> Step:
    return Step(wire.Operation.MAP, address, memory.size, wire.MAP_WRITABLE, memory.fd)


def _counters_of(instance: Instance) -> dict[str, int]:
    values = {name: instance.stats.read(name) for name in _COUNTED}
    said = instance.telemetry_counters()
    values["ring_doorbells"] = said.doorbells
    for name in ("calls", "replies", "failed", "replayed", "bytes", "reconnects", "served", "spins"):
        values[name] = getattr(said, name)
    values["cpu_ns"] = instance.cpu_ns()
    return values
