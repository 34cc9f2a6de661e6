"""The sample directory that `r3s3 verify` reads when none is named: the same on every machine.

About 64 MiB, more than the file server caches, with whatever has ever confused a file system: empty files,
sizes around a block, a hole, odd names, deep and large folders, links that lead nowhere, special files.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
from pathlib import Path

VERSION = 1  # raise it whenever the content changes

_LARGE = (32 << 20, 16 << 20, (8 << 20) + 1)
_EDGES = (0, 1, 511, 512, 4032, 4095, 4096, 4097, 8191, 8193, 131071, 131073, (1 << 20) - 1)
_NAMES = (
    "plain", "with space", " leading", "trailing ", "tab\there", "new\nline", "back\\slash", "quote'\"",
    "-dash", "percent%s", "dollar$HOME", "star*", "ünïcödé", "日本語", "x" * 254, "..almost", "#hash",
)  # fmt: skip
_RAW_NAMES = (b"latin1-\xe9", b"\xff\xfe", b"carriage\rreturn")


def make(parent: Path) -> Path:
    """The sample directory below `parent`, made now unless it is there already."""
    target = parent / f"sample-{VERSION}"
    if target.is_dir():
        return target
    unfinished = parent / f".sample.{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _fill(unfinished, random.Random(VERSION))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _fill(top: Path, dice: random.Random) -> None:
    for name in ("large", "edges", "names", "many", "special"):
        (top / name).mkdir()
    for number, size in enumerate(_LARGE):
        (top / "large" / f"file{number}").write_bytes(dice.randbytes(size))
    for size in _EDGES:
        (top / "edges" / f"{size}-bytes").write_bytes(dice.randbytes(size))
    with (top / "edges" / "hole").open("wb") as hole:
        hole.truncate(3 << 20)
        hole.seek(1 << 20)
        hole.write(b"the middle of a hole")
    for raw_name in (*map(os.fsencode, _NAMES), *_RAW_NAMES):
        with open(os.path.join(os.fsencode(top), b"names", raw_name), "wb") as file:
            file.write(b"content of " + raw_name)
    for number in range(3000):
        (top / "many" / f"entry-{number:05}").write_bytes(dice.randbytes(number % 700))
    deep = top
    for level in range(40):
        deep = deep / f"level{level}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"forty levels down\n")
    (top / "special" / "link").symlink_to("../large/file0")
    (top / "special" / "nowhere").symlink_to("/does/not/exist")
    (top / "special" / "loop").symlink_to("loop")
    os.link(top / "edges" / "4097-bytes", top / "special" / "second-name")
    os.mkfifo(top / "special" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(top / "special", os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/socket")  # the direct path may be too long for a socket
        os.close(folder)
