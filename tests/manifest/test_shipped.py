"""What the repository itself ships: every manifest is sound, every program runs in a system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hypervisor.policies import named
from vmm import manifest, system

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "images" / "default.toml"
PROTOCOLS = manifest.read_protocols()
MANIFESTS = [
    file.relative_to(ROOT)
    for top in ("components", "guests")
    for file in sorted((ROOT / top).rglob("manifest.toml"))
]
PROGRAMS = sorted(file.parent.name for file in (ROOT / "guests" / "programs").glob("*/manifest.toml"))


@pytest.mark.parametrize("file", MANIFESTS, ids=str)
def test_manifest_is_sound(file: Path) -> None:
    found = manifest.read(ROOT / file, PROTOCOLS)
    assert found.component.name == file.parent.name


# What is of use only with a component that has a system of its own.
ELSEWHERE = {"edu": "edu", "store": "store", "tone": "audio"}
RUNS = [*((ELSEWHERE.get(each, "default"), each) for each in PROGRAMS), ("nvme", "cat")]


@pytest.mark.parametrize(("file", "program"), RUNS)
def test_shipped_systems_run(file: str, program: str) -> None:
    policy = system.compile(ROOT / f"images/{file}.toml", program)
    assert named(policy, program).is_program
    assert policy.supervisor == "reincarnation_server"


def test_sixteen_programs_at_once() -> None:
    """The default system has room for as many clients as its file server takes."""
    assert "sha256sum" in PROGRAMS
    policy = system.compile(DEFAULT, "sha256sum", 16)
    assert sum(component.is_program for component in policy.components) == 16
