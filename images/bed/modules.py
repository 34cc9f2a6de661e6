"""Kernel modules: which others one needs, and an order in which all can be loaded.

A module says so itself in its section .modinfo: `depends=a,b` (must be there before it) and `softdep=pre: c`
(should be, where there is one). The names - and _ mean the same.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

from images.bed import BedError


class Needs(NamedTuple):
    """What a module wants before it."""

    hard: list[str]
    soft: list[str]


class Modules:
    """The modules in a kernel's folder (lib/modules/VERSION)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}
        for path in folder.rglob("*.ko*"):
            name, _, ending = path.name.partition(".ko")
            if ending in ("", ".xz"):
                self._paths[_plain(name)] = path
        try:
            built_in = (folder / "modules.builtin").read_text()
        except FileNotFoundError:
            built_in = ""
        self._built_in = {_plain(Path(line).stem) for line in built_in.split()}

    def read(self, name: str) -> bytes:
        """The module's ELF file."""
        path = self._paths[_plain(name)]
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data

    def order(self, wanted: Iterable[str], optional: Iterable[str] = ()) -> list[str]:
        """`wanted` modules and all they need, each after what it needs; those built into the kernel are left
        out, and so are `optional` ones that this kernel does not have."""
        present = [name for name in optional if _plain(name) in self._paths]
        return in_order([*wanted, *present], self._needs)

    def _needs(self, name: str) -> Needs | None:
        if name in self._paths:
            return needs(self.read(name))
        if name in self._built_in:
            return None
        raise BedError(f"{self._folder}: this kernel has no module {name}; name another in R3S3_BED_KERNEL")


def in_order(wanted: Iterable[str], needs_of: Callable[[str], Needs | None]) -> list[str]:
    """`wanted` and all they need. `needs_of` a name gives None for what need not be loaded, and raises
    BedError for what there is not."""
    ordered: list[str] = []
    seen: set[str] = set()

    def add(name: str) -> None:
        name = _plain(name)
        if name in seen:
            return
        found = needs_of(name)
        seen.add(name)
        if found is None:
            return
        for each in found.hard:
            add(each)
        for each in found.soft:
            try:
                add(each)
            except BedError:
                pass  # it only should have been there; the module works without
        ordered.append(name)

    for name in wanted:
        add(name)
    return ordered


def needs(module: bytes) -> Needs:
    """What the module with these bytes (ELF) says it needs."""
    section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
    hard, soft = [], []
    for field in (section.data() if section else b"").decode("latin-1").split("\0"):
        key, _, value = field.partition("=")
        if key == "depends":
            hard += [each for each in value.split(",") if each]
        elif key == "softdep":
            before, words = False, value.split()
            for word in words:
                if word in ("pre:", "post:"):
                    before = word == "pre:"
                elif before:
                    soft.append(word)
    return Needs(hard, soft)


def _plain(name: str) -> str:
    return name.replace("-", "_")
