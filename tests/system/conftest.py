"""Systems under test: images with kill points, a disk with something to read, a place for each test."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from images.image import build as build_image
from tests.system.stage import Stage, build_images

FILES = 6
FILE_BYTES = 3 << 20
SEED = 11


@pytest.fixture(scope="session")
def guests() -> None:
    """All guests are built."""
    build_images()


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with more in it than the file server's cache holds."""
    folder = tmp_path_factory.mktemp("disk")
    source = folder / "source"
    source.mkdir()
    dice = random.Random(SEED)
    for number in range(FILES):
        (source / f"file{number}").write_bytes(dice.randbytes(FILE_BYTES))
    build_image(source, folder / "disk.img")
    return folder / "disk.img"


@pytest.fixture(scope="session")
def digests() -> list[str]:
    """What `sha256tree /` prints of that disk."""
    dice = random.Random(SEED)
    return [f"{hashlib.sha256(dice.randbytes(FILE_BYTES)).hexdigest()}  /file{n}" for n in range(FILES)]


@pytest.fixture
def stage(guests: None, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A place for one system at a time, with control sockets of its own."""
    monkeypatch.setenv("R3S3_RUNTIME_DIR", str(tmp_path))
    return Stage(tmp_path, disk)
