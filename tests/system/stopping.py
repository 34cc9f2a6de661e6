"""Stopping a process just before or just after one of its system calls, and killing it there.

With ptrace, as a debugger would: the process itself knows nothing of it, so that nothing has to be built in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PREADV = 295  # x86-64
_SEIZE, _INTERRUPT, _SYSCALL, _GETREGS, _DETACH, _SETOPTIONS = 0x4206, 0x4207, 24, 12, 17, 0x4200
_TRACESYSGOOD = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ORIG_RAX = 15 * 8  # in user_regs_struct
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def kill_at(pid: int, number: int, passage: int, *, after: bool) -> None:
    """SIGKILL process `pid` at the `passage`-th system call `number` of any of its threads: when it has been
    called and has done nothing yet, or (`after`) when it has done its work and has not returned. OSError if
    the process cannot be traced, or ends before."""
    threads = [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]
    for thread in threads:
        _ptrace(_SEIZE, thread, _TRACESYSGOOD)
        _ptrace(_INTERRUPT, thread)
    inside = dict.fromkeys(threads, False)
    left = passage
    while True:
        thread, status = _wait(threads)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(f"{pid} has ended before")
        if os.WSTOPSIG(status) == _SYSCALL_STOP:
            inside[thread] = not inside[thread]
            if inside[thread] is not after and _call_of(thread) == number:
                left -= 1
                if left == 0:
                    os.kill(pid, signal.SIGKILL)
                    _bury(pid, threads)
                    return
        _ptrace(_SYSCALL, thread)


def _wait(threads: list[int]) -> tuple[int, int]:
    """Wait for one of our tracees, and for no other child of this process."""
    while True:
        for thread in threads:
            found, status = os.waitpid(thread, _WALL | os.WNOHANG)
            if found:
                return found, status
        os.sched_yield()


def _bury(process: int, threads: list[int]) -> None:
    """Take note of the end of every tracee: until then none is really gone, and the first thread never."""
    for thread in sorted(threads, key=lambda thread: thread == process):
        with contextlib.suppress(ChildProcessError):
            while not os.WIFSIGNALED(os.waitpid(thread, _WALL)[1]):
                pass


def _call_of(thread: int) -> int:
    registers = ctypes.create_string_buffer(27 * 8)
    _ptrace(_GETREGS, thread, data=ctypes.addressof(registers))
    return int.from_bytes(registers.raw[_ORIG_RAX : _ORIG_RAX + 8], "little")


def _ptrace(request: int, thread: int, data: int = 0) -> None:
    if _libc.ptrace(request, thread, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x} of {thread}: {os.strerror(number)}")
