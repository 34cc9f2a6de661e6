"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a command whose files all go to `folder`."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "R3S3_RUNTIME_DIR": str(folder),
        "R3S3_CACHE_DIR": str(folder / "cache"),
        "FAKE_REQUEST": str(folder / "request.json"),
        **more,
    }


@pytest.fixture
def system_file(tmp_path: Path) -> Path:
    """A system file that only has to exist."""
    file = tmp_path / "system.toml"
    file.touch()
    return file


@pytest.fixture
def r3s3(tmp_path: Path) -> Run:
    """Runs `r3s3 ARGUMENT ...` with a fake hypervisor process; keywords go to the environment."""

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.cli.with_fake", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(tmp_path, **more),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    return run
