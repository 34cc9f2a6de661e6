"""Native modules are rebuilt when their sources change, and only then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci import build

BUILDER = """
from pathlib import Path
if __name__ == "__main__":
    log = Path("log")
    log.write_text(log.read_text() + "run ")
    Path("vmm/devices/_ring.so").touch()
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "vmm/__init__.py": "",
        "vmm/devices/__init__.py": "",
        "vmm/devices/build_ring.py": BUILDER,
        "vmm/devices/ring.c": "int x;\n",
        "hypervisor/abi/generated.h": "",
        "log": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(build, "REPOSITORY", tmp_path)
    monkeypatch.setattr(build, "STAMPS", tmp_path / "build/native")
    return tmp_path


def runs(tree: Path) -> int:
    build.build_native()
    return (tree / "log").read_text(encoding="utf-8").count("run")


def test_rebuilt_only_when_a_source_differs(tree: Path) -> None:
    assert runs(tree) == 1
    os.utime(tree / "vmm/devices/ring.c")
    (tree / "vmm/devices/_ring.c").write_text("written by cffi\n", encoding="utf-8")
    assert runs(tree) == 1
    (tree / "vmm/devices/ring.c").write_text("int y;\n", encoding="utf-8")
    assert runs(tree) == 2
    (tree / "hypervisor/abi/generated.h").write_text("#define R3_X 1\n", encoding="utf-8")
    assert runs(tree) == 3
    (tree / "vmm/devices/_ring.so").unlink()
    assert runs(tree) == 4


def test_failing_builder_is_an_error_and_is_tried_again(tree: Path) -> None:
    (tree / "vmm/devices/build_ring.py").write_text("raise SystemExit('no compiler')\n", encoding="utf-8")
    for _attempt in range(2):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            build.build_native()
        assert "no compiler" in caught.value.stdout
