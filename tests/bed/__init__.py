"""The bed: what it is put together from, what is said where it cannot be, and commands in a real one."""

from __future__ import annotations

import shutil

import pytest

from images.bed.machine import PACKAGE, PROGRAM

needs_qemu = pytest.mark.skipif(
    not shutil.which(PROGRAM), reason=f"{PROGRAM} is not installed (apt-get install {PACKAGE})"
)
