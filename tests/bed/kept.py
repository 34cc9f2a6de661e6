"""In the bed, what one test process reads again and again is parsed once: system files, manifests, images.

That is all done by the command line, before a system starts; it took a tenth of a small system's time there.
A file that has changed is taken apart anew.
"""

from __future__ import annotations

import marshal
import os
import tomllib
from dataclasses import replace
from functools import cache
from typing import Any

from vmm import loader

TOMLDecodeError = tomllib.TOMLDecodeError
_load = loader.load


@cache
def _parsed(text: str) -> bytes:
    return marshal.dumps(tomllib.loads(text))


def loads(text: str) -> dict[str, Any]:
    """As tomllib's. Each caller gets a table of its own."""
    table: dict[str, Any] = marshal.loads(_parsed(text))
    return table


@cache
def _template(path: str, memory: int, version: tuple[int, ...]) -> loader.Template:
    return _load(path, memory)


def load(path: str, memory: int) -> loader.Template:
    """As `vmm.loader.load`. Each caller gets a descriptor of its own, of a memory nobody can change."""
    try:
        status = os.stat(path)
    except OSError:
        return _load(path, memory)  # which says what is wrong with it
    template = _template(path, memory, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return replace(template, fd=os.dup(template.fd))
