"""Fault records: what is known about the end of one instance, and the UNIX signal it compares to."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from hypervisor.abi import generated as abi
from hypervisor.log import printable

_EXCEPTION_SIGNALS = {0: 8, 1: 5, 3: 5, 4: 11, 5: 11, 6: 4, 7: 8, 16: 8, 17: 7, 19: 8}  # x86 vector -> signal
_SIGNALS = {
    abi.FAULT_UNKNOWN_HYPERCALL: 31,
    abi.FAULT_DENIED_HYPERCALL: 31,
    abi.FAULT_PANIC: 6,
    abi.FAULT_KILLED: 9,
    abi.FAULT_TENDER_DIED: 9,
    abi.FAULT_TENDER_UNRESPONSIVE: 9,
    abi.FAULT_HUNG: 9,
    abi.FAULT_REVOKE_DEADLINE: 9,
    abi.FAULT_MEMORY: 9,
    abi.FAULT_INTERNAL: 7,
}
_SEGV = 11
# What a tender may say of its guest; everything else is the hypervisor's to say.
_REPORTABLE = {
    abi.FAULT_EXCEPTION,
    abi.FAULT_UNKNOWN_HYPERCALL,
    abi.FAULT_DENIED_HYPERCALL,
    abi.FAULT_WINDOW,
    abi.FAULT_PHYSICAL,
    abi.FAULT_DOORBELL,
    abi.FAULT_TRIPLE_FAULT,
    abi.FAULT_BAD_ARGUMENT,
    abi.FAULT_MEMORY,
    abi.FAULT_INTERNAL,
}


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
        kind = words[0] if words[0] in _REPORTABLE else abi.FAULT_INTERNAL
        vector, error_code, address, rip, rsp = words[1:6]
        return cls(component, epoch, kind, vector, error_code, address, rip, rsp, text, registers)

    @property
    def signal(self) -> int:
        """The signal a UNIX process would have died of."""
        if self.kind == abi.FAULT_EXCEPTION:
            return _EXCEPTION_SIGNALS.get(self.vector, _SEGV)
        return _SIGNALS.get(self.kind, _SEGV)

    def describe(self) -> str:
        """One line for logs and people."""
        text = abi.FAULT_NAMES.get(self.kind, str(self.kind))
        if self.kind == abi.FAULT_EXCEPTION:
            text += f" {self.vector} (error code {self.error_code:#x})"
        if self.kind in (abi.FAULT_EXCEPTION, abi.FAULT_WINDOW, abi.FAULT_PHYSICAL, abi.FAULT_DOORBELL):
            text += f" at address {self.address:#x}, rip {self.rip:#x}"
        if self.kind in (abi.FAULT_UNKNOWN_HYPERCALL, abi.FAULT_DENIED_HYPERCALL):
            text += f" {abi.HYPERCALL_NAMES.get(self.address, str(self.address))}, rip {self.rip:#x}"
        return f"{text}: {printable(self.message)}" if self.message else text

    def as_json(self) -> dict[str, Any]:
        """A plain dictionary with the kind's name added."""
        return {**asdict(self), "kind_name": abi.FAULT_NAMES.get(self.kind, "?"), "signal": self.signal}
