"""Each way a guest can go wrong, and the record it leaves. Guests are a few instructions each."""

from __future__ import annotations

import os
import struct
import time

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from tests.bed import IN_BED
from tests.tender.system import MEMORY, Fault, System, memory_object, read_only
from vmm.tender import trap_page

pytestmark = pytest.mark.kvm

STACK_LOW = MEMORY - abi.STACK_SIZE
MAP = wire.Operation.MAP

# name -> (source, vector, error code, address or None where there is none)
EXCEPTIONS = {
    "null_read": ("xor %ecx, %ecx\nfaulty: mov (%rcx), %eax", 14, 4, 0),
    "null_write": ("xor %ecx, %ecx\nfaulty: mov %eax, 8(%rcx)", 14, 6, 8),
    "null_execute": ("xor %ecx, %ecx\n jmp *%rcx\n.set faulty, 0", 14, 0x14, 0),
    "wild_read": ("mov $0x7f123456789a, %rcx\nfaulty: mov (%rcx), %eax", 14, 4, 0x7F123456789A),
    "read_trap_page": (f"mov ${abi.IDT:#x}, %ecx\nfaulty: mov (%rcx), %eax", 14, 5, abi.IDT),
    "write_info": ("faulty: mov %eax, INFO+4", 14, 7, abi.INFO + 4),
    "write_text": ("faulty: mov %eax, _start(%rip)", 14, 7, "_start"),
    "execute_data": ("lea spot(%rip), %rcx\n jmp *%rcx\n.data\nfaulty:\nspot: nop", 14, 0x15, "faulty"),
    "write_rodata": ("faulty: mov %eax, spot(%rip)\n.section .rodata\nspot: .quad 0", 14, 7, None),
    "stack_overflow": (f"mov ${STACK_LOW:#x}, %esp\nfaulty: push %rax", 14, 6, STACK_LOW - 8),
    "read_page_tables": (
        f"mov ${abi.PAGE_TABLES:#x}, %ecx\nfaulty: mov (%rcx), %eax",
        14,
        4,
        abi.PAGE_TABLES,
    ),
    "divide": ("xor %ecx, %ecx\n xor %edx, %edx\nfaulty: div %ecx", 0, 0, None),
    "single_step": ("pushf\n orl $0x100, (%rsp)\n popf\n nop\nfaulty: nop", 1, 0, None),
    "invalid_opcode": ("faulty: ud2", 6, 0, None),
    "non_canonical": ("mov $1, %rcx\n shl $63, %rcx\nfaulty: mov (%rcx), %eax", 13, 0, None),
    "halt": ("faulty: hlt", 13, 0, None),
    "port": ("faulty: out %al, $0x80", 13, 0, None),
    "control_register": ("faulty: mov %cr3, %rax", 13, 0, None),
    "model_register": ("faulty: rdmsr", 13, 0, None),
    "simd_error": (
        "movl $0x1d80, -4(%rsp)\n ldmxcsr -4(%rsp)\n movl $0x3f800000, -4(%rsp)\n"
        "movss -4(%rsp), %xmm0\n pxor %xmm1, %xmm1\nfaulty: divss %xmm1, %xmm0",
        19,
        0,
        None,
    ),
}


def report(system: System, source: str, steps: tuple[tuple[int, ...], ...] = (), **options: object) -> Fault:
    """Run a guest and return its fault."""
    guest = system.guest(source, **options)
    if steps:
        fds = options.get("fds", ())
        assert isinstance(fds, tuple | list)
        guest.apply(*steps, fds=fds)
    guest.run()
    return guest.fault()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception(system: System, name: str) -> None:
    if name == "simd_error" and IN_BED:
        pytest.skip("QEMU's TCG does not raise SIMD floating-point exceptions")
    source, vector, error_code, address = EXCEPTIONS[name]
    marked = source.replace("faulty:", ".globl faulty\nfaulty:") + "\n.globl faulty"
    # The guest leaves where `faulty` and `_start` are in registers the instruction does not touch.
    fault = report(system, f"lea faulty, %rbx\n lea _start, %rbp\n{marked}")
    assert (fault.kind, fault.vector, fault.error_code) == (abi.Fault.EXCEPTION, vector, error_code)
    assert fault.rip == fault.registers["rbx"]
    assert fault.registers["cs"] == trap_page.USER_CODE
    if isinstance(address, int):
        assert fault.address == address
    elif address:
        assert fault.address == fault.registers["rbp" if address == "_start" else "rbx"]
    assert fault.rsp in (MEMORY, STACK_LOW)


def test_breakpoint_is_reported_behind_itself(system: System) -> None:
    fault = report(system, "lea after, %rbx\n int3\nafter: nop")
    assert (fault.kind, fault.vector) == (abi.Fault.EXCEPTION, 3)
    assert fault.rip == fault.registers["rbx"]


def test_system_call_instruction(system: System) -> None:
    """An invalid opcode; a KVM without CPU virtualization goes to LSTAR instead, which is NULL."""
    fault = report(system, "syscall")
    assert fault.kind == abi.Fault.EXCEPTION
    assert (fault.vector, fault.error_code, fault.address) in ((6, 0, 0), (14, 0x14, 0))


def test_every_register_is_in_the_record(system: System) -> None:
    names = "rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905
    loads = "\n".join(f"mov $0x1234567890{number:02x}, %{name}" for number, name in enumerate(names))
    fault = report(system, f"{loads}\n stc\n push %rax\n ud2")
    for number, name in enumerate(names):
        assert fault.registers[name] == 0x123456789000 + number
    assert fault.registers["rsp"] == fault.rsp == MEMORY - 8
    assert fault.registers["rflags"] & 1
    assert fault.registers["rip"] == fault.rip


def test_page_fault_message(system: System) -> None:
    assert report(system, "xor %ecx, %ecx\n mov %eax, 8(%rcx)").message == "write to 0x8, which is not mapped"
    assert report(system, "mov %eax, INFO").message == "write to 0x100000, which forbids it"


@pytest.mark.skipif(IN_BED, reason="QEMU's TCG makes no double fault of one that its KVM injects")
def test_double_fault_has_its_own_stack(system: System) -> None:
    guest = system.guest("mov %eax, 0").ready()
    gate = abi.IDT + 14 * 16 + 5
    guest.ram[gate] &= 0x7F  # the page fault's gate is not present: #NP while delivering #PF
    guest.run()
    fault = guest.fault()
    assert (fault.kind, fault.vector) == (abi.Fault.EXCEPTION, 8)


def test_triple_fault(system: System) -> None:
    guest = system.guest("ud2").ready()
    guest.ram[abi.IDT : abi.IDT + 4096] = bytes(4096)
    guest.run()
    fault = guest.fault()
    assert (fault.kind, fault.message) == (abi.Fault.TRIPLE_FAULT, "triple fault")


@pytest.mark.parametrize("number", [0, 99, 0xFFFFFFFF])
def test_unknown_hypercall(system: System, number: int) -> None:
    fault = report(system, f"hypercall {number:#x}")
    assert (fault.kind, fault.address) == (abi.Fault.UNKNOWN_HYPERCALL, number)


@pytest.mark.parametrize("number", [abi.Hypercall.WAIT, abi.Hypercall.LOG])
def test_denied_hypercall(system: System, number: int) -> None:
    fault = report(system, f"hypercall {number}", allow=[abi.Hypercall.READY])
    assert (fault.kind, fault.address) == (abi.Fault.DENIED_HYPERCALL, number)
    assert fault.message == "not in the manifest"


WINDOW_TOUCHES = {
    "load": ("mov RW+0x5008, %eax", abi.RW_WINDOW + 0x5008, 0),
    "store": ("mov %eax, RW+0x5008", abi.RW_WINDOW + 0x5008, 2),
    "load_read_only": ("mov RO+0x3000, %eax", abi.RO_WINDOW + 0x3000, 0),
    "store_read_only": ("mov %eax, RO+0x3000", abi.RO_WINDOW + 0x3000, 2),
    "sse_store": ("mov $RW+0x6000, %ecx\n movups %xmm0, (%rcx)", abi.RW_WINDOW + 0x6000, 2),
    "string": ("mov $RW+0x7000, %edi\n mov $9, %ecx\n rep stosb", abi.RW_WINDOW + 0x7000, 2),
    "locked": ("mov $RW+0x8000, %ecx\n lock incl (%rcx)", abi.RW_WINDOW + 0x8000, 2),
}


@pytest.mark.parametrize("name", WINDOW_TOUCHES)
def test_window_where_nothing_is_mapped(system: System, name: str) -> None:
    source, address, write = WINDOW_TOUCHES[name]
    if name == "locked" and IN_BED and os.cpu_count() == 1:
        write = 0  # QEMU's TCG reads first where nobody else could write in between
    lines = source.replace("RW", f"{abi.RW_WINDOW:#x}").replace("RO", f"{abi.RO_WINDOW:#x}").split("\n")
    *setup, last = [line.replace("mov 0x", "movabs 0x").replace("%eax, 0x", "%eax, 0x") for line in lines]
    last = last.replace("mov %eax, 0x", "movabs %eax, 0x")
    fault = report(system, "\n".join(["lea faulty, %rbx", *setup, "faulty: " + last]))
    assert (fault.kind, fault.address, fault.error_code & 2) == (abi.Fault.WINDOW, address, write)
    assert fault.rip == fault.registers["rbx"]


def test_execute_from_a_window(system: System) -> None:
    fault = report(system, f"mov ${abi.RW_WINDOW:#x}, %ecx\n jmp *%rcx")
    assert (fault.kind, fault.vector, fault.address) == (abi.Fault.EXCEPTION, 14, abi.RW_WINDOW)
    assert fault.error_code == 0x15


def test_write_to_the_read_only_window(system: System) -> None:
    """Forbidden by the page tables already, and by the slot should those be wrong."""
    fd = memory_object(4096)
    step = (MAP, 0, abi.RO_WINDOW, 4096, 0)
    touch = f"movabs {abi.RO_WINDOW:#x}, %eax\n movabs %eax, {abi.RO_WINDOW:#x}"
    fault = report(system, touch, (step,), fds=[read_only(fd)])
    assert (fault.kind, fault.error_code, fault.address) == (abi.Fault.WINDOW, 7, abi.RO_WINDOW)

    guest = system.guest(touch)
    guest.apply(step, fds=[read_only(fd)])
    pointers = guest.word(abi.PAGE_TABLES) & ~0xFFF
    table = guest.word(pointers + 8 * (abi.RO_WINDOW >> 30)) & ~0xFFF
    entry = table + 8 * (abi.RO_WINDOW >> 21 & 511)
    struct.pack_into("<Q", guest.ram, entry, guest.word(entry) | 2)
    guest.run()
    fault = guest.fault()
    assert (fault.kind, fault.address) == (abi.Fault.WINDOW, abi.RO_WINDOW)
    assert os.pread(fd, 8, 0) == bytes(8)


PHYSICAL = {
    "load_hypercall": ("mov CALL, %eax", abi.HYPERCALL_PAGE, 0),
    "beside_hypercall": ("mov %eax, CALL+8", abi.HYPERCALL_PAGE + 8, 2),
    "wide_hypercall": ("mov %rax, CALL", abi.HYPERCALL_PAGE, 2),
    "load_doorbell": ("mov BELL, %eax", abi.DOORBELL_PAGE, 0),
    "uneven_doorbell": ("mov %eax, BELL+4", abi.DOORBELL_PAGE + 4, 2),
    "wide_doorbell": ("mov %rax, BELL", abi.DOORBELL_PAGE, 2),
    "no_such_doorbell": ("mov %eax, BELL+8*128", abi.DOORBELL_PAGE + 8 * 128, 2),
}


@pytest.mark.parametrize("name", PHYSICAL)
def test_physical(system: System, name: str) -> None:
    source, address, write = PHYSICAL[name]
    fault = report(system, source)
    assert (fault.kind, fault.address, fault.error_code) == (abi.Fault.PHYSICAL, address, write)


def test_doorbell_it_does_not_have(system: System) -> None:
    fault = report(system, "mov %eax, BELL+8*5")
    assert (fault.kind, fault.address) == (abi.Fault.DOORBELL, abi.DOORBELL_PAGE + 40)
    assert fault.message == "rang doorbell 5, which it does not have"


BAD_BUFFERS = {
    "null": ("xor %esi, %esi\n mov $8, %edx", "8 bytes at 0x0"),
    "over_the_end": (
        f"mov ${MEMORY - 4:#x}, %esi\n mov $8, %edx",
        f"8 bytes at {MEMORY - 4:#x}",
    ),
    "wraps": (
        "mov $-4, %rsi\n mov $8, %edx",
        "8 bytes at 0xfffffffffffffffc",
    ),
    "trap_page": (
        "mov $0x10000, %esi\n mov $8, %edx",
        "8 bytes at 0x10000",
    ),
    "window": (
        f"mov ${abi.RW_WINDOW:#x}, %esi\n mov $8, %edx",
        "8 bytes at 0x80000000",
    ),
    "too_long": ("mov $0x200000, %esi\n mov $1025, %edx", "1025 bytes at 0x200000"),
}


@pytest.mark.parametrize("name", BAD_BUFFERS)
def test_bad_argument(system: System, name: str) -> None:
    source, message = BAD_BUFFERS[name]
    fault = report(system, f"{source}\n hypercall {abi.Hypercall.LOG}")
    message = f"hypercall log: {message}: too many, or not its own"
    assert (fault.kind, fault.message) == (abi.Fault.BAD_ARGUMENT, message)


def test_panic_without_its_message_is_still_a_panic(system: System) -> None:
    guest = system.guest(f"mov $-1, %rdi\n mov $5, %esi\n hypercall {abi.Hypercall.PANIC}")
    guest.run()
    message = guest.hypercall()
    assert message.args[0] == abi.Hypercall.PANIC
    assert message.body == b""


def test_ram_that_goes_away(system: System) -> None:
    """What running out of host memory looks like: KVM cannot get a page of RAM."""
    guest = system.guest("lea faulty, %rbx\nfaulty: push %rax", sealed=False).ready()
    os.ftruncate(guest.ram_fd, STACK_LOW)
    guest.run()
    fault = guest.fault()
    assert (fault.kind, fault.message) == (abi.Fault.MEMORY, "the host has no memory for this VM's RAM")
    assert fault.rip == fault.registers["rbx"]


def test_after_a_fault_nothing_runs(system: System) -> None:
    guest = system.guest("ud2\n 1: jmp 1b")
    guest.run()
    guest.fault()
    guest.run()
    time.sleep(0.01)
    assert guest.ready().stat("state") == 0
    assert guest.stat("exits") == 1
    assert guest.stat("faults") == 1
