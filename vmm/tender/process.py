"""The tender: the jailed process around one VM.

Two threads. The control thread waits for the hypervisor's records (see hypervisor/wire.py) and ends the
process when its socket closes. The vCPU thread is in C except when the guest made a hypercall that needs
the hypervisor, faulted, or was stopped; then it sends a record and goes back to C, which sleeps until the
control thread lets it go on. So neither ever waits for the other, and a guest cannot keep either from ending.

`prepare` does everything that can be done before the first APPLY arrives; that makes a warm spare.
"""

from __future__ import annotations

import _thread
import gc
import json
import os
import select
import socket
from collections.abc import Sequence
from typing import NoReturn

from hypervisor import wire
from hypervisor.abi import generated as abi
from vmm.tender import faults, host, jail
from vmm.tender._vcpu import ffi, lib
from vmm.tender.guest_memory import BadGuestAddress, GuestAddress, GuestMemory
from vmm.tender.kvm import SLOT_RW, Kvm, VirtualMachine
from vmm.tender.plan import Plan

_EDGE = select.EPOLLIN | select.EPOLLET  # a doorbell is an edge: nobody has to read the eventfd

# What nearly every APPLY consists of, as plain numbers: this is the path of an adoption.
_MAP, _DOORBELL, _WAKE = int(wire.Operation.MAP), int(wire.Operation.DOORBELL), int(wire.Operation.WAKE)
_OVER, _NOTHING_OVER = host.MAP_SHARED | host.MAP_FIXED, host.MAP_NOTHING | host.MAP_FIXED

# Hypercalls whose bytes go along: (index of the address argument, of the length, most bytes).
_CARRIES = {
    abi.Hypercall.LOG: (1, 2, abi.LOG_MAX),
    abi.Hypercall.PANIC: (0, 1, abi.LOG_MAX),
    abi.Hypercall.OUTPUT: (1, 2, abi.OUTPUT_MAX),
    abi.Hypercall.COPY_TO_GRANT: (3, 4, abi.OUTPUT_MAX),
}


class Tender:
    """One VM being tended; made by `prepare`."""

    def __init__(self, sock: socket.socket, vm: VirtualMachine, memory: GuestMemory, allowed: int) -> None:
        self.sock = sock
        self.vm = vm
        self.vcpu = vm.vcpu
        self.memory = memory
        self._epoll = select.epoll()  # what the guest waits on in C
        self.vcpu.epoll_fd, self.vcpu.allowed = self._epoll.fileno(), allowed
        self._wakes: dict[int, int] = {}

    # -- the vCPU thread ------------------------------------------------------------------------------

    def start_vcpu_thread(self, slice_ns: int = 0) -> None:
        """Make the thread, with time slices of its own; its vCPU is held until RUN."""
        started = _thread.allocate_lock()
        started.acquire()
        _thread.start_new_thread(self.run_vcpu, (slice_ns, started))
        started.acquire()

    def run_vcpu(self, slice_ns: int, started: _thread.LockType) -> NoReturn:
        """Run the guest, and tell the hypervisor what C cannot deal with."""
        host.set_slice(slice_ns)
        started.release()
        self.vcpu.stats[lib.STAT_THREAD] = _thread.get_native_id()
        try:
            while True:
                event = lib.vcpu_run(self.vcpu)
                if event == lib.EVENT_HYPERCALL:
                    self._hypercall()
                else:
                    self._fault(faults.examine(self.vm, event, self.memory.ram))
        except BaseException as error:  # a bug of ours, or the hypervisor has gone
            end_with(self.sock, error)

    def _hypercall(self) -> None:
        regs = self.vcpu.regs
        number = regs.rax
        arguments = regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9
        names = abi.names(abi.Hypercall)
        if not self.vcpu.allowed >> number & 1:
            kind = abi.Fault.DENIED_HYPERCALL if number in names else abi.Fault.UNKNOWN_HYPERCALL
            self._bad_call(kind, "not in the manifest")
            return
        body = b""
        if number in _CARRIES:
            address, length, most = _CARRIES[number]
            try:
                if arguments[length] > most:
                    raise BadGuestAddress(f"{arguments[length]} bytes; at most {most}")
                body = self.memory.copy_in(GuestAddress(arguments[address]), arguments[length])
            except BadGuestAddress as error:
                if number != abi.Hypercall.PANIC:  # a panic stays one, even without its message
                    self._bad_call(abi.Fault.BAD_ARGUMENT, f"hypercall {names[number]}: {error}")
                    return
        if number == abi.Hypercall.READY:
            self._answer(0, 0)  # there is nothing to wait for: the guest goes on at once
        wire.send(self.sock, wire.Kind.HYPERCALL, 0, (number, *arguments[:5]), body)

    def _bad_call(self, kind: int, message: str) -> None:
        registers = self.vm.registers()
        self._fault(faults.Fault(kind, message, registers, address=registers["rax"]))

    def _fault(self, fault: faults.Fault) -> None:
        lib.vcpu_hold(self.vcpu, lib.HOLD_FAULT)
        report(self.sock, fault)

    # -- the control thread ---------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Serve the hypervisor's records until its socket closes."""
        try:
            while (message := wire.receive(self.sock)) is not None:
                if message.kind == wire.Kind.APPLY:
                    self.apply(message, message.args[0])
                    wire.send(self.sock, wire.Kind.ACK, message.sequence)
                elif message.kind == wire.Kind.RESULT:
                    self._on_result(message)
                elif message.kind == wire.Kind.PING:
                    wire.send(self.sock, wire.Kind.PONG, message.sequence, message.args)
                else:
                    raise wire.WireError(f"record of kind {message.kind}")
            os._exit(0)
        except BaseException as error:
            end_with(self.sock, error)

    def _on_result(self, message: wire.Message) -> None:
        if not self.vcpu.hold & lib.HOLD_CALL:
            raise wire.WireError("an answer to no call")
        rest, regs = self.apply(message, message.args[2]), self.vcpu.regs
        if rest and regs.rax == abi.Hypercall.COPY_FROM_GRANT:
            self.memory.copy_out(GuestAddress(regs.r10), bytes(rest[: regs.r8]))
        self._answer(message.args[0], message.args[1])

    def _answer(self, rax: int, rdx: int) -> None:
        lib.vcpu_answer(self.vcpu, rax, rdx)
        lib.vcpu_release(self.vcpu, lib.HOLD_CALL)

    def apply(self, message: wire.Message, count: int) -> memoryview:
        """Carry out the record's operations in order; returns the bytes left over behind them.

        Any exception, whatever a wrong operation raises, is the end of this tender.
        """
        body, fds = message.body, message.fds
        end = count * wire.OPERATION.size
        rest = memoryview(body)[end:]
        try:
            for kind, fd_index, a, b, c in wire.OPERATION.iter_unpack(body[:end]):
                if kind == _MAP:
                    self._map(fds[fd_index], a, b, c)
                elif kind in (_DOORBELL, _WAKE):
                    fd, fds[fd_index] = fds[fd_index], -1  # it stays open
                    (self._doorbell if kind == _DOORBELL else self._wake)(fd, a)
                elif kind == wire.Operation.INFO:
                    rest = self._info(a, b, rest)
                elif kind == wire.Operation.UNMAP:
                    host.mmap(self._window(a, b, False), b, host.PROT_NONE, _NOTHING_OVER)
                elif kind == wire.Operation.WARM:
                    lib.vcpu_release(self.vcpu, lib.HOLD_NEW)
                elif kind == wire.Operation.RUN:
                    lib.vcpu_release(self.vcpu, lib.HOLD_NEW | lib.HOLD_SPARE)
                else:
                    raise ValueError(f"operation {kind}")
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
        return rest

    # -- operations; each raises ValueError for numbers that make no sense --------------------------------

    def _window(self, address: int, length: int, writable: bool) -> int:
        """The host address of a page-aligned range of a window."""
        if not (address | length) % abi.PAGE_SIZE and length:
            for slot, (start, size, place) in self.vm.windows.items():
                inside = start <= address and address + length <= start + size
                if inside and (slot == SLOT_RW or not writable):
                    return place + address - start
        raise ValueError("not a range of a window")

    def _map(self, fd: int, address: int, length: int, flags: int) -> None:
        writable = bool(flags & wire.MAP_WRITABLE)
        place = self._window(address, length, writable)
        protection = host.PROT_READ_WRITE if writable else host.PROT_READ
        host.mmap(place, length, protection, _OVER, fd, flags & -abi.PAGE_SIZE)

    def _doorbell(self, fd: int, number: int) -> None:
        """While neither eventfd is registered, the C loop sends rings to the new one."""
        old = self.vcpu.doorbells[number]  # IndexError where there is no such doorbell
        self.vcpu.doorbells[number] = fd
        if old != lib.DOORBELL_NONE:
            self.vm.ioeventfd(number, old, remove=True)
            os.close(old)
        self.vm.ioeventfd(number, fd)

    def _wake(self, fd: int, number: int) -> None:
        self._epoll.register(fd, _EDGE)
        old = self._wakes.get(number)
        self._wakes[number] = fd
        if old is not None:
            self._epoll.unregister(old)
            os.close(old)

    def _info(self, offset: int, length: int, rest: memoryview) -> memoryview:
        if offset + length > abi.INFO_PAGES * abi.PAGE_SIZE or length > len(rest):
            raise ValueError("outside the info pages")
        self.memory.ram[abi.INFO + offset : abi.INFO + offset + length] = rest[:length]
        return rest[length:]


def report(sock: socket.socket, fault: faults.Fault) -> None:
    """Tell the hypervisor about the end of this VM."""
    body = json.dumps({"registers": fault.registers, "message": fault.message}).encode()
    wire.send(sock, wire.Kind.FAULT, 0, fault.words, body)


def end_with(sock: socket.socket, error: BaseException) -> NoReturn:
    """Say what went wrong and end the process; quietly if the hypervisor has gone."""
    if isinstance(error, ConnectionError):
        os._exit(0)
    message = f"the tender failed: {type(error).__name__}: {error}"
    try:
        report(sock, faults.Fault(abi.Fault.INTERNAL, message, {}))
    except OSError:
        pass  # nobody does
    os._exit(1)


def prepare(kvm: Kvm, plan: Plan, fds: Sequence[int], sock: socket.socket) -> Tender:
    """Build the VM up to the point where only RUN is missing; `fds` are those of SPAWN_TENDER."""
    _, ram_fd, template, _, stats_fd = fds
    # Private is copy-on-write memory of its own; nothing of it is in the hypervisor's memfd.
    flags, fd = (host.MAP_NOTHING, -1) if plan.private else (host.MAP_SHARED, ram_fd)
    ram_address = host.mmap(0, plan.memory, host.PROT_READ_WRITE, flags, fd)
    ram = host.view(ram_address, plan.memory)
    for address, contents in plan.pages.items():
        ram[address : address + len(contents)] = contents
    for segment in plan.segments:
        place = ram[segment.address : segment.address + segment.file_size]
        if segment.file_size and os.preadv(template, [place], segment.offset) != segment.file_size:
            raise ValueError("the template is shorter than its segments")
    stats = host.mmap(0, abi.PAGE_SIZE, host.PROT_READ_WRITE, host.MAP_SHARED, stats_fd)
    vm = VirtualMachine(kvm, ram_address, plan.memory, ffi.cast("uint64_t *", stats))
    vm.warm_up()
    vm.enter_user_mode(plan.entry, plan.memory, abi.INFO)
    # A rehearsal: what a fault needs is copied from the zygote, page by page, when it is first used.
    json.dumps(faults.examine(vm, lib.EVENT_EXCEPTION, ram).registers)
    return Tender(sock, vm, GuestMemory(ram, plan.mappings), plan.allowed)


def run(kvm: Kvm, plan: Plan, fds: Sequence[int]) -> NoReturn:
    """The life of a tender, in a child freshly forked by jail.fork()."""
    sock = socket.socket(fileno=fds[0])
    try:
        gc.disable()  # nothing here makes cycles; a collection would only touch shared pages
        host.set_slice(host.CONTROL_SLICE_NS)
        jail.confine([*fds, kvm.fd])
        tender = prepare(kvm, plan, fds, sock)
        tender.start_vcpu_thread(plan.slice_ns)
        for fd in (*fds[1:], kvm.fd):
            os.close(fd)
        jail.seal("tender", private_memory=plan.memory if plan.private else 0)
    except BaseException as error:
        end_with(sock, error)
    tender.serve()
