"""How a tender with private memory forks: its jail profile, and all of a vCPU's state moved to a new VM.

No tender does so yet, so none loads this.

The order of loading matters: system registers make the others valid, XCR0 sizes the FPU state, and the
general registers go last. Leaving any of these out loses state silently.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from vmm import host
from vmm.machine import VirtualMachine
from vmm.tender import seccomp
from vmm.tender._vcpu import ffi, lib
from vmm.tender.kvm import Kvm
from vmm.tender.seccomp import Allowed, Rule

# TSC, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX, SYSENTER_CS/ESP/EIP, PAT, MISC_ENABLE
_MSRS = (
    0x10, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103,
    0x174, 0x175, 0x176, 0x277, 0x1A0,
)  # fmt: skip
_MADVISE, _MADV_DONTFORK = 28, 10
_CLONE_FORK = 0x01200011  # what fork() passes: CHILD_SETTID, CHILD_CLEARTID, SIGCHLD
_IOCTLS = (
    lib.KVM_CREATE_VM, lib.KVM_SET_USER_MEMORY_REGION, lib.KVM_CREATE_VCPU, lib.KVM_SET_CPUID2,
    lib.KVM_GET_XCRS, lib.KVM_SET_XCRS, lib.KVM_GET_XSAVE2, lib.KVM_SET_XSAVE,
    lib.KVM_GET_VCPU_EVENTS, lib.KVM_SET_VCPU_EVENTS, lib.KVM_GET_DEBUGREGS, lib.KVM_SET_DEBUGREGS,
    lib.KVM_GET_MSRS, lib.KVM_SET_MSRS,
)  # fmt: skip


def system_calls(_files: tuple[int, ...]) -> Allowed:
    """Those of the jail profile `tender_fork` beside those that every profile has."""
    # A child's own thread has a process id that cannot be known here; signals end at the namespace.
    plain = "tgkill wait4 waitid epoll_create1 eventfd2 set_tid_address rt_sigaction"
    allowed: Allowed = dict.fromkeys(plain.split(), ())
    allowed["ioctl"] = (Rule(1, seccomp.TENDER_IOCTLS + _IOCTLS),)
    allowed["clone"] = (Rule(0, (_CLONE_FORK, seccomp.CLONE_PTHREAD)),)
    return allowed


seccomp.SYSTEM_CALLS |= {
    "rt_sigaction": 13, "wait4": 61, "set_tid_address": 218, "waitid": 247, "eventfd2": 290,
    "epoll_create1": 291,
}  # fmt: skip
seccomp.PROFILES["tender_fork"] = system_calls


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


def xsave_size(kvm: Kvm) -> int:
    """Bytes of the FPU state; to be asked before the jail is sealed."""
    return host.ioctl(kvm.host.fd, lib.KVM_CHECK_EXTENSION, lib.KVM_CAP_XSAVE2) or 4096


def save(vm: VirtualMachine, xsave_bytes: int) -> VcpuState:
    """The state of a vCPU that is out of the guest for now."""
    vm.settle()
    msrs = ffi.new("struct kvm_msrs *", {"nmsrs": len(_MSRS), "entries": [{"index": each} for each in _MSRS]})
    # KVM stops at the first register it does not know and says how many it read.
    msrs.nmsrs = host.ioctl(vm.vcpu_fd, lib.KVM_GET_MSRS, msrs)

    def get(request: int, structure: Any) -> Any:
        host.ioctl(vm.vcpu_fd, request, structure)
        return structure

    return VcpuState(
        get(lib.KVM_GET_REGS, ffi.new("struct kvm_regs *")),
        vm.sregs(),
        get(lib.KVM_GET_XCRS, ffi.new("struct kvm_xcrs *")),
        get(lib.KVM_GET_XSAVE2, ffi.new("uint8_t[]", xsave_bytes)),
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
    vm.vcpu.regs[0] = state.regs[0]


def fork(parent: VirtualMachine) -> int:
    """os.fork(); the child has nothing in the windows: connections are not inherited."""
    for slot in (lib.SLOT_RW, lib.SLOT_RO):
        address, size = parent.window(slot)
        host.call(_MADVISE, address, size, _MADV_DONTFORK)
    return os.fork()


def continue_forked(kvm: Kvm, ram: memoryview, stats: Any, state: VcpuState) -> VirtualMachine:
    """In a forked child of a tender with private memory: a VM of its own, where the parent's was.

    KVM ties a VM to the process that made it; the memory at `ram` is the child's copy-on-write copy already.
    """
    vm = VirtualMachine(kvm, host.address_of(ffi.from_buffer(ram)), len(ram), stats)
    load(vm, state)
    return vm
