"""Directory trees with everything a file system has to get right."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

BLOCK = 4096


def everything(root: Path) -> None:
    """A tree of some 300 files: kinds, names, permissions, times, sizes around block boundaries."""
    numbers = random.Random(7)
    sizes = root / "sizes"
    sizes.mkdir(parents=True)
    for blocks in (0, 1, 2, 31, 32, 33):
        for difference in (-65, -64, -33, -32, -31, -1, 0, 1, 31, 32, 33, 2048):
            size = blocks * BLOCK + difference
            if size >= 0:
                (sizes / f"{size:07}").write_bytes(numbers.randbytes(size))
    names = root / "names"
    names.mkdir()
    for name in ("grüße", "日本語", "a b", "-", "...", "x" * 254, "é" * 127, "tab\there", "new\nline"):
        (names / name).write_text(name)
    (names / os.fsdecode(b"\xff\xfe not UTF-8")).write_bytes(b"bytes")
    deep = root / "deep"
    for level in range(60):
        deep = deep / f"level{level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("here")
    links(root / "links")
    kinds = root / "kinds"
    kinds.mkdir()
    os.mkfifo(kinds / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(kinds, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    (kinds / "empty directory").mkdir()
    for mode in (0o000, 0o400, 0o755, 0o1777, 0o2755, 0o4711):
        path = kinds / f"mode{mode:o}"
        path.write_text("mode")
        path.chmod(mode)
    for index, seconds in enumerate((0, 1, 1_600_000_000, 4_294_967_296, 253_402_300_799)):
        path = kinds / f"time{index}"
        path.write_text("time")
        os.utime(path, ns=(seconds * 10**9 + 123_456_789, seconds * 10**9 + 123_456_789))
    original = kinds / "original"
    original.write_bytes(numbers.randbytes(5000))
    for index in range(3):
        os.link(original, kinds / f"hard{index}")
    with (kinds / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"island")
    if os.geteuid() == 0:
        os.mknod(kinds / "null", 0o20666, os.makedev(1, 3))
        os.mknod(kinds / "far", 0o60600, os.makedev(259, 70_000))
        os.chown(kinds / "mode755", 70_000, 80_000)


def links(root: Path) -> None:
    """Symbolic links of all sorts; `here/file` is what the good ones lead to."""
    (root / "here").mkdir(parents=True)
    (root / "here/file").write_text("found")
    for name, target in {
        "relative": "here/file",
        "absolute": "/links/here/file",
        "up": "../links/here/file",
        "above": "../../../../links/here/file",
        "directory": "here",
        "slash": "here/",
        "dots": "./here/../here/./file",
        "dangling": "nowhere/at/all",
        "through a file": "here/file/x",
        "self": "self",
        "loop1": "loop2",
        "loop2": "loop1",
        "root": "/",
        "long": "here/" + "./" * 1000 + "file",
    }.items():
        (root / name).symlink_to(target)
    (root / "chain0").symlink_to("here/file")
    for index in range(1, 45):
        (root / f"chain{index}").symlink_to(f"chain{index - 1}")


def many(root: Path, count: int) -> None:
    """A directory of `count` empty files."""
    root.mkdir(parents=True)
    for index in range(count):
        (root / f"entry number {index:05} of many").touch()
