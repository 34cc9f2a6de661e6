"""A warm spare: its guest runs as far as `start`, and no further until RUN."""

from __future__ import annotations

import os
import signal
import struct
import time

import pytest

from hypervisor import wire
from hypervisor.abi import generated as abi
from tests.tender.system import System, event, memory_object
from tests.tender.test_process import EXIT, SPOT, WAIT, spot, until

pytestmark = pytest.mark.kvm

Op = wire.Operation
START = f"hypercall {abi.Hypercall.START}"
WARM, RUN = (Op.WARM, 0, 0, 0, 0), (Op.RUN, 0, 0, 0, 0)
WAITING, IN_GUEST = 2, 1
# Counts, comes to `start`, counts again, and exits with what lies in the writable window.
SPARE = f"""
    incq spot(%rip)
    {START}
    incq spot(%rip)
    movabs {abi.RW_WINDOW:#x}, %al
    movzx %al, %edi
    {EXIT}{SPOT}"""


def page(value: int) -> int:
    """A memory object of a page, with this byte at its beginning."""
    fd = memory_object(4096)
    os.pwrite(fd, bytes([value]), 0)
    return fd


def place(value: int) -> tuple[tuple[int, ...], int]:
    """A step that maps such an object at the window's beginning, and its descriptor."""
    return (Op.MAP, 0, abi.RW_WINDOW, 4096, 1), page(value)


def test_runs_as_far_as_start(system: System) -> None:
    guest = system.guest(SPARE)
    step, fd = place(7)
    guest.apply(step, WARM, fds=[fd])
    assert until(lambda: guest.stat("state") == WAITING)
    time.sleep(0.02)
    assert guest.word(spot(guest)) == 1 and guest.stat("state") == WAITING
    assert guest.stat("calls") == guest.stat("waits") == guest.stat("faults") == 0
    adopted = time.monotonic_ns()
    guest.run()
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 7)
    assert guest.word(spot(guest)) == 2
    assert guest.stat("first_ns") > adopted, "a life is counted from the adoption"


def test_it_uses_no_cpu_time_there(system: System) -> None:
    guest = system.guest(SPARE)
    guest.apply(WARM)
    assert until(lambda: guest.stat("state") == WAITING)
    clock = ~guest.pid << 3 | 2  # of a process's CPU time, clock_getcpuclockid(3)
    used = time.clock_gettime_ns(clock)
    time.sleep(0.1)
    assert time.clock_gettime_ns(clock) - used < 20_000_000


def test_one_that_is_run_at_once_does_not_wait(system: System) -> None:
    for steps in ([RUN], [WARM, RUN], [RUN, WARM]):
        guest = system.guest(SPARE)
        step, fd = place(5)
        guest.apply(step, *steps, fds=[fd])
        assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 5)


def test_run_while_it_is_on_its_way(system: System) -> None:
    """However close the adoption comes to `start`, before or behind, the guest goes through it."""
    way = "mov ${}, %ecx\n 1: dec %ecx\n jnz 1b\n incq spot(%rip)\n" + START
    for turn in range(30):
        guest = system.guest(way.format(1 + (turn << 14)) + f"\n incq spot(%rip)\n {EXIT}{SPOT}")
        guest.apply(WARM)
        guest.run()
        assert guest.hypercall().args[0] == abi.Hypercall.EXIT and guest.word(spot(guest)) == 2
        guest.close()
        system.guests.remove(guest)


def test_what_it_is_given_while_it_waits(system: System) -> None:
    """Rings exchanged once more, or pages that say something else: it finds them behind `start`."""
    source = f"{START}\n movabs {abi.RW_WINDOW:#x}, %al\n movzx %al, %edi\n mov INFO, %esi\n {EXIT}"
    guest = system.guest(source)
    step, fd = place(1)
    guest.apply(step, (Op.INFO, 0, 0, 4, 0), WARM, fds=[fd], info=struct.pack("<I", 10))
    assert until(lambda: guest.stat("state") == WAITING)
    for value in (2, 3):
        step, fd = place(value)
        guest.apply(step, (Op.INFO, 0, 0, 4, 0), fds=[fd], info=struct.pack("<I", 10 * value))
    assert guest.stat("state") == WAITING
    step, fd = place(4)
    guest.apply(step, (Op.INFO, 0, 0, 4, 0), RUN, fds=[fd], info=struct.pack("<I", 40))
    assert guest.hypercall().args[:3] == (abi.Hypercall.EXIT, 4, 40)


def test_warm_again_is_no_adoption(system: System) -> None:
    guest = system.guest(SPARE)
    guest.apply(WARM)
    assert until(lambda: guest.stat("state") == WAITING)
    guest.apply(WARM)
    guest.apply(WARM, WARM)
    wire.send(guest.sock, wire.Kind.PING)
    guest.receive(wire.Kind.PONG)
    assert guest.stat("state") == WAITING and guest.word(spot(guest)) == 1


@pytest.mark.parametrize("allow", [(), ("wait",)])
def test_every_guest_may_call_it(system: System, allow: tuple[str, ...]) -> None:
    """It is no right: it gives nothing, and nobody hears of it."""
    numbers = {name: number for number, name in abi.names(abi.Hypercall).items()}
    calls = [numbers[name] for name in (*allow, "exit")]
    guest = system.guest(f"mov $500, %ebx\n 1: {START}\n dec %ebx\n jnz 1b\n {EXIT}", allow=calls)
    guest.apply(WARM)
    assert until(lambda: guest.stat("state") == WAITING)
    guest.run()
    assert guest.hypercall().args[0] == abi.Hypercall.EXIT
    assert guest.stat("calls") == 1 and guest.stat("exits") >= 500


def test_registers_survive(system: System) -> None:
    names = "rbx rbp rsi rdi rdx r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905
    loads = "\n".join(f"mov ${0x1000 + number}, %{name}" for number, name in enumerate(names))
    guest = system.guest(f"{loads}\n {START}\n ud2")
    guest.apply(WARM)
    assert until(lambda: guest.stat("state") == WAITING)
    guest.run()
    registers = guest.fault().registers
    assert [registers[name] for name in names] == [0x1000 + number for number in range(len(names))]


# -- guests that do not come to it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("ud2", abi.Fault.EXCEPTION),
        ("mov 0x1234, %rax", abi.Fault.EXCEPTION),
        (f"movabs {abi.RW_WINDOW:#x}, %al", abi.Fault.WINDOW),
        ("mov %eax, BELL+8*9", abi.Fault.DOORBELL),
        ("mov $9999, %eax\n mov %eax, CALL", abi.Fault.UNKNOWN_HYPERCALL),
        ("movl $17, CALL+4", abi.Fault.PHYSICAL),
        ("mov $17, %eax\n mov %ax, CALL", abi.Fault.PHYSICAL),
    ],
)
def test_a_fault_before_start(system: System, source: str, kind: int) -> None:
    """It is reported, and no RUN brings the guest back."""
    guest = system.guest(f"{source}\n {START}\n {EXIT}")
    guest.apply(WARM)
    assert guest.fault().kind == kind
    guest.run()
    time.sleep(0.02)
    assert guest.stat("state") == 0 and guest.stat("calls") <= 1


def test_a_call_before_start(system: System) -> None:
    """It goes to the hypervisor, whose business it is to end such a spare; RUN is no answer to it."""
    guest = system.guest(f"hypercall {abi.Hypercall.GRANT}\n incq spot(%rip)\n {START}\n {EXIT}{SPOT}")
    guest.apply(WARM)
    assert guest.hypercall().args[0] == abi.Hypercall.GRANT
    guest.run()
    time.sleep(0.02)
    assert guest.word(spot(guest)) == 0
    guest.result()
    assert guest.hypercall().args[0] == abi.Hypercall.EXIT


def test_one_that_loops_can_be_ended(system: System) -> None:
    guest = system.guest(f"1: incq spot(%rip)\n jmp 1b{SPOT}")
    guest.apply(WARM)
    assert until(lambda: guest.word(spot(guest)) > 1000)
    assert guest.stat("state") == IN_GUEST
    signal.pidfd_send_signal(guest.pidfd, signal.SIGKILL)
    assert guest.ended()


def test_one_that_sleeps_elsewhere_comes_to_start_when_it_is_woken(system: System) -> None:
    wake = event()
    guest = system.guest(f"mov $-1, %rdi\n {WAIT}\n incq spot(%rip)\n {START}\n {EXIT}{SPOT}")
    guest.apply((Op.WAKE, 0, 0, 0, 0), WARM, fds=[wake])
    assert until(lambda: guest.stat("waits") == 1)
    os.eventfd_write(wake, 1)
    assert until(lambda: guest.word(spot(guest)) == 1 and guest.stat("state") == WAITING)
    guest.run()
    assert guest.hypercall().args[0] == abi.Hypercall.EXIT


# -- the process around it ---------------------------------------------------------------------------------


def test_stopped_and_continued_it_still_waits(system: System) -> None:
    guest = system.guest(SPARE)
    step, fd = place(3)
    guest.apply(step, WARM, fds=[fd])
    assert until(lambda: guest.stat("state") == WAITING)
    for _ in range(3):
        guest.freeze()
        signal.pidfd_send_signal(guest.pidfd, signal.SIGCONT)
        time.sleep(0.01)
        assert guest.stat("state") == WAITING and guest.word(spot(guest)) == 1
    guest.run()
    assert guest.hypercall().args[:2] == (abi.Hypercall.EXIT, 3)


def test_adopted_while_it_is_stopped(system: System) -> None:
    guest = system.guest(SPARE)
    step, fd = place(3)
    guest.apply(step, WARM, fds=[fd])
    assert until(lambda: guest.stat("state") == WAITING)
    guest.freeze()
    guest.send_apply([RUN])
    time.sleep(0.02)
    assert guest.word(spot(guest)) == 1
    signal.pidfd_send_signal(guest.pidfd, signal.SIGCONT)
    records = {record.kind: record for record in (guest._next(), guest._next())}  # in either order
    assert wire.Kind.ACK in records
    assert records[wire.Kind.HYPERCALL].args[:2] == (abi.Hypercall.EXIT, 3)


def test_ends_with_its_socket(system: System) -> None:
    guest = system.guest(SPARE)
    guest.apply(WARM)
    assert until(lambda: guest.stat("state") == WAITING)
    guest.sock.close()
    assert guest.ended() and system.exit_status(guest.pid) == 0
