"""The structures the CPU reads: page tables (walked here as a CPU would), the trap page; own memory."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from vmm.tender import page_tables, plan, trap_page
from vmm.tender._vcpu import ffi, lib
from vmm.tender.page_tables import Mapping, Segment

MEMORY = 32 << 20
SEGMENTS = (
    Segment(0x200000, 0, 100, 0x3000, 5),
    Segment(0x203000, 0x3000, 100, 0x1000, 4),
    Segment(0x204000, 0x4000, 100, 0x5000, 6),
)
HEAP = Mapping(0x20A000, MEMORY - abi.STACK_SIZE - 4096, writable=True)
MAPPINGS = page_tables.component_mappings(SEGMENTS, HEAP, MEMORY)


def walk(tables: dict[int, bytes], address: int) -> tuple[int, str] | None:
    """(physical address, rights) as the CPU finds them, or None; rights are of "wxu" and "-"."""
    table = abi.PAGE_TABLES
    writable = user = executable = True
    for shift in (39, 30, 21, 12):
        (entry,) = struct.unpack_from("<Q", tables[table], 8 * (address >> shift & 511))
        if not entry & 1:
            return None
        assert entry & 0x20, "the accessed bit must be preset"
        writable &= bool(entry & 2)
        user &= bool(entry & 4)
        executable &= not entry >> 63
        if shift == 12 or entry & 0x80:
            assert entry & 0x40, "the dirty bit must be preset"
            rights = ("w" if writable else "-") + ("x" if executable else "-") + ("u" if user else "-")
            base = entry & 0x000FFFFFFFFFF000 & -(1 << shift)
            return base | address & ((1 << shift) - 1), rights
        table = entry & 0x000FFFFFFFFFF000
    raise AssertionError


EXPECTED = {
    0: None,
    abi.NULL_GUARD_END - 1: None,
    abi.IDT: "---",
    abi.GDT + 0x800: "---",
    abi.TRAP_STUBS: "-x-",
    abi.TRAP_STACK: "w--",
    abi.TRAP_STACK_IST + 4095: "w--",
    abi.TRAP_STACK_IST + 4096: None,
    abi.PAGE_TABLES: None,
    abi.PAGE_TABLES_END - 1: None,
    abi.INFO: "--u",
    abi.INFO + abi.INFO_PAGES * 4096 - 1: "--u",
    abi.INFO + abi.INFO_PAGES * 4096: None,
    abi.IMAGE_BASE - 1: None,
    0x200000: "-xu",
    0x202FFF: "-xu",
    0x203000: "--u",
    0x204000: "w-u",
    0x208FFF: "w-u",
    0x209000: None,  # the guard page below the heap
    0x20A000: "w-u",
    0x400000: "w-u",
    HEAP.end - 1: "w-u",
    HEAP.end: None,  # the guard page below the stack
    MEMORY - abi.STACK_SIZE: "w-u",
    MEMORY - 1: "w-u",
    MEMORY: None,
    abi.HYPERCALL_PAGE: "w-u",
    abi.DOORBELL_PAGE + 4095: "w-u",
    abi.DOORBELL_PAGE + 4096: None,
    abi.RW_WINDOW - 1: None,
    abi.RW_WINDOW: "w-u",
    abi.RW_WINDOW + abi.RW_WINDOW_SIZE - 1: "w-u",
    abi.RO_WINDOW: "--u",
    abi.RO_WINDOW + abi.RO_WINDOW_SIZE - 1: "--u",
    abi.RO_WINDOW + abi.RO_WINDOW_SIZE: None,
    1 << 40: None,
}


def test_what_a_component_can_reach() -> None:
    tables = page_tables.build(MAPPINGS)
    for address, rights in EXPECTED.items():
        assert walk(tables, address) == (None if rights is None else (address, rights)), hex(address)


def test_every_page_is_mapped_one_to_one_and_nothing_is_writable_and_executable() -> None:
    tables = page_tables.build(MAPPINGS)
    mapped = 0
    for address in range(0, MEMORY, 4096):
        found = walk(tables, address)
        if found:
            mapped += 1
            assert found[0] == address
            assert found[1][:2] != "wx"
    inside = [each for each in MAPPINGS if each.end <= MEMORY]
    assert mapped == sum(each.end - each.start for each in inside) // 4096


def test_tables_stay_in_their_place_even_for_the_largest_vm() -> None:
    memory = abi.VM_MEMORY_MAX
    heap = Mapping(0x20A000, memory - abi.STACK_SIZE - 4096, writable=True)
    tables = page_tables.build(page_tables.component_mappings(SEGMENTS, heap, memory))
    assert min(tables) == abi.PAGE_TABLES
    assert max(tables) < abi.PAGE_TABLES_END
    assert walk(tables, memory - 1) == (memory - 1, "w-u")


@pytest.mark.parametrize(
    ("mappings", "message"),
    [
        ([Mapping(0x1000, 0x3000), Mapping(0x2000, 0x4000)], "mappings overlap at 0x2000"),
        ([Mapping(0, 0x200000), Mapping(0x1000, 0x2000)], "mappings overlap at 0x1000"),
        ([Mapping(0x1000, 0x2000), Mapping(0x1000, 0x400000)], "mappings overlap at 0x1000"),
        ([Mapping(0x1001, 0x2000)], "not a range of pages: 0x1001-0x2000"),
        ([Mapping(0x2000, 0x2000)], "not a range of pages: 0x2000-0x2000"),
        ([Mapping(0, 1 << 40)], "not a range of pages: 0x0-0x10000000000"),
        (
            [Mapping(n << 21, (n << 21) + 4096) for n in range(300)],
            "the page tables do not fit below PAGE_TABLES_END",
        ),
    ],
)
def test_impossible_mappings(mappings: list[Mapping], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        page_tables.build(mappings)


def test_trap_page() -> None:
    pages = trap_page.build()
    assert set(pages) == {abi.IDT, abi.GDT, abi.TRAP_STUBS}
    assert all(len(contents) <= 4096 for contents in pages.values())
    for vector in range(256):
        low, selector, stack, kind, middle, high, zero = struct.unpack_from(
            "<HHBBHII", pages[abi.IDT], vector * 16
        )
        handler = low | middle << 16 | high << 32
        assert handler == abi.TRAP_STUBS + 16 * vector
        assert selector == trap_page.KERNEL_CODE
        assert stack == (1 if vector in (2, 8) else 0)
        assert kind == (0xEE if vector == 3 else 0x8E)
        assert zero == 0
        stub = pages[abi.TRAP_STUBS][16 * vector : 16 * vector + 16]
        assert stub == bytes((0xE6, vector)) + b"\xcc" * 14
    tss = pages[abi.GDT][0x800:]
    assert struct.unpack_from("<Q", tss, 4)[0] == abi.TRAP_STACK + 4096
    assert struct.unpack_from("<Q", tss, 36)[0] == abi.TRAP_STACK_IST + 4096


def test_frames_are_only_read_from_trap_stacks() -> None:
    ram = ffi.new("char[]", 0x20000)
    place = abi.TRAP_STACK + 4096 - 48
    struct.pack_into("<6Q", ffi.buffer(ram), place, 7, 1, 2, 3, 4, 5)

    def examined(rsp: int, vector: int) -> Any:
        machine, registers = ffi.new("struct machine *"), ffi.new("struct kvm_regs *", {"rsp": rsp, "rax": 9})
        machine.slots[lib.SLOT_RAM].place, machine.slots[lib.SLOT_RAM].size = ram, len(ram)
        machine.vcpu.regs, machine.vcpu.detail, machine.vcpu.fd = registers, vector, -1
        fault = ffi.new("struct fault *")
        lib.examine(machine, lib.EVENT_EXCEPTION, fault)
        return fault

    for rsp, vector, error_code in ((place, 14, 7), (place + 8, 6, 0)):
        fault = examined(rsp, vector)
        assert (fault.kind, fault.vector, fault.error_code) == (abi.Fault.EXCEPTION, vector, error_code)
        found = fault.regs.rip, fault.cs, fault.regs.rflags, fault.regs.rsp, fault.ss, fault.regs.rax
        assert found == (1, 2, 3, 4, 5, 9)
    for rsp in (0, abi.TRAP_STACK - 8, abi.TRAP_STACK_IST + 4096 - 40, 1 << 63, (1 << 64) - 1):
        fault = examined(rsp, 14)
        assert (fault.kind, fault.regs.rsp) == (abi.Fault.INTERNAL, rsp)
        assert ffi.string(fault.text) == b"trap 14 without a frame"


def test_every_vector_with_an_error_code_has_its_frame_read_so() -> None:
    ram = ffi.new("char[]", 0x20000)
    struct.pack_into("<6Q", ffi.buffer(ram), abi.TRAP_STACK, 7, 1, 2, 3, 4, 5)
    machine, fault = ffi.new("struct machine *"), ffi.new("struct fault *")
    registers = ffi.new("struct kvm_regs *", {"rsp": abi.TRAP_STACK})
    machine.slots[lib.SLOT_RAM].place, machine.vcpu.regs, machine.vcpu.fd = ram, registers, -1
    for vector in range(256):
        machine.vcpu.detail = vector
        lib.examine(machine, lib.EVENT_EXCEPTION, fault)
        expected = (7, 1) if vector in (8, 10, 11, 12, 13, 14, 17, 21, 29, 30) else (0, 7)
        assert (fault.error_code, fault.regs.rip) == expected, vector


OWN = [each for each in MAPPINGS if each.user and each.end <= MEMORY]
READABLE, WRITABLE = plan.merge(OWN), plan.merge(each for each in OWN if each.writable)


def owns(ranges: list[tuple[int, int]], address: int, length: int) -> bool:
    return bool(lib.own_memory(ffi.new("struct range[]", ranges), len(ranges), address, length))


def test_a_buffer_may_cross_neighbouring_segments() -> None:
    assert owns(READABLE, 0x202FFE, 4)
    assert owns(READABLE, abi.INFO, 4)
    assert owns(READABLE, 0x300000, 0)


@pytest.mark.parametrize(
    "address",
    [
        0,
        abi.IDT,
        abi.PAGE_TABLES,
        0x208FFF,
        0x209000,
        MEMORY - 1,
        MEMORY,
        abi.HYPERCALL_PAGE,
        abi.RW_WINDOW,
        2**64 - 1,
    ],
)
def test_what_is_not_the_components_own(address: int) -> None:
    assert not owns(READABLE, address, 2)


@pytest.mark.parametrize("length", [MEMORY, 2**63, 2**64 - 0x300000, 2**64 - 1])
def test_lengths_that_run_over(length: int) -> None:
    assert not owns(READABLE, 0x300000, length)


def test_own_memory_that_can_be_written() -> None:
    assert owns(WRITABLE, 0x204010, 3)
    for address in (0x200000, 0x203000, abi.INFO, abi.IDT, 0x208FFE, abi.RW_WINDOW):
        assert not owns(WRITABLE, address, 3)


def test_records_are_numbered_alike_in_both_languages() -> None:
    for kind in wire.Kind:
        if kind >= wire.Kind.APPLY:  # the others are the zygote's
            assert getattr(lib, f"WIRE_{kind.name}") == kind
    for operation in wire.Operation:
        assert getattr(lib, f"WIRE_{operation.name}") == operation
    assert lib.WIRE_BODY_MAX == wire.BODY_MAX and lib.WIRE_MAP_WRITABLE == wire.MAP_WRITABLE
    assert lib.WIRE_DESCRIPTORS_MAX == wire.DESCRIPTORS_MAX
