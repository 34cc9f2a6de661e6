"""The jail of tenders and devices: nothing is left to a process but what it was given.

`share()` puts the zygote into new net, ipc and uts namespaces, with nothing in them; its children stay there.
`fork()` makes a child in new pid and mount namespaces. In the child `confine` closes every
other descriptor and takes away the file system, the user and all capabilities; `seal` takes away all system
calls that the profile does not need. Threads that must exist before the filter (which refuses to make any for
tenders) are started between the two. What they do is in jail.c, which a tender calls itself.

As root the child's kernel user becomes nobody, in a user namespace of its own that owns nothing; an
ordinary user gets all namespaces inside a new user namespace of which it is the only member.

OSError: this host refuses something.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import Any

from vmm.tender import seccomp
from vmm.tender._vcpu import ffi, lib

_EMPTY: int = lib.CLONE_NEWUTS | lib.CLONE_NEWIPC | lib.CLONE_NEWNET
_OWN: int = lib.CLONE_NEWNS | lib.CLONE_NEWPID
_CAP_SYS_ADMIN = 21

_DATA_MAX = 256 << 20  # private memory beside a VM's own
# Beside RLIMIT_DATA: page tables of mere addresses are memory, and a stack grows without being counted there.
_LIMITS = {
    resource.RLIMIT_CORE: 0, resource.RLIMIT_MSGQUEUE: 0, resource.RLIMIT_NOFILE: 1024,
    resource.RLIMIT_NPROC: 4096, resource.RLIMIT_STACK: 8 << 20, resource.RLIMIT_AS: 16 << 30,
}  # fmt: skip


_forked_as_root = False  # how fork() below made this process
_outer_ids = (os.geteuid(), os.getegid())  # what the user is called outside a namespace made later


def privileged() -> bool:
    """Whether this process may make namespaces without a user namespace around them."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return os.geteuid() == 0 and bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def check(result: int) -> int:
    """The result of a C function; where it is -1, `errno` becomes an OSError."""
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return result


def share() -> bool:
    """Leave the host's net, ipc and uts namespaces for empty ones; whether this process was privileged().

    Namespaces of each child's own would keep nothing more apart, as the filters let nobody make a socket or
    an ipc object, and cost 2 ms of CPU each. An ordinary user's child gets them with its user namespace.
    """
    return privileged() and check(lib.unshare(_EMPTY)) == 0


def _namespaces(as_root: bool) -> int:
    return _OWN if as_root else _EMPTY | _OWN | lib.CLONE_NEWUSER


def describe(
    profile: str, *, as_root: bool, files: Iterable[int] = (), private_memory: int = 0
) -> tuple[Any, Any]:
    """The jail of one child (struct jail *), and what must be kept alive as long as that.

    `files`: descriptors a device may discard blocks of. `private_memory`: bytes a VM may own privately.
    """
    most = _LIMITS | {resource.RLIMIT_DATA: _DATA_MAX + private_memory}
    if profile != "keeper":  # who has memory pinned for its device
        most[resource.RLIMIT_MEMLOCK] = 0
    if profile == "tender":
        most |= {resource.RLIMIT_NPROC: 0, resource.RLIMIT_FSIZE: 0}
    limits = [(1 << 64) - 1] * lib.RLIM_NLIMITS
    for each, wanted in most.items():  # a process cannot have more than this one
        limits[each] = min(wanted, resource.getrlimit(each)[1] & (1 << 64) - 1)
    program = ffi.new("char[]", seccomp.program(profile, tuple(files)))
    made = ffi.new("struct jail *", {"as_root": as_root, "limits": limits})
    made.namespaces = _namespaces(as_root)
    made.uid, made.gid = _outer_ids
    made.filter, made.instructions = program, len(program) // seccomp.INSTRUCTION_SIZE
    return made, program


def fork(*, as_root: bool) -> int:
    """Like os.fork(), into new namespaces; the child must call `confine` and `seal`.

    `as_root` is what share() said.
    """
    global _forked_as_root
    pid = check(lib.host_fork(_namespaces(as_root)))
    if pid == 0:
        _forked_as_root = as_root
    return pid


def confine(keep: Iterable[int]) -> None:
    """Leaves a child of fork() with the descriptors `keep` and nothing to open. It must have one thread."""
    kept = sorted(set(keep))
    check(lib.jail_confine(describe("tender", as_root=_forked_as_root)[0], kept, len(kept)))


def seal(profile: str, files: Iterable[int] = (), private_memory: int = 0) -> None:
    """Limits and the filter, on all threads; nothing comes after this but the work itself."""
    jail, _program = describe(profile, as_root=_forked_as_root, files=files, private_memory=private_memory)
    check(lib.jail_seal(jail))
