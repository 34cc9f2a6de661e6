"""Faults in an image's text and data: one mutation, determined by image and seed alone.

The classes are those of the fault injection studies of Nooks and MINIX 3. All are made in the binary: bytes
of one instruction are edited, the result is decoded again, and an edit counts only if it is again one
instruction of the same length which differs from the old one in what the class says and in nothing else.

    wrong_source          a register that is read is another one
    wrong_destination     a register that is written is another one
    wrong_operand_size    the same operation on the same registers and memory, in another width
    inverted_branch       a conditional jump on the opposite condition
    off_by_one            a number that is compared with is one more or less; or < is <=, > is >=, and reverse
    dropped_instruction   an instruction does nothing (a single no-op of its length)
    replaced_pointer      the base register of a memory operand is another one
    uninitialised_value   what gives a register or a place on the stack its first value does nothing: a
                          constant, a zeroing, a store to the stack frame
    text_bit_flip         one bit of an instruction, such that the instructions behind stay what they are
    data_bit_flip         one bit of initialised data (.rodata, .data.rel.ro, .data)

A class is drawn first, each as likely as the others; then an instruction among all those the class can be
applied to; then one of its edits. Instructions that end a program (`ud2`, `int3`) or do nothing are left
out. How it is proved that a mutated instruction was executed: activation.py.

Exceptions:
    NoPlace(Exception)    the image has no instruction this class can be applied to
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import capstone

from images.campaign.program import IMMEDIATE, MEMORY, REGISTER, Instruction, Program, decode_one, detail


class FaultClass(Enum):
    """Values are the names under which results are kept: never change one."""

    WRONG_SOURCE = "wrong_source"
    WRONG_DESTINATION = "wrong_destination"
    WRONG_OPERAND_SIZE = "wrong_operand_size"
    INVERTED_BRANCH = "inverted_branch"
    OFF_BY_ONE = "off_by_one"
    DROPPED_INSTRUCTION = "dropped_instruction"
    REPLACED_POINTER = "replaced_pointer"
    UNINITIALISED_VALUE = "uninitialised_value"
    TEXT_BIT_FLIP = "text_bit_flip"
    DATA_BIT_FLIP = "data_bit_flip"


class NoPlace(Exception):
    """An image in which a class of faults has no place. The message names both."""


@dataclass(frozen=True)
class Mutation:
    """What was changed. Of a data fault `function` is the section, and the assembly texts are empty."""

    fault_class: FaultClass
    seed: int
    address: int  # in the guest
    file_offset: int
    function: str  # as the symbol is spelled
    offset: int  # from the start of the function
    before: bytes
    after: bytes  # as long as `before`
    assembly_before: str
    assembly_after: str

    def describe(self) -> str:
        """One line for people."""
        what = f"{self.assembly_before} -> {self.assembly_after}" if self.assembly_before else "data"
        place = f"{self.function}+{self.offset:#x} ({self.address:#x})"
        return f"{self.fault_class.value} at {place}: {what} [{self.before.hex()} -> {self.after.hex()}]"


@dataclass(frozen=True)
class Mutant:
    mutation: Mutation
    data: bytes  # the whole image, changed


_WRITE = 2  # capstone's CS_AC_WRITE
_IGNORED = frozenset(("nop", "int3", "ud2", "hlt", "endbr64"))
_ENDS = frozenset(("jmp", "ret", "iretq", "sysret", "syscall"))  # without them text runs on into what is none
_ONLY_READ = frozenset(("cmp", "test"))  # of which capstone does not always say so
_BOUNDS = {"jb": "jbe", "jae": "ja", "jl": "jle", "jge": "jg"}
_OTHER_BOUND = _BOUNDS | {other: one for one, other in _BOUNDS.items()}
_MOVES = frozenset(("mov", "movaps", "movups", "movdqa", "movdqu", "movabs", "movapd", "movupd"))
_ZEROINGS = frozenset(("xor", "xorps", "pxor", "xorpd"))
# No-ops of one instruction each; longer ones have more prefixes 66.
_NOPS = {
    1: "90", 2: "6690", 3: "0f1f00", 4: "0f1f4000", 5: "0f1f440000", 6: "660f1f440000", 7: "0f1f8000000000",
    8: "0f1f840000000000",
}  # fmt: skip


def mutate(program: Program, seed: int, fault_class: FaultClass | None = None) -> Mutant:
    """The mutation that belongs to `seed`, of the class given (without one the seed chooses that, too).

    Raises NoPlace, ProgramError.
    """
    chance = random.Random(seed)
    drawn = chance.choice(list(FaultClass))
    wanted = fault_class or drawn
    if wanted is FaultClass.DATA_BIT_FLIP:
        return _flip_data(program, seed, chance)
    instructions = program.instructions
    for number in chance.sample(range(len(instructions)), len(instructions)):
        old = instructions[number]
        choices = edits(old, wanted)
        if not choices:
            continue
        new = chance.choice(choices)
        function = program.function(old.address)
        place = program.offset(old.address)
        made = Mutation(wanted, seed, old.address, place, function.name, old.address - function.address,
                        old.code, new.code, old.assembly, new.assembly)  # fmt: skip
        return Mutant(made, _replaced(program.data, place, new.code))
    what = f"no instruction can have a fault of class {wanted.value}"
    raise NoPlace(f"{program.name}: {what}; choose another")


def edits(old: Instruction, fault_class: FaultClass) -> list[Instruction]:
    """Every way to give an instruction a fault of one class of text; none if it cannot have it."""
    if old.mnemonic in _IGNORED:
        return []
    if fault_class in (FaultClass.DROPPED_INSTRUCTION, FaultClass.UNINITIALISED_VALUE):
        wanted = _initialises(old) == (fault_class is FaultClass.UNINITIALISED_VALUE)
        return _decoded(old, [no_op(len(old.code))]) if wanted and old.mnemonic not in _ENDS else []
    if fault_class is FaultClass.TEXT_BIT_FLIP:
        return _decoded(old, _xored(old.code, [1 << bit for bit in range(8)]))
    if fault_class is FaultClass.INVERTED_BRANCH:
        return _branches(old, [1], None)
    if fault_class is FaultClass.OFF_BY_ONE:
        return _branches(old, [2, 4], _OTHER_BOUND) + _comparisons(old)
    return _operands(old, fault_class)


def no_op(size: int) -> bytes:
    """One instruction of 1 to 15 bytes that does nothing."""
    longest = max(_NOPS)
    return b"\x66" * (size - longest) + bytes.fromhex(_NOPS[min(size, longest)])


def _flip_data(program: Program, seed: int, chance: random.Random) -> Mutant:
    sections = [section for section in program.data_sections if section.size]
    if not sections:
        raise NoPlace(f"{program.name}: has no initialised data to flip a bit of; choose another class")
    number = chance.randrange(sum(section.size for section in sections))
    for section in sections:
        if number < section.size:
            break
        number -= section.size
    place = section.offset + number
    before = program.data[place : place + 1]
    after = bytes([before[0] ^ 1 << chance.randrange(8)])
    made = Mutation(FaultClass.DATA_BIT_FLIP, seed, section.address + number, place, section.name, number,
                    before, after, "", "")  # fmt: skip
    return Mutant(made, _replaced(program.data, place, after))


def _replaced(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def _xored(code: bytes, masks: Sequence[int]) -> Iterator[bytes]:
    for place, byte in enumerate(code):
        for mask in masks:
            yield _replaced(code, place, bytes([byte ^ mask]))


def _decoded(old: Instruction, codes: Iterator[bytes] | Sequence[bytes]) -> list[Instruction]:
    """Those codes that are one instruction each, and another one than `old`."""
    found = (decode_one(code, old.address) for code in codes)
    return [new for new in found if new and new.assembly != old.assembly]


def _conditional(instruction: Instruction) -> bool:
    name = instruction.mnemonic
    return name.startswith("j") and name not in ("jmp", "jrcxz", "jecxz")


def _branches(old: Instruction, masks: Sequence[int], becomes: dict[str, str] | None) -> list[Instruction]:
    """Conditional jumps to the same place; `becomes` says from which condition to which (None: any)."""
    if not _conditional(old) or (becomes is not None and old.mnemonic not in becomes):
        return []
    candidates = _decoded(old, _xored(old.code[:2], masks) if len(old.code) == 2 else _xored(old.code, masks))
    return [
        new
        for new in candidates
        if _conditional(new) and new.operands == old.operands and new.mnemonic != old.mnemonic
        and (becomes is None or becomes[old.mnemonic] == new.mnemonic)
    ]  # fmt: skip


def _comparisons(old: Instruction) -> list[Instruction]:
    """Comparisons with a constant that is one more or one less. A constant is the end of its instruction."""
    if old.mnemonic != "cmp":
        return []
    known = detail(old.code, old.address)
    if known is None or known.operands[-1].type != IMMEDIATE:
        return []
    constant, rest = known.operands[-1].imm, [_shape(known, each) for each in known.operands[:-1]]
    found: list[Instruction] = []
    for size in (1, 2, 4):
        head, tail = old.code[:-size], int.from_bytes(old.code[-size:], "little")
        for step in (1, -1):
            code = head + ((tail + step) % (1 << 8 * size)).to_bytes(size, "little")
            new, decoded = detail(code, old.address), decode_one(code, old.address)
            if (
                new and decoded and new.mnemonic == "cmp" and new.operands[-1].imm - constant == step
                and [_shape(new, each) for each in new.operands[:-1]] == rest
                and all(other.code != code for other in found)
            ):  # fmt: skip
                found.append(decoded)
    return found


def _operands(old: Instruction, fault_class: FaultClass) -> list[Instruction]:
    known = detail(old.code, old.address)
    if known is None or not known.operands or old.mnemonic in _ENDS:
        return []
    if fault_class is FaultClass.WRONG_OPERAND_SIZE:
        # Bit 0 of an opcode is byte or not, bit 3 of a REX prefix 64 bits or not.
        codes = list(_xored(old.code, [1, 8]))
    else:
        codes = list(_other_registers(old.code))
    found = {}
    for code in codes:
        new = detail(code, old.address)
        if new and new.mnemonic == known.mnemonic and len(new.operands) == len(known.operands):
            decoded = decode_one(code, old.address)
            if decoded and _difference(known, new) is fault_class:
                found[decoded.assembly] = decoded
    return list(found.values())


def _other_registers(code: bytes) -> Iterator[bytes]:
    """Every other number in every place where three bits may name a register: in an opcode, ModRM, or SIB."""
    for place, byte in enumerate(code):
        for shift in (0, 3):
            for number in range(8):
                if number != byte >> shift & 7:
                    yield _replaced(code, place, bytes([byte & ~(7 << shift) | number << shift]))


def _difference(old: capstone.CsInsn, new: capstone.CsInsn) -> FaultClass | None:
    """The class of the one difference between the operands; None if there is none, or more than one."""
    pairs = list(zip(old.operands, new.operands, strict=True))
    if [each.type for each, _ in pairs] != [each.type for _, each in pairs]:
        return None
    if any(one.size != other.size for one, other in pairs):
        same = all(_shape(old, one)[1:] == _shape(new, other)[1:] for one, other in pairs)
        return FaultClass.WRONG_OPERAND_SIZE if same else None
    different = [pair for pair in pairs if _shape(old, pair[0]) != _shape(new, pair[1])]
    if len(different) != 1:
        return None
    one, other = different[0]
    if one.type == REGISTER:
        written = one.access & _WRITE and old.mnemonic not in _ONLY_READ
        if written:
            return FaultClass.WRONG_DESTINATION
        return FaultClass.WRONG_SOURCE
    if one.type == MEMORY:
        bases = (one.mem.base, other.mem.base)
        pointers = all(base and old.reg_name(base) != "rip" for base in bases)
        if pointers and bases[0] != bases[1] and _memory(old, one)[1:] == _memory(new, other)[1:]:
            return FaultClass.REPLACED_POINTER
    return None


def _memory(instruction: capstone.CsInsn, operand: Any) -> tuple[Any, ...]:
    memory = operand.mem
    return memory.base, memory.index, memory.scale, memory.disp, memory.segment


def _shape(instruction: capstone.CsInsn, operand: Any) -> tuple[Any, ...]:
    """What an operand is: its size in bytes, then everything else; registers regardless of their width."""
    if operand.type == REGISTER:
        return operand.size, _whole(instruction.reg_name(operand.reg))
    if operand.type == IMMEDIATE:
        return operand.size, operand.imm
    return operand.size, *_memory(instruction, operand)


def _whole(register: str) -> str:
    """The 64-bit register that a general register is part of; `ah` and its like are on their own."""
    if register.startswith("r") and register[1:2].isdigit():
        return register.rstrip("dwb")
    if register in ("ah", "bh", "ch", "dh"):
        return register
    stem = register.removeprefix("e").removeprefix("r")
    if stem in ("ax", "bx", "cx", "dx", "si", "di", "sp", "bp"):
        return f"r{stem}"
    if stem in ("al", "bl", "cl", "dl", "sil", "dil", "spl", "bpl"):
        return f"r{stem[:-1]}x" if len(stem) == 2 else f"r{stem[:-1]}"
    return register


def _initialises(instruction: Instruction) -> bool:
    """Gives a register a constant, or a place in the stack frame a value."""
    if instruction.mnemonic in _ZEROINGS:
        destination, _, source = instruction.operands.partition(", ")
        return destination == source
    if instruction.mnemonic not in _MOVES:
        return False
    known = detail(instruction.code, instruction.address)
    if known is None or len(known.operands) != 2:
        return False
    destination, source = known.operands
    if destination.type == MEMORY:
        return known.reg_name(destination.mem.base) == "rsp" if destination.mem.base else False
    return bool(source.type == IMMEDIATE)
