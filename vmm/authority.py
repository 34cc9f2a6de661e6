"""Who can influence whom in a system: a graph of its compiled policy, and questions to it. Pure functions.

A influences B directly, by one of BY, where something that A does as it likes changes what B reads, how B
goes on, or whether B lives:

    request       A is a client of B: it sends the operations that it was granted, and their data
    reply         A is a server of B: it chooses the answers
    grant         A lends B memory that B can read, or B lends A memory that A can write
    device        A drives device B: registers and queues
    interrupt     A is a device that B drives: completions, their contents, interrupts
    dma           A is a device that may write into memory of B, or B one that may read memory of A: a pool,
                  or grants that the device's driver opens for it (a pool the driver itself never sees)
    supervision   A is the supervisor and B something it may restart, or leave dead
    group         A and B are restarted together, so A's death is B's

Nobody in a system can start a program; who does is the operator. Not influence: the mechanism (hypervisor,
tenders, device processes of the host) acts for nobody; that somebody died is told to the supervisor by the
hypervisor in its own words; the log is read by people; time (caches, a busy CPU) is no authority.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from hypervisor.abi.generated import GrantRights, Hypercall, names
from hypervisor.policy import Channel, Component, Device, Policy

BY = ("request", "reply", "grant", "device", "interrupt", "dma", "supervision", "group")
PROGRAM = "program"  # the kind of such a node, and in questions any program

_SEES_GRANTS = {Hypercall.MAP_GRANT, Hypercall.COPY_FROM_GRANT, Hypercall.COPY_TO_GRANT}


class Influence(NamedTuple):
    """One edge. `what`: each single thing that is allowed, as people would say it."""

    source: str
    target: str
    by: str
    what: tuple[str, ...]


class Graph(NamedTuple):
    """`nodes`: the kind of each ("component", "supervisor", PROGRAM, "device"), in the policy's order.

    `own`: what each node may do that concerns nobody else in particular (hypercalls, memory).
    """

    nodes: dict[str, str]
    edges: tuple[Influence, ...]
    own: dict[str, tuple[str, ...]]

    def named(self, name: str) -> list[str]:
        """The nodes that `name` stands for: PROGRAM for all programs, a program for its instances, too."""
        if name == PROGRAM:
            return [node for node, kind in self.nodes.items() if kind == PROGRAM]
        return [
            node for node, kind in self.nodes.items()
            if node == name or (kind == PROGRAM and node.partition(".")[0] == name)
        ]  # fmt: skip


def graph(policies: Iterable[Policy]) -> Graph:
    """Everything that any of `policies` allows: those of one system with different programs."""
    nodes: dict[str, str] = {}
    edges: dict[Influence, None] = {}
    own: dict[str, tuple[str, ...]] = {}
    for policy in policies:
        for component in policy.components:
            supervisor = "supervisor" if component.name == policy.supervisor else "component"
            nodes[component.name] = PROGRAM if component.is_program else supervisor
            own[component.name] = tuple(_own(component))
        for device in policy.devices:
            nodes[_node(policy, device)], own[_node(policy, device)] = "device", ()
        edges |= dict.fromkeys(_edges(policy))
    return Graph(nodes, tuple(edges), own)


def _node(policy: Policy, device: Device) -> str:
    """The device's name, unless a component has it."""
    taken = any(component.name == device.name for component in policy.components)
    return f"devices.{device.name}" if taken else device.name


def _own(component: Component) -> Iterator[str]:
    for number in sorted(component.hypercalls):
        yield f"hypercall {names(Hypercall)[number]}"
    yield f"memory of {component.memory >> 10} KiB"
    for state in component.states:
        yield f"state {state.name} of {state.size >> 10} KiB"
    if not component.is_program:
        yield f"{component.restart.spares} spares"


def _edges(policy: Policy) -> Iterator[Influence]:
    components = {component.name: component for component in policy.components}
    for channel in policy.channels:
        if channel.client not in components:
            continue  # the hypervisor's own, to the supervisor
        operations = [f"{channel.protocol}.{name}" for name in channel.protocol.names(channel.operations)]
        yield Influence(channel.client, channel.server, "request", (*operations, *_sees(channel)))
        yield Influence(channel.server, channel.client, "reply", (f"{channel.protocol}",))
        if components[channel.server].hypercalls & _SEES_GRANTS:
            yield from _lent(channel, channel.server, "grant", True)
    for device in policy.devices:
        yield from _device(policy, device, components[device.component])
    for component in policy.components:
        supervised = not component.is_program and component.restart.policy != "never"
        if policy.supervisor and supervised and component.name != policy.supervisor:
            yield Influence(policy.supervisor, component.name, "supervision", ("restart",))
        for other in component.restart.group:
            if other != component.name:
                yield Influence(other, component.name, "group", ("restart",))


def _sees(channel: Channel) -> Iterator[str]:
    """What of the server's things is open to the client (`parameter`, see `vmm.manifest`); has a space."""
    text = channel.parameter.decode(errors="replace")
    if channel.protocol.name == "store":
        for verb, prefix in zip(("reads", "writes"), text.split(" "), strict=False):
            if prefix:
                yield f"{verb} {prefix}"
    elif text:
        yield f"sees {text}"


def _device(policy: Policy, device: Device, driver: Component) -> Iterator[Influence]:
    name = _node(policy, device)
    access = "read" if device.read_only else "read, write"
    yield Influence(driver.name, name, "device", (f"{device.kind}: {access}",))
    yield Influence(name, driver.name, "interrupt", (f"queues: {device.queues}",))
    for channel in policy.channels:
        if (channel.server, channel.server_interface) != (driver.name, device.channel_interface):
            continue
        if channel.dma == "pool" and channel.pool:
            pool = (f"pool of {channel.pool.buffers} x {channel.pool.buffer >> 10} KiB",)
            yield Influence(name, channel.client, "dma", pool)
            if not device.read_only:
                yield Influence(channel.client, name, "dma", pool)
        elif channel.dma == "per_request" and Hypercall.DMA_OPEN in driver.hypercalls:
            yield from _lent(channel, name, "dma", not device.read_only)


def _lent(channel: Channel, user: str, by: str, reads: bool) -> Iterator[Influence]:
    """What `user` can do with the grants of `channel`; whether it `reads` what is lent for that."""
    if grants := channel.grants:
        what = (f"{grants.count} x {grants.pages} pages, each for one request",)
        if grants.rights & GrantRights.WRITE:
            yield Influence(user, channel.client, by, what)
        if reads and grants.rights & ~GrantRights.WRITE:
            yield Influence(channel.client, user, by, what)


def closure(
    found: Graph, start: str, by: Collection[str] = BY, without: Collection[str] = ()
) -> dict[str, tuple[Influence, ...]]:
    """Whatever `start`, a node, can influence, directly or through others, nearest first, with a path.

    Only influences in `by` count, and nobody in `without` is on a path or at its end.
    """
    ways: dict[str, list[Influence]] = {}
    for edge in found.edges:
        if edge.by in by and edge.target not in without:
            ways.setdefault(edge.source, []).append(edge)
    paths: dict[str, tuple[Influence, ...]] = {start: ()}
    queue = [start]
    for node in queue:  # grows meanwhile
        for edge in ways.get(node, ()):
            if edge.target not in paths:
                paths[edge.target] = (*paths[node], edge)
                queue.append(edge.target)
    del paths[start]
    return paths


def path_text(path: Iterable[Influence]) -> str:
    """A path as one line: a -request-> b -device-> c."""
    text = ""
    for edge in path:
        text = f"{text or edge.source} -{edge.by}-> {edge.target}"
    return text


class Change(NamedTuple):
    """One piece of authority that only one of two systems has. `target` is "" where it is `source`'s own."""

    source: str
    target: str
    by: str
    what: str


def differences(old: Graph, new: Graph) -> tuple[list[Change], list[Change]]:
    """What the new system allows and the old did not, and the reverse; sorted."""
    before, after = set(_pieces(old)), set(_pieces(new))
    return sorted(after - before), sorted(before - after)


def _pieces(found: Graph) -> Iterator[Change]:
    for node, kind in found.nodes.items():
        yield Change(node, "", "exists", kind)
        for what in found.own[node]:
            yield Change(node, "", "has", what)
    for edge in found.edges:
        for what in edge.what:
            yield Change(edge.source, edge.target, edge.by, what)


def alike(found: Graph) -> Graph:
    """The same with those programs as one node ("cat, ls") that relate to everybody else in the same way,
    for pictures: without what is their own."""
    relations: dict[object, list[str]] = {}
    for node in found.named(PROGRAM):
        relation = frozenset(
            edge._replace(source="" if edge.source == node else edge.source,
                          target="" if edge.target == node else edge.target)
            for edge in found.edges if node in (edge.source, edge.target)
        )  # fmt: skip
        relations.setdefault(relation, []).append(node)
    joint: Mapping[str, str] = {node: ", ".join(each) for each in relations.values() for node in each}
    nodes = {joint.get(node, node): kind for node, kind in found.nodes.items()}
    edges = dict.fromkeys(
        edge._replace(source=joint.get(edge.source, edge.source), target=joint.get(edge.target, edge.target))
        for edge in found.edges
    )
    return Graph(nodes, tuple(edges), {})
