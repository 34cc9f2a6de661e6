"""Every path of an image, compared with the directory it was made from."""

from __future__ import annotations

import os
import random
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.image import append_checksums, build, crc32c, inspect
from tests.file_server import trees
from tests.file_server.harness import FileServer, Stat

PIECE = 1 << 17


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "root"
    trees.everything(root)
    return root


@pytest.fixture(scope="module", params=["default", "extended", "chunks of 4 KiB", "chunks of 64 KiB"])
def server(
    request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FileServer]:
    image = tmp_path_factory.mktemp("images") / "tree.img"
    options = {
        "default": [],
        "extended": ["-E", "force-inode-extended"],
        "chunks of 4 KiB": ["--chunksize=4096"],
        "chunks of 64 KiB": ["--chunksize=65536"],
    }[request.param]
    build(tree, image, extra_options=options)
    with FileServer(image) as server:
        yield server


def paths(root: Path) -> Iterator[Path]:
    yield root
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            yield Path(folder) / name


def inside(root: Path, path: Path) -> bytes:
    return b"/" + os.fsencode(path.relative_to(root)).removeprefix(b".")


def compare(found: Stat | int, expected: os.stat_result) -> None:
    assert isinstance(found, Stat)
    assert found.mode == expected.st_mode
    assert found.links == expected.st_nlink
    assert (found.user, found.group) == (expected.st_uid, expected.st_gid)
    assert found.seconds * 10**9 + found.nanoseconds == expected.st_mtime_ns
    assert found.kind == stat.S_IFMT(expected.st_mode) >> 12
    if stat.S_ISREG(expected.st_mode) or stat.S_ISLNK(expected.st_mode):
        assert found.size == expected.st_size
        assert found.sectors == (expected.st_size + 4095) // 4096 * 8


def test_every_attribute(server: FileServer, tree: Path) -> None:
    inodes: dict[int, int] = {}
    for path in paths(tree):
        expected = path.lstat()
        found = server.stat(inside(tree, path))
        compare(found, expected)
        assert isinstance(found, Stat)
        # One inode here is one inode there: hard links stay one file.
        assert inodes.setdefault(found.inode, expected.st_ino) == expected.st_ino
        if path.is_symlink():
            assert server.link(inside(tree, path)) == os.fsencode(os.readlink(path))
        else:
            assert server.link(inside(tree, path)) == -22


@pytest.mark.skipif(os.geteuid() != 0, reason="device files need root")
def test_device_numbers(server: FileServer) -> None:
    for name, major, minor in ((b"null", 1, 3), (b"far", 259, 70_000)):
        found = server.stat(b"/kinds/" + name)
        assert isinstance(found, Stat)
        assert found.device == (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
        assert server.open(b"/kinds/" + name) == -22


def test_every_directory(server: FileServer, tree: Path) -> None:
    for path in paths(tree):
        if path.is_symlink() or not path.is_dir():
            continue
        entries = server.list(inside(tree, path), capacity=4096)
        names = [b".", b"..", *os.listdir(os.fsencode(path))]
        assert sorted(entry.name for entry in entries) == sorted(names)
        for entry in entries:
            if entry.name in (b".", b".."):
                continue
            found = server.stat(inside(tree, path) + b"/" + entry.name)
            assert isinstance(found, Stat)
            assert (entry.inode, entry.kind) == (found.inode, found.kind)


def test_every_byte(server: FileServer, tree: Path) -> None:
    for path in paths(tree):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        assert server.open(inside(tree, path)) == 0
        offsets = range(0, len(data) + PIECE, PIECE)
        tickets = [server.ask(f"read 0 0 {offset} {PIECE}") for offset in offsets]
        answers = server.go()
        for offset, ticket in zip(offsets, tickets, strict=True):
            assert_bytes(answers[ticket].data, data[offset : offset + PIECE])


@pytest.mark.parametrize("offset", [1, 4095, 4096, 4097, 8191, 100_000, 131_071, 135_167])
@pytest.mark.parametrize("length", [0, 1, 4096, 5000, 131_072, 1 << 20])
def test_odd_pieces(server: FileServer, tree: Path, offset: int, length: int) -> None:
    data = (tree / "sizes/0137216").read_bytes()
    assert server.open(b"/sizes/0137216", 3) == 0
    answer = server.one(f"read 0 3 {offset} {length}")
    assert answer.numbers == (len(data[offset : offset + length]),)
    assert_bytes(answer.data, data[offset : offset + length])


def test_symbolic_links(server: FileServer, tree: Path) -> None:
    good = ["relative", "absolute", "up", "above", "dots", "long", "chain39", "directory/file", "slash/file",
            "root/links/relative", "here/../here/file", "directory/../relative"]  # fmt: skip
    for name in good:
        assert server.open(b"/links/" + name.encode()) == 0, name
        assert server.one("read 0 0 0 100").data == b"found"
    wrong = {
        "dangling": -2, "through a file": -20, "self": -40, "loop1": -40, "chain40": -40, "relative/": -20,
        "here/file/": -20, "here/file/.": -20, "here/file/..": -20, "nothing": -2, "": 0,
    }  # fmt: skip
    for name, error in wrong.items():
        assert server.open(b"/links/" + name.encode()) == error, name
    assert server.open(b"/links/relative", 0, 1) == -40
    assert server.open(b"/links/relative", 0, 2) == -20
    # A slash behind it asks for what it leads to, also without following.
    found = server.stat(b"/links/directory/")
    assert isinstance(found, Stat) and stat.S_ISDIR(found.mode)


def test_names_and_handles_that_are_refused(server: FileServer) -> None:
    assert server.open(b"") == -2
    assert server.open(b"/a\0b") == -22
    assert server.open(b"/" + b"x" * 256) == -36
    assert server.open(b"/x" * 2049) == -36
    assert server.open(b"/./" * 1365) == 0
    assert server.open(b"/", 64) == -9
    assert server.open(b"/", 2**32 - 1) == -9
    assert server.one("read 0 17 0 10").numbers == (-9,)
    assert server.one("close 0 17").numbers == (-9,)
    assert server.open(b"/") == 0
    assert server.one("read 0 0 0 10").numbers == (-21,)
    assert server.one("list 0 0 0 10").numbers == (-22,)
    assert server.one(f"list 0 0 {2**64 - 1} 4096").numbers == (0, 1)
    assert server.open(b"/sizes/0000001") == 0
    assert server.one("list 0 0 0 4096").numbers == (-20,)
    assert server.one(f"read 0 0 {2**64 - 1} {2**20}").numbers == (0,)
    assert server.one("close 0 0").word == "read"
    assert server.one("read 0 0 0 10").numbers == (-9,)


def test_subtree(server: FileServer, tree: Path) -> None:
    server.send(f"session 2 {b'/links/here'.hex()}")
    for path in (b"/file", b"file", b"/../file", b"/../../../file", b"/./../file"):
        assert server.open(path, 0, 0, 2) == 0, path
    for path in (b"/links/here/file", b"/../links/here/file", b"/../../here/file"):
        assert server.open(path, 0, 0, 2) == -2, path
    root = server.stat(b"/..", client=2)
    assert root == server.stat(b"/links/here")
    assert isinstance(root, Stat)
    dots = [entry.inode for entry in server.list(b"/", client=2) if entry.name in (b".", b"..")]
    assert dots == [root.inode, root.inode]
    # Absolute links, and `..` in links, stay below the client's root as well.
    server.send(f"session 3 {b'/links'.hex()}")
    assert server.open(b"/relative", 0, 0, 3) == 0
    assert server.open(b"/absolute", 0, 0, 3) == -2
    assert server.open(b"/up", 0, 0, 3) == -2
    assert server.stat(b"/root/here/file", client=3) == server.stat(b"/links/here/file")
    server.send(f"session 4 {b'/links/nowhere'.hex()}")
    assert server.open(b"/", 0, 0, 4) == -2
    assert server.reports[-1].startswith("NoSubtree { client: 4")
    server.send(f"session 5 {b'/links/relative'.hex()}")
    assert server.open(b"/", 0, 0, 5) == -20


def test_a_client_that_ends_takes_its_handles_along(server: FileServer) -> None:
    server.send("session 6 2f")
    assert server.open(b"/sizes/0000001", 9, 0, 6) == 0
    server.send("end 6")
    assert server.one("read 6 9 0 1").numbers == (-9,)
    server.send("session 6 2f")
    assert server.one("read 6 9 0 1").numbers == (-9,)


def test_large_directory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    trees.many(root / "many", 20_000)
    build(root, tmp_path / "image")
    with FileServer(tmp_path / "image") as server:
        entries = server.list(b"/many")
        assert sorted(entry.name for entry in entries[2:]) == sorted(os.listdir(os.fsencode(root / "many")))
        for index in (0, 1, 9_999, 19_998, 19_999, *range(2, 19_999, 397)):
            name = b"/many/entry number %05d of many" % index
            assert isinstance(server.stat(name), Stat)
            assert server.stat(name + b"x") == -2
            assert server.stat(name[:-1]) == -2


def test_a_file_over_4_gib(tmp_path: Path) -> None:
    """mkfs.erofs would take half a minute: so 4 KiB chunks are declared to be 1 MiB, most of them holes."""
    root = tmp_path / "root"
    root.mkdir()
    chunks, size = (5 << 10) + 1, (5 << 30) + 12345
    (root / "huge").write_bytes(random.Random(5).randbytes(chunks * 4096))
    build(root, tmp_path / "image", extra_options=["--chunksize=4096", "-E", "force-inode-extended"])
    with FileServer(tmp_path / "image") as server:
        found = server.stat(b"/huge")
    assert isinstance(found, Stat)
    image = bytearray((tmp_path / "image").read_bytes())
    inode = int.from_bytes(image[1024 + 40 : 1024 + 44], "little") * 4096 + found.inode * 32
    struct.pack_into("<QI", image, inode + 8, size, 8)  # chunks of 4096 << 8 bytes, a table of 4-byte entries
    table = inode + 64
    kept = {0: 100, (4 << 10) - 1: 200, 4 << 10: 300, 5 << 10: 400}  # chunk: its first block
    for chunk in range(chunks):
        struct.pack_into("<I", image, table + 4 * chunk, kept.get(chunk, 0xFFFFFFFF))
    reseal(tmp_path / "image", bytes(image))

    def expected(offset: int, length: int) -> bytes:
        data = bytearray()
        for at in range(offset, min(offset + length, size)):
            block = kept.get(at >> 20)
            data.append(0 if block is None else image[block * 4096 + (at & 0xFFFFF)])
        return bytes(data)

    with FileServer(tmp_path / "image") as server:
        found = server.stat(b"/huge")
        assert isinstance(found, Stat) and (found.size, found.sectors) == (size, (size + 4095) // 4096 * 8)
        assert server.open(b"/huge") == 0
        places = [0, (1 << 20) - 7, (4 << 30) - 9, 4 << 30, (4 << 30) + 4096, (4 << 30) + (1 << 20) - 3]
        for offset in (*places, size - 5):
            assert server.one(f"read 0 0 {offset} 5000").data == expected(offset, 5000)
        assert server.one(f"read 0 0 {2 << 30} {1 << 20}").data == f"~{crc32c(bytes(1 << 20))}"


def test_a_name_of_255_bytes(tmp_path: Path) -> None:
    """Debian's mkfs.erofs takes 254, so a shorter name is made longer in the image."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / ("n" * 254)).write_text("long")
    build(root, tmp_path / "image")
    image = bytearray((tmp_path / "image").read_bytes())
    at = image.index(b"n" * 254)
    assert image[at + 254] == 0, "no room behind the name"
    image[at + 254] = ord("n")
    with FileServer(tmp_path / "image") as server:
        folder = server.stat(b"/folder")
    assert isinstance(folder, Stat)
    metadata = int.from_bytes(image[1024 + 40 : 1024 + 44], "little") * 4096
    size = metadata + folder.inode * 32 + 8
    image[size : size + 4] = (folder.size + 1).to_bytes(4, "little")
    reseal(tmp_path / "image", bytes(image))
    with FileServer(tmp_path / "image") as server:
        assert [entry.name for entry in server.list(b"/folder")[2:]] == [b"n" * 255]
        assert server.open(b"/folder/" + b"n" * 255) == 0
        assert server.one("read 0 0 0 10").data == b"long"


def reseal(path: Path, contents: bytes) -> None:
    """Write an image whose EROFS part has been changed, with checksums to match."""
    data_bytes = inspect(path).data_blocks * 4096
    with path.open("w+b", buffering=0) as file:
        file.write(contents[:data_bytes])
        append_checksums(file.fileno(), lambda stage, done, total: None)


def assert_bytes(found: bytes | str, expected: bytes) -> None:
    if isinstance(found, str):
        assert found == f"~{crc32c(expected)}"
    else:
        assert found == expected
