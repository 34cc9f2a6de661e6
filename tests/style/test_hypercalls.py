"""Every hypercall has its row in hypervisor/abi/README.md, and every test named there exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hypervisor.abi import generated as abi

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["hypercall", "who may", "what is checked", "cost", "tests"]
COSTS = re.compile(r"none|exit|hypervisor|hypervisor, (a step|two steps|device|output|late)")


def rows() -> list[list[str]]:
    """The cells of the table, row by row."""
    lines = (ROOT / "hypervisor/abi/README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    start = cells.index(COLUMNS)
    return cells[start + 2 :]


def functions(path: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_every_hypercall_has_a_row() -> None:
    named = [row[0].strip("`") for row in rows()]
    assert sorted(named) == sorted(abi.names(abi.Hypercall).values())


def test_every_row_is_whole() -> None:
    for row in rows():
        assert len(row) == len(COLUMNS) and all(row), row
        assert COSTS.fullmatch(row[3]), row


def test_every_test_that_is_named_exists() -> None:
    """And speaks of the hypercall it is named for."""
    for name, _who, _checked, _cost, named in rows():
        tests = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", named)
        assert tests and len(tests) == named.count("::"), f"{name}: {named}"
        texts = []
        for file, function in tests:
            assert function in functions(ROOT / file), f"{name}: {file} has no {function}"
            texts.append((ROOT / file).read_text().lower())
        assert any(name.strip("`") in text for text in texts), name
