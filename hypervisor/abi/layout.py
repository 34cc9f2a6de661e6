"""Packing of the fixed little-endian layouts of `generated.py`: one struct code per field."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

Buffer = bytes | bytearray | memoryview


def pack_fields(codes: Sequence[str], values: Iterable[Any]) -> bytes:
    """The bytes of `values`, one per code; "16s" pads with NUL, "5Q" takes a tuple of five.

    ValueError where a byte string is too long; struct.error where a number does not fit.
    """
    packed = []
    for code, value in zip(codes, values, strict=True):
        if isinstance(value, bytes):
            if len(value) > struct.calcsize(code):
                raise ValueError(f"{value!r} is longer than the {struct.calcsize(code)} bytes of its field")
            packed.append(struct.pack(code, value))
        elif isinstance(value, tuple):
            packed.append(struct.pack("<" + code, *value))
        else:
            packed.append(struct.pack("<" + code, value))
    return b"".join(packed)


def unpack_fields(codes: Sequence[str], data: Buffer, offset: int) -> list[Any]:
    """The values at `offset` of `data`: int, tuple of int, or bytes without the trailing NULs."""
    values: list[Any] = []
    for code in codes:
        fields = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize("<" + code)
        if code.endswith("s"):
            values.append(fields[0].rstrip(b"\0"))
        else:
            values.append(fields if len(code) > 1 else fields[0])
    return values
