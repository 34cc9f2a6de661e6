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

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hypervisor.abi import generated as abi
from hypervisor.channels import Geometry
from hypervisor.policy import Channel, Component, Device, Policy, RestartPolicy, Trust
from vmm import manifest as manifests
from vmm.document import (
    Document,
    ProgramNotFoundError,
    SystemFileError,
    Table,
    check_name,
    size_text,
    suggestion,
)
from vmm.manifest import Manifest, Protocol, Serves

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


@dataclass(frozen=True)
class _System:
    """A system file that has been read, with the manifests of everything in this system, in order."""

    document: Document
    name: str
    limit: int
    images: Path
    supervisor: str
    manifests: dict[str, Manifest]
    programs: frozenset[str]  # those of `manifests` that are programs
    routes: dict[_End, _Route]

    def route_error(self, route: _Route, problem: str, remedy: str) -> Exception:
        return self.document.error(("routes", route.key), problem, remedy)


def compile(
    file: Path, program: str | None = None, programs: int = 1, *, protocols: Path = manifests.PROTOCOLS
) -> Policy:
    """The policy of the system in `file`, with `programs` instances of `program` (NAME, NAME.2, ...)."""
    document = Document(file, SystemFileError)
    top = document.table
    folders = _program_folders(top)
    system = _read(
        top, manifests.read_protocols(protocols), _find_program(document, folders, program), programs
    )
    channels = _supervisor_channel(system)
    channels += [
        _channel(system, _End(name, interface), len(channels) + index)
        for index, (name, interface) in enumerate(
            (name, interface) for name, manifest in system.manifests.items() for interface in manifest.uses
        )
    ]
    _check_cycles(system)
    _check_servers(system, channels)
    policy = Policy(
        name=system.name,
        components=tuple(_component(system, name, index) for index, name in enumerate(system.manifests)),
        channels=tuple(channels),
        devices=tuple(_devices(system, top)),
        trust=Trust(system.supervisor or None),
    )
    top.end()
    _check_memory(system, policy)
    return policy


def _program_folders(top: Table) -> list[Path]:
    table = top.table("programs")
    folders = [top.document.relative(folder) for folder in table.strings("folders") or []]
    for folder in folders:
        if not folder.is_dir():
            raise table.error(
                "folders", f'no folder "{folder}"', "correct the path; it is relative to this file"
            )
    table.end()
    return folders


def _programs_in(folders: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*/manifest.toml")):
            found.setdefault(file.parent.name, file)
    return found


def _find_program(document: Document, folders: list[Path], program: str | None) -> tuple[str, Path] | None:
    if program is None:
        return None
    known = _programs_in(folders)
    if program not in known:
        remedy = suggestion(program, known, "programs")
        raise ProgramNotFoundError(document.file, 0, "", f'no program "{program}" in this system', remedy)
    return program, known[program]


def _read(
    top: Table, protocols: dict[str, Protocol], program: tuple[str, Path] | None, count: int
) -> _System:
    table = top.table("system", required=True)
    name = table.text("name")
    check_name(table, "name", name, manifests.COMPONENT_NAME_MAX)
    found: dict[str, Manifest] = {}
    components = top.entries("components", manifests.COMPONENT_NAME_MAX)
    for each, entry in components.items():
        if each in (HYPERVISOR, PROGRAM):
            raise entry.error("", f'the name "{each}" has a meaning of its own', "choose another name")
        found[each] = manifests.read(entry.path_to("manifest"), protocols)
        entry.end()
    names = []
    if program:
        if program[0] in found:
            raise top.document.error(
                ("components", program[0]), f'"{program[0]}" is a program too', "rename the component"
            )
        if not 1 <= count <= PROGRAMS_MAX:
            raise SystemFileError(top.document.file, 0, "", f"{count} instances", f"use 1 to {PROGRAMS_MAX}")
        manifest = manifests.read(program[1], protocols)
        names = [program[0], *(f"{program[0]}.{number}" for number in range(2, count + 1))]
        found |= dict.fromkeys(names, manifest)
    supervisor = table.text("supervisor", "")
    if supervisor and supervisor not in components:
        raise table.error(
            "supervisor", f'no component "{supervisor}"', suggestion(supervisor, components, "components")
        )
    system = _System(
        document=top.document,
        name=name,
        limit=table.size("memory", MEMORY_LIMIT_MAX, abi.PAGE_SIZE),
        images=table.path_to("images"),
        supervisor=supervisor,
        manifests=found,
        programs=frozenset(names),
        routes=_routes(top.table("routes"), found),
    )
    table.end()
    return system


def _routes(table: Table, found: dict[str, Manifest]) -> dict[_End, _Route]:
    routes: dict[_End, _Route] = {}
    for key in table:
        client = _end(table, key, key)
        if table.is_table(key):
            inner = table.table(key)
            server, operations = inner.text("to"), inner.strings("operations")
            inner.end()
        else:
            server, operations = table.text(key), None
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
        raise table.error(
            key, f'no component "{end.component}"', suggestion(end.component, found, "components")
        )
    manifest = found[end.component]
    interfaces = manifest.serves if side == "serves" else manifest.uses
    if end.interface not in interfaces:
        raise table.error(
            key,
            f'{end.component} {side} no interface "{end.interface}"',
            suggestion(end.interface, interfaces, f"interfaces it {side}"),
        )


def _component(system: _System, name: str, index: int) -> Component:
    manifest = system.manifests[name]
    program = name in system.programs
    image = system.images / manifest.image
    if not image.is_file():
        raise manifest.document.error(
            ("component", "image"),
            f'no file "{image}"',
            'build the guests with "make setup", or correct the name',
        )
    return Component(
        name=name,
        index=index,
        image=str(image),
        version=manifest.version,
        vendor=manifest.vendor,
        memory=manifest.memory,
        memory_kind=manifest.memory_kind,
        hypercalls=manifest.hypercalls,
        restart=RestartPolicy(policy="never", spares=0) if program else manifest.restart,
        heartbeat_ms=manifest.heartbeat_ms,
        states=manifest.states,
        cpu_percent=manifest.cpu_percent,
        is_program=program,
    )


def _channel(system: _System, client: _End, index: int) -> Channel:
    manifest = system.manifests[client.component]
    uses = manifest.uses[client.interface]
    key = _End(PROGRAM, client.interface) if client.component in system.programs else client
    route = system.routes.get(key)
    if route is None:
        raise system.document.error(
            ("routes",),
            f'no route for "{key}", which {client.component} needs',
            f'add "{key}" = "server.interface"',
        )
    serves = system.manifests[route.server.component].serves[route.server.interface]
    if str(uses.protocol) != str(serves.protocol):
        raise system.route_error(
            route,
            f"{client} speaks {uses.protocol}, {route.server} speaks {serves.protocol}",
            "route it to a server of the same protocol and version",
        )
    _check_operations(system, client, route, serves)
    return _make_channel(index, client, route.server, serves, uses.operations, uses)


def _check_operations(system: _System, client: _End, route: _Route, serves: Serves) -> None:
    protocol = serves.protocol
    asked = system.manifests[client.component]
    wanted = asked.uses[client.interface].operations
    server = system.manifests[route.server.component]
    for name in protocol.names(wanted & ~serves.operations):
        raise system.route_error(
            route,
            f'{client} asks for operation "{name}", which {route.server} does not serve',
            f"change {_place(asked, 'uses', client.interface)}"
            f" or {_place(server, 'serves', route.server.interface)}",
        )
    if route.operations is None:
        return
    for name in route.operations:
        if name not in protocol.operations:
            remedy = suggestion(name, protocol.operations, f"operations of {protocol}")
            raise system.route_error(route, f'{protocol} has no operation "{name}"', remedy)
    for name in protocol.names(wanted):
        if name not in route.operations:
            raise system.route_error(
                route,
                f'{client} asks for operation "{name}", which this route does not allow',
                f"allow it here, or change {_place(asked, 'uses', client.interface)}",
            )


def _place(manifest: Manifest, side: str, interface: str) -> str:
    return f"{manifest.document.file}:{manifest.document.line((side, interface, 'operations'))}"


def _make_channel(
    index: int, client: _End, server: _End, serves: Serves, operations: int, uses: manifests.Uses | None
) -> Channel:
    protocol = serves.protocol
    return Channel(
        index=index,
        client=client.component,
        client_interface=client.interface,
        server=server.component,
        server_interface=server.interface,
        protocol=protocol.name,
        protocol_number=protocol.number,
        protocol_version=protocol.version,
        slots=serves.slots,
        slot_data=serves.slot_data,
        operations=operations,
        deadline_ms=uses.deadline_ms if uses else 0,
        on_restart=uses.on_restart if uses else abi.ON_RESTART_REPLAY,
        parameter=uses.parameter if uses else b"",
        pool=uses.pool if uses else None,
        grants=uses.grants if uses else None,
        dma=uses.dma if uses else "none",
    )


def _supervisor_channel(system: _System) -> list[Channel]:
    """The channel by which the hypervisor tells the supervisor about faults."""
    if not system.supervisor:
        return []
    manifest = system.manifests[system.supervisor]
    if manifest.uses:
        raise system.document.error(
            ("system", "supervisor"),
            f"{system.supervisor} uses {', '.join(manifest.uses)}, and would wait for what it supervises",
            f"remove [uses] from {manifest.document.file}",
        )
    for interface, serves in manifest.serves.items():
        if serves.protocol.name == "supervise":
            client, server = _End(HYPERVISOR, "supervise"), _End(system.supervisor, interface)
            return [_make_channel(0, client, server, serves, serves.operations, None)]
    raise system.document.error(
        ("system", "supervisor"),
        f'{system.supervisor} does not serve "supervise"',
        "name a component that does",
    )


def _check_cycles(system: _System) -> None:
    """A component that waits for itself, through whomever, would never get an answer."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            loop = [*trail[trail.index(name) :], name]
            raise system.document.error(
                ("routes",), f"needs form a cycle: {' -> '.join(loop)}", "remove one route"
            )
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
            clients = [
                each.client for each in channels if (each.server, each.server_interface) == (name, interface)
            ]
            if len(clients) > serves.clients:
                raise manifest.document.error(
                    ("serves", interface, "clients"),
                    f"{len(clients)} clients ({', '.join(clients)}), {serves.clients} allowed",
                    f"raise clients, or remove routes in {system.document.file}",
                )
        ends = [each for each in channels if name in (each.client, each.server)]
        if len(ends) > abi.CHANNELS:
            raise system.document.error(
                ("components", name), f"{len(ends)} channels", f"use at most {abi.CHANNELS} for one component"
            )
        if sum(len(each.parameter) for each in ends) > _PARAMETERS_MAX:
            raise system.document.error(
                ("components", name),
                "the roots of its clients are too long",
                f"use {_PARAMETERS_MAX} bytes in all",
            )


def _devices(system: _System, top: Table) -> list[Device]:
    devices: list[Device] = []
    driven: dict[_End, str] = {}
    for name, table in top.entries("devices", manifests.INTERFACE_NAME_MAX).items():
        text = table.text("component")
        driver = _end(table, "component", text)
        if driver.component not in system.manifests:
            remedy = suggestion(driver.component, system.manifests, "components")
            raise table.error("component", f'no component "{driver.component}"', remedy)
        needs = system.manifests[driver.component].devices
        if driver.interface not in needs:
            raise table.error(
                "component",
                f"{driver.component} has no [device.{driver.interface}]",
                suggestion(driver.interface, needs, f"devices of {driver.component}"),
            )
        if driver in driven:
            raise table.error(
                "component", f"{driver} has the device {driven[driver]} already", "remove one of the two"
            )
        driven[driver] = name
        need = needs[driver.interface]
        read_only = table.flag("read_only", True)
        table.end()
        devices.append(
            Device(name, *driver, need.kind, need.queues, need.queue_size, need.channel, read_only=read_only)
        )
    for component, manifest in system.manifests.items():
        for interface in manifest.devices:
            if _End(component, interface) not in driven:
                raise system.document.error(
                    ("components", component),
                    f"no device for {component}.{interface}",
                    "add one under [devices]",
                )
    return devices


def _check_memory(system: _System, policy: Policy) -> None:
    """Everything that may exist at once, warm spares included, fits in the system's limit."""
    total = sum(each.memory * (1 + each.restart.spares) for each in policy.components)
    total += sum(state.size for each in policy.components for state in each.states)
    for channel in policy.channels:
        total += Geometry.of(channel.slots, channel.slot_data).size
        total += channel.pool.buffers * channel.pool.buffer if channel.pool else 0
        total += channel.grants.count * channel.grants.pages * abi.PAGE_SIZE if channel.grants else 0
    if total > system.limit:
        needed = size_text(-(-total >> 20) << 20)
        raise system.document.error(
            ("system", "memory"),
            f"the components need {needed}, {size_text(system.limit)} allowed",
            "raise the limit, or lower memory and spares in the manifests",
        )
