"""The kernel proper is taken out of a bzImage where QEMU can boot it."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images.bed.vmlinux import unwrap

PVH = '.section .notes, "a", @note; .long 4, 4, 18; .asciz "Xen"; .long 0x1000'
OTHER = (
    '.section .notes, "a", @note; .long 4, 2, 7; .asciz "Xen"; .short 1, 0;'
    '.long 6, 4, 18; .asciz "Other"; .zero 2; .long 0'
)


def kernel(folder: Path, assembly: str) -> bytes:
    """An ELF file."""
    output = folder / "vmlinux"
    subprocess.run(["as", "-o", str(output), "-"], input=assembly + "\n", text=True, check=True)
    return output.read_bytes()


def wrapped(payload: bytes, setup_sectors: int = 3) -> bytes:
    """A bzImage, as far as its header goes."""
    image = bytearray((setup_sectors + 1) * 512)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 100, len(payload))
    return bytes(image) + b"u" * 100 + payload + b"rest"


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_compressed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    proper = kernel(tmp_path, OTHER + ";" + PVH)
    assert unwrap(wrapped(compress(proper))) == proper


def test_what_cannot_be_unwrapped_stays(tmp_path: Path) -> None:
    proper = kernel(tmp_path, PVH)
    without_entry = wrapped(lzma.compress(kernel(tmp_path, OTHER)))
    damaged = wrapped(lzma.compress(proper)[:-20] + b"x" * 20)
    zstd = wrapped(b"\x28\xb5\x2f\xfd" + bytes(100))
    no_elf = wrapped(gzip.compress(b"MZ, not ELF"))
    for image in (without_entry, damaged, zstd, no_elf, bytes(2048)):
        assert unwrap(image) == image
