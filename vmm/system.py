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
from hypervisor.policy import Channel, Component, Device, Policy, Protocol, RestartPolicy, Trust
from vmm import manifest as manifests
from vmm.document import Document, ProgramNotFoundError, SystemFileError, Table, check_name, suggestion
from vmm.manifest import Manifest, Serves

HYPERVISOR = "hypervisor"  # the pseudo-client of the supervisor's channel
PROGRAM = "program"  # stands for any program in routes
MEMORY_LIMIT_MAX = 1 << 40
PROGRAMS_MAX = 64


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
    _check_cycles(system)
    _check_servers(system, channels)
    components = [_component(system, each, index) for index, each in enumerate(system.manifests)]
    devices = _devices(system, top)
    top.end()
    trust = Trust(system.supervisor or None)
    policy = Policy(name, tuple(components), tuple(channels), tuple(devices), trust)
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
    known, names, file = _programs(top), [], top.document.file
    if program is not None:
        if program not in known:
            remedy = suggestion(program, known, "programs")
            raise ProgramNotFoundError(file, (), f'no program "{program}" in this system', remedy)
        if program in found:
            key = ("components", program)
            raise top.document.error(key, f'"{program}" is a program too', "rename the component")
        if not 1 <= count <= PROGRAMS_MAX:
            raise SystemFileError(file, (), f"{count} instances", f"use 1 to {PROGRAMS_MAX}")
        names = [program, *(f"{program}.{number}" for number in range(2, count + 1))]
        found |= dict.fromkeys(names, manifests.read(known[program], protocols))
    routes = _routes(top.table("routes"), found)
    return _System(
        top.document, top.document.relative(table.text("images")), supervisor, found, names, routes
    )


def _read_component(entry: Table, protocols: dict[str, Protocol]) -> Manifest:
    name = entry.path[-1]
    if name in (HYPERVISOR, PROGRAM):
        raise entry.error("", f'the name "{name}" has a meaning of its own', "choose another name")
    return manifests.read(entry.document.relative(entry.text("manifest")), protocols)


def _programs(top: Table) -> dict[str, Path]:
    """The manifests of all programs of this system, by name."""
    table = top.table("programs")
    found: dict[str, Path] = {}
    for text in table.strings("folders"):
        folder = top.document.relative(text)
        if not folder.is_dir():
            problem = f'no folder "{folder}"'
            raise table.error("folders", problem, "correct the path; it is relative to this file")
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
        raise table.error(key, f'"{text}" is not an interface', 'write "component.interface", in quotes')
    return _End(component, interface)


def _check_end(table: Table, key: str, end: _End, found: dict[str, Manifest], side: str) -> None:
    table.known(key, end.component, found, f'no component "{end.component}"', "components")
    interfaces: dict[str, object] = getattr(found[end.component], side)
    problem = f'{end.component} {side} no interface "{end.interface}"'
    table.known(key, end.interface, interfaces, problem, f"interfaces it {side}")


def _component(system: _System, name: str, index: int) -> Component:
    manifest = system.manifests[name]
    image = system.images / manifest.component.image
    if not image.is_file():
        remedy = 'build the guests with "make setup", or correct the name'
        raise manifest.document.error(("component", "image"), f'no file "{image}"', remedy)
    component = replace(manifest.component, name=name, index=index, image=str(image))
    if name in system.programs:
        return replace(component, is_program=True, restart=RestartPolicy(policy="never", spares=0))
    return component


def _channel(system: _System, client: _End, index: int) -> Channel:
    route = _End(PROGRAM, client.interface) if client.component in system.programs else client
    server = system.routes.get(route)
    if server is None:
        problem = f'no route for "{route}", which {client.component} needs'
        raise system.document.error(("routes",), problem, f'add "{route}" = "server.interface"')
    uses = system.manifests[client.component].uses[client.interface]
    serves = system.manifests[server.component].serves[server.interface]
    key = ("routes", str(route))
    if uses.protocol != serves.protocol:
        problem = f"{client} speaks {uses.protocol}, {server} speaks {serves.protocol}"
        remedy = "route it to a server of the same protocol and version"
        raise system.document.error(key, problem, remedy)
    for name in uses.protocol.names(uses.operations & ~serves.operations):
        problem = f'{client} asks for operation "{name}", which {server} does not serve'
        places = [
            (str(system.manifests[end.component].document.file), (side, end.interface, "operations"))
            for end, side in ((client, "uses"), (server, "serves"))
        ]
        raise system.document.error(key, problem, "change {} or {}", *places)
    return _connected(uses, index, client.component, server, serves)


def _connected(uses: Channel, index: int, client: str, server: _End, serves: Serves) -> Channel:
    """The channel that a client's need becomes."""
    to, interface = server
    channel = replace(uses, index=index, client=client, server=to, server_interface=interface)
    return replace(channel, slots=serves.slots, slot_data=serves.slot_data)


def _supervisor_channel(system: _System, table: Table) -> list[Channel]:
    """The channel by which the hypervisor tells the supervisor about faults. `table` is [system]."""
    name = system.supervisor
    if not name:
        return []
    manifest = system.manifests[name]
    if manifest.uses:
        problem = f"{name} uses {', '.join(manifest.uses)}, and would wait for what it supervises"
        raise table.error("supervisor", problem, f"remove [uses] from {manifest.document.file}")
    for interface, serves in manifest.serves.items():
        if serves.protocol.name == "supervise":
            uses = Channel("supervise", serves.protocol, serves.operations, 0, abi.ON_RESTART_REPLAY)
            return [_connected(uses, 0, HYPERVISOR, _End(name, interface), serves)]
    problem = f'{name} does not serve "supervise"'
    raise table.error("supervisor", problem, "name a component that does")


def _check_cycles(system: _System) -> None:
    """A component that waits for itself, through whomever, would never get an answer."""
    needs: TopologicalSorter[str] = TopologicalSorter()
    for client, server in system.routes.items():
        needs.add(client.component, server.component)
    try:
        needs.prepare()
    except CycleError as error:
        loop = " -> ".join(reversed(error.args[1]))
        raise system.document.error(("routes",), f"needs form a cycle: {loop}", "remove one route") from None


def _check_servers(system: _System, channels: list[Channel]) -> None:
    """Limits that concern all clients of a server together."""
    for name, manifest in system.manifests.items():
        for interface, serves in manifest.serves.items():
            clients = [e.client for e in channels if (e.server, e.server_interface) == (name, interface)]
            if len(clients) > serves.clients:
                problem = f"{len(clients)} clients ({', '.join(clients)}), {serves.clients} allowed"
                remedy = f"raise clients, or remove routes in {system.document.file}"
                raise manifest.document.error(("serves", interface, "clients"), problem, remedy)
        ends = [each for each in channels if name in (each.client, each.server)]
        if len(ends) > abi.CHANNELS:
            remedy = f"use at most {abi.CHANNELS} for one component"
            raise system.document.error(("components", name), f"{len(ends)} channels", remedy)


def _devices(system: _System, top: Table) -> list[Device]:
    driven: dict[_End, str] = {}

    def read(table: Table) -> Device:
        driver = _end(table, "component", table.text("component"))
        component, interface = driver
        table.known("component", component, system.manifests, f'no component "{component}"', "components")
        needs = system.manifests[component].devices
        problem = f"{component} has no [device.{interface}]"
        table.known("component", interface, needs, problem, f"devices of {component}")
        if driver in driven:
            problem = f"{driver} has the device {driven[driver]} already"
            raise table.error("component", problem, "remove one of the two")
        driven[driver] = name = table.path[-1]
        read_only = table.flag("read_only", True)
        return replace(needs[interface], name=name, component=component, read_only=read_only)

    devices = top.each("devices", manifests.INTERFACE_NAME_MAX, read)
    for component, manifest in system.manifests.items():
        for interface in manifest.devices:
            if _End(component, interface) not in driven:
                problem = f"no device for {component}.{interface}"
                raise system.document.error(("components", component), problem, "add one under [devices]")
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
        raise table.error("memory", problem, "raise the limit, or lower memory and spares in the manifests")
