"""Disks that cannot be served: one image per reason, the exact messages, and an end at once.

A disk that is none is refused before anything starts. What only reading shows the file server says, while
programs get an error for what they asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from images.image import BLOCK, build
from tests.cli.test_system import r3s3
from tests.file_server.damage import FIRST_BLOCK, METADATA, ROOT, SIZE, Damage
from tests.system import plan

pytestmark = pytest.mark.kvm

SYSTEM = plan.ROOT / "images/default.toml"
BUILD = "build it with `r3s3 image build`"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with /outer/inner/file and /small."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "tree/outer/inner").mkdir(parents=True)
    (folder / "tree/outer/inner/file").write_bytes(b"x" * 10_000)
    (folder / "tree/small").write_bytes(b"small\n")
    build(folder / "tree", folder / "disk.img")
    return folder / "disk.img"


def refused(folder: Path) -> str:
    """What `r3s3 run` says of disk.img in `folder`, before anything starts."""
    result = r3s3(folder, "run", SYSTEM, "--disk", "disk.img", "--", "ls", "/")
    assert (result.returncode, result.stdout) == (125, b"")
    return str(result.stderr, "utf-8")


def test_missing(tmp_path: Path) -> None:
    message = "disk.img: no such disk image; build one with: r3s3 image build DIR -o disk.img"
    assert refused(tmp_path) == f"r3s3: {message}\n"


def test_directory(tmp_path: Path) -> None:
    (tmp_path / "disk.img").mkdir()
    message = "disk.img: neither a file nor a block device; name a disk image"
    assert refused(tmp_path) == f"r3s3: {message}\n"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "disk.img").touch()
    message = "disk.img: an empty disk image; build one with: r3s3 image build DIR -o disk.img"
    assert refused(tmp_path) == f"r3s3: {message}\n"


def test_cut_off_anywhere(tmp_path: Path, good: Path) -> None:
    (tmp_path / "disk.img").write_bytes(good.read_bytes()[:5000])
    message = "disk.img: truncated: 5000 bytes are no multiple of 512"
    remedy = "build it again with: r3s3 image build DIR -o disk.img"
    assert refused(tmp_path) == f"r3s3: {message}; {remedy}\n"


# What is done to the image, whether it gets right checksums afterwards, and what the file server says.
UNUSABLE: dict[str, tuple[Callable[[Damage], object], bool, str]] = {
    "not EROFS": (
        lambda damage: damage.superblock(0, 4, 0), True,
        "not an EROFS image: no magic number at byte 1024",
    ),
    "only zeros": (
        lambda damage: damage.bytes.__setitem__(slice(None), bytes(1 << 20)), False,
        "not an EROFS image: no magic number at byte 1024",
    ),
    "not from image build": (
        lambda damage: None, False,
        "no checksum table at its end: truncated, or not made by `r3s3 image build`",
    ),
    "truncated": (
        lambda damage: damage.bytes.__delitem__(slice(-BLOCK, None)), False,
        "EROFS superblock names more blocks than the disk has: truncated",
    ),
    "superblock: root": (
        lambda damage: damage.superblock(ROOT, 2, 0xFFFF), True,
        "EROFS superblock: the root directory lies outside the image",
    ),
    "superblock: metadata": (
        lambda damage: damage.superblock(METADATA, 4, 1 << 30), True,
        "EROFS superblock: the root directory lies outside the image",
    ),
    "superblock: block size": (
        lambda damage: damage.superblock(12, 1, 9), True,
        "EROFS with blocks of another size than 4096 bytes",
    ),
    "superblock: features": (
        lambda damage: damage.superblock(80, 4, 2), True,
        "EROFS with features this file server does not know (compression?)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable(tmp_path: Path, good: Path, name: str) -> None:
    change, seal, sentence = UNUSABLE[name]
    damage = Damage(good)
    change(damage)
    damage.write(tmp_path / "disk.img", seal=seal)
    result = r3s3(tmp_path, "run", SYSTEM, "--disk", "disk.img", "--", "ls", "/")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().splitlines() == [
        "ls: cannot access '/': Input/output error",
        f"r3s3: file_server: the disk image: {sentence}; {BUILD}",
    ]


def test_superblock_that_does_not_match_its_checksum(tmp_path: Path, good: Path) -> None:
    image = bytearray(good.read_bytes())
    image[1024 + 50] ^= 1  # of the UUID, which means nothing
    (tmp_path / "disk.img").write_bytes(image)
    result = r3s3(tmp_path, "run", SYSTEM, "--disk", "disk.img", "--", "cat", "/small")
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().splitlines() == [
        "cat: /small: Input/output error",
        f"r3s3: file_server: the disk image: its first block does not match its checksum; {BUILD}",
    ]


FILE = (b"outer", b"inner", b"file")


def hang_in(damage: Damage, name: bytes, inode: int) -> None:
    """Entry `name` of the directory that holds it in the good image becomes another name of `inode`."""
    path = FILE[: FILE.index(name)]
    damage.put(damage.entry(damage.lookup(*path), name), 8, inode)


# What is done to the image, and what a program that reads everything says of it; the rest is read.
PARTLY: dict[str, tuple[Callable[[Damage], object], str]] = {
    "directory in itself": (
        lambda damage: hang_in(damage, b"inner", damage.lookup(b"outer")),
        "/outer/inner: Too many levels of symbolic links",
    ),
    "root in its grandchild": (
        lambda damage: hang_in(damage, b"inner", damage.root),
        "/outer/inner: Too many levels of symbolic links",
    ),
    "directory called a file": (
        lambda damage: hang_in(damage, b"file", damage.lookup(b"outer")),
        "/outer/inner/file: Is a directory",
    ),
    "inode past the end": (
        lambda damage: hang_in(damage, b"file", 1 << 40),
        "/outer/inner/file: Data is corrupt",
    ),
    "inode number that overflows": (
        lambda damage: hang_in(damage, b"file", (1 << 64) - 1),
        "/outer/inner/file: Data is corrupt",
    ),
    "data past the end": (
        lambda damage: damage.put(damage.inode(damage.lookup(*FILE)) + FIRST_BLOCK, 4, 1 << 30),
        "/outer/inner/file: Data is corrupt",
    ),
    "size past the end": (
        lambda damage: damage.put(damage.inode(damage.lookup(*FILE)) + SIZE, 4, 1 << 30),
        "/outer/inner/file: Data is corrupt",
    ),
}


@pytest.mark.parametrize("name", PARTLY)
def test_partly_damaged(tmp_path: Path, good: Path, name: str) -> None:
    change, message = PARTLY[name]
    damage = Damage(good)
    change(damage)
    damage.write(tmp_path / "disk.img")
    result = r3s3(tmp_path, "run", SYSTEM, "--disk", "disk.img", "--", "sha256tree", "/")
    assert result.returncode == 1
    assert [line.split()[1] for line in result.stdout.decode().splitlines()] == ["/small"]
    assert result.stderr.decode() == f"sha256tree: {message}\n"


def test_a_block_that_does_not_match_its_checksum(tmp_path: Path) -> None:
    """It is named in a message, and what needs it fails; nothing far from it does."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/large").write_bytes(b"x" * (2 << 20))
    (tmp_path / "tree/small").write_bytes(b"small\n")
    build(tmp_path / "tree", tmp_path / "disk.img")
    damage = Damage(tmp_path / "disk.img")
    block = damage.number(damage.inode(damage.lookup(b"large")) + FIRST_BLOCK, 4) + 256
    image = bytearray((tmp_path / "disk.img").read_bytes())
    image[block * BLOCK + 100] ^= 1
    (tmp_path / "disk.img").write_bytes(image)
    result = r3s3(tmp_path, "run", SYSTEM, "--disk", "disk.img", "--", "sha256tree", "/")
    assert result.returncode == 1
    assert [line.split()[1] for line in result.stdout.decode().splitlines()] == ["/small"]
    assert result.stderr.decode().splitlines() == [
        "sha256tree: /large: Data is corrupt",
        f"r3s3: file_server: block {block} of the disk: Corrupt, twice; what needs it fails",
    ]
