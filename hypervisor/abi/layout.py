"""Packing of the fixed little-endian layouts of `generated.py`: one struct code per field."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

Buffer = bytes | bytearray | memoryview


@cache
def _compiled(codes: Sequence[str]) -> struct.Struct:
    return struct.Struct("<" + "".join(codes))


def _is_array(code: str) -> bool:
    return len(code) > 1 and not code.endswith("s")


def pack_fields(codes: Sequence[str], values: Iterable[Any]) -> bytes:
    """The bytes of `values`, one per code; "16s" pads with NUL, "5Q" takes a tuple of five.

    ValueError where a byte string is too long; struct.error where a number does not fit.
    """
    flat: list[Any] = []
    for code, value in zip(codes, values, strict=True):
        if isinstance(value, bytes) and len(value) > struct.calcsize(code):
            raise ValueError(f"{value!r} is longer than the {struct.calcsize(code)} bytes of its field")
        flat += value if _is_array(code) else [value]
    return _compiled(codes).pack(*flat)


def unpack_fields(codes: Sequence[str], data: Buffer, offset: int) -> Iterator[Any]:
    """The values at `offset` of `data`: int, tuple of int, or bytes without the trailing NULs."""
    flat = iter(_compiled(codes).unpack_from(data, offset))
    for code in codes:
        if _is_array(code):
            yield tuple(next(flat) for _ in range(int(code[:-1])))
        else:
            value = next(flat)
            yield value.rstrip(b"\0") if isinstance(value, bytes) else value
