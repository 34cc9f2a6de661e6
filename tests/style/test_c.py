"""The tender's C passes the compiler's static analysis: paths that leak, overrun or use what is not there."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "vmm/tender").glob("*.c") if not path.name.startswith("_"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_analysis(source: Path, tmp_path: Path) -> None:
    options = "-std=gnu11 -D_GNU_SOURCE -O1 -Wall -Wextra -Werror -fanalyzer"
    includes = [f"-I{ROOT}", f"-I{sysconfig.get_path('include')}"]
    command = ["gcc", *options.split(), *includes, "-c", str(source), "-o", str(tmp_path / "object")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
