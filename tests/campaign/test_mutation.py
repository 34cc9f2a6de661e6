"""Mutations: what each class does to an instruction, and that nothing else of an image changes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.campaign.mutation import FaultClass, Mutant, NoPlace, edits, mutate, no_op
from images.campaign.program import Program, ProgramError, decode, decode_one
from tests.campaign.places import COMPONENTS, MEMORY, program
from tests.tender.system import assemble
from vmm import loader

# instruction -> class -> some of what it becomes, or none if the class cannot be applied to it
EDITS: dict[str, dict[FaultClass, tuple[str, ...]]] = {
    "83f805": {  # cmp eax, 5
        FaultClass.OFF_BY_ONE: ("cmp eax, 6", "cmp eax, 4"),
        FaultClass.WRONG_SOURCE: ("cmp ecx, 5", "cmp edi, 5"),
        FaultClass.WRONG_DESTINATION: (),
        FaultClass.INVERTED_BRANCH: (),
        FaultClass.UNINITIALISED_VALUE: (),
    },
    "83f87f": {FaultClass.OFF_BY_ONE: ("cmp eax, 0x7e",)},  # cmp eax, 127: 128 would be -128
    "483d00010000": {FaultClass.OFF_BY_ONE: ("cmp rax, 0x101", "cmp rax, 0xff")},
    "4889c8": {  # mov rax, rcx
        FaultClass.WRONG_SOURCE: ("mov rax, rdx", "mov rax, rsp"),
        FaultClass.WRONG_DESTINATION: ("mov rdx, rcx",),
        FaultClass.WRONG_OPERAND_SIZE: ("mov eax, ecx", "mov al, cl"),
        FaultClass.OFF_BY_ONE: (),
        FaultClass.DROPPED_INSTRUCTION: ("nop dword ptr [rax]",),
    },
    "488b4308": {  # mov rax, [rbx + 8]
        FaultClass.REPLACED_POINTER: ("mov rax, qword ptr [rcx + 8]", "mov rax, qword ptr [r11 + 8]"),
        FaultClass.WRONG_DESTINATION: ("mov rcx, qword ptr [rbx + 8]",),
        FaultClass.WRONG_SOURCE: (),
    },
    "74fe": {FaultClass.INVERTED_BRANCH: ("jne 0x200000",), FaultClass.OFF_BY_ONE: ()},
    "0f8200010000": {  # jb
        FaultClass.INVERTED_BRANCH: ("jae 0x200106",),
        FaultClass.OFF_BY_ONE: ("jbe 0x200106",),
        FaultClass.DROPPED_INSTRUCTION: ("nop word ptr [rax + rax]",),
    },
    "7ff0": {FaultClass.OFF_BY_ONE: ("jge 0x1ffff2",), FaultClass.INVERTED_BRANCH: ("jle 0x1ffff2",)},
    "48c744240800000000": {FaultClass.UNINITIALISED_VALUE: ("nop word ptr [rax + rax]",)},  # mov [rsp+8], 0
    "31c0": {FaultClass.UNINITIALISED_VALUE: ("nop",), FaultClass.DROPPED_INSTRUCTION: ()},  # xor eax, eax
    "b801000000": {FaultClass.UNINITIALISED_VALUE: ("nop dword ptr [rax + rax]",)},
    "c3": {FaultClass.DROPPED_INSTRUCTION: (), FaultClass.TEXT_BIT_FLIP: ("retf",)},
    "0f0b": {each: () for each in FaultClass},  # ud2
    "90": {each: () for each in FaultClass},
}  # fmt: skip


@pytest.mark.parametrize("code", EDITS)
def test_edits(code: str) -> None:
    old = decode_one(bytes.fromhex(code), 0x200000)
    assert old
    for fault_class, some in EDITS[code].items():
        made = {new.assembly for new in edits(old, fault_class)}
        assert bool(made) == bool(some) and made >= set(some), (old.assembly, fault_class, made)


def test_no_op_is_one_instruction_of_every_length() -> None:
    for size in range(1, 16):
        decoded = decode_one(no_op(size), 0x200000)
        assert decoded and decoded.mnemonic == "nop" and len(decoded.code) == size


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(COMPONENTS), st.integers(0, 2**64 - 1), st.sampled_from([None, *FaultClass]))
def test_a_mutant_is_determined_by_its_seed(name: str, seed: int, fault_class: FaultClass | None) -> None:
    mutant = mutate(program(name), seed, fault_class)
    assert mutant == mutate(Program(name, program(name).data), seed, fault_class)
    assert fault_class in (None, mutant.mutation.fault_class)
    check(program(name), mutant)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_class_has_places_in_every_component(name: str) -> None:
    for fault_class in FaultClass:
        mutants = [mutate(program(name), seed, fault_class) for seed in range(4)]
        assert len({mutant.mutation.address for mutant in mutants}) > 1, fault_class
        for mutant in mutants:
            check(program(name), mutant)


def test_the_seed_chooses_every_class() -> None:
    drawn = {mutate(program("console"), seed).mutation.fault_class for seed in range(100)}
    assert drawn == set(FaultClass)


def test_no_place() -> None:
    with pytest.raises(NoPlace, match=r"guest: no instruction can .* inverted_branch; choose another"):
        mutate(Program("guest", assemble(".type w, @function\nw: push %rax\n ret\n.size w, .-w")), 1,
               FaultClass.INVERTED_BRANCH)  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [(b"no ELF", "not an image"), (b"", "not an image")])
def test_not_an_image(data: bytes, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program("bad", data)


def test_an_image_without_functions() -> None:
    with pytest.raises(ProgramError, match="no symbols of functions"):
        Program("guest", assemble("ud2"))


def check(original: Program, mutant: Mutant) -> None:
    """The image loads, and differs from the original in what the mutation says and in nothing else."""
    mutation = mutant.mutation
    place, size = mutation.file_offset, len(mutation.before)
    assert original.data[place : place + size] == mutation.before != mutation.after
    assert mutant.data == original.data[:place] + mutation.after + original.data[place + size :]
    template = loader.prepare(original.name, mutant.data, MEMORY)
    offsets = [(mutation.address - each.address, each) for each in template.segments]
    ((offset, segment),) = [pair for pair in offsets if 0 <= pair[0] < pair[1].file_size]
    loaded = os.pread(template.fd, size, segment.offset + offset)
    os.close(template.fd)
    assert loaded == mutation.after
    function = original.function(mutation.address)
    start, size = original.offset(function.address), function.size
    images = (original.data, mutant.data)
    before, after = (decode(data[start : start + size], function.address) for data in images)
    assert [each.address for each in before] == [each.address for each in after]
    changed = [pair for pair in zip(before, after, strict=True) if pair[0].code != pair[1].code]
    bits = (int.from_bytes(mutation.before, "little") ^ int.from_bytes(mutation.after, "little")).bit_count()
    if mutation.fault_class is FaultClass.DATA_BIT_FLIP:
        assert not changed and bits == 1 and mutation.function in (".rodata", ".data.rel.ro", ".data")
        return
    ((old, new),) = changed
    assert (function.name, function.address + mutation.offset) == (mutation.function, old.address)
    assert (old.assembly, new.assembly) == (mutation.assembly_before, mutation.assembly_after)
    assert old.address == mutation.address and old.assembly != new.assembly
    assert mutation.fault_class is not FaultClass.TEXT_BIT_FLIP or bits == 1
