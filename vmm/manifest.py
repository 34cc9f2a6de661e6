"""Component manifests: what one component is, serves and needs. Nothing that is not stated exists.

`read` checks everything that can be checked from the manifest and the protocol descriptions alone;
how components fit together is the business of `vmm.system`. Raises the errors of `vmm.document`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from hypervisor import policy
from hypervisor.abi import generated as abi
from vmm import poisoned
from vmm.document import Document, ManifestError, ProtocolFileError, Table, check_name

PROTOCOLS = Path(__file__).resolve().parents[1] / "components" / "protocols"
INTERFACE_NAME_MAX = abi.NAME_MAX - 1  # with a NUL in its field of the info page
COMPONENT_NAME_MAX = 31  # the same
MEMORY_MIN = 4 << 20  # room for image, heap and stack
RESTARTS_MAX = 256  # as many deaths as the reincarnation server remembers
OBJECT_MAX = 64 << 20  # one pool or state region
ROOT_MAX = 255
MS_MAX = 3_600_000

_PAGE = abi.PAGE_SIZE
_RIGHTS = {"r": abi.GrantRights.READ, "w": abi.GrantRights.WRITE, "c": abi.GrantRights.COPY}
_OFFERS = ("r", "w", "rw", "c", "rc", "wc", "rwc")
_ON_RESTART = tuple(abi.names(abi.OnRestart).values())


class Serves(NamedTuple):
    """An interface this component serves. Of `operations`, bit n is operation n."""

    protocol: policy.Protocol
    operations: int
    clients: int
    slots: int
    slot_data: int


class Manifest(NamedTuple):
    """One component's manifest. `document` is there for errors met later.

    `component`, `uses` and `device` are complete but for what a system decides: index, folder of the image;
    the channel's index, client and server with its slots; the device's name, and whether it is read-only.
    """

    document: Document
    component: policy.Component
    serves: dict[str, Serves]
    uses: dict[str, policy.Channel]
    device: dict[str, policy.Device]


def read_protocols(folder: Path = PROTOCOLS) -> dict[str, policy.Protocol]:
    """Every protocol described in `folder`, by "name@version"."""
    found: dict[str, policy.Protocol] = {}
    for file in sorted(folder.glob("*.toml")):
        top = Document(file, ProtocolFileError).table
        operations = {name: table.number("id", 0, 63) for name, table in top.entries("operation", 63).items()}
        number, version = top.number("number", 1, 0xFFFF), top.number("version", 1, 0xFFFF)
        protocol = policy.Protocol(top.text("name"), number, version, operations)
        found[str(protocol)] = protocol
    return found


def read(file: Path, protocols: dict[str, policy.Protocol]) -> Manifest:
    """The manifest in `file`."""
    document = Document(file, ManifestError)
    top = document.table
    component = _component(top)
    serves = top.each("serves", INTERFACE_NAME_MAX, lambda table: _serves(table, protocols))
    uses = _uses(top, protocols)
    devices = top.each("device", INTERFACE_NAME_MAX, lambda table: _device(table, component.name, serves))
    top.end()
    for name in uses.keys() & serves.keys():
        raise document.error(("uses", name), f'"{name}" is also served')
    return Manifest(document, component, serves, uses, devices)


def _component(top: Table) -> policy.Component:
    table, vm = top.table("component", required=True), top.table("vm", required=True)
    hypercalls, restart = top.table("hypercalls"), top.table("restart")
    check_name(table, "name", table.text("name"), COMPONENT_NAME_MAX)
    if "/" in table.text("image"):
        raise table.error("image", f'"{table.text("image")}" is not the plain name of a file')
    memory_kind: Any = vm.choice("memory_kind", ("shared", "private"), "shared")
    vm.number("vcpus", 1, 1, default=1)
    allowed = hypercalls.names("allow", abi.names(abi.Hypercall).values(), "hypercalls", default=())
    component = policy.Component(
        name=table.text("name"), index=-1, image=table.text("image"),
        version=table.text("version"), vendor=table.text("vendor"),
        memory=vm.size("memory", abi.VM_MEMORY_MAX, _PAGE), memory_kind=memory_kind,
        hypercalls=frozenset(abi.Hypercall[name.upper()] for name in allowed),
        restart=_restart(restart, "log" in allowed),
        heartbeat_ms=restart.number("heartbeat_ms", 0, MS_MAX, default=0),
        states=tuple(top.each("state", INTERFACE_NAME_MAX, _state).values()),
    )  # fmt: skip
    if component.memory < MEMORY_MIN:
        raise vm.error("memory", f"{vm.text('memory')} is too little")
    for each in (table, vm, hypercalls, restart):
        each.end()
    return component


def _restart(table: Table, may_log: bool) -> policy.RestartPolicy:
    """[restart]. Its group becomes the names of all members in `vmm.system`."""
    kind: Any = table.choice("policy", ("always", "never", "backoff"), "always")
    backoff_ms = table.numbers("backoff_ms", 0, MS_MAX)
    if kind == "backoff" and not backoff_ms:
        raise table.error("policy", '"backoff" without delays')
    give_up = table.table("give_up")
    default = None if "give_up" in table else 0
    restarts = give_up.number("restarts", 1, RESTARTS_MAX, default)
    within_s = give_up.number("within_s", 1, 1_000_000, default)
    give_up.end()
    spares = table.number("spares", 0, 4, default=1)
    cures = table.names("poisoned", poisoned.CURES, "cures", default=())
    if set(cures) - {"give_up"} and not may_log:
        raise table.error("poisoned", 'the hypercall "log" is not allowed, which tells of what is done')
    deaths = table.number("poisoned_deaths", 1, RESTARTS_MAX, default=poisoned.DEATHS)
    within_ms = table.number("poisoned_within_ms", 1, MS_MAX, default=poisoned.WITHIN_MS)
    group = (label,) if (label := table.text("group", "")) else ()
    packed = poisoned.pack(cures, deaths, within_ms)
    return policy.RestartPolicy(kind, backoff_ms, restarts, 1000 * within_s, spares, packed, group)


def _state(table: Table) -> policy.StateRegion:
    survives = table.names("survives", ("crash", "update"), "occasions")
    size, schema = table.size("size", OBJECT_MAX, _PAGE), table.number("schema", 1, 0xFFFFFFFF)
    choice = table.choice("on_corruption", ("older_copy", "fresh"), "older_copy")
    what = abi.OnCorruption[choice.upper()]
    return policy.StateRegion(table.path[-1], size, schema, frozenset(survives), what)


def _protocol(table: Table, protocols: dict[str, policy.Protocol]) -> tuple[policy.Protocol, int]:
    """The protocol of an interface, and the mask of the operations stated."""
    text = table.text("protocol")
    table.known("protocol", text, protocols, f'no protocol "{text}"', "protocols")
    protocol = protocols[text]
    names = table.names("operations", protocol.operations, f"operations of {protocol}")
    return protocol, sum(1 << protocol.operations[name] for name in names)


def _serves(table: Table, protocols: dict[str, policy.Protocol]) -> Serves:
    protocol, operations = _protocol(table, protocols)
    clients = table.number("clients", 1, abi.CHANNELS, default=1)
    slots = table.power("slots", abi.CHANNEL_SLOTS_MAX)
    slot_data = table.size("slot_data", abi.SLOT_DATA_MAX, _PAGE, default="4 KiB")
    return Serves(protocol, operations, clients, slots, slot_data)


def _uses(top: Table, protocols: dict[str, policy.Protocol]) -> dict[str, policy.Channel]:
    """All interfaces used, each with the memory lent to its server."""
    pools = top.each("pool", INTERFACE_NAME_MAX, _pool)
    grants = top.each("grants", INTERFACE_NAME_MAX, _grants)

    def read_one(table: Table) -> policy.Channel:
        name = table.path[-1]
        protocol, operations = _protocol(table, protocols)
        pool, objects = pools.get(name), grants.get(name)
        dma: Any = table.choice("dma", ("none", "pool", "per_request"), "pool" if pool else "none")
        if not {"none": True, "pool": pool, "per_request": objects}[dma]:
            raise table.error("dma", f'"{dma}" without memory to lend', interface=name)
        deadline_ms = table.number("deadline_ms", 1, MS_MAX, default=0)
        on_restart = abi.OnRestart[table.choice("on_restart", _ON_RESTART, "replay").upper()]
        lent = pool, objects, dma
        seen = _parameter(table, protocol.name)
        return policy.Channel(name, protocol, operations, deadline_ms, on_restart, seen, *lent)

    uses = top.each("uses", INTERFACE_NAME_MAX, read_one)
    for kind in ("pool", "grants"):
        for name in (lent := top.table(kind)):
            lent.known(name, name, uses, f'no interface "{name}" is used', "used interfaces")
    return uses


def _parameter(table: Table, protocol: str) -> bytes:
    """What its server is told about a client: of fs the subtree it sees; of store the prefixes it may read
    and write, with a space between them, each empty where nothing is stated."""
    if protocol == "fs":
        return _root(table, "root", "/")
    if protocol == "store":
        return b"%b %b" % (_root(table, "read", ""), _root(table, "write", ""))
    return b""


def _root(table: Table, key: str, default: str) -> bytes:
    """An absolute path without "", "." or ".." in it."""
    root = table.text(key, default)
    parts = root.split("/")
    is_escaping = root != "/" and {"", ".", ".."} & set(parts[1:])
    if parts[0] or is_escaping or "\0" in root or (key != "root" and " " in root):
        raise table.error(key, f'"{root}" is not a plain absolute path')
    if len(root.encode()) > ROOT_MAX:
        raise table.error(key, "the path is too long", longest=ROOT_MAX)
    return root.encode()


def _pool(table: Table) -> policy.Pool:
    pool = policy.Pool(table.number("buffers", 1, 4096), table.size("buffer", 4 << 20, _PAGE))
    if pool.size > OBJECT_MAX:
        raise table.error("buffers", "the pool is larger than 64 MiB")
    return pool


def _grants(table: Table) -> policy.GrantObjects:
    count = table.number("objects", 1, abi.REGIONS, default=1)
    pages = table.number("pages", 1, OBJECT_MAX // _PAGE)
    rights = sum(_RIGHTS[letter] for letter in table.choice("offer", _OFFERS))
    return policy.GrantObjects(count, pages, rights)


def _device(table: Table, component: str, serves: dict[str, Serves]) -> policy.Device:
    kind: Any = table.choice("kind", ("virtio-blk", "virtio-snd", "pci"))
    queues = table.number("queues", 1, abi.DOORBELLS - abi.DOORBELL_QUEUE, default=1)
    queue_size, channel = table.power("size", abi.VRING_SIZE_MAX), table.text("channel")
    table.known("channel", channel, serves, f'no interface "{channel}" is served', "served interfaces")
    device = policy.Device("", component, table.path[-1], kind, queues, queue_size, channel)
    if kind != "pci":
        return device
    identity = table.number("vendor", 0, 0xFFFF), table.number("device", 0, 0xFFFF)
    bars = table.table("bars")
    for bar in bars:
        bars.known(bar, bar, "012345", f'no BAR "{bar}"', "BARs")
    sizes = tuple((int(bar), bars.size(bar, OBJECT_MAX, _PAGE)) for bar in bars)
    return replace(device, identity=identity, bars=sizes)
