"""The tender: the jailed process around one VM.

Two threads. The control thread waits for the hypervisor's records (see hypervisor/wire.py) and ends the
process when its socket closes. The vCPU thread is in C except when the guest made a hypercall that needs
the hypervisor, faulted, or was stopped; then it sends a record and goes back to C, which sleeps until the
control thread lets it go on. So neither ever waits for the other, and a guest cannot keep either from ending.

`prepare` does everything that can be done before the first APPLY arrives; that makes a warm spare.
"""

from __future__ import annotations

import _thread
import errno
import gc
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NoReturn

from hypervisor import wire
from hypervisor.abi import generated as abi
from vmm.tender import faults, host, jail
from vmm.tender._vcpu import ffi, lib
from vmm.tender.guest_memory import BadGuestAddress, GuestAddress, GuestMemory
from vmm.tender.kvm import SLOT_RW, Kvm, VirtualMachine
from vmm.tender.plan import Plan

WAKES = 128
_EDGE = select.EPOLLIN | select.EPOLLET  # a doorbell is an edge: nobody has to read the eventfd

# What nearly every APPLY consists of, as plain numbers: this is the path of an adoption.
_MAP, _INFO, _RUN = int(wire.Operation.MAP), int(wire.Operation.INFO), int(wire.Operation.RUN)
_KEEPS_DESCRIPTOR = (int(wire.Operation.DOORBELL), int(wire.Operation.WAKE))
_READ_WRITE, _OVER = host.PROT_READ | host.PROT_WRITE, host.MAP_SHARED | host.MAP_FIXED

# Hypercalls whose bytes go along: (index of the address argument, of the length, most bytes).
_CARRIES = {
    abi.HYPERCALL_LOG: (1, 2, abi.LOG_MAX),
    abi.HYPERCALL_PANIC: (0, 1, abi.LOG_MAX),
    abi.HYPERCALL_OUTPUT: (1, 2, abi.OUTPUT_MAX),
    abi.HYPERCALL_COPY_TO_GRANT: (3, 4, abi.OUTPUT_MAX),
}


class OperationError(Exception):
    """An APPLY step that cannot be done: our own hypervisor asks for something impossible."""

    def __init__(self, number: int, index: int) -> None:
        super().__init__(f"step {index}: {os.strerror(number)}")
        self.errno, self.index = number, index


class Descriptors:
    """What SPAWN_TENDER brought: the socket, RAM, template, guest-written and tender-written counters."""

    def __init__(self, fds: Sequence[int]) -> None:
        self.socket, self.ram, self.template, self.telemetry, self.stats = fds


class Tender:
    """One VM being tended; made by `prepare`."""

    def __init__(self, sock: socket.socket, vm: VirtualMachine, memory: GuestMemory, allowed: int) -> None:
        self.sock = sock
        self.vm = vm
        self.vcpu = vm.vcpu
        self.memory = memory
        self._epoll = select.epoll()  # what the guest waits on in C
        control = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(control, _EDGE)
        self.vcpu.control_fd, self.vcpu.epoll_fd = control, self._epoll.fileno()
        self._wakes: dict[int, int] = {}
        self._call = (0,) * 7  # the hypercall the vCPU waits in: number and six arguments
        self._unclaimed = 0  # answers to calls that did not wait for one
        self._sequence = 0
        self._stop_sequence = 0
        self.vcpu.allowed = allowed
        self._handlers: dict[int, Callable[[wire.Message], None]] = {
            wire.Kind.APPLY: self._on_apply,
            wire.Kind.RESULT: self._on_result,
            wire.Kind.STOP: self._on_stop,
            wire.Kind.PING: self._on_ping,
        }
        self._operations: dict[int, Callable[[int, int, int], None]] = {
            wire.Operation.UNMAP: self._unmap,
            wire.Operation.DOORBELL: self._doorbell,
            wire.Operation.UNDOORBELL: self._undoorbell,
            wire.Operation.WAKE: self._wake,
            wire.Operation.UNWAKE: self._unwake,
        }

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
        self.vcpu.thread_id = self.vcpu.stats[lib.STAT_THREAD] = _thread.get_native_id()
        try:
            while True:
                event = lib.vcpu_run(self.vcpu)
                if event == lib.EVENT_HYPERCALL:
                    self._hypercall()
                elif event == lib.EVENT_STOPPED:
                    self._send_stopped()
                else:
                    self._fault(faults.examine(self.vm, event, self.memory.ram))
        except BaseException as error:  # a bug of ours, or the hypervisor has gone
            end_with(self.sock, error)

    def _hypercall(self) -> None:
        regs = self.vcpu.regs
        number = regs.rax
        arguments = regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9
        if number not in abi.HYPERCALL_NAMES:
            self._bad_call(abi.FAULT_UNKNOWN_HYPERCALL, f"hypercall {number:#x} does not exist")
            return
        if not self.vcpu.allowed >> number & 1:
            name = abi.HYPERCALL_NAMES[number]
            self._bad_call(abi.FAULT_DENIED_HYPERCALL, f"hypercall {name} is not in the manifest")
            return
        body = b""
        if number in _CARRIES:
            address, length, most = _CARRIES[number]
            try:
                if arguments[length] > most:
                    raise BadGuestAddress(f"{arguments[length]} bytes; at most {most}")
                body = self.memory.copy_in(GuestAddress(arguments[address]), arguments[length])
            except BadGuestAddress as error:
                if number != abi.HYPERCALL_PANIC:  # a panic stays one, even without its message
                    message = f"hypercall {abi.HYPERCALL_NAMES[number]}: {error}"
                    self._bad_call(abi.FAULT_BAD_ARGUMENT, message)
                    return
        self._call = (number, *arguments)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        if number == abi.HYPERCALL_READY:
            # Nothing depends on the answer: the guest goes on at once, and the answer is dropped.
            self._unclaimed += 1
            self._answer(0, 0)
        wire.send(self.sock, wire.Kind.HYPERCALL, self._sequence, (number, *arguments[:5]), body)

    def _bad_call(self, kind: int, message: str) -> None:
        registers = self.vm.registers()
        self._fault(faults.Fault(kind, message, registers, address=registers["rax"]))

    def _fault(self, fault: faults.Fault) -> None:
        lib.vcpu_hold(self.vcpu, lib.HOLD_FAULT)
        body = json.dumps({"registers": fault.registers, "message": fault.message}).encode()
        wire.send(self.sock, wire.Kind.FAULT, 0, fault.words, body)

    def _send_stopped(self) -> None:
        body = json.dumps(self.vm.registers()).encode()
        wire.send(self.sock, wire.Kind.STOPPED, self._stop_sequence, (), body)

    # -- the control thread ---------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Serve the hypervisor's records until its socket closes."""
        try:
            while (message := wire.receive(self.sock)) is not None:
                handler = self._handlers.get(message.kind)
                if handler is None:
                    raise wire.WireError(f"record of kind {message.kind}")
                handler(message)
            os._exit(0)
        except BaseException as error:
            end_with(self.sock, error)

    def _on_apply(self, message: wire.Message) -> None:
        status, index = 0, 0
        try:
            self.apply(message, message.args[0])
            if message.args[1]:
                self.resume()
        except OperationError as error:
            status, index = error.errno, error.index
        wire.send(self.sock, wire.Kind.ACK, message.sequence, (status, index))

    def _on_result(self, message: wire.Message) -> None:
        if self._unclaimed:
            self._unclaimed -= 1
            return
        if not self.vcpu.hold & lib.HOLD_CALL:
            raise wire.WireError("an answer to no call")
        rest = self.apply(message, message.args[2])
        if rest and self._call[0] == abi.HYPERCALL_COPY_FROM_GRANT:
            self.memory.copy_out(GuestAddress(self._call[4]), bytes(rest[: self._call[5]]))
        self._answer(message.args[0], message.args[1])

    def _answer(self, rax: int, rdx: int) -> None:
        lib.vcpu_answer(self.vcpu, rax, rdx)
        lib.vcpu_release(self.vcpu, lib.HOLD_CALL)

    def _on_stop(self, message: wire.Message) -> None:
        self._stop_sequence = message.sequence
        lib.vcpu_hold(self.vcpu, lib.HOLD_STOP)

    def _on_ping(self, message: wire.Message) -> None:
        wire.send(self.sock, wire.Kind.PONG, message.sequence, message.args)

    def resume(self) -> None:
        """Let the guest run, for the first time or after a stop."""
        lib.vcpu_release(self.vcpu, lib.HOLD_NEW | lib.HOLD_STOP)

    def apply(self, message: wire.Message, count: int) -> memoryview:
        """Carry out the record's operations in order; returns the bytes left over behind them.

        OperationError: one failed, those before it are done.
        """
        body, fds = message.body, message.fds
        end = count * wire.OPERATION.size
        rest = memoryview(body)[end:]
        kept: set[int] = set()
        index = 0
        try:
            for kind, fd_index, a, b, c in wire.OPERATION.iter_unpack(body[:end]):
                if kind == _MAP:
                    self._map(fds[fd_index], a, b, c)
                elif kind == _INFO:
                    rest = self._info(a, b, rest)
                elif kind == _RUN:
                    self.resume()
                elif kind in _KEEPS_DESCRIPTOR:
                    self._operations[kind](fds[fd_index], a, b)
                    kept.add(fd_index)
                else:
                    self._operations[kind](-1, a, b)
                index += 1
        except OSError as error:
            raise OperationError(error.errno or errno.EIO, index) from error
        except (LookupError, ValueError, struct.error) as error:
            raise OperationError(errno.EINVAL, index) from error
        finally:
            for position, fd in enumerate(fds):
                if position not in kept:
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
        host.mmap(place, length, _READ_WRITE if writable else host.PROT_READ, _OVER, fd)
        self.vm.not_for_children(place, length)

    def _unmap(self, _fd: int, address: int, length: int) -> None:
        place = self._window(address, length, False)
        flags = host.MAP_PRIVATE | host.MAP_ANONYMOUS | host.MAP_NORESERVE | host.MAP_FIXED
        host.mmap(place, length, host.PROT_NONE, flags)
        self.vm.not_for_children(place, length)

    def _doorbell(self, fd: int, number: int, _b: int) -> None:
        """While neither eventfd is registered, the C loop sends rings to the new one."""
        if number >= abi.DOORBELLS:
            raise ValueError("no such doorbell")
        old = self.vcpu.doorbells[number]
        self.vcpu.doorbells[number] = fd
        if old >= 0:
            self.vm.ioeventfd(number, old, remove=True)
            os.close(old)
        try:
            self.vm.ioeventfd(number, fd)
        except OSError:
            self.vcpu.doorbells[number] = lib.DOORBELL_WITHDRAWN
            raise

    def _undoorbell(self, _fd: int, number: int, _b: int) -> None:
        if number >= abi.DOORBELLS or (old := self.vcpu.doorbells[number]) < 0:
            raise ValueError("no such doorbell")
        self.vcpu.doorbells[number] = lib.DOORBELL_WITHDRAWN
        self.vm.ioeventfd(number, old, remove=True)
        os.close(old)

    def _wake(self, fd: int, number: int, _b: int) -> None:
        if number >= WAKES:
            raise ValueError("no such wake-up")
        self._epoll.register(fd, _EDGE)
        old = self._wakes.get(number)
        self._wakes[number] = fd
        if old is not None:
            self._epoll.unregister(old)
            os.close(old)

    def _unwake(self, _fd: int, number: int, _b: int) -> None:
        fd = self._wakes.pop(number)
        self._epoll.unregister(fd)
        os.close(fd)

    def _info(self, offset: int, length: int, rest: memoryview) -> memoryview:
        if offset + length > abi.INFO_PAGES * abi.PAGE_SIZE or length > len(rest):
            raise ValueError("outside the info pages")
        self.memory.ram[abi.INFO + offset : abi.INFO + offset + length] = rest[:length]
        return rest[length:]


def end_with(sock: socket.socket, error: BaseException) -> NoReturn:
    """Say what went wrong and end the process; quietly if the hypervisor has gone."""
    if isinstance(error, ConnectionError):
        os._exit(0)
    message = f"the tender failed: {type(error).__name__}: {error}"
    body = json.dumps({"registers": {}, "message": message}).encode()
    try:
        wire.send(sock, wire.Kind.FAULT, 0, (abi.FAULT_INTERNAL,), body)
    except OSError:
        pass  # nobody does
    os._exit(1)


def map_ram(plan: Plan, fd: int) -> int:
    """The RAM in this process: the hypervisor's memfd, or private copy-on-write memory."""
    protection = host.PROT_READ | host.PROT_WRITE
    if plan.private:
        flags = host.MAP_PRIVATE | host.MAP_ANONYMOUS | host.MAP_NORESERVE
        return host.mmap(0, plan.memory, protection, flags)
    return host.mmap(0, plan.memory, protection, host.MAP_SHARED, fd)


def fill_ram(plan: Plan, ram: memoryview, template: int) -> None:
    """Tables, trap page and the image; everything else stays zero and untouched."""
    for address, contents in plan.pages.items():
        ram[address : address + len(contents)] = contents
    for segment in plan.segments:
        place = ram[segment.address : segment.address + segment.file_size]
        if segment.file_size and os.preadv(template, [place], segment.offset) != segment.file_size:
            raise ValueError("the template is shorter than its segments")


def prepare(kvm: Kvm, plan: Plan, fds: Descriptors, sock: socket.socket) -> Tender:
    """Build the VM up to the point where only RUN is missing."""
    ram_address = map_ram(plan, fds.ram)
    ram = host.view(ram_address, plan.memory)
    fill_ram(plan, ram, fds.template)
    protection = host.PROT_READ | host.PROT_WRITE
    stats_address = host.mmap(0, abi.PAGE_SIZE, protection, host.MAP_SHARED, fds.stats)
    stats = ffi.cast("uint64_t *", stats_address)
    vm = VirtualMachine(
        kvm, ram_address, plan.memory, stats, window_sizes=plan.window_sizes, may_fork=plan.private
    )
    vm.warm_up()
    vm.enter_user_mode(plan.entry, plan.memory, abi.INFO)
    return Tender(sock, vm, GuestMemory(ram, plan.mappings), plan.allowed)


def run(kvm: Kvm, plan: Plan, fds: Sequence[int]) -> NoReturn:
    """The life of a tender, in a child freshly forked by jail.fork()."""
    given = Descriptors(fds)
    sock = socket.socket(fileno=given.socket)
    try:
        gc.disable()  # nothing here makes cycles; a collection would only touch shared pages
        profile = "tender_fork" if plan.private else "tender"
        host.set_slice(host.CONTROL_SLICE_NS)
        jail.confine([*fds, kvm.fd])
        tender = prepare(kvm, plan, given, sock)
        tender.start_vcpu_thread(plan.slice_ns)
        for fd in (given.ram, given.template, given.telemetry, given.stats):
            os.close(fd)
        if not plan.private:  # only a fork needs another VM
            os.close(kvm.fd)
        jail.seal(profile, private_memory=plan.memory if plan.private else 0)
    except BaseException as error:
        end_with(sock, error)
    tender.serve()
