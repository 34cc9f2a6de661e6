"""Fault records: what is known about the end of an instance, in words, and the UNIX signal it compares to.

A tender sends numbers (vmm/tender/faults.c); here they become words and named registers.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field

from hypervisor.abi import generated as abi
from hypervisor.abi.generated import Fault, Hypercall, names
from hypervisor.log import printable

_EXCEPTION_SIGNALS = {0: 8, 1: 5, 3: 5, 4: 11, 5: 11, 6: 4, 7: 8, 16: 8, 17: 7, 19: 8}  # x86 vector -> signal
_SIGNALS: dict[int, int] = {
    Fault.UNKNOWN_HYPERCALL: 31, Fault.DENIED_HYPERCALL: 31, Fault.PANIC: 6, Fault.KILLED: 9, Fault.HUNG: 9,
    Fault.TENDER_DIED: 9, Fault.TENDER_UNRESPONSIVE: 9, Fault.REVOKE_DEADLINE: 9, Fault.MEMORY: 9,
    Fault.INTERNAL: 7,
}  # fmt: skip
_SEGV = 11
# The body of a tender's FAULT: struct kvm_regs, CS and SS; a text may follow.
_REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "rip", "rflags", "cs", "ss",
)  # fmt: skip
_STATE = struct.Struct(f"<{len(_REGISTERS)}Q")
_PAGE_FAULT, _PRESENT, _WRITE, _FETCH = 14, 0x1, 0x2, 0x10
_VECTORS = (
    "divide error", "debug trap", "NMI", "breakpoint", "overflow", "bound range exceeded", "invalid opcode",
    "FPU not available", "double fault", "vector 9", "invalid TSS", "segment not present",
    "stack segment fault", "general protection fault", "page fault", "vector 15", "x87 error",
    "alignment check", "machine check", "SIMD error", "virtualization exception", "control protection fault",
)  # fmt: skip
# What a tender may say of its guest; everything else is the hypervisor's to say.
_REPORTABLE = {
    Fault.EXCEPTION, Fault.UNKNOWN_HYPERCALL, Fault.DENIED_HYPERCALL, Fault.WINDOW, Fault.PHYSICAL,
    Fault.DOORBELL, Fault.TRIPLE_FAULT, Fault.BAD_ARGUMENT, Fault.MEMORY, Fault.INTERNAL,
}  # fmt: skip


@dataclass(frozen=True)
class FaultRecord:
    """Why one instance of a component ended. Addresses are the guest's; times are CLOCK_MONOTONIC ns."""

    component: str
    epoch: int
    kind: int
    vector: int = 0
    error_code: int = 0
    address: int = 0
    rip: int = 0
    rsp: int = 0
    message: str = ""
    body: bytes = b""  # of the tender's record
    time_ns: int = field(default_factory=time.monotonic_ns)

    @classmethod
    def reported(cls, component: str, epoch: int, words: tuple[int, ...], body: bytes) -> FaultRecord:
        """A tender's FAULT: kind, vector, error code, address, rip, rsp, whatever it claims."""
        kind = words[0] if words[0] in _REPORTABLE else Fault.INTERNAL
        text = body[_STATE.size :][: abi.LOG_MAX].decode("utf-8", "replace")
        message = text or _in_words(kind, *words[1:4])
        vector, error_code, address, rip, rsp = words[1:6]
        body = body[: _STATE.size]
        return cls(component, epoch, kind, vector, error_code, address, rip, rsp, message, body)

    @property
    def registers(self) -> dict[str, int]:
        """The registers of the faulting instruction; none where nobody has told them."""
        known = len(self.body) == _STATE.size
        return dict(zip(_REGISTERS, _STATE.unpack(self.body), strict=True)) if known else {}

    @property
    def signal(self) -> int:
        """The signal a UNIX process would have died of."""
        if self.kind == Fault.EXCEPTION:
            return _EXCEPTION_SIGNALS.get(self.vector, _SEGV)
        return _SIGNALS.get(self.kind, _SEGV)

    def describe(self) -> str:
        """One line for logs and people."""
        text = names(Fault).get(self.kind, str(self.kind))
        if self.kind == Fault.EXCEPTION:
            text += f" {self.vector} (error code {self.error_code:#x})"
        if self.kind in (Fault.EXCEPTION, Fault.WINDOW, Fault.PHYSICAL, Fault.DOORBELL):
            text += f" at address {self.address:#x}, rip {self.rip:#x}"
        if self.kind in (Fault.UNKNOWN_HYPERCALL, Fault.DENIED_HYPERCALL):
            text += f" {names(Hypercall).get(self.address, str(self.address))}, rip {self.rip:#x}"
        return f"{text}: {printable(self.message)}" if self.message else text


def _in_words(kind: int, vector: int, error_code: int, address: int) -> str:
    """What a tender's numbers mean. They may be any."""
    verb = "execution of" if error_code & _FETCH else "write to" if error_code & _WRITE else "read of"
    if kind in (Fault.EXCEPTION, Fault.WINDOW) and vector == _PAGE_FAULT:
        return f"{verb} {address:#x}, which {'forbids it' if error_code & _PRESENT else 'is not mapped'}"
    if kind == Fault.EXCEPTION:
        return _VECTORS[vector] if vector < len(_VECTORS) else f"vector {vector}"
    store = f"{'store to' if error_code & _WRITE else 'load from'} {address:#x}"
    doorbell = (address - abi.DOORBELL_PAGE) // 8
    call = f"hypercall {names(Hypercall).get(vector, vector)}"
    words: dict[int, str] = {
        Fault.UNKNOWN_HYPERCALL: "not in the manifest",
        Fault.DENIED_HYPERCALL: "not in the manifest",
        Fault.WINDOW: f"{store} in a window where that is not granted",
        Fault.PHYSICAL: f"{store}, where nothing of that kind is",
        Fault.DOORBELL: f"rang doorbell {doorbell}, which it does not have",
        Fault.TRIPLE_FAULT: "triple fault",
        Fault.BAD_ARGUMENT: f"{call}: {error_code} bytes at {address:#x}: too many, or not its own",
        Fault.MEMORY: "the host has no memory for this VM's RAM",
    }
    return words.get(kind, "")
