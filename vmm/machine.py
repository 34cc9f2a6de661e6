"""A VM made and driven from Python, by machine.c as a tender's: for probing KVM, for forking, and for tests.

OSError comes through from ioctls.
"""

from __future__ import annotations

from typing import Any

from vmm import host
from vmm.tender._vcpu import ffi, lib
from vmm.tender.jail import check
from vmm.tender.kvm import Kvm


class VirtualMachine:
    """One VM: RAM at 0, two windows, one vCPU. Its descriptors and mappings live until the process ends.

    `ram` is the host address of the RAM. `stats` is a u64 array (a cffi pointer) for the vCPU loop.
    """

    def __init__(self, kvm: Kvm, ram: int, memory: int, stats: Any) -> None:
        self.kvm, self._stats = kvm, stats
        self.machine = ffi.new("struct machine *")
        check(lib.machine_make(self.machine, kvm.host, ffi.cast("char *", ram), memory, stats))
        self.fd, self.vcpu_fd = self.machine.fd, self.machine.vcpu.fd
        self.vcpu = ffi.addressof(self.machine, "vcpu")

    def window(self, slot: int) -> tuple[int, int]:
        """Host address and size of SLOT_RW or SLOT_RO."""
        return host.address_of(self.machine.slots[slot].place), self.machine.slots[slot].size

    def enter_user_mode(self, entry: int, stack: int, argument: int) -> None:
        """Set all registers for the first instruction: CPL3, long mode, RDI = `argument`."""
        check(lib.machine_enter(self.machine, entry, stack, argument))

    def settle(self) -> None:
        """Give KVM the results of the last exit without entering the guest."""
        check(lib.machine_settle(self.machine))

    def sregs(self) -> Any:
        """The system registers now (struct kvm_sregs); the vCPU must be out of the guest."""
        sregs = ffi.new("struct kvm_sregs *")
        host.ioctl(self.vcpu_fd, lib.KVM_GET_SREGS, sregs)
        return sregs

    def ioeventfd(self, doorbell: int, fd: int) -> None:
        """Let a store to `doorbell` signal the eventfd `fd`."""
        check(lib.machine_doorbell(self.machine, doorbell, fd, 0))
