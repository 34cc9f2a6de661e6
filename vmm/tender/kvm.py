"""What the host's KVM offers, found out once, in the zygote: `Kvm.host` is what machine.c makes VMs from.

Exceptions: KvmError (this host's KVM cannot run our VMs; says what is missing). OSError comes through
from ioctls.
"""

from __future__ import annotations

import os
from fcntl import ioctl
from typing import Any

from hypervisor.abi import generated as abi
from vmm.tender import trap_page
from vmm.tender._vcpu import ffi, lib

_CR0 = 0x80050033  # PG AM WP NE ET MP PE
_CR4 = 0x620  # PAE OSFXSR OSXMMEXCPT
_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE = 1 << 11, 1 << 16, 1 << 18
_EFER = 0xD00  # LME LMA NXE; without SCE, so that SYSCALL is an invalid opcode
_XCR0_AVX, _XCR0_AVX512 = 0x7, 0xE7
_CPUID_ENTRIES = 256

_NEEDED = "USER_MEMORY READONLY_MEM IOEVENTFD SYNC_REGS SYNC_MMU IMMEDIATE_EXIT XCRS"


class KvmError(Exception):
    """/dev/kvm is missing, not permitted, or lacks a capability."""


class Kvm:
    """The host's KVM. `host` is a struct kvm_host *, which holds /dev/kvm open."""

    def __init__(self, path: str = "/dev/kvm") -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise KvmError(f"{path}: {error.strerror}; run `r3s3 doctor`") from error
        if ioctl(fd, lib.KVM_GET_API_VERSION) != 12:
            raise KvmError(f"{path}: not version 12 of KVM's interface")
        for name in _NEEDED.split():
            if not ioctl(fd, lib.KVM_CHECK_EXTENSION, getattr(lib, f"KVM_CAP_{name}")):
                raise KvmError(f"{path}: this KVM lacks KVM_CAP_{name}; a newer host kernel is needed")
        self._cpuid = ffi.new("struct kvm_cpuid2 *", {"nent": _CPUID_ENTRIES, "entries": _CPUID_ENTRIES})
        ioctl(fd, lib.KVM_GET_SUPPORTED_CPUID, ffi.buffer(self._cpuid))
        self.host = ffi.new("struct kvm_host *", {"fd": fd, "cpuid": self._cpuid})
        self.host.run_size = ioctl(fd, lib.KVM_GET_VCPU_MMAP_SIZE)
        self._probe_vcpu()

    def _probe_vcpu(self) -> None:
        """System registers, and XCR0, with all that CPL3 code can use and this KVM accepts.

        Asked of a scratch vCPU: a KVM without CPUID virtualization accepts more than it lists.
        """
        vm = ioctl(self.host.fd, lib.KVM_CREATE_VM)
        vcpu = ioctl(vm, lib.KVM_CREATE_VCPU)
        ioctl(vcpu, lib.KVM_SET_CPUID2, ffi.buffer(self._cpuid))
        sregs = ffi.addressof(self.host, "sregs")
        ioctl(vcpu, lib.KVM_GET_SREGS, ffi.buffer(sregs))
        _set_user_mode(sregs)
        for bit in (_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE):
            sregs.cr4 |= bit
            if not _accepts(vcpu, lib.KVM_SET_SREGS, sregs):
                sregs.cr4 &= ~bit
        ioctl(vcpu, lib.KVM_SET_SREGS, ffi.buffer(sregs))
        for xcr0 in (_XCR0_AVX, _XCR0_AVX512) if sregs.cr4 & _CR4_OSXSAVE else ():
            xcrs = ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1, "xcrs": [{"value": xcr0}]})
            if _accepts(vcpu, lib.KVM_SET_XCRS, xcrs):
                self.host.xcr0 = xcr0
        os.close(vcpu)
        os.close(vm)


def _set_user_mode(sregs: Any) -> None:
    """Long mode at CPL3 with our tables (struct kvm_sregs)."""
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = _CR0, abi.PAGE_TABLES, _CR4, _EFER
    flat = {"limit": 0xFFFFFFFF, "present": 1, "dpl": 3, "s": 1, "g": 1}
    sregs.cs = flat | {"selector": trap_page.USER_CODE, "type": 0xB, "l": 1}
    data = flat | {"selector": trap_page.USER_DATA, "type": 3, "db": 1}
    sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs = (data,) * 5
    sregs.ldt = {"unusable": 1}
    task = {"selector": trap_page.TASK, "base": trap_page.TSS, "limit": trap_page.TSS_LIMIT}
    sregs.tr = task | {"type": 11, "present": 1}
    sregs.gdt = {"base": abi.GDT, "limit": trap_page.GDT_LIMIT}
    sregs.idt = {"base": abi.IDT, "limit": trap_page.IDT_LIMIT}


def _accepts(fd: int, request: int, structure: Any) -> bool:
    try:
        ioctl(fd, request, ffi.buffer(structure))
    except OSError:
        return False
    return True
