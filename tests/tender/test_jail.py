"""The jail, from inside: a child enters it and tries what a captured process would try."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vmm.devices.pci_keeper
import vmm.devices.virtual_process
import vmm.forking  # noqa: F401 (like the module above, it adds its profile)
from tests.tender.system import EVERY_CALL, System
from vmm import host
from vmm.tender import jail, seccomp
from vmm.tender._vcpu import ffi, lib
from vmm.tender.seccomp import PROFILES

pytestmark = pytest.mark.kvm

ALLOWED = 0
SECCOMP_ARCHITECTURE = 0xC000003E


def inside(profile: str, attempt: Callable[[], Any], *, keep: tuple[int, ...] = ()) -> Any:
    """What `attempt` returns in a jailed child: JSON through a pipe. An exception comes back as its text."""
    reader, writer = os.pipe()
    carrier = os.fork()
    if carrier == 0:  # a process that has one thread only
        try:
            child = jail.fork(as_root=jail.privileged())
        except OSError as error:
            os.write(writer, json.dumps(f"OSError: {error}").encode())
            os._exit(1)
        if child == 0:
            try:
                jail.confine([writer, *keep])
                jail.seal(profile, keep)
                result = attempt()
            except BaseException as error:
                result = f"{type(error).__name__}: {error}"
            os.write(writer, json.dumps(result).encode())
            os._exit(0)
        os._exit(os.waitpid(child, 0)[1] and 1)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    os.waitpid(carrier, 0)
    assert text, "the child died"
    return json.loads(text)


def errno_of(number: int, *arguments: int) -> int:
    """0, or the errno of a system call."""
    result: int = lib.syscall(number, *(ffi.cast("long", each) for each in arguments))
    return 0 if result >= 0 else int(ffi.errno)


PATH = ffi.new("char[]", b"/")
ROOM = ffi.new("char[]", 4096)
ADDRESS = int(ffi.cast("uintptr_t", PATH))
BUFFER = int(ffi.cast("uintptr_t", ROOM))

# What must be refused to every profile: name -> (number, arguments).
FORBIDDEN: dict[str, tuple[int, ...]] = {
    "open": (2, ADDRESS, 0),
    "openat": (257, -100, ADDRESS, 0),
    "openat2": (437, -100, ADDRESS, BUFFER, 24),
    "creat": (85, ADDRESS, 0),
    "stat": (4, ADDRESS, BUFFER),
    "mkdir": (83, ADDRESS, 0o777),
    "unlink": (87, ADDRESS),
    "chdir": (80, ADDRESS),
    "mount": (165, ADDRESS, ADDRESS, ADDRESS, 0, 0),
    "chroot": (161, ADDRESS),
    "socket": (41, 1, 1, 0),
    "socketpair": (53, 1, 1, 0, BUFFER),
    "connect": (42, 0, BUFFER, 16),
    "bind": (49, 0, BUFFER, 16),
    "fork": (57,),
    "vfork": (58,),
    "execve": (59, ADDRESS, 0, 0),
    "execveat": (322, -100, ADDRESS, 0, 0, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, BUFFER, 1, BUFFER, 1, 0)[:7],
    "kill": (62, 1, 0),
    "tgkill_other": (234, 99, 99, 0),
    "memfd_create": (319, ADDRESS, 0),
    "ftruncate": (77, 0, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "setuid": (105, 0),
    "capset": (126, BUFFER, 0),
    "prctl": (157, 38, 0, 0, 0, 0),
    "seccomp": (317, 0, 0, 0),
    "setrlimit": (160, 4, BUFFER),
    "prlimit": (302, 0, 4, BUFFER, 0),
    "bpf": (321, 0, BUFFER, 16),
    "perf_event_open": (298, BUFFER, 0, 0, 0, 0),
    "userfaultfd": (323, 0),
    "io_uring_setup": (425, 1, BUFFER),
    "keyctl": (250, 0),
    "pidfd_open": (434, 1, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "shmget": (29, 0, 4096, 0o1000),
    "executable_mmap": (9, 0, 4096, 5, 0x22, -1, 0),
    "executable_mprotect": (10, BUFFER & -4096, 4096, 4),
    "pkey_mprotect": (329, BUFFER & -4096, 4096, 4, -1),
    "punch_hole": (28, BUFFER & -4096, 4096, 9),
    "terminal_ioctl": (16, 0, 0x5412, BUFFER),
    "dup": (32, 0),
    "splice": (275, 0, 0, 1, 0, 1, 0)[:7],
    "inotify": (294, 0),
    "personality": (135, 0xFFFFFFFF),
    "modify_ldt": (154, 0, BUFFER, 16),
    "arch_prctl": (158, 0x1001, 0),
    "reboot": (169, 0, 0, 0, 0),
    "sched_setaffinity": (203, 0, 8, BUFFER),
}
NOT_FOR_TENDERS = {
    "thread": (56, 0x3D0F00, 0, 0, 0, 0),
    "fallocate": (285, 0, 3, 0, 0),
    "pread": (17, 0, BUFFER, 1, 0),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_forbidden_system_calls(profile: str) -> None:
    forbidden = dict(FORBIDDEN)
    if profile == "tender":
        forbidden |= NOT_FOR_TENDERS
    if profile == "tender_fork":
        del forbidden["tgkill_other"]  # its children are its own
    results = inside(profile, lambda: {name: errno_of(*call) for name, call in forbidden.items()})
    assert results == dict.fromkeys(forbidden, errno.EPERM)


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_is_left(profile: str) -> None:
    def look() -> dict[str, Any]:
        return {
            "fds": [fd for fd in range(8192) if errno_of(1, fd, BUFFER, 0) != errno.EBADF],
            "getpid": os.getpid(),
        }

    seen = inside(profile, look)
    assert seen["getpid"] == 1
    assert set(seen["fds"][:3]) == {0, 1, 2}
    assert len(seen["fds"]) == 4  # and the pipe


def look_from_outside(pid: int) -> dict[str, Any]:
    """What /proc says of a process."""
    base = Path(f"/proc/{pid}")
    status = dict(
        line.split(":\t", 1) for line in (base / "status").read_text().splitlines() if ":\t" in line
    )
    return {
        "status": status,
        "namespaces": {
            name: os.readlink(base / "ns" / name) for name in ("user", "mnt", "pid", "net", "ipc", "uts")
        },
        "mounts": (base / "mounts").read_text(),
        "limits": (base / "limits").read_text(),
        "root": sorted(os.listdir(base / "root")),
        "maps": (base / "maps").read_text(),
    }


def test_tender_from_outside(system: System) -> None:
    guest = system.guest("1: jmp 1b").ready()
    seen, own = look_from_outside(guest.pid), look_from_outside(os.getpid())
    for name, namespace in seen["namespaces"].items():
        assert namespace != own["namespaces"][name], name
    assert seen["root"] == []
    assert seen["mounts"].count("\n") == 1
    assert " / tmpfs ro,nosuid,nodev,noexec" in seen["mounts"]
    status = seen["status"]
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    links = [os.readlink(each) for each in Path(f"/proc/{guest.pid}/fd").iterdir()]
    kinds = sorted(link.split("[")[0] for link in links)
    epoll = "anon_inode:"
    assert kinds == sorted(["/null"] * 3 + ["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", epoll, "socket:"])
    for limit in ("Max core file size", "Max processes", "Max file size", "Max locked memory"):
        line = next(line for line in seen["limits"].splitlines() if line.startswith(limit))
        assert line[len(limit) :].split()[:2] == ["0", "0"]
    shared = [line for line in seen["maps"].splitlines() if "rwx" in line]
    assert shared == []


def test_every_thread_is_sealed(system: System) -> None:
    guest = system.guest("1: jmp 1b")
    guest.run()
    threads = list(Path(f"/proc/{guest.pid}/task").iterdir())
    assert len(threads) >= 2
    for thread in threads:
        status = (thread / "status").read_text()
        assert "Seccomp:\t2" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status


def test_device_may_work_on_its_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 8192)
    file = os.open(path, os.O_RDWR)
    left, right = socket.socketpair()

    def work() -> list[Any]:
        results: list[Any] = [os.pwrite(file, b"yy", 4096), os.pread(file, 3, 4096).decode()]
        os.fdatasync(file)
        results.append(errno_of(285, file, 3, 0, 4096))  # punch a hole
        results.append(errno_of(285, file, 0, 0, 1 << 20))  # grow: no
        results.append(errno_of(285, 1, 3, 0, 4096))  # in another descriptor: no
        results.append(left.sendmsg([b"hello"]))
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(1))
        thread.start()
        thread.join()
        results.append(done)
        event = os.eventfd(0)
        os.eventfd_write(event, 2)
        results.append(os.eventfd_read(event))
        results.append(len(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
        return results

    results = inside("device", work, keep=(file, left.fileno()))
    assert results == [2, "yyx", 0, errno.EPERM, errno.EPERM, 5, [1], 2, 4096]
    assert right.recv(10) == b"hello"
    assert path.read_bytes()[:4096] == bytes(4096)


def test_memory_received_after_the_filter_can_be_mapped() -> None:
    left, right = socket.socketpair()
    fd = os.memfd_create("m")
    os.ftruncate(fd, 4096)
    socket.send_fds(right, [b"x"], [fd])

    def work() -> str:
        _, fds, _, _ = socket.recv_fds(left, 10, 4)
        address = host.mmap(0, 4096, host.PROT_READ | host.PROT_WRITE, host.MAP_SHARED, fds[0])
        host.view(address, 4096)[:5] = b"hello"
        return "done"

    assert inside("device", work, keep=(left.fileno(),)) == "done"
    assert os.pread(fd, 5, 0) == b"hello"


def test_limits_hold_for_private_memory() -> None:
    def work() -> str:
        host.mmap(0, 1 << 30, host.PROT_READ | host.PROT_WRITE, host.MAP_PRIVATE | host.MAP_ANONYMOUS)
        return "got it"

    assert inside("tender", work).startswith("OSError: [Errno 12]")


def test_fork_profile_may_fork_and_wait() -> None:
    def work() -> list[int]:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return [pid, os.waitpid(pid, 0)[1] >> 8]

    assert inside("tender_fork", work) == [2, 7]


def test_unknown_profile() -> None:
    with pytest.raises(KeyError, match="none"):
        seccomp.filter_for("none")


def test_foreign_architecture_dies() -> None:
    """A 32-bit system call would be numbered differently: the process is killed."""
    program = seccomp.program("tender")
    verdict = run_filter(program, 3, architecture=0x40000003)
    assert verdict == 0x80000000
    assert run_filter(program, 0x40000003) == 0x80000000


def test_filters_as_computed() -> None:
    """The programs say, for every system call number, what the lists say."""
    for profile in PROFILES:
        rules = seccomp.filter_for(profile, (5,))
        program = seccomp.program(profile, (5,))
        assert len(program) // 8 <= 4096
        for number in range(500):
            verdict = run_filter(program, number)
            if number == 435:
                assert verdict == 0x50000 | errno.ENOSYS
            elif number not in rules or any(0 & rule.mask not in rule.values for rule in rules[number]):
                assert verdict == 0x50000 | errno.EPERM
            else:
                assert verdict == 0x7FFF0000
        for request in seccomp.TENDER_IOCTLS if profile.startswith("tender") else ():
            assert run_filter(program, 16, (0, request)) == 0x7FFF0000
            assert run_filter(program, 16, (0, request + 1)) == 0x50000 | errno.EPERM


def run_filter(
    program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = SECCOMP_ARCHITECTURE
) -> int:
    """A classic BPF machine, as far as the filters use it."""
    words = [ctypes.c_uint32(value).value for value in arguments] + [0] * (6 - len(arguments))
    data = {0: number, 4: architecture} | {16 + 8 * index: value for index, value in enumerate(words)}
    position, accumulator = 0, 0
    while True:
        code = int.from_bytes(program[8 * position : 8 * position + 2], "little")
        true, false = program[8 * position + 2 : 8 * position + 4]
        operand = int.from_bytes(program[8 * position + 4 : 8 * position + 8], "little")
        position += 1
        if code == 0x20:
            accumulator = data[operand]
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x15:
            position += true if accumulator == operand else false
        elif code == 0x35:
            position += true if accumulator >= operand else false
        elif code == 0x06:
            return operand
        else:
            raise AssertionError(f"instruction {code:#x}")


def test_own_process_is_untouched() -> None:
    """Nothing of the above has leaked into the process that runs the tests."""
    assert resource.getrlimit(resource.RLIMIT_NPROC)[0] != 0
    assert EVERY_CALL
