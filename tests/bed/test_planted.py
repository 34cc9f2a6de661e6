"""The bed is worth its time: it finds a defect that a software KVM lets pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.bed.bed import Bed
from tests.bed import needs_qemu, not_in_bed
from tests.cli.conftest import ROOT

pytestmark = [needs_qemu, not_in_bed]
TEST = "tests/tender/test_process.py::test_vector_state_is_usable_and_kept"


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as each:
        yield each


@pytest.mark.parametrize(("defects", "status"), [([], 0), (["-p", "tests.bed.without_xcr0"], 1)])
def test_found(bed: Bed, tmp_path: Path, defects: list[str], status: int) -> None:
    words = [sys.executable, "-m", "pytest", *defects, "--basetemp=/tmp/pytest", "-o", "cache_dir=/tmp/cache"]
    with (tmp_path / "output").open("w+b") as output:
        found = bed.run([*words, TEST], cwd=ROOT, stdin=None, stdout=output.fileno(), stderr=output.fileno())
        output.seek(0)
        said = output.read().decode()
    assert found == status, said
    assert ("1 failed" in said) == bool(status), said
    assert ("(31, (1, 6, " in said) == bool(status), said  # a FAULT record: an exception, invalid opcode
