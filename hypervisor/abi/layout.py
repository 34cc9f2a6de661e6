"""Packing of the fixed little-endian layouts of `generated.py`: one struct code per field."""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Self, dataclass_transform

Buffer = bytes | bytearray | memoryview


@cache
def names(kind: type[IntEnum]) -> dict[int, str]:
    """The names of an enumeration's numbers, as the description writes them."""
    return {member.value: member.name.lower() for member in kind}


@dataclass_transform(eq_default=False)
class Layout:
    """A record whose fields have the struct codes `codes` of its class, in order, and defaults.

    A field is an int, a tuple of ints ("5Q"), or bytes ("16s"): padded with NUL when packed, which is
    stripped when unpacked. "4x" is a gap.
    """

    CODES: ClassVar[dict[str, str]]
    OFFSETS: ClassVar[dict[str, int]]
    SIZE: ClassVar[int]
    _struct: ClassVar[struct.Struct]

    def __init_subclass__(cls, codes: str) -> None:
        names = iter(cls.__annotations__)
        cls.CODES, cls.OFFSETS, cls.SIZE = {}, {}, 0
        for code in codes.split():
            if not code.endswith("x"):  # a gap
                name = next(names)
                cls.CODES[name], cls.OFFSETS[name] = code, cls.SIZE
            cls.SIZE += struct.calcsize(f"<{code}")
        cls._struct = struct.Struct(f"<{codes}")

    def __init__(self, *values: Any, **named: Any) -> None:
        self.__dict__ = {name: getattr(type(self), name) for name in self.CODES}
        self.__dict__.update(zip(self.CODES, values, strict=False), **named)

    def pack(self) -> bytes:
        """The bytes. ValueError where a byte string is too long; struct.error where a number does not fit."""
        flat: list[Any] = []
        for name, value in vars(self).items():
            size = struct.calcsize(self.CODES[name])
            if isinstance(value, bytes) and len(value) > size:
                raise ValueError(f"{value!r} is longer than the {size} bytes of its field")
            flat += value if isinstance(value, tuple) else [value]
        return self._struct.pack(*flat)

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        """The record at `offset` of `data`."""
        flat = iter(cls._struct.unpack_from(data, offset))
        values: list[Any] = []
        for code in cls.CODES.values():
            if code.endswith("s"):
                values.append(next(flat).rstrip(b"\0"))
            else:
                values.append(next(flat) if len(code) == 1 else tuple(islice(flat, int(code[:-1]))))
        return cls(*values)
