"""System-call filters: allow-lists compiled to BPF.

Whatever is not listed answers EPERM (`clone3`: ENOSYS, so that the C library falls back to `clone`, whose
flags a filter can see). Only the low half of an argument is compared: all arguments restricted here are
ints, or flag words whose high half the kernel ignores.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from vmm.tender._vcpu import lib


class Rule(NamedTuple):
    """A condition on argument number `argument`: masked with `mask`, it is one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


Allowed = dict[str, tuple[Rule, ...]]  # name of a system call -> conditions that must all hold

# Numbers by name.
SYSTEM_CALLS = {name.removeprefix("SYS_"): getattr(lib, name) for name in dir(lib) if name.startswith("SYS_")}

_EXECUTABLE, _MAP_KIND = 4, 0x4012F  # PROT_EXEC; MAP_TYPE, ANONYMOUS, GROWSDOWN, HUGETLB
_MADVISE = (4, 8, 10)  # DONTNEED, FREE, DONTFORK; REMOVE would punch holes into shared memory
CLONE_PTHREAD = 0x3D0F00  # what pthread_create() passes

TENDER_IOCTLS = (
    lib.KVM_RUN, lib.KVM_IOEVENTFD,
    lib.KVM_GET_REGS, lib.KVM_SET_REGS, lib.KVM_GET_SREGS, lib.KVM_SET_SREGS,
)  # fmt: skip


_PLAIN = (
    "read write close recvmsg sendmsg munmap brk epoll_wait epoll_pwait epoll_pwait2 epoll_ctl poll ppoll "
    "rt_sigprocmask rt_sigreturn sigaltstack restart_syscall clock_gettime clock_nanosleep nanosleep "
    # The last two are how a thread begins, perhaps only just after the filter came.
    "sched_yield getpid gettid getrandom exit exit_group rseq set_robust_list"
)
_COMMON: Allowed = dict.fromkeys(_PLAIN.split(), ()) | {
    # Shared, private, private without a file: no other kind is memory that RLIMIT_DATA counts.
    "mmap": (Rule(2, (0,), _EXECUTABLE), Rule(3, (0x1, 0x2, 0x22), _MAP_KIND)),
    "mprotect": (Rule(2, (0,), _EXECUTABLE),),
    "madvise": (Rule(2, _MADVISE),),
    "tgkill": (Rule(0, (1,)),),  # in its own process, which is the first of its namespace
    "futex": (Rule(1, (0, 1, 9, 10), 0x7F),),  # sleep and wake; no lending of priorities, no requeueing
}


# What a profile allows beside that, given the descriptors whose contents may be freed. Devices, and tenders
# that fork, add theirs, and the numbers of the calls that only they make.
PROFILES: dict[str, Callable[[tuple[int, ...]], Allowed]] = {
    "tender": lambda _files: {"ioctl": (Rule(1, TENDER_IOCTLS),)}
}


def filter_for(profile: str, files: tuple[int, ...] = ()) -> dict[int, tuple[Rule, ...]]:
    """The allow-list of a jail profile, by number."""
    allowed = _COMMON | PROFILES[profile](files)
    return {SYSTEM_CALLS[name]: rules for name, rules in allowed.items()}


# BPF: instructions are (code, jump if true, jump if false, operand); data is struct seccomp_data.
_LOAD, _AND, _RETURN, _IF_EQUAL, _IF_GREATER_EQUAL = 0x20, 0x54, 0x06, 0x15, 0x35
_NUMBER, _ARCHITECTURE, _ARGUMENTS, _X86_64, _X32 = 0, 4, 16, 0xC000003E, 0x40000000
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_Instruction = tuple[int, int, int, int]
INSTRUCTION_SIZE = 8


@lru_cache(maxsize=8)
def program(profile: str, files: tuple[int, ...] = ()) -> bytes:
    """The filter as a BPF program; each call's block falls through to the next where the number differs."""
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_GREATER_EQUAL, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    blocks = {number: _conditions(rules) for number, rules in filter_for(profile, files).items()}
    blocks[SYSTEM_CALLS["clone3"]] = [(_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for number, block in blocks.items():
        code += [(_IF_EQUAL, 0, len(block), number), *block]
    code.append((_RETURN, 0, 0, _ERROR | errno.EPERM))
    return b"".join(struct.pack("<HBBI", *each) for each in code)


def _conditions(rules: tuple[Rule, ...]) -> list[_Instruction]:
    """Allow if every rule holds, else EPERM."""
    block: list[_Instruction] = []
    for rule in rules:
        block += [(_LOAD, 0, 0, _ARGUMENTS + 8 * rule.argument), (_AND, 0, 0, rule.mask)]
        for position, value in enumerate(rule.values):
            left = len(rule.values) - 1 - position  # comparisons still to come; after them, the refusal
            block.append((_IF_EQUAL, left + 1, 0, value))
        block.append((_RETURN, 0, 0, _ERROR | errno.EPERM))
    return [*block, (_RETURN, 0, 0, _ALLOW)]
