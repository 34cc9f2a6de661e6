"""The structures the CPU reads: page tables (walked here as a CPU would), the trap page, guest memory."""

from __future__ import annotations

import struct

import pytest

from hypervisor.abi import generated as abi
from vmm.tender import page_tables, trap_page
from vmm.tender.guest_memory import BadGuestAddress, GuestAddress, GuestMemory
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
        assert stub[:2] == bytes((0xE6, vector))
        assert stub.rstrip(b"\xcc").endswith(b"\x48\xcf")
    tss = pages[abi.GDT][0x800:]
    assert struct.unpack_from("<Q", tss, 4)[0] == abi.TRAP_STACK + 4096
    assert struct.unpack_from("<Q", tss, 36)[0] == abi.TRAP_STACK_IST + 4096


def test_frames_are_only_read_from_trap_stacks() -> None:
    ram = memoryview(bytearray(0x20000))
    place = abi.TRAP_STACK + 4096 - 48
    struct.pack_into("<6Q", ram, place, 7, 1, 2, 3, 4, 5)
    frame = {"rip": 1, "cs": 2, "rflags": 3, "rsp": 4, "ss": 5}
    assert trap_page.read_frame(ram, place, 14) == {"error_code": 7, **frame}
    assert trap_page.read_frame(ram, place + 8, 6) == frame
    for rsp in (0, abi.TRAP_STACK - 8, abi.TRAP_STACK_IST + 4096 - 40, 1 << 63):
        assert trap_page.read_frame(ram, rsp, 14) is None


def memory() -> GuestMemory:
    ram = memoryview(bytearray(MEMORY))
    ram[0x202FFE:0x203002] = b"abcd"
    return GuestMemory(ram, MAPPINGS)


def test_copy_in_crosses_neighbouring_segments() -> None:
    assert memory().copy_in(GuestAddress(0x202FFE), 4) == b"abcd"
    assert memory().copy_in(GuestAddress(abi.INFO), 4) == bytes(4)
    assert memory().copy_in(GuestAddress(0x300000), 0) == b""


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
def test_copy_in_refuses_what_is_not_the_components_own(address: int) -> None:
    with pytest.raises(BadGuestAddress, match=f"2 bytes at {address:#x} are not the component's own memory"):
        memory().copy_in(GuestAddress(address), 2)


def test_copy_out_only_where_the_guest_could_write() -> None:
    guest = memory()
    guest.copy_out(GuestAddress(0x204010), b"xyz")
    assert bytes(guest.ram[0x204010:0x204013]) == b"xyz"
    for address in (0x200000, 0x203000, abi.INFO, abi.IDT, 0x208FFE, abi.RW_WINDOW):
        with pytest.raises(BadGuestAddress):
            guest.copy_out(GuestAddress(address), b"xyz")


def test_guest_address_is_not_a_number() -> None:
    address = GuestAddress(0x1000)
    with pytest.raises(TypeError):
        bytes(10)[address]  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        address + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        int(address)  # type: ignore[call-overload]
