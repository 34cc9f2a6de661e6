"""Fault records: what is known about the end of one instance, and the UNIX signal it compares to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypervisor.abi.generated import Fault, Hypercall, names
from hypervisor.log import printable

_EXCEPTION_SIGNALS = {0: 8, 1: 5, 3: 5, 4: 11, 5: 11, 6: 4, 7: 8, 16: 8, 17: 7, 19: 8}  # x86 vector -> signal
_SIGNALS: dict[int, int] = {
    Fault.UNKNOWN_HYPERCALL: 31, Fault.DENIED_HYPERCALL: 31, Fault.PANIC: 6, Fault.KILLED: 9, Fault.HUNG: 9,
    Fault.TENDER_DIED: 9, Fault.TENDER_UNRESPONSIVE: 9, Fault.REVOKE_DEADLINE: 9, Fault.MEMORY: 9,
    Fault.INTERNAL: 7,
}  # fmt: skip
_SEGV = 11
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
    registers: dict[str, int] = field(default_factory=dict)
    time_ns: int = field(default_factory=time.monotonic_ns)

    @classmethod
    def reported(
        cls, component: str, epoch: int, words: tuple[int, ...], registers: dict[str, int], text: str
    ) -> FaultRecord:
        """A tender's FAULT: kind, vector, error code, address, rip, rsp, whatever it claims."""
        kind = words[0] if words[0] in _REPORTABLE else Fault.INTERNAL
        vector, error_code, address, rip, rsp = words[1:6]
        return cls(component, epoch, kind, vector, error_code, address, rip, rsp, text, registers)

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
