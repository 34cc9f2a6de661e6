"""Reading with many requests under way gives the same bytes whatever order and size the answers have.

host_system.rs itself asserts that no more requests or open files are under way than allowed, that nothing is
closed twice, and that nothing is left open or unanswered at the end.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests.programs.conftest import Run

SETTINGS: tuple[dict[str, str], ...] = (
    {},
    {"IN_FLIGHT": "2", "OPEN_FILES": "2"},
    {"IN_FLIGHT": "2", "OPEN_FILES": "16", "READ_BYTES": "1"},
    {"IN_FLIGHT": "3", "OPEN_FILES": "3", "READ_BYTES": "512", "LATE_OPENS": "3"},
    {"IN_FLIGHT": "16", "OPEN_FILES": "64", "READ_BYTES": "4096", "SHORT_READS": "1"},
    {"IN_FLIGHT": "30", "OPEN_FILES": "5", "READ_BYTES": "1000", "SHORT_READS": "3", "LATE_OPENS": "50"},
    {"LATE_OPENS": "1000000", "READ_BYTES": "64"},
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all sizes around the interesting ones."""
    folder = tmp_path_factory.mktemp("files")
    dice = random.Random(1)
    sizes = [0, 1, 2, 63, 64, 65, 511, 512, 513, 1000, 4095, 4096, 4097, 9999, 0, 0, 20_000, 5, 0, 300]
    for number, size in enumerate(sizes):
        (folder / f"f{number:02}").write_bytes(dice.randbytes(size))
    return folder


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings.values()) or "usual")
def test_bytes_are_the_same(ours: Run, files: Path, settings: dict[str, str]) -> None:
    names = sorted(path.name for path in files.iterdir())
    contents = [(files / name).read_bytes() for name in names]
    copied = ours(["cat", *names], files, settings)
    assert (copied.output, copied.errors, copied.status) == (b"".join(contents), b"", 0)
    wanted = [*names[:5], "missing", *names[5:], ".", "missing"]
    digests = ours(["sha256sum", *wanted], files, settings)
    expected = [
        f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in zip(names, contents, strict=True)
    ]
    assert digests.output.decode().splitlines() == expected
    assert digests.errors.count(b"missing") == 2 and b".: Is a directory" in digests.errors
    assert ours(["sha256tree", str(files)], files, settings).output.count(b"\n") == len(names)


@pytest.mark.parametrize("way", ["portable", "usual"])
def test_sha256(ours: Run, tmp_path: Path, way: str) -> None:
    """Both ways agree with hashlib for lengths around a block, taken in pieces of any size."""
    dice = random.Random(2)
    for length in [*range(0, 130, 3), 55, 56, 63, 64, 119, 120, 127, 128, 1000, 100_000]:
        data = dice.randbytes(length)
        for piece in (1, 63, 64, 65, 1000) if length < 2000 else (4096,):
            got = ours(["digest", way, str(piece)], tmp_path, stdin=data).output.decode().strip()
            assert got == hashlib.sha256(data).hexdigest(), (length, piece)
