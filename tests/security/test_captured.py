"""A guest has broken out into its tender, or into a device's process: it tries everything, in vain.

The processes are the zygote's own children, jailed as ever, and driven from outside (captive.py); only a
keeper, which would need a real device, is a process of the test's that went through the same jail.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmm.devices.pci_keeper
import vmm.devices.virtual_process  # noqa: F401 (like the module above, it adds its profile)
from hypervisor import wire
from hypervisor.abi import generated as abi
from tests.bed import IN_BED
from tests.security import tries
from tests.security.captive import Captive, Ended
from tests.security.conftest import ROOT, Stage
from tests.tender.system import Guest, System
from vmm import host
from vmm.tender import jail, seccomp

NUMBERS = range(512)  # of system calls; Linux 6.18 has none beyond 470
CLONE3, GETPID, X32 = 435, 39, 0x40000000
# Linux 6.14 and later let no filter see them: they only mean something where the kernel has put a probe.
# What comes from elsewhere is killed (the first, whose result says nothing) or sent away.
URETPROBE, UPROBE = 335, 336
SENDMSG, RIGHTS, CREDENTIALS = 46, 1, 2
GOLDEN = ROOT / "tests/security/system_calls.golden"
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A zygote, and what it forks."""
    system = System()
    yield system
    system.close()


def until(what: Callable[[], bool], reason: str) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, reason
        time.sleep(0.002)


def sealed(pid: int) -> bool:
    """Whether every thread of a process has its filter."""
    texts = [(each / "status").read_text() for each in Path(f"/proc/{pid}/task").iterdir()]
    return all("\nSeccomp:\t2" in text for text in texts)


@contextmanager
def tender(system: System) -> Iterator[Guest]:
    """A real tender, whose guest waits."""
    guest = system.guest(f"mov $-1, %rdi\n xor %esi, %esi\n hypercall {abi.Hypercall.WAIT}")
    guest.run()
    until(lambda: sealed(guest.pid), "the tender is not sealed")
    until(lambda: guest.stat("waits") > 0, "the guest does not wait")
    yield guest
    system.guests.remove(guest)
    guest.close()


@contextmanager
def device(system: System) -> Iterator[int]:
    """A real disk."""
    ours, theirs = socket.socketpair()
    disk = os.memfd_create("disk")
    os.ftruncate(disk, 1 << 20)
    with ours:
        config = {"kind": "virtio-blk", "name": "disk", "queues": 2}
        pid, pidfd = system.spawn(wire.Kind.SPAWN_DEVICE, config, [theirs.fileno(), disk])
        theirs.close()
        os.close(disk)
        until(lambda: sealed(pid), "the device is not sealed")
        yield pid
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


@contextmanager
def jailed(profile: str, uid: int = 0) -> Iterator[int]:
    """A process that has gone through a jail, and sleeps with one end of a socket."""
    ours, theirs = socket.socketpair()
    carrier = os.fork()
    if carrier == 0:  # to be another user in, and to have one thread only
        try:
            ours.close()
            _enter(profile, uid, theirs)
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        said = b""
        while len(said) < 4 + len(b"sealed"):
            more = ours.recv(64)
            assert more, f"it does not come up: {said!r}"
            said += more
        yield int.from_bytes(said.replace(b"sealed", b""), "little")
    os.waitpid(carrier, 0)


def _enter(profile: str, uid: int, sock: socket.socket) -> None:
    """Fork into the jail; the child's id goes out on the socket, and a word of the child."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        host.call(157, 4, 1)  # dumpable, as a program that such a user has started
    jail._outer_ids = (os.geteuid(), os.getegid())
    child = jail.fork(as_root=jail.privileged())
    if child == 0:
        jail.confine([sock.fileno()])
        jail.seal(profile)
        sock.sendmsg([b"sealed"])
        sock.recvmsg(1)
        os._exit(0)
    sock.sendall(child.to_bytes(4, "little"))
    sock.close()
    os.waitpid(child, 0)


def attack(captive: Captive, profile: str) -> None:
    """Try everything, first by the table, then by number."""
    expected = {name: each.expected for name, each in tries.of(profile).items()}
    assert {name: each.by(captive) for name, each in tries.of(profile).items()} == expected
    known = seccomp.filter_for(profile)
    numbers = [each for each in NUMBERS if each not in known]
    results = {number: captive.call(number, 0, 0, 0, 0, 0, 0) for number in numbers}
    for probe in (URETPROBE, UPROBE):
        assert results.pop(probe) in (-errno.EPERM, -errno.ENXIO)
        numbers.remove(probe)
    assert results == dict.fromkeys(numbers, -errno.EPERM) | {CLONE3: -errno.ENOSYS}
    print(f"{profile}: {len(expected)} attempts and {len(numbers)} system calls by number, all refused")


def vcpu_thread(pid: int) -> int:
    """The thread that waits in the guest's place. (KVM may have one more, which is the kernel's own.)"""
    waits = re.compile(r"^(441|281) ")  # epoll_pwait2, epoll_pwait
    folders = Path(f"/proc/{pid}/task").iterdir()
    return next(int(each.name) for each in folders if waits.match((each / "syscall").read_text()))


def limits(pid: int) -> dict[str, str]:
    """The hard limits of a process."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[47:].split()[0] for line in lines}


def test_without_a_jail() -> None:
    """The control of all these: what an ordinary process tries so is not refused."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    names = "open openat_proc socketpair pipe memfd map_all_rights shared_memory stack_memory epoll timerfd"
    table = tries.of("tender")
    with Captive(pid) as captive:
        assert {name: table[name].by(captive) for name in names.split()} == dict.fromkeys(names.split(), 0)
    os.close(writer)
    os.waitpid(pid, 0)


@pytest.mark.kvm
def test_tender(system: System) -> None:
    """Both of its threads: the one that listens to the hypervisor, and the one that runs the guest."""
    with tender(system) as guest:
        for thread in (guest.pid, vcpu_thread(guest.pid)):
            with Captive(guest.pid, thread) as captive:
                attack(captive, "tender")
        assert limits(guest.pid)["Max processes"] == "0"


@pytest.mark.kvm
def test_device(system: System) -> None:
    with device(system) as pid:
        with Captive(pid) as captive:
            attack(captive, "device")
        assert limits(pid)["Max processes"] == "4096"
        assert limits(pid)["Max file size"] == str(1 << 20)


def test_keeper() -> None:
    with jailed("keeper") as pid, Captive(pid) as captive:
        attack(captive, "keeper")


def test_tender_of_an_ordinary_user() -> None:
    """Without any privilege the jail is the same, inside a user namespace."""
    with jailed("tender", uid=12345) as pid, Captive(pid) as captive:
        attack(captive, "tender")


@pytest.mark.kvm
@pytest.mark.parametrize("entry", ["x32", "int80"])
def test_entries_of_other_architectures_kill(system: System, entry: str) -> None:
    """Their numbers would mean something else to the filter."""
    with tender(system) as guest:
        captive = Captive(guest.pid)
        with pytest.raises(Ended) as ended:
            captive.call(X32 + GETPID) if entry == "x32" else captive.call_as_32_bit(20)
        captive.release()
        assert os.WTERMSIG(ended.value.status) == signal.SIGSYS


@pytest.mark.kvm
def test_what_it_can_see(system: System) -> None:
    """Itself, as process 1, and the descriptors it was left with."""
    with tender(system) as guest, Captive(guest.pid) as captive:
        assert captive.call(GETPID) == 1
        room = captive.place(bytes(64))
        known = {fd for fd in range(2048) if captive.call(0, fd, room, 0) != -errno.EBADF}
        links = {os.readlink(f"/proc/{guest.pid}/fd/{fd}").split("[")[0] for fd in known}
        assert links == {"/null", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:", "socket:"}
        assert len(known) == 7


@pytest.mark.kvm
@pytest.mark.skipif(IN_BED, reason="has not been seen to end in the emulated machine")
def test_the_hypervisors_socket(stage: Stage) -> None:
    """In a whole system: a descriptor, or a record that is not a tender's to send, costs the console's tender
    its life, and nobody else anything. Credentials cannot be forged, and an address leads to nobody else."""
    address = b"\1\0/run/somebody\0"
    with stage.play("", "wait_forever") as scene:
        for why, with_descriptor in (("its tender closed its socket", True), ("a record (3)", False)):
            scene.until(lambda: scene.row("console")["pid"], "the console has no tender")
            pid = scene.row("console")["pid"]
            scene.until(lambda pid=pid: sealed(pid), "it is not sealed")  # type: ignore[misc]
            captive = Captive(pid)
            sock, vm = captive.descriptor("socket:"), captive.descriptor("anon_inode:kvm-vm")
            forged = control_message(CREDENTIALS, 1, 0, 0)  # process 1, root
            refused = captive.call(SENDMSG, sock, message(captive, b"", forged), 0)
            assert refused in (-errno.EPERM, -errno.EINVAL)  # not its own; or no user has that number there
            record = wire.HEADER.pack(wire.Kind.SPAWNED, 0, *[0] * 6)
            descriptor = control_message(RIGHTS, vm) if with_descriptor else b""
            sent = captive.call(SENDMSG, sock, message(captive, record, descriptor, address), 0)
            assert sent == len(record)
            captive.release()
            scene.until(lambda pid=pid: scene.row("console")["pid"] != pid, "it lives")  # type: ignore[misc]
            assert why in [text for text in scene.texts("console") if text.startswith("died")][-1]
        assert {row["name"]: row["deaths"] for row in scene.ask("ps") if row["deaths"]} == {"console": 2}
        scene.ask("kill", component="wait_forever")
        assert scene.end() == 128 + signal.SIGKILL


def control_message(kind: int, *values: int) -> bytes:
    """A struct cmsghdr of a socket, with ints."""
    return struct.pack(f"<Qii{len(values)}i", 16 + 4 * len(values), socket.SOL_SOCKET, kind, *values)


def message(captive: Captive, body: bytes, control: bytes, name: bytes = b"") -> int:
    """A struct msghdr in a captive's memory; its address."""
    places = [captive.place(each or bytes(1)) for each in (body, control, name)]
    part = captive.place(struct.pack("<QQ", places[0], len(body)))
    return captive.place(
        struct.pack("<7Q", places[2] if name else 0, len(name), part, 1, places[1], len(control), 0)
    )


def condition(rule: seccomp.Rule) -> str:
    """A rule as the golden list has it."""
    values = "|".join(f"{value:x}" for value in rule.values)
    return f"{rule.argument}{'' if rule.mask == 0xFFFFFFFF else f'&{rule.mask:x}'}={values}"


def lines_of(profile: str) -> set[str]:
    """What a filter allows, a line each; a device's file is descriptor 5."""
    names = {number: name for name, number in seccomp.SYSTEM_CALLS.items()}
    rules = seccomp.filter_for(profile, (5,) if profile == "device" else ())
    return {f"{names[number]} {','.join(map(condition, each)) or '-'}" for number, each in rules.items()}


def test_every_allowed_system_call_has_a_reason() -> None:
    """What a filter allows is what the golden list says, and there a reason stands beside it."""
    golden: dict[str, str] = {}
    for line in GOLDEN.read_text().splitlines():
        if line and not line.startswith("#"):
            call, _, reason = line.partition("  # ")
            assert len(reason.split()) >= 2, f"no reason: {line}"
            assert call not in golden, f"twice: {line}"
            golden[call] = reason
    found = {profile: lines_of(profile) for profile in tries.EVERYBODY}
    common = set.intersection(*found.values())
    expected = {f"all {line}" for line in common}
    expected |= {f"{profile} {line}" for profile, lines in found.items() for line in lines - common}
    assert set(golden) == expected


def test_everything_that_is_tried_is_listed() -> None:
    names = [name for aim in tries.TRIES.values() for name in aim]
    assert len(names) == len(set(names)) > 200
    assert tries.markdown() in (ROOT / "tests/security/README.md").read_text()
