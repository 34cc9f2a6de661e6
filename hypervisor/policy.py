"""The compiled policy of one system: who exists, who may talk to whom, and what each may ask.

The command line compiles manifests and a system file into these frozen records (`vmm.system`) before anything
starts; the hypervisor checks every request against them and knows no other source of authority. What is not
stated here does not exist (deny by default). Sizes are bytes, times as named.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class RestartPolicy:
    """What the reincarnation server may do about a death; interpreted there, not here."""

    policy: Literal["always", "never", "backoff"] = "always"
    backoff_ms: tuple[int, ...] = ()
    give_up_restarts: int = 0  # 0: never give up
    give_up_within_ms: int = 0
    spares: int = 1  # warm instances kept beside the running one
    poisoned: int = 0  # what to try against poisoned state, see components/protocols/supervise.toml
    group: tuple[str, ...] = ()  # who begins anew together, servers first


@dataclass(frozen=True)
class StateRegion:
    name: str
    size: int
    schema: int
    survives: frozenset[str]  # of {"crash", "update"}
    on_corruption: int = 0  # ON_CORRUPTION_*


@dataclass(frozen=True)
class Component:
    """One component or program template. `index` is its id everywhere (supervise protocol, logs)."""

    name: str
    index: int
    image: str  # path of the ELF file
    version: str
    vendor: str
    memory: int
    memory_kind: Literal["shared", "private"]
    hypercalls: frozenset[int]
    restart: RestartPolicy
    heartbeat_ms: int  # 0: not watched for progress
    states: tuple[StateRegion, ...] = ()
    is_program: bool = False  # ends by `exit`; never restarted
    digest: str = ""  # SHA-256 of the image


@dataclass(frozen=True)
class Pool:
    """I/O buffers lent by a channel's client for the channel's life: `buffers` of `buffer` bytes."""

    buffers: int
    buffer: int

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return self.buffers * self.buffer


@dataclass(frozen=True)
class GrantObjects:
    """Memory a channel's client may lend to the server, one object per request: `count` of `pages` pages."""

    count: int
    pages: int
    rights: int  # GRANT_RIGHTS_* bits it may offer


@dataclass(frozen=True)
class Protocol:
    """What an interface speaks: the names and numbers of its operations."""

    name: str
    number: int
    version: int
    operations: dict[str, int]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def names(self, mask: int) -> list[str]:
        """The operations of a mask, by name."""
        return [name for name, number in self.operations.items() if mask >> number & 1]


@dataclass(frozen=True)
class Channel:
    """One client-server connection. Interface names are the ends' own names for it.

    What comes last is decided by the system file, the rest by the client's manifest.
    """

    client_interface: str
    protocol: Protocol
    operations: int  # bit n: operation n allowed, agreed by both sides
    deadline_ms: int  # 0: none
    on_restart: int  # ON_RESTART_*
    parameter: bytes = b""  # for the server: for instance the subtree the client may see
    pool: Pool | None = None
    grants: GrantObjects | None = None
    dma: Literal["none", "pool", "per_request"] = "none"
    index: int = -1
    client: str = ""
    server: str = ""
    server_interface: str = ""
    slots: int = 0  # power of two
    slot_data: int = 0  # bytes of data area per slot


@dataclass(frozen=True)
class Device:
    """A device and the one component that drives it."""

    name: str
    component: str
    interface: str
    kind: Literal["virtio-blk", "virtio-snd", "pci"]
    queues: int  # of a PCI device: its interrupts, each with a part of the ring object
    queue_size: int
    channel_interface: str  # the driver's serving interface whose pool the device may reach
    read_only: bool = True
    identity: tuple[int, int] = (0, 0)  # of a PCI device: vendor, device
    bars: tuple[tuple[int, int], ...] = ()  # (BAR, bytes from its start) that the driver may touch


@dataclass(frozen=True)
class Policy:
    """Everything one system may do."""

    name: str
    components: tuple[Component, ...]
    channels: tuple[Channel, ...]
    devices: tuple[Device, ...]
    supervisor: str | None = None  # the reincarnation server: receives fault records

    def channels_of(self, name: str) -> list[Channel]:
        """Channels with `name` at either end, in the order of their index in the component's info page."""
        return [channel for channel in self.channels if name in (channel.client, channel.server)]


_hints = cache(get_type_hints)


def rebuild(kind: Any, value: Any) -> Any:
    """The record of type `kind` out of what `dataclasses.asdict` and JSON have made of it (of a set a list,
    of bytes hexadecimal digits). TypeError or ValueError where it is none."""
    if isinstance(kind, type) and is_dataclass(kind):
        types = _hints(kind)
        return kind(**{name: rebuild(types.get(name), each) for name, each in value.items()})
    container, parts = get_origin(kind), get_args(kind)
    if container in (tuple, frozenset):
        return container(rebuild(parts[0], each) for each in value)
    if container is dict:
        return {rebuild(parts[0], key): rebuild(parts[1], each) for key, each in value.items()}
    if type(None) in parts:
        return None if value is None else rebuild(parts[0], value)
    if kind is bytes:
        return bytes.fromhex(value)
    if value not in parts if parts else type(value) is not kind:
        raise TypeError(f"{value!r} is not {kind}")
    return value
