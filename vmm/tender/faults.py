"""What happened to a guest, as a value: events of the vCPU loop turned into fault records.

The vCPU is out of the guest for good while these run; only `_find_missing` enters it once more, for at most
one instruction.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hypervisor.abi import generated as abi
from vmm.tender import trap_page
from vmm.tender._vcpu import lib
from vmm.tender.kvm import WINDOWS, VirtualMachine

_WRITE, _FETCH = 0x2, 0x10  # page fault error code


class Fault(NamedTuple):
    """Why a VM stopped. `kind` is one of FAULT_*; `registers` are those of the faulting instruction."""

    kind: int
    message: str
    registers: dict[str, int]
    vector: int = 0
    error_code: int = 0
    address: int = 0

    @property
    def words(self) -> tuple[int, ...]:
        """The arguments of a FAULT record."""
        rip, rsp = self.registers.get("rip", 0), self.registers.get("rsp", 0)
        return self.kind, self.vector, self.error_code, self.address, rip, rsp


def in_window(address: int) -> bool:
    """Whether a guest address lies in one of the windows."""
    return any(start <= address < start + size for _, start, size, _ in WINDOWS)


def examine(vm: VirtualMachine, event: int, ram: memoryview) -> Fault:
    """The fault behind an event of `vcpu_run` other than a hypercall or a stop."""
    vcpu = vm.vcpu
    if event == lib.EVENT_EXCEPTION:
        return _exception(vm, vcpu.detail, ram)
    if event == lib.EVENT_MISSING:
        return _find_missing(vm, ram)
    registers = vm.registers()
    if event == lib.EVENT_ADDRESS:
        return _address(vcpu.address, bool(vcpu.detail), registers)
    if event == lib.EVENT_DOORBELL:
        message = f"rang doorbell {vcpu.detail}, which it does not have"
        return Fault(abi.Fault.DOORBELL, message, registers, address=vcpu.address)
    if event == lib.EVENT_SHUTDOWN:
        return Fault(abi.Fault.TRIPLE_FAULT, "triple fault", registers)
    what = f"KVM exit {vcpu.detail}, suberror {vcpu.address}, errno {vcpu.error}"
    return Fault(abi.Fault.INTERNAL, f"KVM cannot run this VM: {what}", registers)


def _address(address: int, store: bool, registers: dict[str, int]) -> Fault:
    kind, why = abi.Fault.PHYSICAL, ", where nothing of that kind is"
    if in_window(address):
        kind, why = abi.Fault.WINDOW, " in a window where that is not granted"
    message = f"{'store to' if store else 'load from'} {address:#x}{why}"
    return Fault(kind, message, registers, error_code=_WRITE * store, address=address)


def _exception(vm: VirtualMachine, vector: int, ram: memoryview) -> Fault:
    registers = vm.registers()
    frame = trap_page.read_frame(ram, registers["rsp"], vector)
    if frame is None:
        return Fault(abi.Fault.INTERNAL, f"trap {vector} without a frame", registers, vector)
    error_code = frame.pop("error_code", 0)
    registers |= frame
    kind, message, address = abi.Fault.EXCEPTION, trap_page.vector_name(vector), 0
    if vector == trap_page.PAGE_FAULT:
        address = vm.sregs().cr2
        fetch = error_code & _FETCH
        verb = "execution of" if fetch else "write to" if error_code & _WRITE else "read of"
        message = f"{verb} {address:#x}, which {'forbids it' if error_code & 1 else 'is not mapped'}"
        if in_window(address) and not fetch:
            kind = abi.Fault.WINDOW
    return Fault(kind, message, registers, vector, error_code, address)


def _find_missing(vm: VirtualMachine, ram: memoryview) -> Fault:
    """KVM_RUN failed with EFAULT and does not say where: make the same instruction say it.

    The windows leave the guest's page tables and, so that KVM forgets what it cached of those, the VM; then
    the instruction runs again, alone (trap flag). If it wanted a window it now takes an ordinary page fault.
    """
    registers = vm.registers()
    _unmap_windows(ram)
    vm.delete_windows()
    event, vcpu = lib.vcpu_step(vm.vcpu), vm.vcpu
    if event == lib.EVENT_EXCEPTION and vcpu.detail == trap_page.PAGE_FAULT:
        trap = _exception(vm, trap_page.PAGE_FAULT, ram)
        if in_window(trap.address):
            store = bool(trap.error_code & _WRITE)
            return _address(trap.address, store, registers)._replace(error_code=trap.error_code)
    if event == lib.EVENT_ADDRESS and in_window(vcpu.address):
        return _address(vcpu.address, bool(vcpu.detail), registers)
    return Fault(abi.Fault.MEMORY, "the host has no memory for this VM's RAM", registers)


def _unmap_windows(ram: memoryview) -> None:
    """Clear the page directory entries of both windows. Reads the tables, which the guest cannot reach."""
    for _, start, size, _ in WINDOWS:
        pointers = struct.unpack_from("<Q", ram, abi.PAGE_TABLES)[0] & ~0xFFF
        directory = struct.unpack_from("<Q", ram, pointers + 8 * (start >> 30))[0] & ~0xFFF
        first, count = start >> 21 & 511, size >> 21
        ram[directory + 8 * first : directory + 8 * (first + count)] = bytes(8 * count)
