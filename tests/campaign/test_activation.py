"""The proof of activation, in VMs: moved instructions do what they did, mutated ones are counted."""

from __future__ import annotations

import os

import pytest

from hypervisor.abi import generated as abi
from images.campaign.activation import Untraceable, trace
from images.campaign.mutation import FaultClass, Mutant, Mutation, edits, mutate
from images.campaign.program import Instruction, Program
from tests.campaign.places import COMPONENTS, MEMORY, program
from tests.tender.system import Guest, System, assemble
from vmm import loader

ROUNDS = 10
# What compilers do and moving could break: the red zone, flags, RIP, calls, tables of jumps, rcx.
WORK = f"""
    call work
    ud2
.type work, @function
work:
    xor %eax, %eax
    mov ${ROUNDS}, %ecx
    mov %rax, -8(%rsp)
again:
    add $1, %rax
    cmp $5, %rcx
    adc $0, %rdx
    mov %rdx, -16(%rsp)
    cmp %rbx, seen(%rip)
    lea seen(%rip), %rsi
    je skip
    inc %rbx
skip:
    add (%rsi), %rdi
    cmpq $3, seen(%rip)
    rcl $1, %r8
    mov %ecx, %r9d
    and $1, %r9d
    mov -16(%rsp), %rdx
    jmp *table(, %r9, 8)
odd:
    push %rcx
    call helper
    pop %rcx
    jmp on
even:
    xor $0x55, %r10
    .byte 0x0f, 0x1f, 0x00
on:
    lea -1(%rcx), %rcx
    test %ecx, %ecx
    jnz again
    ret
.size work, .-work
.type helper, @function
helper:
    lea 3(%r10, %rcx, 2), %r10
    ret
.size helper, .-helper
.section .rodata
.balign 8
table: .quad even, odd
.data
seen: .quad 3
"""
COMPARED = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "rflags")


def made(program: Program, old: Instruction, new: Instruction) -> Mutant:
    function, place = program.function(old.address), program.offset(old.address)
    offset = old.address - function.address
    mutation = Mutation(FaultClass.DROPPED_INSTRUCTION, 0, old.address, place, function.name, offset,
                        old.code, new.code, old.assembly, new.assembly)  # fmt: skip
    return Mutant(mutation, program.data[:place] + new.code + program.data[place + len(new.code) :])


def outcome(system: System, data: bytes, activations: int) -> tuple[dict[str, int], int]:
    """The registers at the end, which is a `ud2`, and a word of the dead guest's memory."""
    guest = Guest(system, data)
    system.guests.append(guest)
    guest.run()
    fault = guest.fault()
    assert (fault.kind, fault.vector) == (abi.Fault.EXCEPTION, 6), fault
    return {name: fault.registers[name] for name in COMPARED}, guest.word(activations)


@pytest.mark.kvm
def test_moved_instructions_do_what_they_did(system: System) -> None:
    work = Program("work", assemble(WORK))
    expected, _ = outcome(system, work.data, 0)
    assert (expected["rax"], expected["rbx"]) == (ROUNDS, 3)
    counts = {}
    for instruction in work.instructions:
        traced = trace(work, made(work, instruction, instruction))
        registers, counts[instruction.assembly] = outcome(system, *traced)
        assert registers == expected, instruction.assembly
    assert counts["add rax, 1"] == counts["xor r10, 0x55"] * 2 == ROUNDS
    assert (counts["xor eax, eax"], counts["inc rbx"]) == (1, 3)
    assert counts["nop dword ptr [rax]"] == ROUNDS // 2


@pytest.mark.kvm
@pytest.mark.parametrize("trigger", [1, 4, ROUNDS, ROUNDS + 1])
def test_the_mutation_begins_at_its_trigger(system: System, trigger: int) -> None:
    work = Program("work", assemble(WORK))
    add = next(each for each in work.instructions if each.assembly == "add rax, 1")
    (dropped,) = edits(add, FaultClass.DROPPED_INSTRUCTION)
    registers, count = outcome(system, *trace(work, made(work, add, dropped), trigger))
    assert (registers["rax"], count) == (trigger - 1, ROUNDS + 1 - trigger)


@pytest.mark.parametrize("name", COMPONENTS)
def test_nearly_every_fault_of_text_can_be_traced(name: str) -> None:
    component = program(name)
    traced, seeds = 0, 60
    for seed in range(seeds):
        mutant = mutate(component, seed, list(FaultClass)[seed % (len(FaultClass) - 1)])
        try:
            data, activations = trace(component, mutant, 1 + seed)
        except Untraceable:
            continue
        traced += 1
        template = loader.prepare(name, data, MEMORY)
        os.close(template.fd)
        *_, cave, words = template.segments
        assert (cave.flags, words.flags) == (5, 6) and 0 <= activations - words.address < words.file_size
        differing = (place for place, byte in enumerate(component.data) if byte != data[place])
        header, fault = 64, mutant.mutation.file_offset
        assert all(place < header or abs(place - fault) < 20 for place in differing)
    assert traced >= 0.95 * seeds


def test_what_cannot_be_traced() -> None:
    console = program("console")
    with pytest.raises(Untraceable, match=r"data_bit_flip .* a datum is not executed"):
        trace(console, mutate(console, 1, FaultClass.DATA_BIT_FLIP))
    with pytest.raises(ValueError, match="counted from 1"):
        trace(console, mutate(console, 1, FaultClass.DROPPED_INSTRUCTION), 0)
    short = Program("guest", assemble(".type w, @function\nw: push %rax\n ret\n.size w, .-w"))
    with pytest.raises(Untraceable, match=r"guest: w\+0x0: no five bytes"):
        trace(short, made(short, short.instructions[0], short.instructions[0]))
