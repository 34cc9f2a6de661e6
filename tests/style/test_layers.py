"""Imports only point down, and the check itself notices what does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ci import layers


def test_every_import_points_down() -> None:
    assert layers.violations() == []


@pytest.mark.parametrize(
    ("importer", "target", "reason"),
    [
        ("hypervisor.grants", "vmm.launch", "hypervisor is below vmm, imports only point down"),
        ("vmm.launch", "images.guests", "vmm is below images, imports only point down"),
        ("vmm.tender.process", "vmm.cli.main", "vmm.tender must not depend on vmm.cli"),
        ("ci.build", "tests.bench", "ci runs tests, it does not import them"),
        ("vmm.launch", "hypervisor.grants", None),
        ("tests.unit.test_grants", "hypervisor.grants", None),
        ("hypervisor.wire", "socket", None),
    ],
)
def test_reason(importer: str, target: str, reason: str | None) -> None:
    assert layers.why_not(importer, target) == reason


def test_late_and_relative_imports_are_seen() -> None:
    tree = ast.parse("def later():\n    from ..cli import main\n")
    assert (2, "vmm.cli.main") in list(layers.imported_modules(tree, "vmm.tender.process", is_package=False))


def test_violation_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "hypervisor").mkdir()
    (tmp_path / "hypervisor/bad.py").write_text("import os\nimport vmm.launch\n", encoding="utf-8")
    assert layers.violations(tmp_path) == [
        "hypervisor/bad.py:2: hypervisor.bad imports vmm.launch: "
        "hypervisor is below vmm, imports only point down"
    ]
