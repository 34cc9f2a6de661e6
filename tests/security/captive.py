"""A process taken over: it makes the system calls that a test wants, as a guest would that has broken out.

With ptrace: a thread is stopped in a system call, its registers are set, and the `syscall` instruction behind
which it stands runs again. So nothing is built into what is tested; namespaces, filter, limits and
descriptors are those that the process had.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import time
from pathlib import Path

_SEIZE, _INTERRUPT, _CONT, _SINGLESTEP, _GETREGS, _SETREGS, _DETACH = 0x4206, 0x4207, 7, 9, 12, 13, 17
_EXITKILL = 0x100000  # it does not outlive us
_WALL = 0x40000000
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_WORD = (1 << 64) - 1
_SYSCALL, _INT80 = b"\x0f\x05", b"\xcd\x80"
_SCRATCH = 1 << 16
_MMAP, _READ_WRITE, _PRIVATE_ANONYMOUS = 9, 3, 0x22
_PATIENCE_S = 10.0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Ended(Exception):
    """The captive has died of what it tried; `status` as waitpid() tells it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"wait status {status:#x}")
        self.status = status


class Captive:
    """One thread of a process; the others go on. To be used by one thread of ours. OSError if it may not be
    traced."""

    def __init__(self, pid: int, thread: int = 0) -> None:
        self.pid, self._thread = pid, thread or pid
        _ptrace(_SEIZE, self._thread, data=_EXITKILL)
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._saved = self._stop_in_a_call()
        self._gate = self._saved["rip"] - len(_SYSCALL)
        self._used = 0
        self.reserved = 0  # where a test keeps a range of its addresses, if it does
        self._scratch = self.call(_MMAP, 0, _SCRATCH, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        assert self._scratch > 0, self._scratch

    def __enter__(self) -> Captive:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def call(self, number: int, *arguments: int) -> int:
        """What a system call returns there: a negative errno where it is refused. Ended, if it is deadly."""
        registers = dict(self._saved, rip=self._gate, rax=number, orig_rax=_WORD)
        registers |= dict(zip(_ARGUMENTS, arguments, strict=False))
        words = struct.pack("<27Q", *(registers[name] & _WORD for name in _REGISTERS))
        room = ctypes.create_string_buffer(words, len(words))
        _ptrace(_SETREGS, self._thread, data=ctypes.addressof(room))
        while True:
            _ptrace(_SINGLESTEP, self._thread)
            if self._wait() == signal.SIGTRAP:  # and not a signal that was under way; that one is dropped
                break
        after = self._registers()
        assert after["rip"] == self._saved["rip"], f"it went to {after['rip']:#x}"
        result = after["rax"]
        return result - (1 << 64) if result >> 63 else result

    def call_as_32_bit(self, number: int) -> int:
        """The same through the entry of 32-bit programs, without arguments."""
        os.pwrite(self._memory, _INT80, self._gate)
        try:
            return self.call(number)
        finally:
            with contextlib.suppress(OSError):  # it has ended
                os.pwrite(self._memory, _SYSCALL, self._gate)

    def place(self, data: bytes) -> int:
        """Put bytes into its memory; their address, a multiple of 16. `forget` makes room again."""
        address = self._scratch + self._used
        self._used += -(-len(data) // 16) * 16
        assert self._used <= _SCRATCH
        os.pwrite(self._memory, data, address)
        return address

    def forget(self) -> None:
        """What was placed is not needed any more."""
        self._used = 0

    def read(self, address: int, length: int) -> bytes:
        """Bytes of its memory."""
        return os.pread(self._memory, length, address)

    def descriptor(self, kind: str) -> int:
        """Its lowest descriptor whose name in /proc begins with `kind`."""
        folder = Path(f"/proc/{self.pid}/fd")
        return min(int(each.name) for each in folder.iterdir() if os.readlink(each).startswith(kind))

    def release(self) -> None:
        """Let it go on where it was. If it has ended that is noted: a tracee is not gone before."""
        os.close(self._memory)
        words = struct.pack("<27Q", *(self._saved[name] for name in _REGISTERS))
        room = ctypes.create_string_buffer(words, len(words))
        try:
            _ptrace(_SETREGS, self._thread, data=ctypes.addressof(room))
            _ptrace(_DETACH, self._thread)
        except ProcessLookupError:
            with contextlib.suppress(Ended, ChildProcessError):
                while True:
                    self._wait()

    def _stop_in_a_call(self) -> dict[str, int]:
        """Its registers, once it waits for something."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            _ptrace(_INTERRUPT, self._thread)
            self._wait()
            registers = self._registers()
            if os.pread(self._memory, 2, registers["rip"] - len(_SYSCALL)) == _SYSCALL:
                return registers
            assert time.monotonic() < end, "it never waits"
            _ptrace(_CONT, self._thread)
            time.sleep(0.002)

    def _registers(self) -> dict[str, int]:
        room = ctypes.create_string_buffer(8 * len(_REGISTERS))
        _ptrace(_GETREGS, self._thread, data=ctypes.addressof(room))
        return dict(zip(_REGISTERS, struct.unpack("<27Q", room.raw), strict=True))

    def _wait(self) -> int:
        """The signal it stops with."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            found, status = os.waitpid(self._thread, _WALL | os.WNOHANG)
            if found and os.WIFSTOPPED(status):
                return os.WSTOPSIG(status)
            if found:
                raise Ended(status)
            assert time.monotonic() < end, "it waits: a system call that should have been refused"
            os.sched_yield()


def _ptrace(request: int, thread: int, data: int = 0) -> None:
    if _libc.ptrace(request, thread, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request:#x} of {thread}: {os.strerror(number)}")
