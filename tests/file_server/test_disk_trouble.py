"""Disks that lie, fail, or are slow, and more requests at once than there is room for."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.image import BLOCK, Image, build, crc32c, inspect
from tests.file_server import trees
from tests.file_server.harness import FileServer

SIZE = 3_000_000
PIECE = 1 << 17


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "root"
    trees.links(root / "links")
    for number in range(20):
        (root / f"file{number}").write_bytes(random.Random(number).randbytes(SIZE))
    return root


@pytest.fixture(scope="module")
def image(root: Path) -> Image:
    return build(root, root.parent / "image")


@pytest.fixture(params=[1, 2, 3, 4])
def server(request: pytest.FixtureRequest, image: Image) -> Iterator[FileServer]:
    """Seeds differ in the order of disk reads, in who makes the checksums (CPU or table), and in where
    extents are kept: in private memory, or where the disk has read them to."""
    with FileServer(image.path, seed=request.param) as server:
        yield server


def first_block(image: Image, data: bytes) -> int:
    """Where a file's data begins."""
    at = image.path.read_bytes().index(data[:BLOCK])
    assert at % BLOCK == 0
    return at // BLOCK


def read_all(server: FileServer, data: bytes, handle: int = 0, client: int = 0, depth: int = 8) -> None:
    """Read a file as a program does, `depth` requests at a time, and compare."""
    for start in range(0, len(data), depth * PIECE):
        offsets = range(start, min(start + depth * PIECE, len(data)), PIECE)
        tickets = [server.ask(f"read {client} {handle} {offset} {PIECE}") for offset in offsets]
        answers = server.go()
        for offset, ticket in zip(offsets, tickets, strict=True):
            expected = data[offset : offset + PIECE]
            found = answers[ticket].data
            assert found == (expected if isinstance(found, bytes) else f"~{crc32c(expected)}")


def test_a_lie_is_read_again(server: FileServer, root: Path, image: Image) -> None:
    data = (root / "file3").read_bytes()
    block = first_block(image, data)
    for offset in (0, 40, 300):
        server.send(f"lie {block + offset} 1")
    assert server.open(b"/file3") == 0
    read_all(server, data)
    assert server.rereads == 3
    assert not server.reports


def test_a_lasting_lie_is_told(server: FileServer, root: Path, image: Image) -> None:
    data = (root / "file3").read_bytes()
    block = first_block(image, data) + 200
    server.send(f"lie {block} 2")
    assert server.open(b"/file3") == 0
    assert server.one(f"read 0 0 {200 * BLOCK} 10").numbers == (-201,)
    assert server.reports == [f"BadBlock {{ block: {block}, failure: Corrupt }}"]
    # The lie has ended: the block is asked for again, not remembered as bad.
    assert server.one(f"read 0 0 {200 * BLOCK} 10").data == data[200 * BLOCK : 200 * BLOCK + 10]


def test_a_lie_about_a_checksum(server: FileServer, root: Path, image: Image) -> None:
    server.send(f"lie {image.table_block} 2")
    assert server.open(b"/file3") == -201
    assert f"BadBlock {{ block: {image.table_block}, failure: Corrupt }}" in server.reports
    assert server.open(b"/file3") == 0


def test_a_disk_error(server: FileServer, root: Path, image: Image) -> None:
    data = (root / "file3").read_bytes()
    block = first_block(image, data)
    server.send(f"fail {block} 1")
    assert server.open(b"/file3") == 0
    read_all(server, data)
    server.send(f"fail {first_block(image, (root / 'file4').read_bytes()) + 100} 2")
    assert server.open(b"/file4") == 0
    assert server.one(f"read 0 0 {100 * BLOCK} 10").numbers == (-5,)
    assert "failure: Disk" in server.reports[0]


def test_metadata_that_cannot_be_read(server: FileServer) -> None:
    server.send("fail 0 2")
    assert server.open(b"/file3") == -5
    assert server.open(b"/file3") == 0


def test_everything_at_once(server: FileServer, root: Path) -> None:
    """16 clients stream 16 files through 8 extents of cache, and look up paths meanwhile."""
    contents = {client: (root / f"file{client}").read_bytes() for client in range(16)}
    for client in range(16):
        server.send(f"session {client} 2f")
        assert server.open(f"/file{client}".encode(), client, 0, client) == 0
    for start in range(0, SIZE, PIECE * 2):
        tickets = {}
        walks = []
        for client in range(16):
            for offset in (start, start + PIECE):
                tickets[server.ask(f"read {client} {client} {offset} {PIECE}")] = (client, offset)
            for path in (b"/links/chain39", b"/links/../file7", b"/links/here/file"):
                walks.append(server.ask(f"stat {client} 0 {path.hex()}"))
        answers = server.go()
        assert all(answers[ticket].word == "stat" for ticket in walks)
        for ticket, (client, offset) in tickets.items():
            expected = contents[client][offset : offset + PIECE]
            found = answers[ticket].data
            assert found == (expected if isinstance(found, bytes) else f"~{crc32c(expected)}")


def test_random_reads(server: FileServer, root: Path) -> None:
    numbers = random.Random(1)
    data = [(root / f"file{number}").read_bytes() for number in range(20)]
    for number in range(20):
        assert server.open(f"/file{number}".encode(), number) == 0
    tickets = {}
    for _ in range(300):
        number, offset, length = numbers.randrange(20), numbers.randrange(SIZE), numbers.randrange(10_000)
        tickets[server.ask(f"read 0 {number} {offset} {length}")] = data[number][offset : offset + length]
    answers = server.go()
    assert all(answers[ticket].data == expected for ticket, expected in tickets.items())


def test_a_stream_reads_every_extent_once(image: Image, root: Path) -> None:
    data = (root / "file5").read_bytes()
    for depth, seed in itertools.product((1, 2, 8), (1, 2, 6, 7)):
        with FileServer(image.path, frames=32, seed=seed) as server:
            assert server.open(b"/file5") == 0
            before = server.loads
            read_all(server, data, depth=depth)
            extents = len(data) // PIECE + 2
            assert server.loads - before <= extents
            assert server.wasted == 0


def test_a_client_that_ends_in_the_middle(server: FileServer, root: Path) -> None:
    for client in (1, 2):
        server.send(f"session {client} 2f")
        assert server.open(b"/file1", 0, 0, client) == 0
    # More walks than there is room for: those of client 2 wait until the end of client 1 makes room.
    lost = [server.ask(f"stat 1 0 {b'/links/chain39'.hex()}") for _ in range(30)]
    lost += [server.ask(f"read 1 0 {offset} 100000") for offset in range(0, SIZE, 200_000)]
    kept = [server.ask(f"stat 2 0 {b'/links/chain38'.hex()}") for _ in range(30)]
    server.send("end 1")
    answers = server.go()
    assert set(kept) <= set(answers)
    assert all(answers[ticket].word == "stat" for ticket in kept)
    assert all(answers[ticket].word in ("stat", "read") for ticket in lost if ticket in answers)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("magic", "not an EROFS image: no magic number at byte 1024"),
        ("block size", "EROFS with blocks of another size than 4096 bytes"),
        ("feature", "EROFS with features this file server does not know (compression?)"),
        ("shorter", "no checksum table at its end: truncated, or not made by `r3s3 image build`"),
        ("much shorter", "EROFS superblock names more blocks than the disk has: truncated"),
        ("seal", "its last block does not match its checksum"),
        ("roots", "the roots of its checksum table do not match their checksum"),
        ("table", "its first block does not match its checksum"),
        ("superblock", "its first block does not match its checksum"),
        ("size", "truncated: its parts do not add up to its size"),
        ("nothing", "empty: it has no block"),
    ],
)
def test_a_mount_that_is_refused(tmp_path: Path, root: Path, damage: str, sentence: str) -> None:
    image = build(root / "links", tmp_path / "image")
    data = bytearray(image.path.read_bytes())
    match damage:
        case "magic":
            data[1024] ^= 1
        case "block size":
            data[1024 + 12] = 9
        case "feature":
            data[1024 + 80] |= 2
        case "shorter":
            del data[-BLOCK:]
        case "much shorter":
            del data[BLOCK:]
        case "seal":
            data[-BLOCK + 20] ^= 1
        case "roots":
            data[image.roots_block * BLOCK] ^= 1
        case "table":
            data[image.table_block * BLOCK] ^= 1
        case "superblock":
            data[1024 + 50] ^= 1
        case "size":
            data += data[-BLOCK:]
        case "nothing":
            data.clear()
    image.path.write_bytes(data)
    with FileServer(image.path) as server:
        assert server.greeting == f"refused {sentence}"


def test_the_seal_is_where_the_manual_says(image: Image) -> None:
    assert inspect(image.path) == image
    data = image.path.read_bytes()
    table = data[image.table_block * BLOCK :]
    for block in (0, 1, image.data_blocks - 1):
        found = struct.unpack_from("<I", table, 4 * block)[0]
        assert found == crc32c(data[block * BLOCK : (block + 1) * BLOCK])
    assert crc32c(b"123456789") == 0xE3069283
