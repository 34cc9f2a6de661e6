"""One bad system file per error, its exact message; and the policy of a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from hypervisor.placement import PlacementError, place
from hypervisor.policy import Device, Policy
from tests.hypervisor.policies import named
from vmm import needs, system
from vmm.diagnosis import explain
from vmm.document import ConfigurationError, ManifestError, ProgramNotFoundError, SystemFileError

FIXTURES = Path(__file__).parent / "fixtures"
PROGRAMS = {  # those fixtures whose error needs a program, and how many of it
    "program_is_component": ("reader", 1),
    "too_many_clients": ("reader", 3),
    "version_mismatch": ("reader", 1),
}

ERRORS: dict[str, tuple[type[ConfigurationError], str]] = {
    "bad_name": (
        SystemFileError,
        'systems/bad_name.toml:2: system.name: "Bad-Name" is not a name; use lower-case letters, '
        "digits and _, a letter first",
    ),
    "busy_supervisor": (
        SystemFileError,
        "systems/busy_supervisor.toml:5: system.supervisor: supervisor uses log, and would wait "
        "for what it supervises; remove [uses] from parts/busy_supervisor.toml",
    ),
    "device_for_nobody": (
        SystemFileError,
        'systems/device_for_nobody.toml:17: devices.disk1.component: no component "printer"; did '
        'you mean "driver"?',
    ),
    "device_not_needed": (
        SystemFileError,
        "systems/device_not_needed.toml:17: devices.disk1.component: files has no [device.disk]; "
        "there are no interfaces there",
    ),
    "device_twice": (
        SystemFileError,
        "systems/device_twice.toml:17: devices.disk1.component: driver.disk has the device disk0 "
        "already; remove one of the two",
    ),
    "duplicate_component": (
        SystemFileError,
        "systems/duplicate_component.toml:10: this key is given twice; remove one of the two",
    ),
    "missing_image": (
        ManifestError,
        'parts/imageless.toml:3: component.image: no file "images/missing.elf"; build the guests '
        'with "make setup", or correct the name',
    ),
    "missing_key": (
        SystemFileError,
        'systems/missing_key.toml:1: system: "memory" is missing; add memory = "32 MiB"',
    ),
    "missing_manifest": (
        ManifestError,
        "parts/drivr.toml: No such file or directory; check the path",
    ),
    "missing_table": (
        SystemFileError,
        "systems/missing_table.toml: [system] is missing; add this table",
    ),
    "misspelt_required_key": (
        SystemFileError,
        'systems/misspelt_required_key.toml:3: system.memroy: unknown key; did you mean "memory"?',
    ),
    "name_too_long": (
        SystemFileError,
        "systems/name_too_long.toml:5: components.a_component_with_a_name_too_long: the name "
        '"a_component_with_a_name_too_long" is too long; use at most 31 characters',
    ),
    "no_device": (
        SystemFileError,
        "systems/no_device.toml:6: components.driver: no device for driver.disk; add one under [devices]",
    ),
    "no_route": (
        SystemFileError,
        'systems/no_route.toml:11: routes: no route for "files.blk", which files needs; add '
        '"files.blk" = "server.interface"',
    ),
    "no_supervisor": (
        SystemFileError,
        'systems/no_supervisor.toml:5: system.supervisor: no component "supervisr"; known '
        "components: driver, files",
    ),
    "operation_not_served": (
        SystemFileError,
        'systems/operation_not_served.toml:12: routes."files.blk": files.blk asks for operation '
        '"write", which driver.blk does not serve; change parts/greedy.toml:17 or '
        "parts/driver.toml:12",
    ),
    "program_folder": (
        SystemFileError,
        'systems/program_folder.toml:17: programs.folders: no folder "programms"; correct the '
        "path; it is relative to this file",
    ),
    "program_is_component": (
        SystemFileError,
        'systems/program_is_component.toml:6: components.reader: "reader" is a program too; '
        "rename the component",
    ),
    "protocol_mismatch": (
        SystemFileError,
        'systems/protocol_mismatch.toml:12: routes."files.blk": files.blk speaks blk@1, files.fs '
        "speaks fs@1; route it to a server of the same protocol and version",
    ),
    "reserved_name": (
        SystemFileError,
        'systems/reserved_name.toml:5: components.program: the name "program" has a meaning of '
        "its own; choose another name",
    ),
    "route_from_no_component": (
        SystemFileError,
        'systems/route_from_no_component.toml:13: routes."printer.blk": no component "printer"; '
        'did you mean "driver"?',
    ),
    "route_from_no_interface": (
        SystemFileError,
        'systems/route_from_no_interface.toml:13: routes."files.net": files has no '
        "[uses.net]; known interfaces there: blk",
    ),
    "route_to_no_component": (
        SystemFileError,
        'systems/route_to_no_component.toml:12: routes."files.blk": no component "drivr"; did '
        'you mean "driver"?',
    ),
    "route_to_no_interface": (
        SystemFileError,
        'systems/route_to_no_interface.toml:12: routes."files.blk": driver has no '
        '[serves.block]; did you mean "blk"?',
    ),
    "route_unquoted": (
        SystemFileError,
        'systems/route_unquoted.toml:11: routes.files: "files" is not an interface; write '
        '"component.interface", in quotes',
    ),
    "route_without_interface": (
        SystemFileError,
        'systems/route_without_interface.toml:12: routes."files.blk": "driver" is not an '
        'interface; write "component.interface", in quotes',
    ),
    "supervisor_of_nothing": (
        SystemFileError,
        "systems/supervisor_of_nothing.toml:5: system.supervisor: driver does not serve "
        '"supervise"; name a component that does',
    ),
    "syntax": (
        SystemFileError,
        "systems/syntax.toml:5: TOML syntax: Expected ']' at the end of a table declaration; "
        "correct this line",
    ),
    "too_many_clients": (
        ManifestError,
        "parts/files.toml:13: serves.fs.clients: 3 clients (reader, reader.2, reader.3), 2 "
        "allowed; raise clients, or remove routes in systems/too_many_clients.toml",
    ),
    "too_much_memory": (
        SystemFileError,
        "systems/too_much_memory.toml:3: system.memory: the components need 29 MiB, 16 MiB "
        "allowed; raise the limit, or lower memory and spares in the manifests",
    ),
    "two_routes": (
        SystemFileError,
        "systems/two_routes.toml:13: this key is given twice; remove one of the two",
    ),
    "unknown_key": (
        SystemFileError,
        'systems/unknown_key.toml:5: system.memroy: unknown key; did you mean "memory"?',
    ),
    "version_mismatch": (
        SystemFileError,
        'systems/version_mismatch.toml:9: routes."program.fs": reader.fs speaks fs@1, newer.fs '
        "speaks fs@2; route it to a server of the same protocol and version",
    ),
    "wrong_type": (
        SystemFileError,
        "systems/wrong_type.toml:3: system.memory: a whole number where a string is needed; "
        'write memory = "32 MiB"',
    ),
}


CYCLES = {
    "cycle": "10: routes: needs form a cycle: alpha -> beta -> alpha",
    "needs_itself": "8: routes: needs form a cycle: alpha -> alpha",
}


def compile_fixture(name: str, program: str | None = None, programs: int = 1) -> Policy:
    file = FIXTURES / "systems" / f"{name}.toml"
    return system.compile(file, program, programs, protocols=FIXTURES / "protocols")


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    kind, message = ERRORS[name]
    with pytest.raises(kind) as caught:
        compile_fixture(name, *PROGRAMS.get(name, (None, 1)))
    assert explain(vars(caught.value)).replace(f"{FIXTURES}/", "") == message
    assert caught.value.status == 125


def test_every_fixture_has_its_error() -> None:
    assert {file.stem for file in (FIXTURES / "systems").glob("*.toml")} == set(ERRORS) | {"good", *CYCLES}


@pytest.mark.parametrize("name", CYCLES)
def test_cycle_of_needs(name: str) -> None:
    file = FIXTURES / "systems" / f"{name}.toml"
    with pytest.raises(SystemFileError) as caught:
        needs.check(str(file))
    assert explain(vars(caught.value)) == f"{file}:{CYCLES[name]}; remove one route"


def test_other_mistakes_are_left_to_those_who_find_them(tmp_path: Path) -> None:
    file = tmp_path / "system.toml"
    for text in ("", "routes = 3", "[routes]\na = 3", "[routes", '[routes]\n"a.x" = "b.y"'):
        file.write_text(text)
        needs.check(str(file))
    file.unlink()
    needs.check(str(file))


def test_program_not_found() -> None:
    with pytest.raises(ProgramNotFoundError) as caught:
        compile_fixture("good", "readr")
    assert explain(vars(caught.value)) == (
        f'{FIXTURES}/systems/good.toml: no program "readr" in this system; did you mean "reader"?'
    )
    assert caught.value.status == 127


def test_program_without_route() -> None:
    with pytest.raises(SystemFileError) as caught:
        compile_fixture("good", "writer")
    assert explain(vars(caught.value)) == (
        f'{FIXTURES}/systems/good.toml:15: routes: no route for "program.log", which writer needs; '
        'add "program.log" = "server.interface"'
    )


def test_channels_of_one_component(tmp_path: Path) -> None:
    """A limit that only many components together can break, found when memory is laid out."""
    names = [f"relay{number}" for number in range(abi.CHANNELS + 1)]
    text = '[system]\nname = "crowd"\nmemory = "8 GiB"\n'
    text += f'images = "{FIXTURES}/images"\n[components.console]\nmanifest = "console.toml"\n'
    for name in names:
        text += f'[components.{name}]\nmanifest = "{FIXTURES}/parts/relay.toml"\n'
    text += "[routes]\n" + "".join(
        f'"{name}.next" = "console.log{number % 2}"\n' for number, name in enumerate(names)
    )
    (tmp_path / "system.toml").write_text(text)
    console = (FIXTURES / "parts" / "console.toml").read_text().replace("clients = 16", "clients = 64")
    body = console[console.index("[serves.log]") :]
    twice = "\n".join(body.replace("serves.log", f"serves.log{number}") for number in range(2))
    (tmp_path / "console.toml").write_text(console.replace(body, twice))
    policy = system.compile(tmp_path / "system.toml", protocols=FIXTURES / "protocols")
    with pytest.raises(PlacementError, match="component console: 65 channels"):
        place(policy, named(policy, "console"))


def compile_groups(folder: Path, groups: dict[str, str], routes: dict[str, str]) -> Policy:
    """The policy of relays and a console, in this order: name -> the line `group` of its manifest; client ->
    server. Who has no route of its own is a console."""
    text = '[system]\nname = "groups"\nmemory = "1 GiB"\n'
    text += f'images = "{FIXTURES}/images"\n'
    for name, group in groups.items():
        part = (FIXTURES / "parts" / f"{'relay' if name in routes else 'console'}.toml").read_text()
        part = part.replace("slots = 8", "slots = 8\nclients = 8") if name in routes else part
        (folder / f"{name}.toml").write_text(f"{part}\n[restart]\n{group}\n")
        text += f'[components.{name}]\nmanifest = "{name}.toml"\n'
    text += "[routes]\n" + "".join(f'"{each}.next" = "{routes[each]}.log"\n' for each in routes)
    (folder / "system.toml").write_text(text)
    return system.compile(folder / "system.toml", protocols=FIXTURES / "protocols")


def group_of(policy: Policy, name: str) -> tuple[str, ...]:
    return named(policy, name).restart.group


def test_a_group_is_in_the_order_of_its_needs(tmp_path: Path) -> None:
    """Servers first, in whatever order the system file names them; every member has the same names."""
    chain = 'group = "chain"'
    routes = {"first": "second", "second": "third", "third": "last", "aside": "last"}
    for names in (["first", "second", "third", "last"], ["last", "second", "first", "third"]):
        policy = compile_groups(tmp_path, dict.fromkeys(names, chain) | {"aside": ""}, routes)
        for name in names:
            assert group_of(policy, name) == ("last", "third", "second", "first")
        assert group_of(policy, "aside") == ()


def test_a_server_of_several_members_is_before_all_of_them(tmp_path: Path) -> None:
    names = ["left", "middle", "right", "last"]
    routes = {"left": "last", "middle": "left", "right": "last"}
    order = group_of(compile_groups(tmp_path, dict.fromkeys(names, 'group = "all"'), routes), "left")
    assert sorted(order) == sorted(names)
    assert order[0] == "last"
    assert order.index("left") < order.index("middle")


def test_groups_are_apart(tmp_path: Path) -> None:
    """A need that leads through another group or to nobody's orders nothing; one alone is a group, too."""
    one, other = 'group = "one"', 'group = "other"'
    groups = {"first": one, "second": other, "third": one, "last": "", "alone": 'group = "alone"'}
    routes = {"first": "second", "second": "third", "third": "last", "alone": "first"}
    policy = compile_groups(tmp_path, groups, routes)
    assert sorted(group_of(policy, "first")) == ["first", "third"]
    assert group_of(policy, "first") == group_of(policy, "third")
    assert group_of(policy, "second") == ("second",)
    assert group_of(policy, "alone") == ("alone",)
    assert group_of(policy, "last") == ()


def test_a_group_whose_needs_form_a_cycle(tmp_path: Path) -> None:
    """There is no order but the system file's; who runs such a system is told before."""
    routes = {"first": "second", "second": "first"}
    policy = compile_groups(tmp_path, dict.fromkeys(routes, 'group = "ring"'), routes)
    assert group_of(policy, "second") == ("first", "second")
    with pytest.raises(SystemFileError, match="needs form a cycle: "):
        needs.check(str(tmp_path / "system.toml"))


BAD_GROUPS = {
    "group = 3": "restart.group: a whole number where a string is needed; write group = ",
    'group = ["first", "last"]': "restart.group: a list where a string is needed; write group = ",
    'group = "a"\ngroup = "b"': "this key is given twice; remove one of the two",
    'groop = "chain"': 'restart.groop: unknown key; did you mean "group"?',
}


@pytest.mark.parametrize("line", BAD_GROUPS)
def test_bad_group(tmp_path: Path, line: str) -> None:
    with pytest.raises(ManifestError) as caught:
        compile_groups(tmp_path, {"first": line, "last": ""}, {"first": "last"})
    assert f"{tmp_path}/first.toml:" in (text := explain(vars(caught.value)))
    assert BAD_GROUPS[line] in text


def test_a_program_is_in_no_group(tmp_path: Path) -> None:
    """Nobody restarts it, so nothing begins anew with it."""
    programs = tmp_path / "programs/reader"
    programs.mkdir(parents=True)
    part = (FIXTURES / "programs/reader/manifest.toml").read_text()
    (programs / "manifest.toml").write_text(f'{part}\n[restart]\ngroup = "all"\n')
    text = (FIXTURES / "systems/good.toml").read_text().replace('"../', f'"{FIXTURES}/')
    text = text.replace(f"{FIXTURES}/programs", f"{tmp_path}/programs")
    text = text.replace(f"{FIXTURES}/parts/driver.toml", "driver.toml")
    driver = (FIXTURES / "parts/driver.toml").read_text()
    (tmp_path / "driver.toml").write_text(driver.replace("[restart]", '[restart]\ngroup = "all"'))
    (tmp_path / "system.toml").write_text(text)
    policy = system.compile(tmp_path / "system.toml", "reader", protocols=FIXTURES / "protocols")
    assert group_of(policy, "reader") == ()
    assert group_of(policy, "driver") == ("driver",)


def test_good_policy() -> None:
    policy = compile_fixture("good", "reader")
    assert [each.name for each in policy.components] == ["supervisor", "driver", "files", "reader"]
    assert [each.index for each in policy.components] == [0, 1, 2, 3]
    assert [each.is_program for each in policy.components] == [False, False, False, True]
    assert policy.supervisor == "supervisor"
    ends = [(each.client, each.client_interface, each.server) for each in policy.channels]
    assert ends == [
        ("hypervisor", "supervise", "supervisor"),
        ("files", "blk", "driver"),
        ("reader", "fs", "files"),
    ]
    assert [each.index for each in policy.channels] == [0, 1, 2]
    assert policy.devices == (Device("disk0", "driver", "disk", "virtio-blk", 1, 128, "blk", True),)
    assert named(policy, "driver").image == str(FIXTURES / "images" / "driver.elf")


def test_authority_is_what_the_client_asked_for() -> None:
    """Less than the server serves, never more; and a program is never restarted."""
    policy = compile_fixture("good", "reader")
    blk, fs = policy.channels[1:]
    assert blk.operations == 0b110  # info and read: not flush, which the driver would serve
    assert fs.operations == 0b1110  # open, close, read
    assert fs.parameter == b"/usr/share"
    assert fs.on_restart == abi.OnRestart.FAIL
    assert named(policy, "reader").restart.policy == "never"
    assert named(policy, "reader").restart.spares == 0
    allowed = {abi.Hypercall.READY, abi.Hypercall.WAIT, abi.Hypercall.RECONNECT}
    assert named(policy, "driver").hypercalls == allowed


def test_instances_of_a_program() -> None:
    policy = compile_fixture("good", "reader", 2)
    assert [each.name for each in policy.components if each.is_program] == ["reader", "reader.2"]
    assert [each.client for each in policy.channels if each.server == "files"] == ["reader", "reader.2"]


def test_without_program() -> None:
    policy = compile_fixture("good")
    assert not any(each.is_program for each in policy.components)
    assert len(policy.channels) == 2
