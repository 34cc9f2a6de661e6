"""The kernel without its wrapping, so that the emulated machine need not unpack it (which takes 5 s there).

A bzImage is a small program that unpacks the kernel proper, an ELF file (Documentation/arch/x86/boot.rst of
the kernel: setup_sects at 0x1f1, payload_offset and payload_length at 0x248). QEMU boots such a file where it
names an entry of its own in a note (PVH, type 18 of owner Xen).
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

_SECTOR = 512
_PVH_ENTRY = 18


def unwrap(image: bytes) -> bytes:
    """The ELF file in a bzImage; the image itself where it has none that can be unpacked and booted."""
    if image[0x202:0x206] != b"HdrS":
        return image
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * _SECTOR + offset
    payload = image[begin : begin + length]
    try:
        if payload.startswith(b"\xfd7zXZ\0"):
            kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
        elif payload.startswith(b"\x1f\x8b"):
            kernel = zlib.decompressobj(wbits=31).decompress(payload)
        else:  # zstd and others, which Python's library does not know
            return image
        return kernel if _boots(kernel) else image
    except (lzma.LZMAError, zlib.error, ELFError):
        return image


def _boots(kernel: bytes) -> bool:
    notes = ELFFile(io.BytesIO(kernel)).get_section_by_name(".notes")
    # Not by iter_notes(), which stumbles over notes of other kinds
    data, at = notes.data() if notes else b"", 0
    while at + 12 <= len(data):
        name, description, kind = struct.unpack_from("<III", data, at)
        if kind == _PVH_ENTRY and data[at + 12 : at + 16] == b"Xen\0":
            return True
        at += 12 + (name + 3 & ~3) + (description + 3 & ~3)
    return False
