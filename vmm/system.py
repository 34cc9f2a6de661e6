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
    "program.fs" = { to = "file_server.fs", operations = ["open", "read", "close"] }  # narrower
    [devices.disk0]
    component = "disk_driver.disk"
    read_only = true
    [programs]
    folders = ["../guests/programs"]        # FOLDER/NAME/manifest.toml describes program NAME

Both sides must agree, per operation: a client that asks for more than its server serves, or than the route
allows, is an error, never silently less. Raises the errors of `vmm.document`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.channels import Geometry
from hypervisor.policy import Channel, Component, Device, Policy, RestartPolicy, Trust
from vmm import manifest as manifests
from vmm.document import (
    ConfigurationError,
    Document,
    ProgramNotFoundError,
    SystemFileError,
    Table,
    check_name,
    size_text,
    suggestion,
)
from vmm.manifest import Manifest, Protocol, Serves, Uses

HYPERVISOR = "hypervisor"  # the pseudo-client of the supervisor's channel
PROGRAM = "program"  # stands for any program in routes
MEMORY_LIMIT_MAX = 1 << 40
PROGRAMS_MAX = 64

_PARAMETERS_MAX = abi.INFO_PAGES * abi.PAGE_SIZE - abi.INFO_PARAMETERS


class _End(NamedTuple):
    """One end of a route."""

    component: str
    interface: str

    def __str__(self) -> str:
        return f"{self.component}.{self.interface}"


class _Route(NamedTuple):
    key: str  # as in [routes]
    server: _End
    operations: list[str] | None  # None: as many as both ends agree on


class _System(NamedTuple):
    """A system file that has been read, with the manifests of everything in this system, in order."""

    document: Document
    images: Path
    supervisor: str
    manifests: dict[str, Manifest]
    programs: list[str]  # those of `manifests` that are programs
    routes: dict[_End, _Route]

    def serves(self, end: _End) -> Serves:
        """The interface at a server's end."""
        return self.manifests[end.component].serves[end.interface]

    def route_error(self, route: _Route, problem: str, remedy: str) -> ConfigurationError:
        """An error at a route."""
        return self.document.error(("routes", route.key), problem, remedy)


def compile(
    file: Path, program: str | None = None, programs: int = 1, *, protocols: Path = manifests.PROTOCOLS
) -> Policy:
    """The policy of the system in `file`, with `programs` instances of `program` (NAME, NAME.2, ...)."""
    document = Document(file, SystemFileError)
    top = document.table
    table = top.table("system", required=True)
    name, limit = table.text("name"), table.size("memory", MEMORY_LIMIT_MAX, abi.PAGE_SIZE)
    check_name(table, "name", name, manifests.COMPONENT_NAME_MAX)
    system = _read(top, table, manifests.read_protocols(protocols), program, programs)
    table.end()
    channels = _supervisor_channel(system)
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
    _check_memory(document, policy, limit)
    return policy


def _read(
    top: Table, table: Table, protocols: dict[str, Protocol], program: str | None, count: int
) -> _System:
    """Everything the system file names. `table` is its [system]."""
    document = top.document
    longest = manifests.COMPONENT_NAME_MAX
    found = top.each("components", longest, lambda entry: _read_component(entry, protocols))
    supervisor = table.text("supervisor", "")
    if supervisor and supervisor not in found:
        remedy = suggestion(supervisor, found, "components")
        raise table.error("supervisor", f'no component "{supervisor}"', remedy)
    known, names = _programs(top), []
    if program is not None:
        if program not in known:
            remedy = suggestion(program, known, "programs")
            raise ProgramNotFoundError(document.file, 0, "", f'no program "{program}" in this system', remedy)
        if program in found:
            key = ("components", program)
            raise document.error(key, f'"{program}" is a program too', "rename the component")
        if not 1 <= count <= PROGRAMS_MAX:
            raise SystemFileError(document.file, 0, "", f"{count} instances", f"use 1 to {PROGRAMS_MAX}")
        names = [program, *(f"{program}.{number}" for number in range(2, count + 1))]
        found |= dict.fromkeys(names, manifests.read(known[program], protocols))
    routes = _routes(top.table("routes"), found)
    return _System(document, table.path_to("images"), supervisor, found, names, routes)


def _read_component(entry: Table, protocols: dict[str, Protocol]) -> Manifest:
    if entry.path[-1] in (HYPERVISOR, PROGRAM):
        problem = f'the name "{entry.path[-1]}" has a meaning of its own'
        raise entry.error("", problem, "choose another name")
    return manifests.read(entry.path_to("manifest"), protocols)


def _programs(top: Table) -> dict[str, Path]:
    """The manifests of all programs of this system, by name."""
    table = top.table("programs")
    found: dict[str, Path] = {}
    for text in table.strings("folders") or []:
        folder = top.document.relative(text)
        if not folder.is_dir():
            remedy = "correct the path; it is relative to this file"
            raise table.error("folders", f'no folder "{folder}"', remedy)
        for file in sorted(folder.glob("*/manifest.toml")):
            found.setdefault(file.parent.name, file)
    table.end()
    return found


def _routes(table: Table, found: dict[str, Manifest]) -> dict[_End, _Route]:
    routes: dict[_End, _Route] = {}
    for key in table:
        client, operations = _end(table, key, key), None
        if table.is_table(key):
            inner = table.table(key)
            server, operations = inner.text("to"), inner.strings("operations")
            inner.end()
        else:
            server = table.text(key)
        route = _Route(key, _end(table, key, server), operations)
        if client.component != PROGRAM:
            _check_end(table, key, client, found, "uses")
        _check_end(table, key, route.server, found, "serves")
        routes[client] = route
    return routes


def _end(table: Table, key: str, text: str) -> _End:
    component, dot, interface = text.partition(".")
    if not (component and dot and interface):
        raise table.error(key, f'"{text}" is not an interface', 'write "component.interface", in quotes')
    return _End(component, interface)


def _check_end(table: Table, key: str, end: _End, found: dict[str, Manifest], side: str) -> None:
    if end.component not in found:
        remedy = suggestion(end.component, found, "components")
        raise table.error(key, f'no component "{end.component}"', remedy)
    manifest = found[end.component]
    interfaces = manifest.serves if side == "serves" else manifest.uses
    if end.interface not in interfaces:
        remedy = suggestion(end.interface, interfaces, f"interfaces it {side}")
        raise table.error(key, f'{end.component} {side} no interface "{end.interface}"', remedy)


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
    key = _End(PROGRAM, client.interface) if client.component in system.programs else client
    route = system.routes.get(key)
    if route is None:
        problem = f'no route for "{key}", which {client.component} needs'
        raise system.document.error(("routes",), problem, f'add "{key}" = "server.interface"')
    uses, serves = system.manifests[client.component].uses[client.interface], system.serves(route.server)
    if str(uses.protocol) != str(serves.protocol):
        problem = f"{client} speaks {uses.protocol}, {route.server} speaks {serves.protocol}"
        raise system.route_error(route, problem, "route it to a server of the same protocol and version")
    _check_operations(system, client, route, uses, serves)
    return _make_channel(index, client, route.server, serves, uses)


def _check_operations(system: _System, client: _End, route: _Route, uses: Uses, serves: Serves) -> None:
    protocol = serves.protocol
    ours = _place(system, client, "uses")
    for name in protocol.names(uses.operations & ~serves.operations):
        problem = f'{client} asks for operation "{name}", which {route.server} does not serve'
        raise system.route_error(route, problem, f"change {ours} or {_place(system, route.server, 'serves')}")
    if route.operations is None:
        return
    for name in route.operations:
        if name not in protocol.operations:
            remedy = suggestion(name, protocol.operations, f"operations of {protocol}")
            raise system.route_error(route, f'{protocol} has no operation "{name}"', remedy)
    for name in protocol.names(uses.operations):
        if name not in route.operations:
            problem = f'{client} asks for operation "{name}", which this route does not allow'
            raise system.route_error(route, problem, f"allow it here, or change {ours}")


def _place(system: _System, end: _End, side: str) -> str:
    """Where the manifest states the operations of an end."""
    document = system.manifests[end.component].document
    return f"{document.file}:{document.line((side, end.interface, 'operations'))}"


def _make_channel(index: int, client: _End, server: _End, serves: Serves, uses: Uses) -> Channel:
    protocol = serves.protocol
    return Channel(
        index, *client, *server, protocol.name, protocol.number, protocol.version,
        serves.slots, serves.slot_data, uses.operations, uses.deadline_ms, uses.on_restart,
        uses.parameter, uses.pool, uses.grants, uses.dma,
    )  # fmt: skip


def _supervisor_channel(system: _System) -> list[Channel]:
    """The channel by which the hypervisor tells the supervisor about faults."""
    if not system.supervisor:
        return []
    manifest, key = system.manifests[system.supervisor], ("system", "supervisor")
    if manifest.uses:
        names = ", ".join(manifest.uses)
        problem = f"{system.supervisor} uses {names}, and would wait for what it supervises"
        raise system.document.error(key, problem, f"remove [uses] from {manifest.document.file}")
    for interface, serves in manifest.serves.items():
        if serves.protocol.name == "supervise":
            client, server = _End(HYPERVISOR, "supervise"), _End(system.supervisor, interface)
            return [_make_channel(0, client, server, serves, Uses(serves.protocol, serves.operations))]
    problem = f'{system.supervisor} does not serve "supervise"'
    raise system.document.error(key, problem, "name a component that does")


def _check_cycles(system: _System) -> None:
    """A component that waits for itself, through whomever, would never get an answer."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            loop = " -> ".join([*trail[trail.index(name) :], name])
            raise system.document.error(("routes",), f"needs form a cycle: {loop}", "remove one route")
        if name not in done:
            for client, route in system.routes.items():
                if client.component == name:
                    visit(route.server.component, [*trail, name])
            done.add(name)

    for name in system.manifests:
        visit(name, [])


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
        key = ("components", name)
        if len(ends) > abi.CHANNELS:
            remedy = f"use at most {abi.CHANNELS} for one component"
            raise system.document.error(key, f"{len(ends)} channels", remedy)
        if sum(len(each.parameter) for each in ends) > _PARAMETERS_MAX:
            remedy = f"use {_PARAMETERS_MAX} bytes in all"
            raise system.document.error(key, "the roots of its clients are too long", remedy)


def _devices(system: _System, top: Table) -> list[Device]:
    driven: dict[_End, str] = {}

    def read(table: Table) -> Device:
        driver = _end(table, "component", table.text("component"))
        if driver.component not in system.manifests:
            remedy = suggestion(driver.component, system.manifests, "components")
            raise table.error("component", f'no component "{driver.component}"', remedy)
        needs = system.manifests[driver.component].devices
        if driver.interface not in needs:
            remedy = suggestion(driver.interface, needs, f"devices of {driver.component}")
            raise table.error("component", f"{driver.component} has no [device.{driver.interface}]", remedy)
        if driver in driven:
            problem = f"{driver} has the device {driven[driver]} already"
            raise table.error("component", problem, "remove one of the two")
        driven[driver] = name = table.path[-1]
        read_only = table.flag("read_only", True)
        return replace(needs[driver.interface], name=name, component=driver.component, read_only=read_only)

    devices = top.each("devices", manifests.INTERFACE_NAME_MAX, read)
    for component, manifest in system.manifests.items():
        for interface in manifest.devices:
            if _End(component, interface) not in driven:
                problem = f"no device for {component}.{interface}"
                raise system.document.error(("components", component), problem, "add one under [devices]")
    return list(devices.values())


def _check_memory(document: Document, policy: Policy, limit: int) -> None:
    """Everything that may exist at once, warm spares included, fits in the system's limit."""
    total = sum(each.memory * (1 + each.restart.spares) for each in policy.components)
    total += sum(state.size for each in policy.components for state in each.states)
    for channel in policy.channels:
        total += Geometry.of(channel.slots, channel.slot_data).size
        total += channel.pool.buffers * channel.pool.buffer if channel.pool else 0
        total += channel.grants.count * channel.grants.pages * abi.PAGE_SIZE if channel.grants else 0
    if total > limit:
        problem = f"the components need {size_text(-(-total >> 20) << 20)}, {size_text(limit)} allowed"
        remedy = "raise the limit, or lower memory and spares in the manifests"
        raise document.error(("system", "memory"), problem, remedy)
