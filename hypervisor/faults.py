"""Fault records: what is known about the end of an instance, and the UNIX signal it compares to.

A tender sends numbers (vmm/tender/faults.c). They stay numbers here, and become words where people read them
(vmm/cli/faults.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypervisor.abi import generated as abi
from hypervisor.abi.generated import Fault, names
from hypervisor.log import printable

_EXCEPTION_SIGNALS = {0: 8, 1: 5, 3: 5, 4: 11, 5: 11, 6: 4, 7: 8, 16: 8, 17: 7, 19: 8}  # x86 vector -> signal
_SIGNALS: dict[int, int] = {
    Fault.UNKNOWN_HYPERCALL: 31, Fault.DENIED_HYPERCALL: 31, Fault.PANIC: 6, Fault.KILLED: 9, Fault.HUNG: 9,
    Fault.TENDER_DIED: 9, Fault.TENDER_UNRESPONSIVE: 9, Fault.REVOKE_DEADLINE: 9, Fault.MEMORY: 9,
    Fault.INTERNAL: 7,
}  # fmt: skip
_SEGV = 11
_REGISTERS_SIZE = 160  # of the body of a tender's FAULT: struct kvm_regs, CS and SS; a text may follow
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
    registers: bytes = b""  # of the faulting instruction, as far as its tender has told them
    time_ns: int = field(default_factory=time.monotonic_ns)

    @classmethod
    def reported(cls, component: str, epoch: int, words: tuple[int, ...], body: bytes) -> FaultRecord:
        """A tender's FAULT: kind, vector, error code, address, rip, rsp, whatever it claims."""
        kind = words[0] if words[0] in _REPORTABLE else Fault.INTERNAL
        registers, text = body[:_REGISTERS_SIZE], body[_REGISTERS_SIZE:][: abi.LOG_MAX]
        vector, error_code, address, rip, rsp = words[1:6]
        message = text.decode("utf-8", "replace")
        return cls(component, epoch, kind, vector, error_code, address, rip, rsp, message, registers)

    @property
    def signal(self) -> int:
        """The signal a UNIX process would have died of."""
        if self.kind == Fault.EXCEPTION:
            return _EXCEPTION_SIGNALS.get(self.vector, _SEGV)
        return _SIGNALS.get(self.kind, _SEGV)

    def describe(self) -> str:
        """One line for the log: the kind, the numbers where a tender has sent some, and the message."""
        text = names(Fault).get(self.kind, str(self.kind))
        if self.kind in _REPORTABLE and (self.registers or self.address):
            numbers = f"vector {self.vector}, error code {self.error_code:#x}"
            text += f" ({numbers}, address {self.address:#x}, rip {self.rip:#x})"
        return f"{text}: {printable(self.message)}" if self.message else text
