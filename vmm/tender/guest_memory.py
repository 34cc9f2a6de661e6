"""Guest addresses and the one place where they become bytes.

A GuestAddress is not a number: it cannot index, add up with a host address, or be passed to a system
call by accident. Only RAM can be reached from here, and only what the guest's own code may reach
(windows are memory of others, which may go away at any moment).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vmm.tender.page_tables import Mapping


class BadGuestAddress(Exception):
    """A range the guest may not name: not its RAM, or not readable or writable by itself."""


@dataclass(frozen=True, slots=True)
class GuestAddress:
    """An address as the guest said it: 64 bits, hostile."""

    _value: int

    def offset_in(self, mappings: Iterable[tuple[int, int]], length: int) -> int:
        """The offset in RAM of `length` bytes here; BadGuestAddress unless one mapping holds them all."""
        for start, end in mappings:
            if start <= self._value and self._value + length <= end:
                return self._value
        raise BadGuestAddress(f"{length} bytes at {self._value:#x} are not the component's own memory")


def _merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ranges as one, so that a buffer may cross from one segment into the next."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


class GuestMemory:
    """The RAM of one VM, mapped at `ram`; `mappings` says what the guest may do where."""

    def __init__(self, ram: memoryview, mappings: Iterable[Mapping]) -> None:
        self.ram = ram
        own = [each for each in mappings if each.user and each.end <= len(ram)]
        self._readable = _merge((each.start, each.end) for each in own)
        self._writable = _merge((each.start, each.end) for each in own if each.writable)

    def copy_in(self, address: GuestAddress, length: int) -> bytes:
        """Bytes that the guest can read."""
        offset = address.offset_in(self._readable, length)
        return bytes(self.ram[offset : offset + length])

    def copy_out(self, address: GuestAddress, data: bytes) -> None:
        """Write where the guest itself could write."""
        offset = address.offset_in(self._writable, len(data))
        self.ram[offset : offset + len(data)] = data
