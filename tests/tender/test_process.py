"""A running tender: hypercalls, WAIT, doorbells, mappings, and the ways it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from tests.tender.system import Guest, System, event, memory_object, read_only

pytestmark = pytest.mark.kvm

MAP, UNMAP = wire.Operation.MAP, wire.Operation.UNMAP
DOORBELL, WAKE = wire.Operation.DOORBELL, wire.Operation.WAKE
INFO, RUN = wire.Operation.INFO, wire.Operation.RUN
FOREVER = (1 << 64) - 1
EXIT = f"hypercall {abi.Hypercall.EXIT}"
WAIT = f"hypercall {abi.Hypercall.WAIT}"
# Waits, then exits with WAIT's result as the status.
WAIT_ONCE = f"{WAIT}\n mov %rax, %rdi\n {EXIT}"
COUNT_FOR_EVER = f"""
    movabs ${abi.RW_WINDOW:#x}, %rcx
 1: mov (%rcx), %rax
    mov %rax, spot(%rip)
    incq spot+8(%rip)
    jmp 1b"""
SPOT = "\n.data\n.balign 4096\n.globl spot\nspot: .quad 0, 0"


def spot(guest: Guest) -> int:
    """The address of the guest's data segment."""
    return next(each.address for each in guest.template.segments if each.flags & 2)


def until(condition: object, seconds: float = 5) -> bool:
    """Wait for a condition to become true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.001)
    return False


# -- hypercalls ---------------------------------------------------------------------------------------


def test_hypercall_arguments_and_results(system: System) -> None:
    guest = system.guest(
        "mov $11, %rdi\n mov $12, %rsi\n mov $13, %rdx\n mov $14, %r10\n mov $15, %r8\n"
        f" hypercall {abi.Hypercall.GRANT}\n mov %rax, %rdi\n mov %rdx, %rsi\n {EXIT}"
    )
    guest.run()
    call = guest.hypercall()
    assert call.args == (abi.Hypercall.GRANT, 11, 12, 13, 14, 15)
    guest.result(-2, 0xFFFF_FFFF_FFFF_FFF0)
    call = guest.hypercall()
    assert call.args[:3] == (abi.Hypercall.EXIT, 2**64 - 2, 0xFFFF_FFFF_FFFF_FFF0)


def test_other_registers_survive_a_hypercall(system: System) -> None:
    names = "rbx rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905
    loads = "\n".join(f"mov ${0x1000 + number}, %{name}" for number, name in enumerate(names))
    guest = system.guest(f"{loads}\n mov $3, %ecx\n hypercall {abi.Hypercall.GRANT}\n ud2")
    guest.run()
    guest.hypercall()
    guest.result(5, 6)
    registers = guest.fault().registers
    assert [registers[name] for name in names] == [0x1000 + number for number in range(len(names))]
    assert (registers["rcx"], registers["rax"], registers["rdx"]) == (3, 5, 6)


def test_ready_has_no_answer(system: System) -> None:
    guest = system.guest(f"hypercall {abi.Hypercall.READY}\n mov %rax, %rdi\n {EXIT}")
    guest.run()
    assert guest.hypercall().args[0] == abi.Hypercall.READY
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 0)
    guest.result(1)  # to `exit`


@pytest.mark.parametrize(
    ("number", "setup"),
    [
        (abi.Hypercall.LOG, "mov $2, %edi\n lea text, %rsi\n mov $5, %edx"),
        (abi.Hypercall.PANIC, "lea text, %rdi\n mov $5, %esi"),
        (abi.Hypercall.OUTPUT, "mov $1, %edi\n lea text, %rsi\n mov $5, %edx\n xor %r10d, %r10d"),
        (abi.Hypercall.COPY_TO_GRANT, "lea text, %r10\n mov $5, %r8d"),
    ],
)
def test_bytes_go_along(system: System, number: int, setup: str) -> None:
    guest = system.guest(f'{setup}\n hypercall {number}\n.section .rodata\ntext: .ascii "hello"')
    guest.run()
    call = guest.hypercall()
    assert (call.args[0], call.body) == (number, b"hello")


def test_bytes_may_cross_segments_and_lie_on_the_stack(system: System) -> None:
    guest = system.guest(
        "movl $0x64636261, -4(%rsp)\n lea -4(%rsp), %rsi\n mov $2, %edi\n mov $4, %edx\n"
        f" hypercall {abi.Hypercall.LOG}\n lea spot-4, %rsi\n mov $8, %edx\n hypercall {abi.Hypercall.LOG}"
        '\n.data\n.ascii "XY"\n.balign 4096\nspot: .ascii "1234"\n.section .rodata\n.fill 4096'
    )
    guest.run()
    assert guest.hypercall().body == b"abcd"
    guest.result()
    assert guest.hypercall().body == b"\0\0\0\x001234"


def test_answer_may_carry_mappings_and_bytes(system: System) -> None:
    fd = memory_object(4096)
    os.pwrite(fd, b"\x2a", 0)
    guest = system.guest(
        f"lea spot, %r10\n mov $8, %r8d\n hypercall {abi.Hypercall.COPY_FROM_GRANT}\n"
        f" movabs {abi.RW_WINDOW:#x}, %al\n movzx %al, %edi\n {EXIT}{SPOT}"
    )
    guest.run()
    guest.hypercall()
    guest.result(0, 0, [(MAP, 0, abi.RW_WINDOW, 4096, 1)], fds=[fd], tail=b"BYTES")
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 0x2A)
    assert guest.ram[spot(guest) : spot(guest) + 8] == b"BYTES\0\0\0"


def test_answer_for_memory_it_cannot_write_ends_it(system: System) -> None:
    guest = system.guest(f"lea _start, %r10\n mov $8, %r8d\n hypercall {abi.Hypercall.COPY_FROM_GRANT}")
    guest.run()
    guest.hypercall()
    guest.result(tail=b"BYTES")
    why = r"the tender failed: 5 bytes for 0x20\w+, which the guest cannot write to"
    assert re.fullmatch(why, guest.fault().message)
    assert guest.ended()


def test_an_answer_is_no_longer_than_the_guest_said(system: System) -> None:
    guest = system.guest(
        f"lea spot, %r10\n mov $2, %r8d\n hypercall {abi.Hypercall.COPY_FROM_GRANT}\n {EXIT}{SPOT}"
    )
    guest.run()
    guest.hypercall()
    guest.result(tail=b"BYTES")
    guest.hypercall()
    assert guest.ram[spot(guest) : spot(guest) + 4] == b"BY\0\0"


def test_an_answer_to_no_call_ends_it(system: System) -> None:
    guest = system.guest("1: jmp 1b")
    guest.run()
    guest.result()
    assert guest.fault().message == "the tender failed: an answer to no call"
    assert guest.ended()


@pytest.mark.parametrize("count", [2, 1 << 59, (1 << 64) - 1])
def test_more_operations_than_there_are(system: System, count: int) -> None:
    guest = system.guest("1: jmp 1b")
    wire.send(guest.sock, wire.Kind.APPLY, 1, (count,), wire.OPERATION.pack(RUN, 0, 0, 0, 0))
    assert guest.fault().message == f"the tender failed: {count} operations in 32 bytes"
    assert guest.ended()


def test_records_that_are_none(system: System) -> None:
    for data in (b"x", bytes(wire.HEADER.size - 1), bytes(wire.HEADER.size + wire.BODY_MAX + 1)):
        guest = system.guest("1: jmp 1b")
        guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        guest.sock.send(data)
        assert guest.fault().message.startswith("the tender failed: record of ")
        assert guest.ended()


# -- WAIT -------------------------------------------------------------------------------------------------


def test_wait_times_out(system: System) -> None:
    guest = system.guest(f"mov $20000000, %rdi\n {WAIT_ONCE}")
    start = time.monotonic()
    guest.run()
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 1)
    assert 0.019 < time.monotonic() - start < 1
    assert [guest.stat(name) for name in ("waits", "timeouts", "wakes")] == [1, 1, 0]


def test_wait_is_woken(system: System) -> None:
    wake = event()
    guest = system.guest(f"mov $-1, %rdi\n {WAIT_ONCE}")
    guest.apply((WAKE, 0, 3, 0, 0), (RUN, 0, 0, 0, 0), fds=[wake])
    assert until(lambda: guest.stat("state") == 2)
    assert guest.stat("calls") == 0
    os.eventfd_write(wake, 1)
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 0)
    assert [guest.stat(name) for name in ("waits", "timeouts", "wakes")] == [1, 0, 1]


def test_wake_before_wait_is_not_lost(system: System) -> None:
    wake = event()
    guest = system.guest(f"mov $-1, %rdi\n {WAIT_ONCE}")
    guest.apply((WAKE, 0, 0, 0, 0), fds=[wake])
    os.eventfd_write(wake, 1)
    guest.run()
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 0)


def test_one_wake_ends_one_wait(system: System) -> None:
    """Edge triggered: nobody has to read the eventfd."""
    wake = event()
    guest = system.guest(f"mov $-1, %rdi\n {WAIT}\n mov $30000000, %rdi\n {WAIT_ONCE}")
    guest.apply((WAKE, 0, 127, 0, 0), fds=[wake])
    os.eventfd_write(wake, 1)
    guest.run()
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 1)


def test_wake_can_be_replaced(system: System) -> None:
    old, new = event(), event()
    guest = system.guest(f"mov $-1, %rdi\n {WAIT}\n mov $30000000, %rdi\n {WAIT_ONCE}")
    guest.apply((WAKE, 0, 5, 0, 0), fds=[old])
    guest.apply((WAKE, 0, 5, 0, 0), (RUN, 0, 0, 0, 0), fds=[new])
    assert until(lambda: guest.stat("state") == 2)
    os.eventfd_write(old, 1)
    time.sleep(0.02)
    assert guest.stat("wakes") == 0
    os.eventfd_write(new, 1)
    assert until(lambda: guest.stat("wakes") == 1)


# -- doorbells --------------------------------------------------------------------------------------------


def test_doorbell_rings_without_an_exit(system: System) -> None:
    bell = event(os.EFD_NONBLOCK)
    guest = system.guest(f"mov $100, %ecx\n 1: mov %eax, BELL+8*7\n dec %ecx\n jnz 1b\n {EXIT}")
    guest.apply((DOORBELL, 0, 7, 0, 0), (RUN, 0, 0, 0, 0), fds=[bell])
    guest.hypercall()
    assert os.eventfd_read(bell) == 100
    assert guest.stat("exits") - guest.stat("signals") <= 2


def test_doorbell_is_replaced_without_losing_a_ring(system: System) -> None:
    bells = [event(os.EFD_NONBLOCK) for _ in range(30)]
    guest = system.guest(f"1: incq spot(%rip)\n mov %eax, BELL\n jmp 1b{SPOT}")
    guest.apply((DOORBELL, 0, 0, 0, 0), (RUN, 0, 0, 0, 0), fds=[bells[0]])
    for bell in bells[1:]:
        guest.apply((DOORBELL, 0, 0, 0, 0), fds=[bell])
    assert until(lambda: guest.word(spot(guest)) > 1000)
    guest.freeze()
    rung = 0
    for bell in bells:
        try:
            rung += os.eventfd_read(bell)
        except BlockingIOError:
            pass
    assert guest.word(spot(guest)) - rung in (0, 1)


# -- mappings ---------------------------------------------------------------------------------------------


def test_mapped_memory_is_shared(system: System) -> None:
    writable, readable = memory_object(8192), memory_object(4096)
    os.pwrite(readable, struct.pack("<Q", 0x1122334455667788), 8)
    guest = system.guest(
        f"movabs {abi.RO_WINDOW + 8:#x}, %rax\n movabs %rax, {abi.RW_WINDOW + 0x5000 + 4096:#x}\n {EXIT}"
    )
    steps = ((MAP, 0, abi.RW_WINDOW + 0x5000, 8192, 1), (MAP, 1, abi.RO_WINDOW, 4096, 0), (RUN, 0, 0, 0, 0))
    guest.apply(*steps, fds=[writable, read_only(readable)])
    guest.hypercall()
    assert os.pread(writable, 8, 4096) == struct.pack("<Q", 0x1122334455667788)


def test_unmap_while_running_revokes(system: System) -> None:
    """After the answer to UNMAP the guest sees nothing of what is written there."""
    fd = memory_object(4096)
    for value in range(1, 20):
        os.pwrite(fd, struct.pack("<Q", value), 0)
        guest = system.guest(COUNT_FOR_EVER + SPOT)
        steps = ((MAP, 0, abi.RW_WINDOW, 4096, 1), (RUN, 0, 0, 0, 0))
        guest.apply(*steps, fds=[fd])
        assert until(lambda: guest.word(spot(guest) + 8) > 1000)  # noqa: B023
        assert guest.word(spot(guest)) == value
        guest.apply((UNMAP, 0, abi.RW_WINDOW, 4096, 0))
        os.pwrite(fd, b"\xff" * 8, 0)
        fault = guest.fault()
        assert (fault.kind, fault.address) == (abi.Fault.WINDOW, abi.RW_WINDOW)
        assert guest.word(spot(guest)) == value
        guest.close()
        system.guests.remove(guest)


def test_map_over_a_mapping_replaces_it(system: System) -> None:
    first, second = memory_object(4096), memory_object(4096)
    os.pwrite(second, b"\x07", 0)
    guest = system.guest(COUNT_FOR_EVER + SPOT)
    step = (MAP, 0, abi.RW_WINDOW, 4096, 1)
    guest.apply(step, (RUN, 0, 0, 0, 0), fds=[first])
    assert until(lambda: guest.word(spot(guest) + 8) > 1000)
    guest.apply(step, fds=[second])
    assert until(lambda: guest.word(spot(guest)) == 7)


def test_map_from_the_middle_of_an_object(system: System) -> None:
    fd = memory_object(12288)
    os.pwrite(fd, b"\x09", 8192)
    guest = system.guest(f"movabs {abi.RW_WINDOW:#x}, %al\n movzx %al, %edi\n {EXIT}")
    guest.apply((MAP, 0, abi.RW_WINDOW, 4096, wire.MAP_WRITABLE | 8192), (RUN, 0, 0, 0, 0), fds=[fd])
    assert guest.hypercall().args[1] == 9


BAD_STEPS = {
    "uneven_address": (MAP, 0, abi.RW_WINDOW + 1, 4096, 1),
    "uneven_length": (MAP, 0, abi.RW_WINDOW, 100, 1),
    "empty": (MAP, 0, abi.RW_WINDOW, 0, 1),
    "ram": (MAP, 0, 0x300000, 4096, 1),
    "past_the_window": (MAP, 0, abi.RW_WINDOW + abi.RW_WINDOW_SIZE - 4096, 8192, 1),
    "huge": (MAP, 0, abi.RW_WINDOW, 1 << 62, 1),
    "writable_in_read_only": (MAP, 0, abi.RO_WINDOW, 4096, 1),
    "no_descriptor": (MAP, 9, abi.RW_WINDOW, 4096, 1),
    "doorbell": (DOORBELL, 0, abi.DOORBELLS, 0, 0),
    "info": (INFO, 0, abi.INFO_PAGES * 4096, 1, 0),
    "info_short": (INFO, 0, 0, 99, 0),
    "unknown": (99, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_impossible_step_ends_it_with_a_reason(system: System, name: str) -> None:
    guest = system.guest(EXIT)
    descriptors = [os.eventfd(0) if name == "doorbell" else memory_object(4096)]
    guest.send_apply([BAD_STEPS[name]], fds=descriptors)
    fault = guest.fault()
    assert fault.kind == abi.Fault.INTERNAL
    assert fault.message == f"the tender failed: operation {BAD_STEPS[name][0]:d}: Invalid argument"
    assert guest.ended()


def test_info_pages(system: System) -> None:
    guest = system.guest(f"mov 0x1000+INFO, %edi\n {EXIT}")
    guest.apply((INFO, 0, 0, 2, 0), (INFO, 0, 0x1000, 4, 0), info=b"ab\x05\0\0\0")
    guest.run()
    assert guest.hypercall().args[1] == 5
    assert guest.ram[abi.INFO : abi.INFO + 4] == b"ab\0\0"


# -- ending -------------------------------------------------------------------------------------------


def test_ping(system: System) -> None:
    guest = system.guest("1: jmp 1b")
    guest.run()
    wire.send(guest.sock, wire.Kind.PING, 5, (1, 2))
    assert guest.receive(wire.Kind.PONG).sequence == 5


@pytest.mark.parametrize(
    "source", ["1: jmp 1b", f"mov $-1, %rdi\n {WAIT}", f"hypercall {abi.Hypercall.GRANT}", "ud2"]
)
def test_end_of_the_socket_ends_the_process(system: System, source: str) -> None:
    guest = system.guest(source)
    guest.run()
    assert until(lambda: guest.stat("exits") > 0 or source.startswith("1:"))
    guest.sock.close()
    assert guest.ended()
    assert system.exit_status(guest.pid) == 0


def test_nonsense_from_the_hypervisor_ends_it_with_a_reason(system: System) -> None:
    guest = system.guest("1: jmp 1b")
    wire.send(guest.sock, 99)
    fault = guest.fault()
    assert fault.kind == abi.Fault.INTERNAL
    assert fault.message == "the tender failed: record of kind 99"
    assert guest.ended()


def test_kill_ends_it(system: System) -> None:
    guest = system.guest("1: jmp 1b")
    guest.run()
    signal.pidfd_send_signal(guest.pidfd, signal.SIGKILL)
    assert guest.ended()
    assert system.exit_status(guest.pid) == signal.SIGKILL


def test_stopped_process_goes_on(system: System) -> None:
    """In the guest, and in WAIT, which may end early."""
    guest = system.guest(f"mov $-1, %rdi\n {WAIT}\n mov $42, %ebx\n 1: incq spot(%rip)\n jmp 1b" + SPOT)
    guest.run()
    assert until(lambda: guest.stat("state") == 2)
    for _ in range(5):
        guest.freeze()
        before = guest.word(spot(guest))
        time.sleep(0.01)
        assert guest.word(spot(guest)) == before
        signal.pidfd_send_signal(guest.pidfd, signal.SIGCONT)
        assert until(lambda: guest.word(spot(guest)) > before)  # noqa: B023


def test_stopped_process_can_still_be_killed(system: System) -> None:
    guest = system.guest("1: incq spot(%rip)\n jmp 1b" + SPOT)
    guest.run()
    assert until(lambda: guest.word(spot(guest)) > 0)
    guest.freeze()
    before = guest.word(spot(guest))
    time.sleep(0.02)
    assert guest.word(spot(guest)) == before
    signal.pidfd_send_signal(guest.pidfd, signal.SIGKILL)
    assert guest.ended()


# -- counters and state -----------------------------------------------------------------------------------


def test_statistics(system: System) -> None:
    guest = system.guest(f"mov $1000, %rdi\n {WAIT}\n {EXIT}")
    assert guest.ready().stat("first_ns") == 0
    before = time.monotonic_ns()
    guest.run()
    guest.hypercall()
    assert before < guest.stat("first_ns") < time.monotonic_ns()
    assert guest.stat("calls") == 1
    assert guest.stat("waits") == 1
    assert guest.stat("thread") > 0
    assert before < guest.stat("state_ns") < time.monotonic_ns()
    assert until(lambda: guest.stat("state") == 0)


def test_first_instruction(system: System) -> None:
    """RDI points to the info pages, RSP is the aligned end of memory, everything else is zero."""
    guest = system.guest("ud2")
    guest.run()
    registers = guest.fault().registers
    assert registers.pop("rdi") == abi.INFO
    assert registers.pop("rsp") == guest.memory
    assert registers.pop("rip") == guest.template.entry
    for name in ("cs", "ss", "rflags"):
        registers.pop(name)
    assert set(registers.values()) == {0}


def test_vector_state_is_usable_and_kept(system: System) -> None:
    """SSE always; AVX where the CPU has it, kept over an exit."""
    if " avx2 " in Path("/proc/cpuinfo").read_text(encoding="ascii"):
        fill, read = "vmovq %rsi, %xmm1\n vpbroadcastq %xmm1, %ymm7", "vextracti128 $1, %ymm7, %xmm2"
    else:
        fill, read = "movq %rsi, %xmm7\n punpcklqdq %xmm7, %xmm7", "movhlps %xmm7, %xmm2"
    guest = system.guest(
        f"mov $0x1234567, %rsi\n {fill}\n hypercall {abi.Hypercall.GRANT}\n"
        f" {read}\n movq %xmm2, %rdi\n {EXIT}"
    )
    guest.run()
    guest.hypercall()
    guest.result()
    assert guest.hypercall().args[1] == 0x1234567


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": 12345678}, "guest: 12345678 bytes of memory"),
        ({"memory_kind": "other"}, "guest: memory kind 'other'"),
        ({"allow": ["x"]}, "malformed: "),
        ({"heap_base": 0x200000}, "mappings overlap at 0x200000"),
        (
            {"segments": [{"address": 0, "offset": 0, "file_size": 0, "memory_size": 4096, "flags": 5}]},
            "segment at 0x0",
        ),
    ],
)
def test_impossible_plan_is_refused(system: System, change: dict[str, object], message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)):
        system.guest(EXIT, body=change)
