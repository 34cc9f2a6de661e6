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

_CR0 = 0x80050033  # PG AM WP NE ET MP PE
_CR4_BASE = 0x620  # PAE OSFXSR OSXMMEXCPT
_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE = 1 << 11, 1 << 16, 1 << 18
_EFER = 0xD00  # LME LMA NXE; without SCE, so that SYSCALL is an invalid opcode
_RFLAGS = 0x2
_XCR0_AVX, _XCR0_AVX512 = 0x7, 0xE0
_CPUID_ENTRIES = 256

_NEEDED = {
    "KVM_CAP_USER_MEMORY": lib.KVM_CAP_USER_MEMORY,
    "KVM_CAP_READONLY_MEM": lib.KVM_CAP_READONLY_MEM,
    "KVM_CAP_IOEVENTFD": lib.KVM_CAP_IOEVENTFD,
    "KVM_CAP_SYNC_REGS": lib.KVM_CAP_SYNC_REGS,
    "KVM_CAP_SYNC_MMU": lib.KVM_CAP_SYNC_MMU,
    "KVM_CAP_IMMEDIATE_EXIT": lib.KVM_CAP_IMMEDIATE_EXIT,
    "KVM_CAP_XCRS": lib.KVM_CAP_XCRS,
}
REGISTERS = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
)  # fmt: skip


class KvmError(Exception):
    """/dev/kvm is missing, not permitted, or lacks a capability."""


class Kvm:
    """The host's KVM, probed once (in the zygote). `fd` is /dev/kvm."""

    def __init__(self, path: str = "/dev/kvm") -> None:
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise KvmError(f"{path}: {error.strerror}; run `r3s3 doctor`") from error
        version = host.ioctl(self.fd, lib.KVM_GET_API_VERSION)
        if version != 12:
            raise KvmError(f"{path}: KVM API version {version}, not 12")
        for name, number in _NEEDED.items():
            if not self.capability(number):
                raise KvmError(f"{path}: this KVM lacks {name}; a newer host kernel is needed")
        self.run_size = host.ioctl(self.fd, lib.KVM_GET_VCPU_MMAP_SIZE)
        self.xsave_size = self.capability(lib.KVM_CAP_XSAVE2) or 4096
        self.cpuid = self._supported_cpuid()
        self.cr4, self.xcr0, self.sregs = self._probe_vcpu()

    def capability(self, number: int) -> int:
        """KVM_CHECK_EXTENSION: 0 where the capability is missing."""
        return host.ioctl(self.fd, lib.KVM_CHECK_EXTENSION, number)

    def _supported_cpuid(self) -> Any:
        """struct kvm_cpuid2: u32 count, u32 padding, then entries."""
        entry = ffi.sizeof("struct kvm_cpuid_entry2")
        table = ffi.new("uint8_t[]", 8 + _CPUID_ENTRIES * entry)
        ffi.cast("uint32_t *", table)[0] = _CPUID_ENTRIES
        host.ioctl(self.fd, lib.KVM_GET_SUPPORTED_CPUID, table)
        return table

    def cpuid_leaf(self, function: int, index: int = 0) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX that KVM supports; zeros for an unknown leaf."""
        entries = ffi.cast("struct kvm_cpuid_entry2 *", self.cpuid + 8)
        for number in range(ffi.cast("uint32_t *", self.cpuid)[0]):
            entry = entries[number]
            if entry.function == function and entry.index == index:
                return entry.eax, entry.ebx, entry.ecx, entry.edx
        return 0, 0, 0, 0

    def _probe_vcpu(self) -> tuple[int, int, Any]:
        """CR4 and XCR0 with all that CPL3 code can use and this KVM accepts; system registers with them.

        Asked of a scratch vCPU: a KVM without CPUID virtualization accepts more than it lists.
        """
        vm = host.ioctl(self.fd, lib.KVM_CREATE_VM)
        vcpu = host.ioctl(vm, lib.KVM_CREATE_VCPU, 0)
        host.ioctl(vcpu, lib.KVM_SET_CPUID2, self.cpuid)
        sregs = ffi.new("struct kvm_sregs *")
        host.ioctl(vcpu, lib.KVM_GET_SREGS, sregs)
        sregs.cr0, sregs.efer, sregs.cs.l = _CR0, _EFER, 1
        cr4, xcr0 = _CR4_BASE, 0
        for bit in (_CR4_UMIP, _CR4_FSGSBASE, _CR4_OSXSAVE):
            sregs.cr4 = cr4 | bit
            cr4 |= bit if _accepts(vcpu, lib.KVM_SET_SREGS, sregs) else 0
        host.ioctl(vcpu, lib.KVM_GET_SREGS, sregs)
        _set_user_mode(sregs, cr4)
        host.ioctl(vcpu, lib.KVM_SET_SREGS, sregs)
        supported = self.cpuid_leaf(0xD)[0]
        for wanted in (_XCR0_AVX | _XCR0_AVX512, _XCR0_AVX) if cr4 & _CR4_OSXSAVE else ():
            xcrs = ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1})
            xcrs.xcrs[0].value = wanted
            if supported & wanted == wanted and _accepts(vcpu, lib.KVM_SET_XCRS, xcrs):
                xcr0 = wanted
                break
        os.close(vcpu)
        os.close(vm)
        return cr4, xcr0, sregs


def _set_user_mode(sregs: Any, cr4: int) -> None:
    """Long mode at CPL3 with our tables (struct kvm_sregs)."""
    sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = _CR0, abi.PAGE_TABLES, cr4, _EFER
    flat = {"limit": 0xFFFFFFFF, "present": 1, "dpl": 3, "s": 1, "g": 1}
    sregs.cs = flat | {"selector": trap_page.USER_CODE, "type": 0xB, "l": 1}
    data = flat | {"selector": trap_page.USER_DATA, "type": 3, "db": 1}
    sregs.ss, sregs.ds, sregs.es, sregs.fs, sregs.gs = (data,) * 5
    sregs.ldt = {"unusable": 1}
    task = {"selector": trap_page.TASK, "base": trap_page.TSS, "limit": trap_page.TSS_LIMIT}
    sregs.tr = task | {"type": 11, "present": 1}
    sregs.gdt.base, sregs.gdt.limit = abi.GDT, trap_page.GDT_LIMIT
    sregs.idt.base, sregs.idt.limit = abi.IDT, trap_page.IDT_LIMIT


def _accepts(fd: int, request: int, argument: Any) -> bool:
    try:
        host.ioctl(fd, request, argument)
    except OSError:
        return False
    return True


class VirtualMachine:
    """One VM: RAM at 0, two windows, one vCPU. Owns its descriptors and mappings until the process ends.

    `ram` is the host address of the RAM. `stats` is a u64 array (a cffi pointer) for the vCPU loop.
    `window_sizes` may be smaller than the windows: a slot costs kernel memory and time by its size.
    """

    def __init__(
        self,
        kvm: Kvm,
        ram: int,
        memory: int,
        stats: Any,
        *,
        window_sizes: tuple[int, int] = (abi.RW_WINDOW_SIZE, abi.RO_WINDOW_SIZE),
        may_fork: bool = False,
    ) -> None:
        self.kvm = kvm
        self.ram_size = memory
        self.may_fork = may_fork
        self.fd = host.ioctl(kvm.fd, lib.KVM_CREATE_VM)
        self.windows = {
            SLOT_RW: (abi.RW_WINDOW, window_sizes[0], self._reserve(window_sizes[0])),
            SLOT_RO: (abi.RO_WINDOW, window_sizes[1], self._reserve(window_sizes[1])),
        }
        self._set_slot(SLOT_RAM, 0, memory, ram)
        self._set_slot(SLOT_RW, *self.windows[SLOT_RW])
        self._set_slot(SLOT_RO, *self.windows[SLOT_RO], lib.KVM_MEM_READONLY)
        self.vcpu_fd = host.ioctl(self.fd, lib.KVM_CREATE_VCPU, 0)
        self.run = ffi.cast(
            "struct kvm_run *",
            host.mmap(0, kvm.run_size, host.PROT_READ | host.PROT_WRITE, host.MAP_SHARED, self.vcpu_fd),
        )
        self.vcpu = ffi.new("struct vcpu *")
        vcpu = self.vcpu
        vcpu.run, vcpu.regs, vcpu.stats = self.run, lib.vcpu_registers(self.run), stats
        vcpu.fd, vcpu.hold = self.vcpu_fd, lib.HOLD_NEW
        for number in range(abi.DOORBELLS):
            vcpu.doorbells[number] = lib.DOORBELL_NEVER
        host.ioctl(self.vcpu_fd, lib.KVM_SET_CPUID2, kvm.cpuid)
        lib.vcpu_catch_kicks()

    def _reserve(self, size: int) -> int:
        flags = host.MAP_PRIVATE | host.MAP_ANONYMOUS | host.MAP_NORESERVE
        return self.not_for_children(host.mmap(0, size, host.PROT_NONE, flags), size)

    def not_for_children(self, address: int, size: int) -> int:
        """Window memory belongs to this VM's connections: a forked tender gets none of it."""
        if self.may_fork:
            host.madvise(address, size, host.MADV_DONTFORK)
        return address

    def _set_slot(self, slot: int, guest: int, size: int, address: int, flags: int = 0) -> None:
        region = ffi.new(
            "struct kvm_userspace_memory_region *",
            {
                "slot": slot,
                "flags": flags,
                "guest_phys_addr": guest,
                "memory_size": size,
                "userspace_addr": address,
            },
        )
        host.ioctl(self.fd, lib.KVM_SET_USER_MEMORY_REGION, region)

    def delete_windows(self) -> None:
        """Take both windows out of the VM for good (a fault is being examined); also drops KVM's tables."""
        for slot, (guest, _, address) in self.windows.items():
            self._set_slot(slot, guest, 0, address)

    def warm_up(self) -> None:
        """Enter the guest once, at NULL, which faults at once: what KVM does at the first entry is then done.

        (It builds its tables; newer kernels also start a worker, which the sealed jail would refuse.) The
        trap page must be in place; all registers must be set afterwards.
        """
        self.enter_user_mode(0, 0, 0)
        event = lib.vcpu_step(self.vcpu)
        if event != lib.EVENT_EXCEPTION or self.vcpu.detail != trap_page.PAGE_FAULT:
            raise KvmError(f"the first entry ended with event {event}, {self.vcpu.detail}")
        lib.vcpu_settle(self.vcpu)

    def enter_user_mode(self, entry: int, stack: int, argument: int) -> None:
        """Set all registers for the first instruction: CPL3, long mode, RDI = `argument`."""
        # Every new vCPU has the same system registers as the one that was probed.
        host.ioctl(self.vcpu_fd, lib.KVM_SET_SREGS, self.kvm.sregs)
        if self.kvm.xcr0:
            xcrs = ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1})
            xcrs.xcrs[0].value = self.kvm.xcr0
            host.ioctl(self.vcpu_fd, lib.KVM_SET_XCRS, xcrs)
        regs = ffi.new("struct kvm_regs *", {"rip": entry, "rsp": stack, "rdi": argument, "rflags": _RFLAGS})
        host.ioctl(self.vcpu_fd, lib.KVM_SET_REGS, regs)
        ffi.memmove(self.vcpu.regs, regs, ffi.sizeof("struct kvm_regs"))

    def sregs(self) -> Any:
        """The system registers now (struct kvm_sregs); the vCPU must be out of the guest."""
        sregs = ffi.new("struct kvm_sregs *")
        host.ioctl(self.vcpu_fd, lib.KVM_GET_SREGS, sregs)
        return sregs

    def registers(self) -> dict[str, int]:
        """The general registers as of the last exit."""
        regs = self.vcpu.regs
        return {name: getattr(regs, name) for name in REGISTERS}

    def ioeventfd(self, doorbell: int, fd: int, *, remove: bool = False) -> None:
        """Let a store to `doorbell` signal the eventfd `fd`, or no longer."""
        request = ffi.new(
            "struct kvm_ioeventfd *", {"addr": abi.DOORBELL_PAGE + 8 * doorbell, "len": 4, "fd": fd}
        )
        request.flags = lib.KVM_IOEVENTFD_FLAG_DEASSIGN if remove else 0
        host.ioctl(self.fd, lib.KVM_IOEVENTFD, request)
