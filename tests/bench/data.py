"""What is read: a file of random bytes (nothing can compress or merge it) in an image of each kind."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from images import image
from tests.bench.figures import NotMeasured
from tests.bench.host import FOLDER, command, tool
from tests.bench.plan import Plan
from tests.bench.systems import Progress

MIB = 1 << 20
WHOLE, PART = "whole", "part"  # names of the files in the images
READER = ("reader", "--outstanding=24")  # as many requests under way as any program has


@dataclass(frozen=True)
class Data:
    """The files and their images; each is made when it is first used and kept in build/bench."""

    plan: Plan
    progress: Progress

    @property
    def bytes(self) -> int:
        """Size of the file WHOLE."""
        return self.plan.file_mib * MIB

    @property
    def _folder(self) -> Path:
        return FOLDER / f"data-{self.plan.file_mib}-{self.plan.part_mib}"

    @cached_property
    def files(self) -> Path:
        """The directory that is `/` of the images."""
        folder = self._folder / "files"
        folder.mkdir(parents=True, exist_ok=True)
        for name, mib in ((WHOLE, self.plan.file_mib), (PART, self.plan.part_mib)):
            path = folder / name
            if path.exists() and path.stat().st_size == mib * MIB:
                continue
            self.progress(f"writing {mib} MiB of random bytes")
            source = random.Random(name)
            with path.open("wb") as file:
                for _ in range(mib):
                    file.write(source.randbytes(MIB))
        return folder

    @cached_property
    def erofs(self) -> Path:
        """An image as `r3s3 image build` makes it; the host's kernel mounts the same one."""
        return self._made("disk.img", lambda path: image.build(self.files, path))

    @cached_property
    def squashfs(self) -> Path:
        """An uncompressed squashfs of the same directory."""
        options = ("-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet", "-all-root")
        mksquashfs = tool("mksquashfs")
        return self._made("disk.squashfs", lambda path: command([mksquashfs, self.files, path, *options]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file WHOLE, by the host."""
        with (self.files / WHOLE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self._folder / name
        files = self.files
        if not path.exists() or path.stat().st_mtime < (files / WHOLE).stat().st_mtime:
            self.progress(f"making {path.name}")
            path.unlink(missing_ok=True)
            scratch = path.with_suffix(".new")
            scratch.unlink(missing_ok=True)
            try:
                make(scratch)
            except image.ImageError as error:
                raise NotMeasured(str(error), broken=True) from None
            scratch.replace(path)
        warm(path)
        return path


def warm(path: Path) -> None:
    """Have all of a file in the page cache: no figure here is about the host's disk."""
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        while file.readinto(buffer):
            pass
