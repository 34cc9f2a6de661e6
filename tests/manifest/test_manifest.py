"""One bad manifest per error, its exact message, and the file and line it names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hypervisor.abi import generated as abi
from hypervisor.policy import GrantObjects, Pool, RestartPolicy, StateRegion
from vmm import manifest, poisoned
from vmm.diagnosis import explain
from vmm.document import ConfigurationError, ManifestError

FIXTURES = Path(__file__).parent / "fixtures"
PROTOCOLS = manifest.read_protocols(FIXTURES / "protocols")
MUTATIONS = 200  # of each good file

ERRORS: dict[str, str] = {
    "backoff_negative": (
        "manifests/backoff_negative.toml:11: restart.backoff_ms: -1 is out of range; use 0 to 3600000"
    ),
    "backoff_without_delays": (
        'manifests/backoff_without_delays.toml:11: restart.policy: "backoff" without delays; add '
        "backoff_ms = [0, 10, 100]"
    ),
    "device_for_no_interface": (
        'manifests/device_for_no_interface.toml:13: device.disk.channel: no interface "blk" is '
        "served; there are no served interfaces"
    ),
    "dma_without_grants": (
        'manifests/dma_without_grants.toml:13: uses.blk.dma: "per_request" without memory to '
        "lend; add [grants.blk]"
    ),
    "dma_without_pool": (
        'manifests/dma_without_pool.toml:13: uses.blk.dma: "pool" without memory to lend; add [pool.blk]'
    ),
    "duplicate_key": ("manifests/duplicate_key.toml:14: this key is given twice; remove one of the two"),
    "duplicate_table": ("manifests/duplicate_table.toml:15: this key is given twice; remove one of the two"),
    "give_up_incomplete": (
        'manifests/give_up_incomplete.toml:11: restart.give_up: "within_s" is missing; add within_s = 4'
    ),
    "grants_of_nothing": (
        'manifests/grants_of_nothing.toml:10: grants.blk: no interface "blk" is used; there are '
        "no used interfaces"
    ),
    "hypercall_not_a_string": (
        "manifests/hypercall_not_a_string.toml:11: hypercalls.allow: entry 2 is not a string; "
        "put each one in quotes"
    ),
    "hypercall_twice": (
        'manifests/hypercall_twice.toml:11: hypercalls.allow: "wait" is given twice; remove one of the two'
    ),
    "image_in_a_folder": (
        'manifests/image_in_a_folder.toml:3: component.image: "../thing.elf" is not the plain '
        "name of a file; name the file, not its folder"
    ),
    "missing_key": ('manifests/missing_key.toml:1: component: "vendor" is missing; add vendor = "text"'),
    "missing_table": ("manifests/missing_table.toml: [vm] is missing; add this table"),
    "name_malformed": (
        'manifests/name_malformed.toml:2: component.name: "Thing" is not a name; use lower-case '
        "letters, digits and _, a letter first"
    ),
    "name_too_long": (
        'manifests/name_too_long.toml:10: serves.an_interface_name: the name "an_interface_name" '
        "is too long; use at most 15 characters"
    ),
    "no_such_choice": (
        'manifests/no_such_choice.toml:9: vm.memory_kind: no such choice "secret"; known '
        "choices: private, shared"
    ),
    "no_such_hypercall": (
        'manifests/no_such_hypercall.toml:11: hypercalls.allow: no such name "reconect"; did you '
        'mean "reconnect"?'
    ),
    "no_such_operation": (
        'manifests/no_such_operation.toml:12: serves.fs.operations: no such name "reed"; did you mean "read"?'
    ),
    "no_such_protocol": (
        'manifests/no_such_protocol.toml:11: serves.fs.protocol: no protocol "net@1"; known '
        "protocols: blk@1, fs@1, fs@2, log@1, store@1, supervise@1"
    ),
    "no_such_version": (
        'manifests/no_such_version.toml:11: serves.fs.protocol: no protocol "fs@3"; did you mean "fs@2"?'
    ),
    "not_utf8": ("manifests/not_utf8.toml: not UTF-8 text; save it as UTF-8"),
    "out_of_range": ("manifests/out_of_range.toml:14: serves.fs.clients: 0 is out of range; use 1 to 64"),
    "poisoned_unheard": (
        'manifests/poisoned_unheard.toml:11: restart.poisoned: the hypercall "log" is not allowed, which '
        'tells of what is done; add "log" to allow in [hypercalls]'
    ),
    "pool_of_nothing": (
        'manifests/pool_of_nothing.toml:14: pool.blok: no interface "blok" is used; did you mean "blk"?'
    ),
    "pool_too_large": (
        "manifests/pool_too_large.toml:15: pool.blk.buffers: the pool is larger than 64 MiB; use "
        "fewer or smaller buffers"
    ),
    "root_escapes": (
        'manifests/root_escapes.toml:13: uses.fs.root: "/usr/../etc" is not a plain absolute '
        'path; write it as "/usr/share"'
    ),
    "root_for_blk": (
        "manifests/root_for_blk.toml:13: uses.blk.root: unknown key; known keys: deadline_ms, "
        "dma, on_restart, operations, protocol"
    ),
    "root_relative": (
        'manifests/root_relative.toml:13: uses.fs.root: "usr" is not a plain absolute path; '
        'write it as "/usr/share"'
    ),
    "root_too_long": (
        "manifests/root_too_long.toml:13: uses.fs.root: the path is too long; use at most 255 bytes"
    ),
    "served_and_used": (
        'manifests/served_and_used.toml:15: uses.fs: "fs" is also served; give the two '
        "interfaces different names"
    ),
    "size_malformed": (
        'manifests/size_malformed.toml:8: vm.memory: "8M" is not a size; write a number and a unit: "32 MiB"'
    ),
    "size_too_large": ("manifests/size_too_large.toml:8: vm.memory: 2 GiB is too much; use at most 1 GiB"),
    "size_too_small": ("manifests/size_too_small.toml:8: vm.memory: 1 MiB is too little; use at least 4 MiB"),
    "size_uneven": (
        "manifests/size_uneven.toml:14: serves.fs.slot_data: 1000 B is uneven; use a multiple of 4 KiB"
    ),
    "slots_not_a_power_of_two": (
        "manifests/slots_not_a_power_of_two.toml:13: serves.fs.slots: 24 is not a power of two; use 16"
    ),
    "state_survives_what": (
        'manifests/state_survives_what.toml:13: state.log.survives: no such name "flood"; known '
        "occasions: crash, update"
    ),
    "store_root": (
        "manifests/store_root.toml:13: uses.store.root: unknown key; known keys: deadline_ms, dma, "
        "on_restart, operations, protocol, read, write"
    ),
    "store_two_roots": (
        'manifests/store_two_roots.toml:13: uses.store.read: "/net /log" is not a plain absolute path; '
        'write it as "/usr/share"'
    ),
    "syntax": (
        "manifests/syntax.toml:9: TOML syntax: Expected ']' at the end of a table declaration; "
        "correct this line"
    ),
    "two_vcpus": ("manifests/two_vcpus.toml:9: vm.vcpus: 2 is out of range; only 1 is possible"),
    "unknown_key": ('manifests/unknown_key.toml:14: serves.fs.slot: unknown key; did you mean "slots"?'),
    "unknown_table": ('manifests/unknown_table.toml:10: hypercall: unknown key; did you mean "hypercalls"?'),
    "wrong_type": (
        "manifests/wrong_type.toml:13: serves.fs.slots: a string where a whole number is needed; "
        "write slots = 4"
    ),
    "wrong_type_flag": (
        "manifests/wrong_type_flag.toml:8: vm.memory: a date or time where a string is needed; "
        'write memory = "32 MiB"'
    ),
    "wrong_type_list": (
        "manifests/wrong_type_list.toml:12: serves.fs.operations: a string where a list is "
        'needed; write operations = ["a", "b"]'
    ),
    "wrong_type_table": (
        "manifests/wrong_type_table.toml:11: serves.fs: a string where a table is needed; write fs = { ... }"
    ),
}


def read(name: str) -> manifest.Manifest:
    return manifest.read(FIXTURES / name, PROTOCOLS)


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(f"manifests/{name}.toml")
    assert explain(vars(caught.value)).replace(f"{FIXTURES}/", "") == ERRORS[name]


def test_every_fixture_has_its_error() -> None:
    assert {file.stem for file in (FIXTURES / "manifests").glob("*.toml")} == set(ERRORS)


def test_missing_file() -> None:
    with pytest.raises(ManifestError) as caught:
        read("nowhere.toml")
    message = f"{FIXTURES}/nowhere.toml: No such file or directory; check the path"
    assert explain(vars(caught.value)) == message


def test_file_too_large(tmp_path: Path) -> None:
    file = tmp_path / "large.toml"
    file.write_text("#" * ((1 << 20) + 1))
    with pytest.raises(ManifestError) as caught:
        manifest.read(file, PROTOCOLS)
    assert explain(vars(caught.value)) == f"{file}: larger than 1 MiB; this is not a file of ours"


def test_what_is_tried_against_poisoned_state(tmp_path: Path) -> None:
    text = (FIXTURES / "manifests/poisoned_unheard.toml").read_text() + '[hypercalls]\nallow = ["log"]\n'
    file = tmp_path / "thing.toml"
    for cures, more, packed in (
        ('"give_up", "fresh"', "", 1000 << 32 | 2 << 16 | 0x34),
        ('"undo", "quarantine", "fresh", "give_up"', "", 1000 << 32 | 2 << 16 | 0x4321),
        ('"quarantine"', "poisoned_deaths = 5\npoisoned_within_ms = 70\n", 70 << 32 | 5 << 16 | 2),
        ("", "", 0),
    ):
        stated = text.replace('"give_up", "fresh"', cures)
        file.write_text(stated.replace("[hypercalls]", f"{more}[hypercalls]"))
        restart = manifest.read(file, PROTOCOLS).component.restart
        assert restart.poisoned == packed
        assert poisoned.cures(packed) == [each.strip('"') for each in cures.split(", ") if each]


def test_good_server() -> None:
    files = read("parts/files.toml")
    component = files.component
    assert (component.name, component.image) == ("files", "files.elf")
    assert (component.memory, component.memory_kind) == (8 << 20, "shared")
    assert component.restart == RestartPolicy("backoff", (0, 10, 100), 50, 60_000, 0)
    assert component.heartbeat_ms == 250
    survives = frozenset({"crash", "update"})
    fresh = abi.OnCorruption.FRESH
    assert component.states == (StateRegion("open_files", 65536, 1, survives, fresh),)
    serves = files.serves["fs"]
    assert (str(serves.protocol), serves.operations, serves.clients) == ("fs@1", 0b11110, 2)
    assert (serves.slots, serves.slot_data) == (16, 128 << 10)
    uses = files.uses["blk"]
    assert (uses.operations, uses.deadline_ms, uses.on_restart) == (0b110, 500, abi.OnRestart.REPLAY)
    assert (uses.pool, uses.grants, uses.dma) == (Pool(32, 128 << 10), None, "pool")


def test_defaults_deny() -> None:
    """What a manifest does not state does not exist."""
    bare = read("parts/imageless.toml")
    assert (bare.serves, bare.uses, bare.device) == ({}, {}, {})
    assert (bare.component.hypercalls, bare.component.states) == (frozenset(), ())
    assert bare.component.restart == RestartPolicy("always", (), 0, 0, 1)


def test_strict_dma(tmp_path: Path) -> None:
    file = tmp_path / "strict.toml"
    text = (FIXTURES / "manifests" / "dma_without_grants.toml").read_text()
    file.write_text(text + '\n[grants.blk]\noffer = "rw"\npages = 32\nobjects = 8\n')
    uses = manifest.read(file, PROTOCOLS).uses["blk"]
    assert uses.dma == "per_request"
    assert uses.grants == GrantObjects(8, 32, abi.GrantRights.READ | abi.GrantRights.WRITE)


@pytest.mark.parametrize("name", ["driver", "files", "console"])
def test_mutations_are_values_or_errors(name: str, tmp_path: Path) -> None:
    """Whatever bytes a manifest has, it is a manifest or a ManifestError."""
    good = (FIXTURES / "parts" / f"{name}.toml").read_bytes()
    dice = random.Random(name)
    file = tmp_path / "mutant.toml"
    for _ in range(MUTATIONS):
        mutant = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(mutant))
            mutant[at : at + dice.randint(0, 3)] = bytes(dice.choice(good) for _ in range(dice.randint(0, 3)))
        file.write_bytes(mutant)
        try:
            manifest.read(file, PROTOCOLS)
        except ConfigurationError as error:
            assert explain(vars(error)).startswith(f"{file}")
