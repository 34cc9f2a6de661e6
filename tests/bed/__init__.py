"""The bed: what it is put together from, what is said where it cannot be, and commands in a real one."""

from __future__ import annotations

import os
import shutil

import pytest

from images.bed.machine import PACKAGE, PROGRAM

IN_BED = "R3S3_BED" in os.environ  # an emulated CPU: what it lacks says nothing about KVM
needs_qemu = pytest.mark.skipif(
    not shutil.which(PROGRAM), reason=f"{PROGRAM} is not installed (apt-get install {PACKAGE})"
)
not_in_bed = pytest.mark.skipif(IN_BED, reason="no bed in a bed")


def dose(count: int) -> int:
    """How often to do what is done many times for good measure: in the bed a quarter of `count`."""
    return count // 4 if IN_BED else count
