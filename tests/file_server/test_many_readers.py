"""More readers at once than the cache has extents, all on blocks that are not in it.

An extent that has come must stay until those who wait for it have had their turn (`Arrived` in cache.rs): if
the next reader's load may take its place before, readers evict each other's blocks, and read everything again
and again.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from images.image import BLOCK, Image, build, crc32c
from tests.file_server.harness import FRAMES, FileServer

READERS = 16
ROUNDS = 20
FILE_BYTES = 3_000_000
EXTENT = 1 << 17
READ_BYTES = EXTENT + 2 * BLOCK  # in two or three extents


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readers") / "root"
    root.mkdir()
    for number in range(READERS):
        (root / f"file{number}").write_bytes(random.Random(number).randbytes(FILE_BYTES))
    return root


@pytest.fixture(scope="module")
def image(root: Path) -> Image:
    return build(root, root.parent / "image")


@pytest.mark.parametrize("seed", range(1, 9))
def test_each_cold_extent_is_loaded_once(root: Path, image: Image, seed: int) -> None:
    assert READERS >= 2 * FRAMES
    data = [(root / f"file{number}").read_bytes() for number in range(READERS)]
    starts = [image.path.read_bytes().index(each[:BLOCK]) for each in data]
    extent = EXTENT * (1 if seed % 4 < 2 else 8 if seed & 4 else 2)  # as harness/world.rs does
    dice = random.Random(seed)
    with FileServer(image.path, seed=seed) as server:
        for client in range(READERS):
            server.send(f"session {client} 2f")
            assert server.open(f"/file{client}".encode(), 0, 0, client) == 0
        before, needed = server.loads, 0
        for _ in range(ROUNDS):
            # Not where a stream would go on, so that nothing is read ahead.
            offsets = [dice.randrange(1, FILE_BYTES - READ_BYTES) for _ in range(READERS)]
            asked = [
                server.ask(f"read {client} 0 {offset} {READ_BYTES}") for client, offset in enumerate(offsets)
            ]
            answers = server.go()
            for client, offset in enumerate(offsets):
                wanted = data[client][offset : offset + READ_BYTES]
                assert answers[asked[client]].data == f"~{crc32c(wanted)}"
                first = starts[client] + offset
                needed += (first + READ_BYTES - 1) // extent - first // extent + 1
        # What was ordered with a read's first extent may have to go before its turn, but that is rare.
        assert server.loads - before <= needed * 1.05


@pytest.mark.parametrize("seed", range(1, 9))
def test_all_want_the_same_cold_block(root: Path, image: Image, seed: int) -> None:
    """It is loaded once for all of them."""
    data = (root / "file7").read_bytes()
    with FileServer(image.path, seed=seed) as server:
        for client in range(READERS):
            server.send(f"session {client} 2f")
            assert server.open(b"/file7", 0, 0, client) == 0
        for extent in range(2, FILE_BYTES // EXTENT - 1, 2):
            before, offset = server.loads, extent * EXTENT + 5
            asked = [server.ask(f"read {client} 0 {offset} 100") for client in range(READERS)]
            answers = server.go()
            assert all(answers[ticket].data == data[offset : offset + 100] for ticket in asked)
            assert server.loads - before <= 2
