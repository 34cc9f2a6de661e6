"""Damaging a disk image where it hurts: single numbers of EROFS, under checksums that are right again.

Only what mkfs.erofs makes of a small tree is understood: directories with one block of entries, in line.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

from images.image import BLOCK, EROFS_SUPERBLOCK, append_checksums, inspect

INODE_UNIT = 32
COMPACT, EXTENDED = 32, 64
ENTRY = struct.Struct("<QHBx")  # inode number, where the name begins, kind
# Fields of the superblock, from byte 1024, and of an inode.
BLOCKS, ROOT, METADATA = 36, 14, 40
SIZE, FIRST_BLOCK = 8, 16


class Damage:
    """The EROFS part of an image in memory, to be changed and written again."""

    def __init__(self, image: Path) -> None:
        self.bytes = bytearray(image.read_bytes()[: inspect(image).data_blocks * BLOCK])

    def number(self, position: int, width: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.bytes[position : position + width], "little")

    def put(self, position: int, width: int, value: int) -> None:
        """Change it."""
        self.bytes[position : position + width] = value.to_bytes(width, "little")

    def superblock(self, field: int, width: int, value: int) -> None:
        """Change a field of the superblock."""
        self.put(EROFS_SUPERBLOCK + field, width, value)

    @property
    def root(self) -> int:
        """The root directory's inode number."""
        return self.number(EROFS_SUPERBLOCK + ROOT, 2)

    def inode(self, number: int) -> int:
        """Where an inode is."""
        return self.number(EROFS_SUPERBLOCK + METADATA, 4) * BLOCK + number * INODE_UNIT

    def entry(self, directory: int, name: bytes) -> int:
        """Where the entry `name` of a directory is: its first 8 bytes are the inode number."""
        inode = self.inode(directory)
        start = inode + (EXTENDED if self.number(inode, 2) & 1 else COMPACT)
        size = self.number(inode + SIZE, 4)
        (_, first, _) = ENTRY.unpack_from(self.bytes, start)
        names = [ENTRY.unpack_from(self.bytes, start + at)[1] for at in range(0, first, ENTRY.size)] + [size]
        found = [bytes(self.bytes[start + a : start + b]) for a, b in itertools.pairwise(names)]
        return start + found.index(name) * ENTRY.size

    def lookup(self, *path: bytes) -> int:
        """The inode number at a path."""
        number = self.root
        for name in path:
            number = self.number(self.entry(number, name), 8)
        return number

    def write(self, path: Path, *, seal: bool = True) -> None:
        """Write the image, with new checksums or without any."""
        path.write_bytes(self.bytes)
        if seal:
            with path.open("r+b") as file:
                append_checksums(file.fileno(), lambda stage, done, total: None)
