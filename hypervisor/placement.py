"""Placement: where everything a component may touch lies in its memory, and the info pages that say so.

Addresses are decided once per component from the policy; a new instance and a new epoch find everything at
the same place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.channels import Geometry
from hypervisor.memory import page_align
from hypervisor.policy import Channel, Component, Device, Policy

_GUARD = 0x10000  # unmapped space between neighbours, so that running off an object is a fault
GRANT_SLOT = 0x100000
GRANT_SLOTS = 64
_NONE = 0xFFFFFFFF


class PlacementError(Exception):
    """The policy asks for more than an address space holds."""


@dataclass(frozen=True)
class End:
    """One end of a channel as its component sees it. `index` numbers its channels and doorbells."""

    index: int
    channel: Channel
    role: int
    address: int


class Region(NamedTuple):
    """One region entry; `channel` is the policy index of the channel it belongs to, or None."""

    name: str
    kind: int
    channel: int | None
    address: int
    size: int
    iova: int = 0
    unit: int = 0
    state: tuple[int, int] = (0, 0)  # of a state region: schema, on_corruption


@dataclass
class Placement:
    """Everything placed for one component."""

    component: Component
    ends: list[End] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    grants_writable: int = 0  # first of GRANT_SLOTS slots in the read-write window
    grants_read_only: int = 0

    def end(self, channel: Channel, role: int) -> End:
        """The end of `channel` with `role`."""
        return next(e for e in self.ends if e.channel.index == channel.index and e.role == role)

    def region(self, kind: int, channel: int | None = None) -> Region:
        """The first region of `kind` (of policy channel `channel`, if given); StopIteration if none."""
        return next(r for r in self.regions if r.kind == kind and channel in (None, r.channel))


class _Space:
    def __init__(self, owner: str, start: int, size: int) -> None:
        self._owner, self._next, self._end = owner, start, start + size

    def take(self, size: int) -> int:
        address = self._next
        self._next += page_align(size) + _GUARD
        if self._next > self._end:
            what = "its channels, pools and grants do not fit; lower slots, slot_data, buffers or clients"
            raise PlacementError(f"component {self._owner}: {what}")
        return address


def place(policy: Policy, component: Component, arguments_size: int = 0) -> Placement:
    """Place the channels, pools, grant objects, rings and state of `component`.

    Raises PlacementError when the windows are too small for what the manifests ask.
    """
    writable = _Space(component.name, abi.RW_WINDOW, abi.RW_WINDOW_SIZE)
    read_only = _Space(component.name, abi.RO_WINDOW, abi.RO_WINDOW_SIZE)
    read_only.take(abi.PAGE_SIZE)  # the status page, at the window's start
    result = Placement(component)
    add = result.regions.append
    telemetry = writable.take(abi.PAGE_SIZE)
    add(Region("telemetry", abi.RegionKind.TELEMETRY, None, telemetry, abi.PAGE_SIZE))
    for channel in policy.channels_of(component.name):
        size = Geometry.of(channel.slots, channel.slot_data).size
        for role, name in ((abi.Role.CLIENT, channel.client), (abi.Role.SERVER, channel.server)):
            if name == component.name:
                result.ends.append(End(len(result.ends), channel, role, writable.take(size)))
        if channel.client == component.name:
            result.regions += _lent(channel, writable)
    device = next((d for d in policy.devices if d.component == component.name), None)
    if device:
        result.regions += _of_device(policy, device, writable)
    for state in component.states:
        size, version = page_align(state.size), (state.schema, state.on_corruption)
        add(Region(state.name, abi.RegionKind.STATE, None, writable.take(size), size, state=version))
    if arguments_size:
        address = read_only.take(arguments_size)
        add(Region("arguments", abi.RegionKind.ARGUMENTS, None, address, arguments_size))
    if len(result.ends) > abi.CHANNELS or len(result.regions) > abi.REGIONS:
        what = f"{len(result.ends)} channels and {len(result.regions)} regions"
        most = f"{abi.CHANNELS} and {abi.REGIONS} fit"
        raise PlacementError(f"component {component.name}: {what}; at most {most}")
    result.grants_writable = writable.take(GRANT_SLOTS * GRANT_SLOT)
    result.grants_read_only = read_only.take(GRANT_SLOTS * GRANT_SLOT // 2)
    return result


def _lent(channel: Channel, space: _Space) -> Iterator[Region]:
    """What the client of `channel` lends: its pool, or its grant objects."""
    name, index = channel.client_interface, channel.index
    if pool := channel.pool:
        address = space.take(pool.size)
        yield Region(name, abi.RegionKind.POOL, index, address, pool.size, unit=pool.buffer)
    if channel.grants:
        size = channel.grants.pages * abi.PAGE_SIZE
        if size > GRANT_SLOT:
            what = f"a grant object of {size} bytes; lower its pages, {GRANT_SLOT} bytes can be mapped"
            raise PlacementError(f"component {channel.client}: {what}")
        for _ in range(channel.grants.count):
            yield Region(name, abi.RegionKind.GRANT_OBJECT, index, space.take(size), size)


def _of_device(policy: Policy, device: Device, space: _Space) -> Iterator[Region]:
    """The driver's virtqueues and registers, and the pools it may point the device at without seeing them."""
    size = device.queues * abi.VRING_STRIDE
    address, unit = space.take(size), device.queue_size
    yield Region(device.interface, abi.RegionKind.VRING, None, address, size, abi.VRING_IOVA, unit)
    for bar, size in device.bars:
        yield Region(f"bar{bar}", abi.RegionKind.MMIO, None, space.take(size), size, unit=bar)
    iova = abi.POOL_IOVA
    for channel in policy.channels_of(device.component):
        name, index = channel.server_interface, channel.index
        serves = channel.server == device.component and name == device.channel_interface
        if serves and (pool := channel.pool):
            yield Region(name, abi.RegionKind.POOL, index, 0, pool.size, iova, pool.buffer)
            iova += page_align(pool.size) + abi.PAGE_SIZE


class Machine(NamedTuple):
    """What guests are told about the host; `cpus` are those this system may use."""

    tsc_khz: int
    cpus: int
    spin_ns: int  # the longest spin that pays before a wait


class InfoPages:
    """The info pages of one component: fixed parts packed once, epochs filled in for each instance."""

    def __init__(self, placement: Placement, heap: tuple[int, int], machine: Machine) -> None:
        component = placement.component
        self._pages = bytearray(abi.INFO_PAGES * abi.PAGE_SIZE)
        self._info = info = abi.Info(abi.INFO_MAGIC, abi.ABI_VERSION, name=component.name.encode())
        info.channels, info.regions = len(placement.ends), len(placement.regions)
        info.tsc_khz, info.cpus, info.spin_ns = machine
        info.heap_base, info.heap_size = heap
        parameters = abi.INFO_PARAMETERS
        for end in placement.ends:
            parameter = end.channel.parameter if end.role == abi.Role.SERVER else b""
            if parameters + len(parameter) > len(self._pages):
                raise PlacementError(f"component {component.name}: its channel parameters do not fit")
            self._put(abi.INFO_CHANNELS + end.index * abi.ChannelEntry.SIZE, _entry(end, parameters))
            self._put(parameters, parameter)
            parameters += len(parameter)
        self._used = parameters
        local = {end.channel.index: end.index for end in placement.ends}
        for index, region in enumerate(placement.regions):
            channel = _NONE if region.channel is None else local[region.channel]
            entry = abi.RegionEntry(region.name.encode(), region.kind, channel, *region[3:7], *region.state)
            self._put(abi.INFO_REGIONS + index * abi.RegionEntry.SIZE, entry.pack())

    def _put(self, offset: int, data: bytes) -> None:
        self._pages[offset : offset + len(data)] = data

    def set_device(self, features: int, config: bytes) -> None:
        """What was negotiated with the component's device; `config` at most 256 bytes."""
        self._put(abi.INFO_DEVICE, struct.pack("<Q256s", features, config[:256]))

    def begin(self, epoch: int, start: int, instance: int, epochs: list[int], cure: tuple[int, int]) -> None:
        """Fill in what differs between instances; `epochs` one per end; `cure` and what it is for."""
        self._info.epoch, self._info.start, self._info.instance = epoch, start, instance
        self._info.cure, self._info.suspect = cure
        self._put(0, self._info.pack())
        at = abi.INFO_CHANNELS + abi.ChannelEntry.OFFSETS["epoch"]
        for index, value in enumerate(epochs):
            struct.pack_into("<I", self._pages, at + index * abi.ChannelEntry.SIZE, value)

    def whole(self) -> bytes:
        """Everything in use."""
        return bytes(self._pages[: self._used])


def _entry(end: End, parameters: int) -> bytes:
    """The channel's entry; what the server alone is told is at `parameters`."""
    channel, is_client = end.channel, end.role == abi.Role.CLIENT
    geometry = Geometry.of(channel.slots, channel.slot_data)
    name, peer = channel.client_interface, channel.server
    if not is_client:
        name, peer = channel.server_interface, channel.client
    entry = abi.ChannelEntry(name.encode(), peer.encode(), end.role, channel.slots, end.address)
    entry.size, entry.data_offset, entry.slot_data = geometry.size, geometry.data, channel.slot_data
    entry.doorbell = abi.DOORBELL_CHANNEL + end.index
    entry.deadline_ms, entry.on_restart = channel.deadline_ms, channel.on_restart
    entry.operations = channel.operations
    entry.protocol = channel.protocol.number << 16 | channel.protocol.version
    if channel.parameter and not is_client:
        entry.parameter_offset, entry.parameter_length = parameters, len(channel.parameter)
    return entry.pack()
