"""Everything `r3s3 doctor` looks at: how this KVM behaves, what the host allows, which tools are there.

Each subject is tried out, with a tiny guest where KVM is concerned, and ends as one Finding.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypervisor.abi import generated as abi
from vmm import host, probe
from vmm.cli.command import CommandError
from vmm.cli.control import runtime_directory
from vmm.probe import DATA_PAGE, ProbeError, TinyGuest
from vmm.tender import jail
from vmm.tender._vcpu import ffi, lib
from vmm.tender.kvm import Kvm

ROOT = Path(__file__).resolve().parents[1]
MEMORY_MIN = 512 << 20
SOFTWARE_EXIT_NS = 10_000  # an exit costs less with VMX or SVM, also nested

_ANSWER = 0x1234
_KVM_GET_DIRTY_LOG = 0x4010AE42
_KVM_MEM_LOG_DIRTY_PAGES = 1
_EFER_SCE = 1
_STAR, _LSTAR, _SFMASK = 0xC0000081, 0xC0000082, 0xC0000084
_JAIL = "from root to nobody" if jail.privileged() else "in a user namespace"
_FEATURES = {0x7: "AVX", 0xE7: "AVX-512"}
_CALL = probe.CALL
_STORED = 0x55
_STORE_TO_WINDOW = bytes.fromhex("b800000080c70055000000") + _CALL  # mov $RW_WINDOW,%eax; movl $0x55,(%rax)


@dataclass(frozen=True)
class Finding:
    """One line. `ok` is None where something is missing that is only sometimes needed."""

    subject: str
    ok: bool | None
    what: str
    fix: str = ""


class Failure(Exception):
    """What was tried out does not work: what happened, what to do."""

    def __init__(self, what: str, fix: str, ok: bool | None = False) -> None:
        super().__init__(what)
        self.what, self.fix, self.ok = what, fix, ok


def examine(test_bed: Callable[[], str] | None = None) -> Iterator[Finding]:
    """Everything, in the order in which one would mend it; guests are tried only where KVM may be used, and
    the test bed is looked at only where it cannot. `test_bed`: what that is; CommandError says what it lacks.
    """
    device = _try("kvm", _check(probe.check_device, "/dev/kvm may be used"))
    yield device
    if test_bed and not _runs_systems():
        yield _try("test bed", _test_bed(test_bed))
    subjects = _GUESTS | _HOST if device.ok else _HOST
    for subject, look in subjects.items():
        yield _try(subject, look)


def _try(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except Failure as failure:
        return Finding(subject, failure.ok, failure.what, failure.fix)
    except ProbeError as error:
        what, _, _ = str(error).partition("; ")
        return Finding(subject, False, what, "see the first line that is not ok")


def _runs_systems() -> bool:
    """Whether `run` uses this KVM, be it to fail for another reason."""
    try:
        probe.choose()
    except probe.NoKvm:
        return False
    except ProbeError:
        pass
    return True


def _test_bed(test_bed: Callable[[], str]) -> Callable[[], str]:
    def look() -> str:
        try:
            return f"run and verify use it until then, slowly: {test_bed()}"
        except CommandError as error:
            what, _, fix = str(error).partition("; ")
            raise Failure(f"run and verify would use it, but: {what}", fix, ok=None) from None

    return look


# -- KVM ----------------------------------------------------------------------------------------------


def _check(check: Callable[[], object], well: str) -> Callable[[], str]:
    """Says `well` where `check` does not complain; {} in it is what `check` returns."""

    def look() -> str:
        try:
            return well.format(check())
        except ProbeError as error:
            what, _, fix = str(error).partition("; ")
            raise Failure(what, fix) from None

    return look


def _guest(experiment: Callable[[Kvm], str]) -> Callable[[], str]:
    """The experiment, in a process of its own."""

    def look() -> str:
        text: str = probe.in_child(experiment)
        return text

    return look


def _expect(guest: TinyGuest, event: int, meaning: str) -> None:
    got = guest.run()
    if got != event:
        raise ProbeError(f"{meaning} does not work (event {got}, detail {guest.vm.vcpu.detail})")


def _capabilities(kvm: Kvm) -> str:
    return f"KVM API 12 with all capabilities needed, CR4 {kvm.host.sregs.cr4:#x}, XCR0 {kvm.host.xcr0:#x}"


def _exits(kvm: Kvm) -> str:
    exit_ns, _ = probe.measure_exit(kvm)
    begin = time.monotonic_ns()
    TinyGuest(kvm, _CALL)  # the second: what is done only once has been done
    created = time.monotonic_ns() - begin
    kind = "a software KVM" if exit_ns > SOFTWARE_EXIT_NS else "hardware virtualization"
    return f"CPL3 guests run, an exit costs {exit_ns / 1000:.1f} us ({kind}), a VM {created / 1000:.0f} us"


def _registers(kvm: Kvm) -> str:
    # the call; mov %eax,%edi; the call
    guest = TinyGuest(kvm, _CALL + b"\x89\xc7" + _CALL)
    _expect(guest, lib.EVENT_HYPERCALL, "a hypercall")
    lib.vcpu_answer(guest.vm.vcpu, _ANSWER, 0)
    _expect(guest, lib.EVENT_HYPERCALL, "a hypercall")
    if guest.vm.vcpu.regs.rdi != _ANSWER:
        raise ProbeError("a register set through kvm_run does not reach the guest")
    return "results of hypercalls travel in kvm_run, without further system calls"


def _doorbells(kvm: Kvm) -> str:
    # mov $100,%ecx; 1: movl $1,DOORBELL_PAGE; dec %ecx; jnz 1b
    guest = TinyGuest(kvm, bytes.fromhex("b964000000c704250010006001000000ffc975f1") + _CALL)
    bell = os.eventfd(0)
    guest.vm.ioeventfd(0, bell)
    begin = time.monotonic_ns()
    _expect(guest, lib.EVENT_HYPERCALL, "a doorbell")
    taken = (time.monotonic_ns() - begin) / 100
    if os.eventfd_read(bell) != 100:
        raise ProbeError("doorbells get lost")
    return f"a store rings an eventfd in {taken / 1000:.1f} us, without an exit to userspace"


def _read_only(kvm: Kvm) -> str:
    # The page tables refuse stores to the read-only window already; here KVM alone has to.
    guest = TinyGuest(kvm, _STORE_TO_WINDOW)
    address = _map_page(guest)
    _set_slot(guest, lib.SLOT_RW, abi.RW_WINDOW, 0, address)
    _set_slot(guest, lib.SLOT_RW, abi.RW_WINDOW, abi.PAGE_SIZE, address, lib.KVM_MEM_READONLY)
    _expect(guest, lib.EVENT_ADDRESS, "refusing a store to a read-only slot")
    if guest.vm.vcpu.address != abi.RW_WINDOW or any(host.view(address, abi.PAGE_SIZE)):
        raise ProbeError("a store to a read-only slot does harm")
    return "a store to a read-only slot is caught with its address"


def _windows(kvm: Kvm) -> str:
    guest = TinyGuest(kvm, _STORE_TO_WINDOW)
    _expect(guest, lib.EVENT_MISSING, "catching a store to a window where nothing is mapped")
    address = _map_page(guest)
    _expect(guest, lib.EVENT_HYPERCALL, "going on after memory was mapped into a window")
    if host.view(address, 1)[0] != _STORED:
        raise ProbeError("memory mapped into a window is not the guest's")
    return "memory can be mapped into a running VM, and is caught where it is not"


def _map_page(guest: TinyGuest) -> int:
    """Map a fresh page at the start of the read-write window; its host address."""
    address, _ = guest.vm.window(lib.SLOT_RW)
    flags = host.MAP_SHARED | host.MAP_ANONYMOUS | host.MAP_FIXED
    return host.mmap(address, abi.PAGE_SIZE, host.PROT_READ | host.PROT_WRITE, flags)


def _set_slot(guest: TinyGuest, slot: int, address: int, size: int, memory: int, flags: int = 0) -> None:
    region = ffi.new("struct kvm_userspace_memory_region *", (slot, flags, address, size, memory))
    host.ioctl(guest.vm.fd, lib.KVM_SET_USER_MEMORY_REGION, region)


def _exceptions(kvm: Kvm) -> str:
    guest = TinyGuest(kvm, b"\x0f\x0b")  # ud2
    _expect(guest, lib.EVENT_EXCEPTION, "reporting an exception")
    if guest.vm.vcpu.detail != 6:
        raise ProbeError(f"an invalid opcode is reported as vector {guest.vm.vcpu.detail}")
    return "exceptions reach the trap page's stubs"


def _system_call(kvm: Kvm) -> str:
    # syscall; and where LSTAR points: mov %cs,%edi; the call
    landing = 16
    guest = TinyGuest(kvm, b"\x0f\x05".ljust(landing, b"\xf4") + b"\x8c\xcf" + _CALL)
    sregs = guest.vm.sregs()
    sregs.efer |= _EFER_SCE
    host.ioctl(guest.vm.vcpu_fd, lib.KVM_SET_SREGS, sregs)
    values = {_STAR: 0x10 << 32 | 0x23 << 48, _LSTAR: abi.IMAGE_BASE + landing, _SFMASK: 0}
    entries = b"".join(struct.pack("<IIQ", index, 0, value) for index, value in values.items())
    host.ioctl(
        guest.vm.vcpu_fd, lib.KVM_SET_MSRS, ffi.from_buffer(struct.pack("<II", len(values), 0) + entries)
    )
    _expect(guest, lib.EVENT_HYPERCALL, "SYSCALL")
    level = guest.vm.vcpu.regs.rdi & 3
    return (
        f"SYSCALL lands at CPL{level}: system calls of programs go {'directly' if level else 'by a bounce'}"
    )


def _vectors(kvm: Kvm) -> str:
    if not kvm.host.xcr0:
        return "guests have SSE registers only (no AVX), which is enough"
    # xor %ecx,%ecx; xgetbv; mov %eax,%edi; vmovaps %ymm0,%ymm1; the call
    guest = TinyGuest(kvm, bytes.fromhex("31c90f01d089c7c5fc28c8") + _CALL)
    _expect(guest, lib.EVENT_HYPERCALL, "AVX, although KVM accepts it,")
    if guest.vm.vcpu.regs.rdi != kvm.host.xcr0:
        raise ProbeError(f"XCR0 is {guest.vm.vcpu.regs.rdi:#x} in the guest")
    return f"guests have {_FEATURES[kvm.host.xcr0]} registers (XCR0 {kvm.host.xcr0:#x})"


def _dirty_log(kvm: Kvm) -> str:
    # mov $DATA_PAGE,%eax; movl $0x55,(%rax)
    guest = TinyGuest(kvm, b"\xb8" + DATA_PAGE.to_bytes(4, "little") + bytes.fromhex("c70055000000") + _CALL)
    _set_slot(guest, lib.SLOT_RAM, 0, len(guest.ram), guest.ram_address, _KVM_MEM_LOG_DIRTY_PAGES)
    _expect(guest, lib.EVENT_HYPERCALL, "a store to logged memory")
    bitmap = ffi.new("uint8_t[]", len(guest.ram) // abi.PAGE_SIZE // 8)
    request = struct.pack("<IIQ", lib.SLOT_RAM, 0, int(ffi.cast("uintptr_t", bitmap)))
    host.ioctl(guest.vm.fd, _KVM_GET_DIRTY_LOG, ffi.from_buffer(request))
    pages = {
        8 * index + bit for index, byte in enumerate(bytes(bitmap)) for bit in range(8) if byte >> bit & 1
    }
    if DATA_PAGE // abi.PAGE_SIZE not in pages:
        raise ProbeError("the dirty log misses a page")
    return "the dirty log is exact" if len(pages) == 1 else f"the dirty log names {len(pages)} pages for one"


# -- the host -----------------------------------------------------------------------------------------


def _memory() -> str:
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    free = next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("MemAvailable"))
    if free < MEMORY_MIN:
        raise Failure(
            f"only {free >> 20} MiB of memory available", f"free some: {MEMORY_MIN >> 20} MiB are needed"
        )
    return f"{free >> 20} MiB of memory available"


def _processors() -> str:
    choices = probe.choose()
    spin = f"spin up to {choices.spin_ns / 1000:.0f} us" if choices.spin_ns else "never spin"
    return f"{choices.cpus} CPUs, TSC {choices.tsc_khz / 1000:.0f} MHz: guests {spin} before they sleep"


def _sockets() -> str:
    folder = runtime_directory()
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(existing, os.W_OK):
        raise Failure(
            f"control sockets cannot be made in {folder}", "set R3S3_RUNTIME_DIR to a folder of yours"
        )
    return f"control sockets go to {folder}"


# -- tools --------------------------------------------------------------------------------------------


def _built() -> str:
    modules = {"vmm/tender/_vcpu", "vmm/devices/_ring", "images/_crc"}
    missing = sorted(each for each in modules if not list(ROOT.glob(f"{each}.*so")))
    guests = list((ROOT / "build" / "guests").glob("*.elf"))
    if missing or not guests:
        raise Failure(f"not built: {', '.join(missing) or 'guest programs'}", "run: make setup")
    return f"native modules and {len(guests)} guest programs are built"


def _tool(name: str, package: str, purpose: str, needed: bool = True) -> Callable[[], str]:
    """Looks for the program `name`, part of the Debian package."""

    def look() -> str:
        path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        if path is None:
            raise Failure(f"missing, {purpose}", f"apt-get install {package}", ok=False if needed else None)
        return f"{path}, {purpose}"

    return look


def _rustc() -> str:
    path = _tool("rustc", "rustc", "builds guest programs")().partition(",")[0]
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    version = text.split()[1] if len(text.split()) > 1 else ""
    numbers = tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())
    if numbers < (1, 63):
        raise Failure(
            f"{path} is {version or 'broken'}", "install rustc 1.63 or newer: apt-get install rustc"
        )
    return f"{path} {version}, builds guest programs"


_GUESTS: dict[str, Callable[[], str]] = {
    "capabilities": _guest(_capabilities),
    "exits": _guest(_exits),
    "registers": _guest(_registers),
    "doorbells": _guest(_doorbells),
    "windows": _guest(_windows),
    "read-only": _guest(_read_only),
    "exceptions": _guest(_exceptions),
    "syscall": _guest(_system_call),
    "vectors": _guest(_vectors),
    "dirty log": _guest(_dirty_log),
}
_HOST: dict[str, Callable[[], str]] = {
    "open files": _check(probe.check_files, "{} open files allowed"),
    "jail": _check(probe.check_jail, f"VMs can be jailed ({_JAIL})"),
    "processors": _processors,
    "memory": _memory,
    "sockets": _sockets,
    "build": _built,
    "rustc": _rustc,
    "gcc": _tool("gcc", "gcc", "builds native modules"),
    "mkfs.erofs": _tool("mkfs.erofs", "erofs-utils", "builds disk images"),
    "sha256sum": _tool("sha256sum", "coreutils", "r3s3 verify compares with it"),
    "qemu-storage-daemon": _tool(
        "qemu-storage-daemon", "qemu-system-common", "serves qcow2 and other disks", needed=False
    ),
}
