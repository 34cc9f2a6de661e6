"""Archives in the form the kernel unpacks as its first root: cpio "newc" (initramfs-format in the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst). Numbers are 8 hexadecimal digits, everything is
padded to 4 bytes."""

from __future__ import annotations

import stat
from collections.abc import Mapping

_TRAILER = "TRAILER!!!"


def archive(files: Mapping[str, bytes]) -> bytes:
    """An archive of regular files, all executable, in the order given, with the folders they are in.

    `files`: relative path -> content.
    """
    entries: dict[str, bytes | None] = {}  # None: a folder
    for path, content in files.items():
        parts = path.split("/")
        if "" in parts or "." in parts or ".." in parts or path == _TRAILER:
            raise ValueError(f"{path!r} is not a path of an archive")
        for depth in range(1, len(parts)):
            entries.setdefault("/".join(parts[:depth]), None)
        entries[path] = content
    written = [_entry(number, path, content) for number, (path, content) in enumerate(entries.items(), 1)]
    return b"".join([*written, _entry(0, _TRAILER, b"", mode=0)])


def _entry(number: int, path: str, content: bytes | None, mode: int | None = None) -> bytes:
    if mode is None:
        mode = (stat.S_IFDIR if content is None else stat.S_IFREG) | 0o755
    name, data = path.encode() + b"\0", content or b""
    links = 2 if content is None else 1
    # inode, mode, user, group, links, time, size, device (2), device node (2), length of the name, checksum
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
