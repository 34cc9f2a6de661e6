"""System files: which components make a system, and how their needs are wired. Compiles into a Policy.

A system file (paths are relative to it):

    [system]
    name = "default"
    memory = "1 GiB"                        # everything together may not take more
    images = "../build/guests"              # where the ELF files named by the manifests lie
    supervisor = "reincarnation_server"     # optional
    [components.file_server]
    manifest = "../components/file_server/manifest.toml"
    [routes]
    "file_server.blk" = "disk_driver.blk"
    "program.fs" = "file_server.fs"
    [devices.disk0]
    component = "disk_driver.disk"
    read_only = true
    [programs]
    folders = ["../guests/programs"]        # FOLDER/NAME/manifest.toml describes program NAME
    [rules.disk_through_file_server]        # what must hold of all this: `vmm.rules`
    from = ["program"]
    to = ["disk0"]
    through = ["file_server"]

Both sides must agree, per operation: a client that asks for more than its server serves is an error, never
silently less. Raises the errors of `vmm.document`.
"""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.channels import Geometry
from hypervisor.policy import Channel, Component, Device, Policy, Protocol, RestartPolicy
from vmm import manifest as manifests
from vmm.document import Document, ProgramNotFoundError, SystemFileError, Table, check_name
from vmm.manifest import Manifest, Serves

HYPERVISOR = "hypervisor"  # the pseudo-client of the supervisor's channel
PROGRAM = "program"  # stands for any program in routes
MEMORY_LIMIT_MAX = 1 << 40


class _End(NamedTuple):
    """One end of a route."""

    component: str
    interface: str

    def __str__(self) -> str:
        return f"{self.component}.{self.interface}"


class _System(NamedTuple):
    """A system file that has been read, with the manifests of everything in this system, in order."""

    document: Document
    images: Path
    supervisor: str
    manifests: dict[str, Manifest]
    programs: list[str]  # those of `manifests` that are programs
    routes: dict[_End, _End]  # client to server


def compile(
    file: Path, program: str | None = None, programs: int = 1, *, protocols: Path = manifests.PROTOCOLS
) -> Policy:
    """The policy of the system in `file`, with `programs` instances of `program` (NAME, NAME.2, ...)."""
    top = Document(file, SystemFileError).table
    table = top.table("system", required=True)
    name, limit = table.text("name"), table.size("memory", MEMORY_LIMIT_MAX, abi.PAGE_SIZE)
    check_name(table, "name", name, manifests.COMPONENT_NAME_MAX)
    system = _read(top, table, manifests.read_protocols(protocols), program, programs)
    table.end()
    channels = _supervisor_channel(system, table)
    for component, manifest in system.manifests.items():
        for interface in manifest.uses:
            channels.append(_channel(system, _End(component, interface), len(channels)))
    _check_servers(system, channels)
    alone = [_component(system, each, index) for index, each in enumerate(system.manifests)]
    components = [_grouped(each, alone, channels) for each in alone]
    devices = _devices(system, top)
    top.table("rules")  # read by `vmm.rules`
    top.end()
    policy = Policy(name, tuple(components), tuple(channels), tuple(devices), system.supervisor or None)
    _check_memory(table, policy, limit)
    return policy


def _read(
    top: Table, table: Table, protocols: dict[str, Protocol], program: str | None, count: int
) -> _System:
    """Everything the system file names. `table` is its [system]."""
    longest = manifests.COMPONENT_NAME_MAX
    found = top.each("components", longest, lambda entry: _read_component(entry, protocols))
    supervisor = table.text("supervisor", "")
    if supervisor:
        table.known("supervisor", supervisor, found, f'no component "{supervisor}"', "components")
    known, names, file = known_programs(top), [], top.document.file
    if program is not None:
        if program not in known:
            problem = f'no program "{program}" in this system'
            raise ProgramNotFoundError(file, (), problem, name=program, known=sorted(known), what="programs")
        if program in found:
            raise top.document.error(("components", program), f'"{program}" is a program too')
        names = [program, *(f"{program}.{number}" for number in range(2, count + 1))]
        found |= dict.fromkeys(names, manifests.read(known[program], protocols))
    images, routes = top.document.relative(table.text("images")), _routes(top.table("routes"), found)
    return _System(top.document, images, supervisor, found, names, routes)


def _read_component(entry: Table, protocols: dict[str, Protocol]) -> Manifest:
    name = entry.path[-1]
    if name in (HYPERVISOR, PROGRAM):
        raise entry.error("", f'the name "{name}" has a meaning of its own')
    return manifests.read(entry.document.relative(entry.text("manifest")), protocols)


def known_programs(top: Table) -> dict[str, Path]:
    """The manifests of all programs of this system, by name."""
    table = top.table("programs")
    found: dict[str, Path] = {}
    for text in table.strings("folders"):
        folder = top.document.relative(text)
        if not folder.is_dir():
            raise table.error("folders", f'no folder "{folder}"')
        for file in sorted(folder.glob("*/manifest.toml")):
            found.setdefault(file.parent.name, file)
    table.end()
    return found


def _routes(table: Table, found: dict[str, Manifest]) -> dict[_End, _End]:
    routes = {}
    for key in table:
        client, server = _end(table, key, key), _end(table, key, table.text(key))
        if client.component != PROGRAM:
            _check_end(table, key, client, found, "uses")
        _check_end(table, key, server, found, "serves")
        routes[client] = server
    return routes


def _end(table: Table, key: str, text: str) -> _End:
    component, dot, interface = text.partition(".")
    if not (component and dot and interface):
        raise table.error(key, f'"{text}" is not an interface')
    return _End(component, interface)


def _check_end(table: Table, key: str, end: _End, found: dict[str, Manifest], side: str) -> None:
    table.known(key, end.component, found, f'no component "{end.component}"', "components")
    interfaces: dict[str, object] = getattr(found[end.component], side)
    problem = f"{end.component} has no [{side}.{end.interface}]"
    table.known(key, end.interface, interfaces, problem, "interfaces there")


def _component(system: _System, name: str, index: int) -> Component:
    manifest = system.manifests[name]
    image = system.images / manifest.component.image
    if not image.is_file():
        raise manifest.document.error(("component", "image"), f'no file "{image}"')
    component = replace(manifest.component, name=name, index=index, image=str(image))
    if name in system.programs:
        return replace(component, is_program=True, restart=RestartPolicy(policy="never", spares=0))
    return component


def _grouped(component: Component, everybody: list[Component], channels: list[Channel]) -> Component:
    """The component with the names of its whole group, servers first, in place of the group's."""
    label = component.restart.group
    members = [each.name for each in everybody if label and each.restart.group == label]
    servers = {name: set[str]() for name in members}
    for channel in channels:
        if channel.client in servers and channel.server in servers:
            servers[channel.client].add(channel.server)
    try:
        order = tuple(TopologicalSorter(servers).static_order())
    except CycleError:
        order = tuple(members)  # `vmm.needs` refuses such a system
    return replace(component, restart=replace(component.restart, group=order))


def _channel(system: _System, client: _End, index: int) -> Channel:
    route = _End(PROGRAM, client.interface) if client.component in system.programs else client
    server = system.routes.get(route)
    if server is None:
        problem = f'no route for "{route}", which {client.component} needs'
        raise system.document.error(("routes",), problem)
    uses = system.manifests[client.component].uses[client.interface]
    serves = system.manifests[server.component].serves[server.interface]
    key = ("routes", str(route))
    if uses.protocol != serves.protocol:
        problem = f"{client} speaks {uses.protocol}, {server} speaks {serves.protocol}"
        raise system.document.error(key, problem)
    for name in uses.protocol.names(uses.operations & ~serves.operations):
        problem = f'{client} asks for operation "{name}", which {server} does not serve'
        raise system.document.error(key, problem, client=client, server=server)
    return _connected(replace(uses, index=index, client=client.component), server, serves)


def _connected(uses: Channel, server: _End, serves: Serves) -> Channel:
    """The channel that a client's need becomes."""
    channel = replace(uses, slots=serves.slots, slot_data=serves.slot_data)
    return replace(channel, server=server.component, server_interface=server.interface)


def _supervisor_channel(system: _System, table: Table) -> list[Channel]:
    """The channel by which the hypervisor tells the supervisor about faults. `table` is [system]."""
    name = system.supervisor
    if not name:
        return []
    manifest = system.manifests[name]
    if manifest.uses:
        problem = f"{name} uses {', '.join(manifest.uses)}, and would wait for what it supervises"
        raise table.error("supervisor", problem, manifest=str(manifest.document.file))
    for interface, serves in manifest.serves.items():
        if serves.protocol.name == "supervise":
            uses = Channel("supervise", serves.protocol, serves.operations, 0, abi.OnRestart.REPLAY)
            uses = replace(uses, index=0, client=HYPERVISOR)
            return [_connected(uses, _End(name, interface), serves)]
    raise table.error("supervisor", f'{name} does not serve "supervise"')


def _check_servers(system: _System, channels: list[Channel]) -> None:
    """Limits that concern all clients of a server together."""
    for name, manifest in system.manifests.items():
        for interface, serves in manifest.serves.items():
            clients = [e.client for e in channels if (e.server, e.server_interface) == (name, interface)]
            if len(clients) > serves.clients:
                problem = f"{len(clients)} clients ({', '.join(clients)}), {serves.clients} allowed"
                key = ("serves", interface, "clients")
                raise manifest.document.error(key, problem, system=str(system.document.file))


def _devices(system: _System, top: Table) -> list[Device]:
    driven: dict[_End, str] = {}

    def read(table: Table) -> Device:
        driver = _end(table, "component", table.text("component"))
        _check_end(table, "component", driver, system.manifests, "device")
        if driver in driven:
            raise table.error("component", f"{driver} has the device {driven[driver]} already")
        driven[driver] = name = table.path[-1]
        device = system.manifests[driver.component].device[driver.interface]
        read_only = table.flag("read_only", True)
        return replace(device, name=name, component=driver.component, read_only=read_only)

    devices = top.each("devices", manifests.INTERFACE_NAME_MAX, read)
    for component, manifest in system.manifests.items():
        for interface in manifest.device:
            if _End(component, interface) not in driven:
                key = ("components", component)
                raise system.document.error(key, f"no device for {component}.{interface}")
    return list(devices.values())


def _check_memory(table: Table, policy: Policy, limit: int) -> None:
    """Everything that may exist at once, warm spares included, fits in the system's limit."""
    total = sum(each.memory * (1 + each.restart.spares) for each in policy.components)
    total += sum(state.size for each in policy.components for state in each.states)
    for channel in policy.channels:
        total += Geometry.of(channel.slots, channel.slot_data).size
        total += channel.pool.size if channel.pool else 0
        total += channel.grants.count * channel.grants.pages * abi.PAGE_SIZE if channel.grants else 0
    if total > limit:
        problem = f"the components need {-(-total >> 20)} MiB, {table.text('memory')} allowed"
        raise table.error("memory", problem)
