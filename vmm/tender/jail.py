"""The jail of tenders and devices: nothing is left to a process but what it was given.

`share()` puts the zygote into new net, ipc and uts namespaces, with nothing in them; its children stay there.
`fork()` makes a child in new pid and mount namespaces. In the child `confine` closes every
other descriptor and takes away the file system, the user and all capabilities; `seal` takes away all system
calls that the profile does not need. Threads that must exist before the filter (which refuses to make any for
tenders) are started between the two.

As root the child's kernel user becomes nobody, in a user namespace of its own that owns nothing; an
ordinary user gets all namespaces inside a new user namespace of which it is the only member.

OSError: this host refuses something.
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterable

from vmm.tender import host, seccomp
from vmm.tender._vcpu import ffi

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_EMPTY, _OWN = _NEWUTS | _NEWIPC | _NEWNET, _NEWNS | _NEWPID
_NOBODY = 65534
_CAP_SYS_ADMIN = 21

_MOUNT, _UMOUNT2, _PIVOT_ROOT, _CAPSET, _PRCTL, _UNSHARE = 165, 166, 155, 126, 157, 272
_SETUID, _SETGID, _SETGROUPS = 117, 119, 116  # setresuid, setresgid, setgroups
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_DUMPABLE, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 4, 28, 38
_SECUREBITS = 0xEF  # NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each locked; KEEP_CAPS off and locked
_CAPABILITY_VERSION = 0x20080522

_DATA_MAX = 256 << 20  # private memory beside a VM's own
_DESCRIPTORS = 1024

_forked_as_root = False  # how fork() below made this process
_outer_ids = (os.geteuid(), os.getegid())  # what the user is called outside a namespace made later


def privileged() -> bool:
    """Whether this process may make namespaces without a user namespace around them."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return os.geteuid() == 0 and bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def share() -> bool:
    """Leave the host's net, ipc and uts namespaces for empty ones; whether this process was privileged().

    Namespaces of each child's own would keep nothing more apart, as the filters let nobody make a socket or an
    ipc object, and cost 2 ms of CPU each. An ordinary user's child gets them with its user namespace.
    """
    if as_root := privileged():
        host.call(_UNSHARE, _EMPTY)
    return as_root


def fork(*, as_root: bool) -> int:
    """Like os.fork(), into new namespaces; the child must call `confine` and `seal`.

    `as_root` is what share() said.
    """
    global _forked_as_root
    pid = host.fork(_OWN if as_root else _EMPTY | _OWN | _NEWUSER)
    if pid == 0:
        _forked_as_root = as_root
    return pid


def confine(keep: Iterable[int]) -> None:
    """Leaves a child of fork() with the descriptors `keep` and nothing to open. It must have one thread."""
    _keep_only(set(keep))
    if not _forked_as_root:
        _become_sole_user()
    _leave_file_system()
    if _forked_as_root:
        _become_nobody()
    _drop_capabilities()


def seal(profile: str, files: Iterable[int] = (), private_memory: int = 0) -> None:
    """Limits and the filter, on all threads; nothing comes after this but the work itself.

    `files`: descriptors a device may discard blocks of. `private_memory`: bytes a VM may own privately.
    """
    _limit(profile, _DATA_MAX + private_memory)
    host.call(_PRCTL, _PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(seccomp.program(profile, os.getpid(), tuple(files)))


def _keep_only(keep: set[int]) -> None:
    """0, 1 and 2 become /dev/null, lest a stray message goes into whatever gets their numbers later."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in {0, 1, 2} - keep:
        os.dup2(null, fd)
    host.close_all_but(keep | {0, 1, 2})


def _become_sole_user() -> None:
    """In a new user namespace made by an ordinary user: map that user, and nobody else."""
    uid, gid = _outer_ids
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "wb") as file:
            file.write(text.encode())


def _become_nobody() -> None:
    """In a child of root: the kernel's nobody, in a user namespace that owns nothing."""
    host.call(_SETGROUPS, 0, 0)
    host.call(_SETGID, _NOBODY, _NOBODY, _NOBODY)
    host.call(_SETUID, _NOBODY, _NOBODY, _NOBODY)
    host.call(_UNSHARE, _NEWUSER)


def _text(literal: bytes) -> int:
    """The address of a C string: Python ends its bytes with a NUL, and keeps literals alive."""
    return host.address_of(ffi.from_buffer(literal))


def _leave_file_system() -> None:
    """An empty read-only tmpfs becomes the root, and everything else is unmounted."""
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    host.call(_MOUNT, 0, _text(b"/"), 0, _MS_REC | _MS_PRIVATE, 0)
    host.call(_MOUNT, _text(b"none"), _text(b"/proc"), _text(b"tmpfs"), flags, _text(b"nr_inodes=1,mode=0"))
    os.chdir("/proc")
    host.call(_PIVOT_ROOT, _text(b"."), _text(b"."))
    host.call(_UMOUNT2, _text(b"."), _MNT_DETACH)
    os.chdir("/")


def _drop_capabilities() -> None:
    """All of the new user namespace. (The bounding set matters only to execve, which is refused.)"""
    host.call(_PRCTL, _PR_SET_SECUREBITS, _SECUREBITS)
    header = ffi.from_buffer(struct.pack("<Ii", _CAPABILITY_VERSION, 0))
    data = ffi.from_buffer(bytes(24))
    host.call(_CAPSET, host.address_of(header), host.address_of(data))
    host.call(_PRCTL, _PR_SET_DUMPABLE, 0)


def _limit(profile: str, data: int) -> None:
    """Resource limits; `data` bytes of private memory."""
    limits = {resource.RLIMIT_NOFILE: _DESCRIPTORS, resource.RLIMIT_DATA: data}
    limits |= dict.fromkeys((resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE), 0)
    if profile == "tender":
        limits |= dict.fromkeys((resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE), 0)
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))
