"""A tender with private memory forks, in its jail, and both VMs go on from the same instruction."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import pytest

from hypervisor.abi import generated as abi
from tests.tender.system import MEMORY, assemble, memory_object
from vmm import forking, host, loader
from vmm.machine import VirtualMachine
from vmm.tender import jail, plan
from vmm.tender._vcpu import ffi, lib
from vmm.tender.kvm import Kvm

pytestmark = pytest.mark.kvm

# Rounds of arithmetic that involve memory, SSE, x87 and flags; FORK in the middle of the state.
SOURCE = f"""
    mov $0x5851F42D4C957F2D, %r10
    mov $1, %rax
    movq %r10, %xmm1
    punpcklqdq %xmm1, %xmm1
    movdqa %xmm1, %xmm0
    fld1
    mov $2, %r14d
 1: mov $100000, %ecx
 2: imul %r10, %rax
    add $12345, %rax
    mov %rax, %rdx
    shr $52, %rdx
    add %rax, numbers(,%rdx,8)
    paddq %xmm1, %xmm0
    pshufd $0x93, %xmm0, %xmm0
    fld1
    faddp
    dec %ecx
    jnz 2b
    dec %r14d
    jz 3f
    mov %rax, %r12
    hypercall {abi.Hypercall.GRANT}
    mov %rax, %r15
    mov %r12, %rax
    jmp 1b
 3: movq %xmm0, %rdx
    add %rdx, %rax
    fistpq -8(%rsp)
    imul -8(%rsp), %rax
    lea numbers, %rsi
    mov $4096, %ecx
 4: imul $31, %rax, %rax
    add (%rsi), %rax
    add $8, %rsi
    dec %ecx
    jnz 4b
    mov %rax, %rdi
    mov %r15, %rsi
    hypercall {abi.Hypercall.EXIT}
.bss
.balign 4096
numbers: .skip 32768
"""


def run_to_call(vm: VirtualMachine) -> int:
    """Run the guest to its next hypercall; its number."""
    lib.vcpu_release(vm.vcpu, lib.HOLD_NEW | lib.HOLD_SPARE)
    event = lib.vcpu_run(vm.vcpu)
    assert event == lib.EVENT_HYPERCALL, event
    return int(vm.vcpu.regs.rax)


def answer(vm: VirtualMachine, rax: int) -> None:
    """Answer it."""
    lib.vcpu_answer(vm.vcpu, rax, 0)
    lib.vcpu_release(vm.vcpu, lib.HOLD_CALL)


def outcome(vm: VirtualMachine) -> tuple[int, int]:
    """Run to the end: (checksum, what the middle hypercall returned)."""
    assert run_to_call(vm) == abi.Hypercall.EXIT
    return int(vm.vcpu.regs.rdi), int(vm.vcpu.regs.rsi)


def tender(fork: bool, writer: int) -> None:
    """The jailed process; what it finds out goes through the pipe as JSON."""
    kvm = Kvm()
    xsave_size = forking.xsave_size(kvm)
    template = loader.prepare("x", assemble(SOURCE), MEMORY)
    body: dict[str, Any] = {"name": "x", "memory": MEMORY, "memory_kind": "private", "allow": [5, 8]}
    body |= {"segments": [each._asdict() for each in template.segments], "entry": template.entry}
    body |= {"heap_base": template.heap_base, "heap_size": template.heap_size}
    as_root = jail.privileged()
    parsed = plan.parse(json.dumps(body).encode(), as_root)
    window = memory_object(4096)
    child = jail.fork(as_root=as_root)
    if child:
        os._exit(os.waitpid(child, 0)[1] and 1)
    try:
        jail.confine([template.fd, kvm.host.fd, writer, window])
        flags = host.MAP_PRIVATE | host.MAP_ANONYMOUS
        address = host.mmap(0, MEMORY, host.PROT_READ | host.PROT_WRITE, flags)
        ram, stats = host.view(address, MEMORY), ffi.new("uint64_t[512]")
        jail.check(lib.tender_fill(parsed.plan, ffi.cast("char *", address), template.fd))
        vm = VirtualMachine(kvm, address, MEMORY, stats)
        vm.vcpu.epoll_fd = -1
        vm.enter_user_mode(template.entry, MEMORY, abi.INFO)
        place, _ = vm.window(lib.SLOT_RW)
        host.mmap(place, 4096, host.PROT_READ | host.PROT_WRITE, host.MAP_SHARED | host.MAP_FIXED, window)
        jail.seal("tender_fork", private_memory=MEMORY)
        results: dict[str, Any] = {}
        assert run_to_call(vm) == abi.Hypercall.GRANT
        if fork:
            # Both get their own answer after the state was copied, as fork() returns twice.
            state = forking.save(vm, xsave_size)
            written = os.eventfd(0)
            if forking.fork(vm) == 0:
                fork = False
                gone = window_gone(place)
                vm = forking.continue_forked(kvm, ram, stats, state)
                vm.vcpu.epoll_fd = -1
                vm.vcpu.hold |= lib.HOLD_CALL
                answer(vm, 0)
                mine = outcome(vm)
                results["child"] = mine
                results["window"] = gone
                os.write(writer, json.dumps(results).encode() + b"\n")
                os.eventfd_write(written, 1)
                os._exit(0)
            os.eventfd_read(written)  # the child has written all over its memory by now
        answer(vm, 1)
        os.write(writer, json.dumps({"parent": outcome(vm)}).encode() + b"\n")
    except BaseException as error:
        os.write(writer, json.dumps({"error": repr(error)}).encode() + b"\n")
    os._exit(0)


def window_gone(place: int) -> bool:
    """In the child: what was mapped at the host address was not inherited (MADV_DONTFORK)."""
    try:  # madvise of a range that is not mapped is ENOMEM; nothing else tells without a fault
        host.call(28, place, 4096, 4)
    except OSError as error:
        return error.errno == errno.ENOMEM
    return False


def run(fork: bool) -> dict[str, Any]:
    """What the processes of one run report."""
    reader, writer = os.pipe()
    carrier = os.fork()
    if carrier == 0:
        try:
            tender(fork, writer)
        finally:
            os._exit(3)
    os.close(writer)
    with open(reader, "rb") as file:
        lines = file.read().splitlines()
    os.waitpid(carrier, 0)
    results: dict[str, Any] = {}
    for line in lines:
        results |= json.loads(line)
    assert "error" not in results, results
    return results


def test_both_continue() -> None:
    alone = run(False)["parent"]
    both = run(True)
    assert both["parent"] == [alone[0], 1]
    assert both["child"] == [alone[0], 0]
    assert both["window"] is True
