"""Activation: the proof that a mutated instruction was executed, and from which execution on it is mutated.

The image itself keeps the proof; the trusted base knows nothing of it, and a guest needs no exit for it. The
place of the fault becomes a jump into a segment which is added to the image:

    place:    jmp cave; int3...                     over the window: whole instructions, five bytes or more
    cave:     [window before the fault]
              scratch = rcx; rcx = left
              jrcxz active
              left = rcx - 1; rcx = scratch
              [the instruction as it was]; [rest of the window]; jmp behind the window
    active:   activations += 1; rcx = scratch
              [the mutated instruction]; [rest of the window]; jmp behind the window

Only moves, `lea` and `jrcxz` are used: neither flags nor the stack (nor the red zone below it) are touched,
and a component has one thread, so the words scratch, left and activations can lie at fixed addresses. They
fill the first bytes of a second added segment, a page of data. `left` begins as the number of executions
that are to be as before. Guest memory is mapped one to one, so `activations` can be read from the
instance's memory object at that very offset, living or dead: evidence keeps the memory of the dead. Above 0
is the proof.

Instructions that are moved keep their meaning: jumps and calls get their target again, memory relative to
RIP its address, which is checked by decoding. The window is the shortest one around the fault which
contains no place that anything may jump to, other than its beginning.

What a traced image does differently: the place costs some ten instructions more; the return address of a
moved call lies in the cave; the heap begins two pages later.

Exceptions:
    Untraceable(Exception)    the place has no such window, or the fault is none of text: draw another seed
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import capstone

from hypervisor.abi.generated import PAGE_SIZE
from images.campaign.mutation import FaultClass, Mutant
from images.campaign.program import (
    IMMEDIATE,
    MEMORY,
    REGISTER,
    Instruction,
    Program,
    decode_one,
    detail,
    signed32,
)

_JUMP = 5  # bytes of a jump to anywhere
_HEADER = struct.Struct("<IIQQQQQQ")  # a program header: type, flags, offset, address twice, sizes, alignment
_PHOFF, _PHNUM = 32, 56  # where the ELF header says where the program headers are, and how many
_LOAD, _READ_EXECUTE, _READ_WRITE = 1, 5, 6
_SCRATCH, _LEFT, _ACTIVATIONS = 0, 8, 16
_STORE, _FETCH = b"\x48\x89\x0c\x25", b"\x48\x8b\x0c\x25"  # mov [address], rcx; mov rcx, [address]
_ADD = b"\x48\x8d\x49"  # lea rcx, [rcx + number]


class Untraceable(Exception):
    """A fault whose activation cannot be proved in this way. The message says where and why."""


class Traced(NamedTuple):
    data: bytes  # the whole image
    activations: int  # guest address of a little-endian u64: how often the mutated instruction was begun


def trace(program: Program, mutant: Mutant, trigger: int = 1) -> Traced:
    """`mutant` of `program`, mutated from execution number `trigger` (from 1) on, and counting.

    Raises Untraceable; ValueError for a trigger below 1.
    """
    if trigger < 1:
        raise ValueError(f"trigger {trigger}: executions are counted from 1")
    mutation = mutant.mutation
    if mutation.fault_class is FaultClass.DATA_BIT_FLIP:
        raise Untraceable(f"{program.name}: {mutation.describe()}: a datum is not executed")
    window, index = _window(program, mutation.address)
    mutated = decode_one(mutation.after, mutation.address)
    if mutated is None:
        raise Untraceable(f"{program.name}: {mutation.describe()}: not one instruction")
    cave = _end(program.data)
    words = cave + PAGE_SIZE
    code = _cave(window, index, mutated, cave, words)
    start, behind = window[0].address, window[-1].end
    jump = b"\xe9" + signed32(cave - start - _JUMP)
    data = bytearray(program.data)
    place = program.offset(start)
    data[place : place + behind - start] = jump.ljust(behind - start, b"\xcc")
    content = struct.pack("<QQQ", 0, trigger - 1, 0)  # scratch, left, activations
    return Traced(_with_segments(data, cave, code, content), words + _ACTIVATIONS)


def _window(program: Program, address: int) -> tuple[Sequence[Instruction], int]:
    """The shortest window around the instruction at `address`, and its index there."""
    instructions = program.instructions
    at = next(number for number, each in enumerate(instructions) if each.address == address)
    function = program.function(address)
    best: tuple[Sequence[Instruction], int] | None = None
    for first in range(at, max(-1, at - _JUMP), -1):
        if instructions[first].address < function.address:
            break
        if first < at and not _goes_on(instructions[first]):
            break
        last = at
        while instructions[last].end - instructions[first].address < _JUMP:
            following = instructions[last].end
            if not _goes_on(instructions[last]) or following in program.targets:
                break
            if following >= function.address + function.size:
                break
            last += 1
        else:
            window = instructions[first : last + 1]
            if best is None or len(window) < len(best[0]):
                best = window, at - first
        if instructions[first].address in program.targets:
            break  # it can only be the beginning of a window
    if best is None:
        place = f"{function.name}+{address - function.address:#x}"
        why = "no five bytes that nothing jumps into"
        raise Untraceable(f"{program.name}: {place}: {why}; draw another seed")
    return best


def _goes_on(instruction: Instruction) -> bool:
    """Whether the next instruction can follow it."""
    return instruction.mnemonic not in ("jmp", "ret", "ud2", "int3", "hlt")


def _cave(window: Sequence[Instruction], index: int, mutated: Instruction, address: int, words: int) -> bytes:
    inside = range(window[0].address + 1, window[-1].end)
    code = b""
    for instruction in window[:index]:
        code += _moved(instruction, address + len(code), inside)
    code += _STORE + signed32(words + _SCRATCH) + _FETCH + signed32(words + _LEFT)
    before = _ADD + b"\xff" + _STORE + signed32(words + _LEFT) + _FETCH + signed32(words + _SCRATCH)
    here = address + len(code) + 2  # behind jrcxz
    before += _rest(window[index:], here + len(before), window[-1].end, inside)
    if len(before) > 127:
        place = f"{window[index].address:#x}"
        raise Untraceable(f"{place}: the instructions around it are too long; draw another seed")
    code += b"\xe3" + bytes([len(before)]) + before
    code += _FETCH + signed32(words + _ACTIVATIONS) + _ADD + b"\x01" + _STORE + signed32(words + _ACTIVATIONS)
    code += _FETCH + signed32(words + _SCRATCH)
    return code + _rest((mutated, *window[index + 1 :]), address + len(code), window[-1].end, inside)


def _rest(instructions: Sequence[Instruction], address: int, behind: int, inside: range) -> bytes:
    """The instructions as they are at `address`, then a jump to `behind`."""
    code = b""
    for instruction in instructions:
        code += _moved(instruction, address + len(code), inside)
    return code + b"\xe9" + signed32(behind - address - len(code) - _JUMP)


def _moved(instruction: Instruction, address: int, inside: range) -> bytes:
    """The code which does at `address` what `instruction` does at its own; Untraceable if there is none."""
    what = f"{instruction.address:#x}: {instruction.assembly}"
    known = detail(instruction.code, instruction.address)
    if known is None:
        raise Untraceable(f"{what}: not one instruction; draw another seed")
    old, code = instruction.code, instruction.code
    if known.operands and known.operands[-1].type == IMMEDIATE and _is_branch(known.mnemonic):
        target = known.operands[-1].imm
        if target in inside:
            raise Untraceable(f"{what} jumps into its own window; draw another seed")
        if old[0] & 0xF0 == 0x70:
            head = bytes((0x0F, 0x80 | old[0] & 0xF))
        elif old[0] in (0xE8, 0xE9):
            head = old[:1]
        elif old[0] == 0xEB:
            head = b"\xe9"
        elif old[0] == 0x0F and old[1] & 0xF0 == 0x80:
            head = old[:2]
        else:
            raise Untraceable(f"{what} cannot be moved; draw another seed")
        code = head + signed32(target - address - len(head) - 4)
    elif "rip" in instruction.operands:
        code = _with_displacement(known, address)
    moved = detail(code, address)
    if moved is None or _meaning(moved) != _meaning(known):
        raise Untraceable(f"{what} cannot be moved; draw another seed")
    return code


def _is_branch(mnemonic: str) -> bool:
    return mnemonic.startswith(("j", "call", "loop", "xbegin"))


def _with_displacement(known: capstone.CsInsn, address: int) -> bytes:
    """The code at `address` with its displacement from RIP adjusted: the four bytes behind a ModRM of mode 0,
    register 5. As it was if there are none."""
    code = bytes(known.bytes)
    for place in range(1, len(code) - 4):
        if code[place] & 0xC7 == 0x05:
            old = int.from_bytes(code[place + 1 : place + 5], "little", signed=True)
            displacement = signed32(old + known.address - address)
            candidate = code[: place + 1] + displacement + code[place + 5 :]
            moved = detail(candidate, address)
            if moved and _meaning(moved) == _meaning(known):
                return candidate
    return code


def _meaning(instruction: capstone.CsInsn) -> tuple[object, ...]:
    """What it does wherever it is: the operation and its operands, those relative to RIP as addresses."""
    operands: list[tuple[object, ...]] = []
    for each in instruction.operands:
        if each.type == MEMORY:
            memory = each.mem
            relative = memory.base and instruction.reg_name(memory.base) == "rip"
            place = memory.disp + (instruction.address + instruction.size if relative else 0)
            operands.append((memory.base, memory.index, memory.scale, memory.segment, place, each.size))
        else:
            operands.append((each.type, each.reg if each.type == REGISTER else each.imm, each.size))
    return instruction.mnemonic, *operands


def _end(data: bytes) -> int:
    """The first page behind all segments."""
    headers = _headers(data)
    end = max(address + size for kind, _, _, address, _, _, size, _ in headers if kind == _LOAD)
    return int(end + PAGE_SIZE - 1 & -PAGE_SIZE)


def _headers(data: bytes) -> list[tuple[int, ...]]:
    offset, count = struct.unpack_from("<Q", data, _PHOFF)[0], struct.unpack_from("<H", data, _PHNUM)[0]
    return [_HEADER.unpack_from(data, offset + number * _HEADER.size) for number in range(count)]


def _with_segments(data: bytearray, cave: int, code: bytes, words: bytes) -> bytes:
    """The image with a page of code at `cave`, one of data behind it, its program headers at the end."""
    headers = _headers(bytes(data))
    data += bytes(-len(data) % PAGE_SIZE)
    for address, flags, content in ((cave, _READ_EXECUTE, code), (cave + PAGE_SIZE, _READ_WRITE, words)):
        headers.append((_LOAD, flags, len(data), address, address, len(content), len(content), PAGE_SIZE))
        data += content.ljust(PAGE_SIZE, b"\0")
    struct.pack_into("<Q", data, _PHOFF, len(data))
    struct.pack_into("<H", data, _PHNUM, len(headers))
    return bytes(data) + b"".join(_HEADER.pack(*header) for header in headers)
