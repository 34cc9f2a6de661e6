"""What tests/guests/disk_writer does to a disk, foretold: its operations, and the disk's bytes afterwards."""

from __future__ import annotations

import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SECTOR = 512
SECTORS = 8192  # of the disks in tests
DISCARDED = -1
_MOST, _FEW = 256, 24
_MASK = (1 << 64) - 1

SYSTEM = """
[system]
name = "writing"
memory = "1 GiB"
images = "{root}/build/guests"
supervisor = "reincarnation_server"

[components.reincarnation_server]
manifest = "{root}/components/reincarnation_server/manifest.toml"

[components.{driver}]
manifest = "{manifest}"

[routes]
"program.blk" = "{driver}.blk"

[devices.disk]
component = "{driver}.disk"
read_only = {read_only}

[programs]
folders = ["{root}/tests/guests"]
"""


def system(driver: str, read_only: bool = False, manifest: Path | None = None) -> str:
    """A system file: `disk_writer` is to be run in it, straight on a driver (by default, of components/)."""
    manifest = manifest or ROOT / "components" / driver / "manifest.toml"
    return SYSTEM.format(root=ROOT, driver=driver, manifest=manifest, read_only=str(read_only).lower())


class Change(NamedTuple):
    """One operation: a write, or a discard, of `sectors` from `first`."""

    number: int
    first: int
    sectors: int
    discard: bool


def changes(count: int, seed: int) -> Iterator[Change]:
    """What `disk_writer write COUNT SEED` does to a disk of SECTORS."""
    state = seed

    def draw(below: int) -> int:
        nonlocal state
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & _MASK
        return (state >> 33) % below

    for number in range(1, count + 1):
        kind = draw(16)
        sectors = 1 + draw(_FEW if kind % 4 else _MOST)
        first = SECTORS // 16 + draw(SECTORS // 8 * 7 - sectors)
        yield Change(number, first, sectors, kind == 1)


def content(number: int, sector: int) -> bytes:
    """A sector's, after operation `number`; 0: as it was before; DISCARDED: zeros."""
    if number == DISCARDED:
        return bytes(SECTOR)
    first = (number + 1) << 40 | sector << 8
    return array.array("Q", range(first, first + SECTOR // 8)).tobytes()


def disk(numbers: Sequence[int]) -> bytes:
    """The disk's, by the operation of each sector."""
    return b"".join(content(number, sector) for sector, number in enumerate(numbers))


def fresh() -> bytes:
    """The disk's before anything has been written."""
    return disk([0] * SECTORS)


def after(count: int, seed: int) -> list[int]:
    """The operation of each sector, after so many."""
    numbers = [0] * SECTORS
    for number, first, sectors, discard in changes(count, seed):
        numbers[first : first + sectors] = [DISCARDED if discard else number] * sectors
    return numbers


def differences(found: bytes, numbers: Sequence[int]) -> list[str]:
    """The first few sectors that are not as they should be, each in words."""
    wrong = []
    for sector, number in enumerate(numbers):
        there = found[sector * SECTOR :][:SECTOR]
        if there != content(number, sector):
            wrong.append(f"sector {sector}: by operation {number}, but it begins {there[:16].hex()}")
    return wrong[:5]
