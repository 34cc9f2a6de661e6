"""Our C passes the compiler's static analysis: paths that leak, overrun or use what is not there. That is the
tender's, the sound device's, and that of components in C."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from images.guests import C_INCLUDES
from images.rustc import C_FLAGS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for path in (ROOT / "vmm/tender").glob("*.c") if not path.name.startswith("_"))
SOURCES += [ROOT / "vmm/devices/sound.c", ROOT / "vmm/devices/pieces.c"]
GUESTS = sorted((ROOT / "components").glob("*/src/*.c"))


def analyse(command: list[str], source: Path, folder: Path) -> None:
    command = ["gcc", *command, "-O1", "-fanalyzer", "-c", str(source), "-o", str(folder / "object")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_analysis(source: Path, tmp_path: Path) -> None:
    options = "-std=gnu11 -Wall -Wextra -Werror"
    own = [] if "#define _GNU_SOURCE" in source.read_text() else ["-D_GNU_SOURCE"]
    analyse([*options.split(), *own, f"-I{ROOT}", f"-I{sysconfig.get_path('include')}"], source, tmp_path)


@pytest.mark.parametrize("source", GUESTS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_analysis_of_guests(source: Path, tmp_path: Path) -> None:
    analyse([*C_FLAGS, *(f"-I{each}" for each in C_INCLUDES)], source, tmp_path)
