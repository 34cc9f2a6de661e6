"""Ruff and mypy (strict) find nothing in the whole tree."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ci.build import REPOSITORY


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"]], ids=["ruff", "mypy"])
def test_lint(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
