"""What the numbers of a fault mean, for people. The hypervisor passes them on as a tender has sent them, in
texts such as `died: exception (vector 14, error code 0x6, address 0x8, rip 0x200010)`; see
hypervisor/faults.py, and vmm/tender/faults.c for what each means with which kind.
"""

from __future__ import annotations

import re

from hypervisor.abi import generated as abi
from hypervisor.abi.generated import Fault, Hypercall, names

_PAGE_FAULT, _PRESENT, _WRITE, _FETCH = 14, 0x1, 0x2, 0x10
_VECTORS = (
    "divide error", "debug trap", "NMI", "breakpoint", "overflow", "bound range exceeded", "invalid opcode",
    "FPU not available", "double fault", "vector 9", "invalid TSS", "segment not present",
    "stack segment fault", "general protection fault", "page fault", "vector 15", "x87 error",
    "alignment check", "machine check", "SIMD error", "virtualization exception", "control protection fault",
)  # fmt: skip
_HEX = "0x([0-9a-f]+)"
_NUMBERS = re.compile(rf"\b([a-z_]+) \(vector (\d+), error code {_HEX}, address {_HEX}, rip {_HEX}\)(: )?")


def in_words(text: str) -> str:
    """`text` with the numbers of faults replaced by words, where no text follows them that says more."""
    return _NUMBERS.sub(_told, text)


def _told(match: re.Match[str]) -> str:
    name, text_follows = match[1], match[6]
    error_code, address, rip = (int(match[group], 16) for group in (3, 4, 5))
    if name.upper() not in Fault.__members__:
        return match[0]
    kind, vector = Fault[name.upper()], int(match[2])
    head = name
    if kind == Fault.EXCEPTION:
        head += f" {vector} (error code {error_code:#x})"
    if kind in (Fault.EXCEPTION, Fault.WINDOW, Fault.PHYSICAL, Fault.DOORBELL):
        head += f" at address {address:#x}, rip {rip:#x}"
    if kind in (Fault.UNKNOWN_HYPERCALL, Fault.DENIED_HYPERCALL):
        head += f" {names(Hypercall).get(address, str(address))}, rip {rip:#x}"
    words = "" if text_follows else meaning(kind, vector, error_code, address)
    return f"{head}: {words}" if words or text_follows else head


def meaning(kind: int, vector: int, error_code: int, address: int) -> str:
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
