"""What this host's KVM is, found out by running tiny CPL3 guests, and what a system chooses because of it.

`choose` is quick (a few milliseconds) and runs before every system; `vmm.examination` looks at everything.
Guests run in a forked child: a VM lives until its process ends, and a KVM that hangs can be killed.

Exceptions: ProbeError (no system can run on this host; the message says what to do).
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from hypervisor.abi import generated as abi
from vmm import host
from vmm.machine import VirtualMachine
from vmm.tender import jail, page_tables, trap_page
from vmm.tender._vcpu import ffi, lib
from vmm.tender.kvm import Kvm, KvmError
from vmm.tender.page_tables import Mapping, Segment

CHILD_SECONDS = 5.0
FILES_MIN = 1024  # what a VM may have open in its jail
SPIN_MIN_NS, SPIN_MAX_NS = 10_000, 100_000
DATA_PAGE = 0x300000  # a writable page of the tiny guest
CALL = bytes.fromhex("b80100000089042500000060")  # mov $1 (ready),%eax; mov %eax,HYPERCALL_PAGE
EXITS, ROUNDS = 25, 5  # of the guest that measures them: exits of a round, its `ready` included

_MEMORY = 4 << 20
_STATS = 16
_KVM_GET_TSC_KHZ = 0xAEA3
# 0: mov $24,%ecx; 1: mov $2 (wait),%eax; xor %edi,%edi; mov %eax,HYPERCALL_PAGE; dec %ecx; jnz 1b; CALL;
# jmp 0b
_EXIT_LOOP = bytes.fromhex("b918000000b80200000031ff89042500000060ffc975ee") + CALL + b"\xeb\xdb"


class ProbeError(Exception):
    """This host cannot run a system. `status` is the command line's exit status."""

    status = 125


class NoKvm(ProbeError):
    """/dev/kvm is missing, not permitted, or of no use."""


class Choices(NamedTuple):
    """What the mechanism is told about this host."""

    cpus: int  # that this process may use
    tsc_khz: int
    exit_ns: int  # an exit to userspace and back
    spin_ns: int  # how long it pays to spin before sleeping


class TinyGuest:
    """A VM that is nothing but `code`, at IMAGE_BASE, at CPL3. Use it in `in_child` only."""

    def __init__(self, kvm: Kvm, code: bytes) -> None:
        ram = host.mmap(0, _MEMORY, host.PROT_READ | host.PROT_WRITE, host.MAP_PRIVATE | host.MAP_ANONYMOUS)
        self.ram_address, self.ram = ram, host.view(ram, _MEMORY)
        page = abi.PAGE_SIZE
        segments = [Segment(abi.IMAGE_BASE, 0, len(code), page, 5), Segment(DATA_PAGE, 0, 0, page, 6)]
        tables = page_tables.build(page_tables.component_mappings(segments, Mapping(0, 0), _MEMORY))
        for address, content in (tables | trap_page.build() | {abi.IMAGE_BASE: code}).items():
            self.ram[address : address + len(content)] = content
        self.stats = ffi.new("uint64_t[]", _STATS)
        self.vm = VirtualMachine(kvm, ram, _MEMORY, self.stats)
        self.vm.vcpu.allowed = (1 << 64) - 1
        self._epoll = select.epoll()
        self.vm.vcpu.epoll_fd = self._epoll.fileno()
        self.vm.enter_user_mode(abi.IMAGE_BASE, _MEMORY - 64, 0)
        lib.vcpu_release(self.vm.vcpu, lib.HOLD_NEW | lib.HOLD_SPARE)

    def run(self) -> int:
        """Until the guest needs somebody; returns the event. Serves no hypercall but `wait`."""
        lib.vcpu_release(self.vm.vcpu, lib.HOLD_CALL | lib.HOLD_FAULT)
        event: int = lib.vcpu_run(self.vm.vcpu)
        return event


def check_device(path: str = "/dev/kvm") -> None:
    """NoKvm unless `path` is a KVM that this process may use."""
    try:
        with open(path, "rb+", buffering=0) as device:
            fcntl.ioctl(device, lib.KVM_GET_API_VERSION)
    except FileNotFoundError:
        remedy = "load kvm_intel or kvm_amd (modprobe), or enable virtualization for this machine"
        raise NoKvm(f"no {path}; {remedy}") from None
    except PermissionError:
        remedy = "join its group (sudo usermod -aG kvm $USER, then log in again) or run as root"
        raise NoKvm(f"no permission for {path}; {remedy}") from None
    except OSError as error:
        raise NoKvm(f"{path} is not KVM ({error.strerror}); find out what has replaced it") from None


def check_files() -> int:
    """How many files one process may have open; ProbeError if even one component wants more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < FILES_MIN:
        raise ProbeError(f"at most {most} open files; raise the limit: ulimit -Hn {4 * FILES_MIN}")
    return most


def check_jail() -> None:
    """ProbeError unless this process may make the jail that every VM and device runs in."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        with open(reading, "rb") as stream:
            try:
                pid = jail.fork(as_root=jail.privileged())
                if pid == 0:
                    _enter_jail(writing)
            finally:
                os.close(writing)
            why = stream.read().decode()
            os.waitpid(pid, 0)
    except OSError as error:
        fix = "enable user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)"
        why = f"new namespaces: {error.strerror}; {fix} or run as root"
    if why:
        what, _, fix = why.partition("; ")
        remedy = "run on the host itself (not in a chroot), or in a container that allows namespaces"
        raise ProbeError(f"no jail for VMs: {what}; {fix or remedy}")


def _enter_jail(writing: int) -> NoReturn:
    why = "it ended"
    try:
        why = "cannot enter the jail"
        jail.share()
        jail.confine([writing])
        why = "cannot seal the jail"
        jail.seal("tender")
        why = ""
    except OSError as error:
        why = f"{why}: {error}"
    finally:
        os.write(writing, why.encode())
        os._exit(0)


def in_child(function: Callable[[Kvm], Any]) -> Any:
    """The (JSON) result of `function`, run in a process of its own; NoKvm where it fails or hangs."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                answer = {"return": function(Kvm())}
            except (KvmError, ProbeError) as error:
                answer = {"error": str(error)}
            except Exception as error:
                answer = {"error": f"/dev/kvm: a tiny guest failed ({error!r}); run r3s3 doctor"}
            os.write(writing, json.dumps(answer).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    try:
        with open(reading, "rb") as stream:
            ready, _, _ = select.select([stream], [], [], CHILD_SECONDS)
            data = stream.read() if ready else b""
    finally:
        os.kill(pid, signal.SIGKILL)  # it has said all it had to say
        os.waitpid(pid, 0)
    if not data:
        raise NoKvm("/dev/kvm does not run a guest (no answer); run r3s3 doctor")
    answer = json.loads(data)
    if "error" in answer:
        raise NoKvm(answer["error"])
    return answer["return"]


def measure_exit(kvm: Kvm) -> tuple[int, int]:
    """(ns of an exit to userspace and back, TSC kHz or 0), by a guest that does nothing else.

    Of several rounds the quickest: the first builds KVM's tables, and others may want the CPU, too.
    """
    guest = TinyGuest(kvm, _EXIT_LOOP)
    taken = []
    for _ in range(ROUNDS):
        begin = time.monotonic_ns()
        event = guest.run()
        taken.append(time.monotonic_ns() - begin)
        if event != lib.EVENT_HYPERCALL:
            raise ProbeError(f"/dev/kvm: a guest at CPL3 ended with event {event}; run r3s3 doctor")
    try:
        khz = fcntl.ioctl(guest.vm.vcpu_fd, _KVM_GET_TSC_KHZ)
    except OSError:
        khz = 0
    return min(taken) // EXITS, khz


def spin_time(cpus: int, exit_ns: int) -> int:
    """How long to spin before sleeping: as long as a sleep and a wake-up cost, so that the wrong guess at
    most doubles the price; never where a spinning guest keeps the one it waits for from the only CPU."""
    return min(SPIN_MAX_NS, max(SPIN_MIN_NS, 2 * exit_ns)) if cpus > 1 else 0


def choose() -> Choices:
    """Look at this host, quickly."""
    check_device()
    check_files()
    check_jail()
    cpus = len(os.sched_getaffinity(0))
    exit_ns, khz = in_child(measure_exit)
    return Choices(cpus, khz or calibrate_tsc(), exit_ns, spin_time(cpus, exit_ns))


def calibrate_tsc() -> int:
    """kHz of the TSC as a guest reads it, for a KVM that does not say."""
    khz: int = in_child(_calibrate)
    return khz


def _calibrate(kvm: Kvm) -> int:
    # rdtsc; shl $32,%rdx; or %rdx,%rax; mov %rax,%rdi; then the call with it, and again from the start
    guest = TinyGuest(kvm, bytes.fromhex("0f3148c1e2204809d04889c7") + CALL + b"\xeb\xe6")
    readings = []
    for _ in range(2):
        guest.run()
        readings.append((time.monotonic_ns(), guest.vm.vcpu.regs.rdi))
        time.sleep(0.01)
    (begin, first), (end, last) = readings
    return int((last - first) * 1_000_000 // (end - begin))
