"""A program that does what no program may dies alone, with the right fault record, at once.

The table says what the record has to be: what the log and standard error say about the death, and the exit
status, 128 + the signal that a UNIX process would have got.
"""

from __future__ import annotations

import re

import pytest

from hypervisor.abi import generated as abi
from tests.security.conftest import Stage

pytestmark = pytest.mark.kvm

NOWHERE = 0x7F1234567890
FAR_WINDOW = abi.RW_WINDOW + abi.RW_WINDOW_SIZE - 4096
SEGV, FPE, ILL, TRAP, SYS, ABRT, KILL = 11, 8, 4, 5, 31, 6, 9


def exception(vector: int, code: int, address: int | None = None) -> str:
    """The beginning of a record of an exception."""
    place = "0x[0-9a-f]+" if address is None else f"{address:#x}"
    return rf"exception {vector} \(error code {code:#x}\) at address {place}, rip 0x[0-9a-f]+"


CRIMES = {
    "wild_read": (exception(14, 4, NOWHERE), SEGV),
    "wild_write": (exception(14, 6, NOWHERE), SEGV),
    "wild_execute": (exception(14, 0x14, NOWHERE), SEGV),
    "non_canonical_read": (exception(13, 0), SEGV),
    "write_text": (exception(14, 7), SEGV),
    "execute_data": (exception(14, 0x15), SEGV),
    "null_read": (exception(14, 4, 0), SEGV),
    "null_write": (exception(14, 6, 8), SEGV),
    "null_call": (exception(14, 0x14, 0), SEGV),
    "stack_overflow": (exception(14, 6), SEGV),
    "divide_by_zero": (exception(0, 0), FPE),
    "invalid_instruction": (exception(6, 0), ILL),
    "privileged_instruction": (exception(13, 0), SEGV),
    "control_register": (exception(13, 0), SEGV),
    "io_port": (exception(13, 0), SEGV),
    "model_register": (exception(13, 0), SEGV),
    "single_step": (exception(1, 0), TRAP),
    "breakpoint": (exception(3, 0), TRAP),
    "read_trap_page": (exception(14, 5, abi.IDT), SEGV),
    "read_page_tables": (exception(14, 4, abi.PAGE_TABLES), SEGV),
    "write_info": (exception(14, 7, abi.INFO), SEGV),
    "write_status_page": (f"window at address {abi.RO_WINDOW:#x}", SEGV),
    "window_read": (f"window at address {FAR_WINDOW:#x}", SEGV),
    "window_write": (f"window at address {FAR_WINDOW:#x}", SEGV),
    "hypercall_read": (f"physical at address {abi.HYPERCALL_PAGE:#x}", SEGV),
    "unknown_hypercall": ("unknown_hypercall 9999", SYS),
    "denied_hypercall": ("denied_hypercall grant", SYS),
    "bad_hypercall_argument": ("bad_argument: hypercall log: 64 bytes at 0x0", SEGV),
    "hypercall_into_window": (f"bad_argument: hypercall log: 64 bytes at {abi.RO_WINDOW:#x}", SEGV),
    "unmapped_doorbell": (f"doorbell at address {abi.DOORBELL_PAGE + 8 * 63:#x}", SEGV),
    "doorbell_out_of_range": (f"physical at address {abi.DOORBELL_PAGE + 8 * abi.DOORBELLS:#x}", SEGV),
    "memory_exhaustion": ("memory: out of memory: memory allocation of 65536 bytes failed", KILL),
    "panics": ("panic: 1 arguments are not what was expected, at .*main.rs:", ABRT),
}


@pytest.mark.parametrize("crime", CRIMES)
def test_dies_alone(stage: Stage, capfd: pytest.CaptureFixture[str], crime: str) -> None:
    record, signal = CRIMES[crime]
    with stage.play("", crime) as scene:
        assert scene.end() == 128 + signal
    assert scene.report["deaths"] == {crime: 1}
    assert scene.report["recoveries"] == 0
    assert re.match(f"r3s3: {crime} died: {record}", capfd.readouterr().err)


@pytest.mark.parametrize("crime", ["syscall", "int80"])
def test_system_call(stage: Stage, capfd: pytest.CaptureFixture[str], crime: str) -> None:
    """SYSCALL is not an instruction here, and INT 80h has no gate; a KVM in software jumps to address 0, or
    finds some other exception. In no case does it come back."""
    with stage.play("", crime) as scene:
        assert scene.end() in (128 + SEGV, 128 + ILL)
    expected = {
        "syscall": f"{exception(6, 0)}|{exception(14, 0x14, 0)}",
        "int80": rf"{exception(13, 0x402)}|exception (6|13) ",
    }
    assert re.match(f"r3s3: {crime} died: ({expected[crime]})", capfd.readouterr().err)
    assert scene.report["deaths"] == {crime: 1}


def test_harmless_instructions(stage: Stage) -> None:
    """The control of all these: CPUID, RDTSC and the flags are every program's right."""
    with stage.play("", "harmless") as scene:
        assert scene.end() == 0
    assert scene.report["deaths"] == {}


@pytest.mark.parametrize("crime", ["infinite_loop", "wait_forever"])
def test_is_left_alone_until_killed(stage: Stage, crime: str) -> None:
    """Neither computing nor waiting for ever is a fault of a program; the operator can end both."""
    with stage.play("", crime) as scene:
        assert scene.row(crime)["state"] == "running"
        scene.ask("kill", component=crime)
        assert scene.end() == 128 + KILL
    assert scene.report["deaths"] == {crime: 1}


@pytest.mark.parametrize("crime", ["infinite_loop", "wait_forever"])
def test_does_not_hinder_the_end_of_the_system(stage: Stage, crime: str) -> None:
    with stage.play("", crime) as scene:
        assert scene.row(crime)["state"] == "running"
