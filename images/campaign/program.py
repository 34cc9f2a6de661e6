"""An image as instructions and data: the places where text and data faults can be put.

Only what belongs to a function by its symbol (FUNC, with a size) is text here: padding between functions is
not, and the trap page is no part of an image. Functions are decoded from their first byte to their last one
after another, which is sound because the compilers used put constants and jump tables into .rodata.

Exceptions:
    ProgramError(Exception)    an image without symbols, or with text that does not decode
"""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import capstone
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

DATA_SECTIONS = (".rodata", ".data.rel.ro", ".data")  # what an image has initialised
REGISTER, IMMEDIATE, MEMORY = 1, 2, 3  # what an operand is: capstone's X86_OP_*
_NUMBER = re.compile(r"(rip [+-] )?0x([0-9a-f]+)")
_lite = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_detailed = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_detailed.detail = True


class ProgramError(Exception):
    """An image that cannot be taken apart. The message names it, and says what to do."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of a function; addresses are the guest's, sizes in bytes."""

    address: int
    code: bytes
    mnemonic: str
    operands: str

    @property
    def end(self) -> int:
        return self.address + len(self.code)

    @property
    def assembly(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


@dataclass(frozen=True)
class Section:
    """A part of the image that is in the file: `offset` bytes into it, at `address` in the guest."""

    name: str
    address: int
    offset: int
    size: int


@dataclass(frozen=True)
class Function:
    name: str
    address: int
    size: int


class Program:
    """One image, taken apart. Attributes are not to be changed."""

    def __init__(self, name: str, data: bytes) -> None:
        """`data` are the bytes of an image, `name` is only named in messages. Raises ProgramError."""
        self.name = name
        self.data = data
        try:
            elf = ELFFile(io.BytesIO(data))
            sections = {
                each.name: Section(each.name, each["sh_addr"], each["sh_offset"], each["sh_size"])
                for each in elf.iter_sections()
                if each.name == ".text" or each.name in DATA_SECTIONS
            }
            tables = [each for each in elf.iter_sections() if isinstance(each, SymbolTableSection)]
            symbols = [symbol for table in tables for symbol in table.iter_symbols()]
        except (ELFError, ArithmeticError, LookupError, ValueError, TypeError) as error:
            raise ProgramError(f"{name}: not an image that can be taken apart; rebuild it") from error
        if ".text" not in sections:
            raise ProgramError(f"{name}: has no section .text; name the image that the build produced")
        self.text = sections.pop(".text")
        self.data_sections = tuple(sections.values())
        found = {
            each["st_value"]: Function(each.name, each["st_value"], each["st_size"])
            for each in symbols
            if each["st_info"]["type"] == "STT_FUNC" and each["st_size"] and self.in_text(each["st_value"])
        }
        self.functions = tuple(found[address] for address in sorted(found))
        if not self.functions:
            raise ProgramError(f"{name}: has no symbols of functions; build it without stripping")
        self._starts = [function.address for function in self.functions]

    @cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """All instructions of all functions, by address. Raises ProgramError."""
        found: list[Instruction] = []
        for function in self.functions:
            what = f"{self.name}: {function.name}"
            start = found[-1].end if found else 0
            if function.address < start:
                raise ProgramError(f"{what} overlaps the function before it; rebuild it")
            place = self.offset(function.address)
            decoded = decode(self.data[place : place + function.size], function.address)
            if sum(len(each.code) for each in decoded) != function.size:
                raise ProgramError(f"{what} has bytes that are no instruction; rebuild it")
            found += decoded
        return tuple(found)

    @cached_property
    def targets(self) -> frozenset[int]:
        """Every address in text that a jump may lead to other than from the instruction before: too many
        rather than too few. Direct targets and constants in text, addresses in data (jump tables, tables of
        functions), and offsets in data from a place in data that text names (jump tables of another kind)."""
        found = {function.address for function in self.functions}
        bases: set[int] = set()
        for instruction in self.instructions:
            for relative, digits in _NUMBER.findall(instruction.operands):
                number = int(digits, 16)
                if relative:
                    number = instruction.end + (number if "+" in relative else -number)
                (found if self.in_text(number) else bases).add(number)
        for section in self.data_sections:
            data = self.data[section.offset : section.offset + section.size]
            for place in range(0, len(data) - 7, 4):
                found.add(int.from_bytes(data[place : place + 8], "little"))
            for base in bases:
                for place in range(base - section.address, len(data) - 3, 4):
                    target = base + int.from_bytes(data[place : place + 4], "little", signed=True)
                    if place < 0 or not self.in_text(target):
                        break
                    found.add(target)
        return frozenset(filter(self.in_text, found))

    def in_text(self, address: int) -> bool:
        return 0 <= address - self.text.address < self.text.size

    def offset(self, address: int) -> int:
        """Where in the file the byte at an address in text is."""
        return address - self.text.address + self.text.offset

    def function(self, address: int) -> Function:
        """The function an address in text belongs to, or stands behind."""
        return self.functions[max(0, bisect_right(self._starts, address) - 1)]


def decode(code: bytes, address: int) -> list[Instruction]:
    """The instructions in `code`, up to the first that is none."""
    found = []
    for start, size, mnemonic, operands in _lite.disasm_lite(code, address):
        place = start - address
        found.append(Instruction(start, bytes(code[place : place + size]), mnemonic, operands))
    return found


def decode_one(code: bytes, address: int) -> Instruction | None:
    """`code` as exactly one instruction, or None."""
    found = decode(code, address)
    return found[0] if len(found) == 1 and len(found[0].code) == len(code) else None


def detail(code: bytes, address: int) -> capstone.CsInsn | None:
    """`code` as exactly one instruction with its operands and what it does to them, or None."""
    found = list(_detailed.disasm(code, address))
    return found[0] if len(found) == 1 and found[0].size == len(code) else None


def signed32(value: int) -> bytes:
    """As 32 bits, two's complement; struct.error if it does not fit."""
    return struct.pack("<i", value)
