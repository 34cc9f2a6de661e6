"""All of a vCPU's state, out of one VM and into another (fork, migration).

The order of loading matters: system registers make the others valid, XCR0 sizes the FPU state, and the
general registers go last. Leaving any of these out loses state silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmm.tender import host
from vmm.tender._vcpu import ffi, lib
from vmm.tender.kvm import Kvm, VirtualMachine

# TSC, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX, SYSENTER_CS/ESP/EIP, PAT, MISC_ENABLE
_MSRS = (
    0x10, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103,
    0x174, 0x175, 0x176, 0x277, 0x1A0,
)  # fmt: skip


@dataclass(frozen=True)
class VcpuState:
    """Copies of KVM's structures."""

    regs: Any
    sregs: Any
    xcrs: Any
    xsave: Any
    events: Any
    debugregs: Any
    msrs: Any


def _msrs() -> Any:
    """struct kvm_msrs: u32 count, u32 padding, then entries."""
    entry = ffi.sizeof("struct kvm_msr_entry")
    table = ffi.new("uint8_t[]", 8 + len(_MSRS) * entry)
    ffi.cast("uint32_t *", table)[0] = len(_MSRS)
    entries = ffi.cast("struct kvm_msr_entry *", table + 8)
    for position, number in enumerate(_MSRS):
        entries[position].index = number
    return table


def save(vm: VirtualMachine) -> VcpuState:
    """The state of a vCPU that is out of the guest for now."""
    lib.vcpu_settle(vm.vcpu)
    msrs = _msrs()
    # KVM stops at the first register it does not know and says how many it read.
    ffi.cast("uint32_t *", msrs)[0] = host.ioctl(vm.vcpu_fd, lib.KVM_GET_MSRS, msrs)

    def get(request: int, structure: Any) -> Any:
        host.ioctl(vm.vcpu_fd, request, structure)
        return structure

    return VcpuState(
        get(lib.KVM_GET_REGS, ffi.new("struct kvm_regs *")),
        vm.sregs(),
        get(lib.KVM_GET_XCRS, ffi.new("struct kvm_xcrs *")),
        get(lib.KVM_GET_XSAVE2, ffi.new("uint8_t[]", vm.kvm.xsave_size)),
        get(lib.KVM_GET_VCPU_EVENTS, ffi.new("struct kvm_vcpu_events *")),
        get(lib.KVM_GET_DEBUGREGS, ffi.new("struct kvm_debugregs *")),
        msrs,
    )


def load(vm: VirtualMachine, state: VcpuState) -> None:
    """Give a new vCPU the state of another."""
    for request, structure in (
        (lib.KVM_SET_SREGS, state.sregs),
        (lib.KVM_SET_XCRS, state.xcrs),
        (lib.KVM_SET_XSAVE, state.xsave),
        (lib.KVM_SET_VCPU_EVENTS, state.events),
        (lib.KVM_SET_DEBUGREGS, state.debugregs),
        (lib.KVM_SET_MSRS, state.msrs),
        (lib.KVM_SET_REGS, state.regs),
    ):
        host.ioctl(vm.vcpu_fd, request, structure)
    ffi.memmove(vm.vcpu.regs, state.regs, ffi.sizeof("struct kvm_regs"))


def continue_forked(
    kvm: Kvm, parent: VirtualMachine, ram: int, stats: Any, state: VcpuState
) -> VirtualMachine:
    """In a forked child of a tender with private memory: a VM of its own, where the parent's was.

    KVM ties a VM to the process that made it; the memory at `ram` is the child's copy-on-write copy already.
    Its windows are empty: connections are not inherited.
    """
    sizes = tuple(size for _, size, _ in parent.windows.values())
    vm = VirtualMachine(kvm, ram, parent.ram_size, stats, window_sizes=(sizes[0], sizes[1]), may_fork=True)
    load(vm, state)
    return vm
