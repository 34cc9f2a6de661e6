"""Component manifests: what one component is, serves and needs. Nothing that is not stated exists.

`read` checks everything that can be checked from the manifest and the protocol descriptions alone;
how components fit together is the business of `vmm.system`. Raises the errors of `vmm.document`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from hypervisor.abi import generated as abi
from hypervisor.policy import GrantObjects, Pool, RestartPolicy, StateRegion
from vmm.document import Document, ManifestError, ProtocolFileError, Table, check_name, suggestion

PROTOCOLS = Path(__file__).resolve().parents[1] / "components" / "protocols"
INTERFACE_NAME_MAX = abi.NAME_MAX - 1  # with a NUL in its field of the info page
COMPONENT_NAME_MAX = 31  # the same
MEMORY_MIN = 4 << 20  # room for image, heap and stack
OBJECT_MAX = 64 << 20  # one pool or state region
ROOT_MAX = 255

_PAGE = abi.PAGE_SIZE
_RIGHTS = {"r": abi.GRANT_RIGHTS_READ, "w": abi.GRANT_RIGHTS_WRITE, "c": abi.GRANT_RIGHTS_COPY}
_OFFERS = ("r", "w", "rw", "c", "rc", "wc", "rwc")
_ON_RESTART = {name: number for number, name in abi.ON_RESTART_NAMES.items()}


@dataclass(frozen=True)
class Protocol:
    """A protocol as manifests need it: the names and numbers of its operations."""

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
class Serves:
    """An interface this component serves."""

    protocol: Protocol
    operations: int  # bit n: operation n
    clients: int
    slots: int
    slot_data: int


@dataclass(frozen=True)
class Uses:
    """An interface this component needs."""

    protocol: Protocol
    operations: int
    deadline_ms: int
    on_restart: int
    parameter: bytes
    pool: Pool | None
    grants: GrantObjects | None
    dma: Literal["none", "pool", "per_request"]


@dataclass(frozen=True)
class DeviceNeed:
    """A device this component drives, and the interface whose I/O buffers the device may reach."""

    kind: Literal["virtio-blk"]
    queues: int
    queue_size: int
    channel: str


@dataclass(frozen=True)
class Manifest:
    """One component's manifest. `document` finds lines for errors met later."""

    document: Document
    name: str
    image: str
    version: str
    vendor: str
    memory: int
    memory_kind: Literal["shared", "private"]
    hypercalls: frozenset[int]
    restart: RestartPolicy
    heartbeat_ms: int
    cpu_percent: int
    serves: dict[str, Serves]
    uses: dict[str, Uses]
    devices: dict[str, DeviceNeed]
    states: tuple[StateRegion, ...]


def read_protocols(folder: Path = PROTOCOLS) -> dict[str, Protocol]:
    """Every protocol described in `folder`, by "name@version"."""
    found: dict[str, Protocol] = {}
    for file in sorted(folder.glob("*.toml")):
        table = Document(file, ProtocolFileError).table
        operations = {
            name: operation.number("id", 0, 63) for name, operation in table.entries("operation", 63).items()
        }
        protocol = Protocol(
            table.text("name"),
            table.number("number", 1, 0xFFFF),
            table.number("version", 1, 0xFFFF),
            operations,
        )
        found[str(protocol)] = protocol
    return found


def read(file: Path, protocols: dict[str, Protocol]) -> Manifest:
    """The manifest in `file`."""
    document = Document(file, ManifestError)
    top = document.table
    component = top.table("component", required=True)
    vm = top.table("vm", required=True)
    vm.number("vcpus", 1, 1, default=1)
    name = component.text("name")
    check_name(component, "name", name, COMPONENT_NAME_MAX)
    image = component.text("image")
    if "/" in image or not image:
        raise component.error(
            "image", f'"{image}" is not the plain name of a file', "name the file, not its folder"
        )
    hypercalls = top.table("hypercalls")
    allowed = hypercalls.names("allow", abi.HYPERCALL_NUMBERS, "hypercalls", required=False)
    hypercalls.end()
    quotas = top.table("quotas")
    restart = top.table("restart")
    manifest = Manifest(
        document=document,
        name=name,
        image=image,
        version=component.text("version"),
        vendor=component.text("vendor"),
        memory=vm.size("memory", abi.VM_MEMORY_MAX, _PAGE),
        memory_kind=cast(
            Literal["shared", "private"], vm.choice("memory_kind", ("shared", "private"), "shared")
        ),
        hypercalls=frozenset(abi.HYPERCALL_NUMBERS[call] for call in allowed),
        heartbeat_ms=restart.number("heartbeat_ms", 0, 3_600_000, default=0),
        restart=_restart(restart),
        cpu_percent=quotas.number("cpu_percent", 1, 100, default=0),
        serves={
            name: _serves(table, protocols)
            for name, table in top.entries("serves", INTERFACE_NAME_MAX).items()
        },
        uses=_all_uses(top, protocols),
        devices={name: _device(table) for name, table in top.entries("device", INTERFACE_NAME_MAX).items()},
        states=tuple(_state(name, table) for name, table in top.entries("state", INTERFACE_NAME_MAX).items()),
    )
    for table in (component, vm, quotas, top):
        table.end()
    if manifest.memory < MEMORY_MIN:
        raise vm.error("memory", f"{vm.text('memory')} is too little", "use at least 4 MiB")
    _check_devices(manifest)
    for name in manifest.uses.keys() & manifest.serves.keys():
        raise document.error(
            ("uses", name), f'"{name}" is also served', "give the two interfaces different names"
        )
    return manifest


def _restart(table: Table) -> RestartPolicy:
    give_up = table.table("give_up")
    stated = "give_up" in table
    policy = RestartPolicy(
        policy=cast(
            Literal["always", "never", "backoff"],
            table.choice("policy", ("always", "never", "backoff"), "always"),
        ),
        backoff_ms=table.numbers("backoff_ms", 0, 3_600_000),
        give_up_restarts=give_up.number("restarts", 1, 1_000_000, None if stated else 0),
        give_up_within_ms=1000 * give_up.number("within_s", 1, 1_000_000, None if stated else 0),
        spares=table.number("spares", 0, 4, default=1),
    )
    give_up.end()
    table.end()
    if policy.policy == "backoff" and not policy.backoff_ms:
        raise table.error("policy", '"backoff" without delays', "add backoff_ms = [0, 10, 100]")
    return policy


def _protocol(table: Table, protocols: dict[str, Protocol]) -> Protocol:
    text = table.text("protocol")
    if text in protocols:
        return protocols[text]
    name = text.partition("@")[0]
    versions = sorted(str(protocol) for protocol in protocols.values() if protocol.name == name)
    if versions:
        raise table.error("protocol", f'there is no "{text}"', f"versions of {name}: {', '.join(versions)}")
    raise table.error("protocol", f'no protocol "{text}"', suggestion(text, protocols, "protocols"))


def _operations(table: Table, protocol: Protocol) -> int:
    names = table.names("operations", protocol.operations, f"operations of {protocol}")
    return sum(1 << protocol.operations[name] for name in names)


def _serves(table: Table, protocols: dict[str, Protocol]) -> Serves:
    protocol = _protocol(table, protocols)
    serves = Serves(
        protocol=protocol,
        operations=_operations(table, protocol),
        clients=table.number("clients", 1, abi.CHANNELS, default=1),
        slots=table.power("slots", abi.CHANNEL_SLOTS_MAX),
        slot_data=table.size("slot_data", abi.SLOT_DATA_MAX, _PAGE, default="4 KiB"),
    )
    table.end()
    return serves


def _all_uses(top: Table, protocols: dict[str, Protocol]) -> dict[str, Uses]:
    pools = {name: _pool(table) for name, table in top.entries("pool", INTERFACE_NAME_MAX).items()}
    grants = {name: _grants(table) for name, table in top.entries("grants", INTERFACE_NAME_MAX).items()}
    tables = top.entries("uses", INTERFACE_NAME_MAX)
    for kind, names in (("pool", pools), ("grants", grants)):
        for name in names.keys() - tables.keys():
            raise top.document.error(
                (kind, name), f'no interface "{name}" is used', suggestion(name, tables, "used interfaces")
            )
    return {
        name: _uses(table, protocols, pools.get(name), grants.get(name)) for name, table in tables.items()
    }


def _uses(
    table: Table, protocols: dict[str, Protocol], pool: Pool | None, grants: GrantObjects | None
) -> Uses:
    protocol = _protocol(table, protocols)
    uses = Uses(
        protocol=protocol,
        operations=_operations(table, protocol),
        deadline_ms=table.number("deadline_ms", 1, 3_600_000, default=0),
        on_restart=_ON_RESTART[table.choice("on_restart", tuple(_ON_RESTART), "replay")],
        parameter=_root(table) if protocol.name == "fs" else b"",
        pool=pool,
        grants=grants,
        dma=cast(
            Literal["none", "pool", "per_request"],
            table.choice("dma", ("none", "pool", "per_request"), "pool" if pool else "none"),
        ),
    )
    table.end()
    name = table.path[-1]
    if uses.dma == "pool" and not pool:
        raise table.error("dma", '"pool" without a pool', f"add [pool.{name}]")
    if uses.dma == "per_request" and not grants:
        raise table.error("dma", '"per_request" without pages to lend', f"add [grants.{name}]")
    return uses


def _root(table: Table) -> bytes:
    """The subtree an fs client may see: an absolute path without "", "." or ".." in it."""
    root = table.text("root", "/")
    parts = root.split("/")
    if parts[0] or (root != "/" and {"", ".", ".."} & set(parts[1:])) or "\0" in root:
        raise table.error("root", f'"{root}" is not a plain absolute path', 'write it as "/usr/share"')
    if len(root.encode()) > ROOT_MAX:
        raise table.error("root", "the path is too long", f"use at most {ROOT_MAX} bytes")
    return root.encode()


def _pool(table: Table) -> Pool:
    pool = Pool(table.number("buffers", 1, 4096), table.size("buffer", 4 << 20, _PAGE))
    table.end()
    if pool.buffers * pool.buffer > OBJECT_MAX:
        raise table.error("buffers", "the pool is larger than 64 MiB", "use fewer or smaller buffers")
    return pool


def _grants(table: Table) -> GrantObjects:
    objects = GrantObjects(
        count=table.number("objects", 1, abi.REGIONS, default=1),
        pages=table.number("pages", 1, OBJECT_MAX // _PAGE),
        rights=sum(_RIGHTS[letter] for letter in table.choice("offer", _OFFERS)),
    )
    table.end()
    return objects


def _device(table: Table) -> DeviceNeed:
    device = DeviceNeed(
        kind=cast(Literal["virtio-blk"], table.choice("kind", ("virtio-blk",))),
        queues=table.number("queues", 1, abi.DOORBELLS - abi.DOORBELL_QUEUE, default=1),
        queue_size=table.power("size", abi.VRING_SIZE_MAX),
        channel=table.text("channel"),
    )
    table.end()
    return device


def _state(name: str, table: Table) -> StateRegion:
    region = StateRegion(
        name=name,
        size=table.size("size", OBJECT_MAX, _PAGE),
        schema=table.number("schema", 1, 0xFFFFFFFF),
        survives=frozenset(table.names("survives", ("crash", "update"), "occasions")),
    )
    table.end()
    return region


def _check_devices(manifest: Manifest) -> None:
    for name, device in manifest.devices.items():
        if device.channel not in manifest.serves:
            raise manifest.document.error(
                ("device", name, "channel"),
                f'no interface "{device.channel}" is served',
                suggestion(device.channel, manifest.serves, "served interfaces"),
            )
