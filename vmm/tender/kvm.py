"""KVM: what the host offers, and one virtual machine with one vCPU at CPL3.

Exceptions: KvmError (this host's KVM cannot run our VMs; says what is missing). OSError comes through
from ioctls.
"""

from __future__ import annotations

import os
from typing import Any

from hypervisor.abi import generated as abi
from vmm.tender import host, trap_page
from vmm.tender._vcpu import ffi, lib

SLOT_RAM, SLOT_RW, SLOT_RO = 0, 1, 2
WINDOWS = (  # slot, guest address, size, flags of the slot
    (SLOT_RW, abi.RW_WINDOW, abi.RW_WINDOW_SIZE, 0),
    (SLOT_RO, abi.RO_WINDOW, abi.RO_WINDOW_SIZE, lib.KVM_MEM_READONLY),
)

_CR0 = 0x80050033  # PG AM WP NE ET MP PE
_CR4 = 0x620  # PAE OSFXSR OSXMMEXCPT
_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE = 1 << 11, 1 << 16, 1 << 18
_EFER = 0xD00  # LME LMA NXE; without SCE, so that SYSCALL is an invalid opcode
_RFLAGS = 0x2
_XCR0_AVX, _XCR0_AVX512 = 0x7, 0xE7
_CPUID_ENTRIES = 256

_NEEDED = "USER_MEMORY READONLY_MEM IOEVENTFD SYNC_REGS SYNC_MMU IMMEDIATE_EXIT XCRS"
_REGISTERS = [name for name, _ in ffi.typeof("struct kvm_regs").fields]


class KvmError(Exception):
    """/dev/kvm is missing, not permitted, or lacks a capability."""


class Kvm:
    """The host's KVM, probed once (in the zygote). `fd` is /dev/kvm."""

    def __init__(self, path: str = "/dev/kvm") -> None:
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise KvmError(f"{path}: {error.strerror}; run `r3s3 doctor`") from error
        if host.ioctl(self.fd, lib.KVM_GET_API_VERSION) != 12:
            raise KvmError(f"{path}: not version 12 of KVM's interface")
        for name in _NEEDED.split():
            if not host.ioctl(self.fd, lib.KVM_CHECK_EXTENSION, getattr(lib, f"KVM_CAP_{name}")):
                raise KvmError(f"{path}: this KVM lacks KVM_CAP_{name}; a newer host kernel is needed")
        self.run_size = host.ioctl(self.fd, lib.KVM_GET_VCPU_MMAP_SIZE)
        self.cpuid = ffi.new("struct kvm_cpuid2 *", {"nent": _CPUID_ENTRIES, "entries": _CPUID_ENTRIES})
        host.ioctl(self.fd, lib.KVM_GET_SUPPORTED_CPUID, self.cpuid)
        self.sregs, self.xcr0 = self._probe_vcpu()

    def _probe_vcpu(self) -> tuple[Any, int]:
        """System registers, and XCR0, with all that CPL3 code can use and this KVM accepts.

        Asked of a scratch vCPU: a KVM without CPUID virtualization accepts more than it lists.
        """
        vm = host.ioctl(self.fd, lib.KVM_CREATE_VM)
        vcpu = host.ioctl(vm, lib.KVM_CREATE_VCPU)
        host.ioctl(vcpu, lib.KVM_SET_CPUID2, self.cpuid)
        sregs = ffi.new("struct kvm_sregs *")
        host.ioctl(vcpu, lib.KVM_GET_SREGS, sregs)
        _set_user_mode(sregs)
        for bit in (_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE):
            sregs.cr4 |= bit
            if not _accepts(vcpu, lib.KVM_SET_SREGS, sregs):
                sregs.cr4 &= ~bit
        host.ioctl(vcpu, lib.KVM_SET_SREGS, sregs)
        choices = (_XCR0_AVX512, _XCR0_AVX) if sregs.cr4 & _CR4_OSXSAVE else ()
        xcr0 = next((value for value in choices if _accepts(vcpu, lib.KVM_SET_XCRS, _xcrs(value))), 0)
        os.close(vcpu)
        os.close(vm)
        return sregs, xcr0


def _xcrs(xcr0: int) -> Any:
    return ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1, "xcrs": [{"value": xcr0}]})


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


def _accepts(fd: int, request: int, argument: Any) -> bool:
    try:
        host.ioctl(fd, request, argument)
    except OSError:
        return False
    return True


class VirtualMachine:
    """One VM: RAM at 0, two windows, one vCPU. Owns its descriptors and mappings until the process ends.

    `ram` is the host address of the RAM. `stats` is a u64 array (a cffi pointer) for the vCPU loop. `windows`
    has, by slot, guest address, size and host address.
    """

    def __init__(self, kvm: Kvm, ram: int, memory: int, stats: Any) -> None:
        self.kvm = kvm
        self.fd = host.ioctl(kvm.fd, lib.KVM_CREATE_VM)
        self._set_slot(SLOT_RAM, 0, memory, ram)
        self.windows: dict[int, tuple[int, int, int]] = {}
        for slot, start, size, flags in WINDOWS:
            self.windows[slot] = start, size, host.mmap(0, size, host.PROT_NONE, host.MAP_NOTHING)
            self._set_slot(slot, *self.windows[slot], flags)
        self.vcpu_fd = host.ioctl(self.fd, lib.KVM_CREATE_VCPU)
        host.ioctl(self.vcpu_fd, lib.KVM_SET_CPUID2, kvm.cpuid)
        self.vcpu = vcpu = ffi.new("struct vcpu *", {"fd": self.vcpu_fd, "stats": stats})
        run = host.mmap(0, kvm.run_size, host.PROT_READ_WRITE, host.MAP_SHARED, self.vcpu_fd)
        vcpu.run = ffi.cast("struct kvm_run *", run)
        lib.vcpu_init(vcpu)

    def _set_slot(self, slot: int, guest: int, size: int, address: int, flags: int = 0) -> None:
        region = ffi.new("struct kvm_userspace_memory_region *", (slot, flags, guest, size, address))
        host.ioctl(self.fd, lib.KVM_SET_USER_MEMORY_REGION, region)

    def delete_windows(self) -> None:
        """Take both windows out of the VM for good (a fault is being examined); also drops KVM's tables."""
        for slot, (start, _, address) in self.windows.items():
            self._set_slot(slot, start, 0, address)

    def warm_up(self) -> None:
        """Enter the guest once, at NULL, which faults at once: what KVM does at the first entry is then done.

        (It builds its tables; newer kernels also start a worker, which the sealed jail would refuse.) The
        trap page must be in place; all registers must be set afterwards.
        """
        self.enter_user_mode(0, 0, 0)
        event = lib.vcpu_step(self.vcpu)
        if event != lib.EVENT_EXCEPTION or self.vcpu.detail != trap_page.PAGE_FAULT:
            raise KvmError(f"the first entry ended with event {event}, {self.vcpu.detail}")
        self.settle()

    def settle(self) -> None:
        """Give KVM the results of the last exit without entering the guest, so that its state can be saved or
        replaced. Only while no thread is in vcpu_run."""
        self.vcpu.run.immediate_exit = 1
        _accepts(self.vcpu_fd, lib.KVM_RUN, 0)  # EINTR, by design
        self.vcpu.run.immediate_exit = 0

    def enter_user_mode(self, entry: int, stack: int, argument: int) -> None:
        """Set all registers for the first instruction: CPL3, long mode, RDI = `argument`."""
        # Every new vCPU has the same system registers as the one that was probed.
        host.ioctl(self.vcpu_fd, lib.KVM_SET_SREGS, self.kvm.sregs)
        if self.kvm.xcr0:
            host.ioctl(self.vcpu_fd, lib.KVM_SET_XCRS, _xcrs(self.kvm.xcr0))
        regs = ffi.new("struct kvm_regs *", {"rip": entry, "rsp": stack, "rdi": argument, "rflags": _RFLAGS})
        host.ioctl(self.vcpu_fd, lib.KVM_SET_REGS, regs)
        self.vcpu.regs[0] = regs[0]

    def sregs(self) -> Any:
        """The system registers now (struct kvm_sregs); the vCPU must be out of the guest."""
        sregs = ffi.new("struct kvm_sregs *")
        host.ioctl(self.vcpu_fd, lib.KVM_GET_SREGS, sregs)
        return sregs

    def registers(self) -> dict[str, int]:
        """The general registers as of the last exit."""
        regs = self.vcpu.regs
        return {name: getattr(regs, name) for name in _REGISTERS}

    def ioeventfd(self, doorbell: int, fd: int, *, remove: bool = False) -> None:
        """Let a store to `doorbell` signal the eventfd `fd`, or no longer."""
        address = abi.DOORBELL_PAGE + 8 * doorbell
        request = ffi.new("struct kvm_ioeventfd *", {"addr": address, "len": 4, "fd": fd})
        request.flags = lib.KVM_IOEVENTFD_FLAG_DEASSIGN if remove else 0
        host.ioctl(self.fd, lib.KVM_IOEVENTFD, request)
