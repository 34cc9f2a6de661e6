"""In the bed, hypervisor processes of tests are forked from the test process instead of started afresh.

Starting Python and importing takes 3 of the 8 seconds that a small system costs there (tests/README.md). What
runs is the same; tests of the command line start theirs as users do.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import IO, NoReturn

from hypervisor import policy
from tests.system import lottery, process  # here, so that no child has to load them
from vmm import system_process
from vmm.tender import zygote

__all__ = ["ForkedProcess", "lottery", "process", "system_process", "zygote"]

for _kind in vars(policy).values():  # and no child has to compile their annotations
    if is_dataclass(_kind) and isinstance(_kind, type):
        policy._hints(_kind)


class ForkedProcess:
    """In place of subprocess.Popen for `python -m MODULE ARGUMENT...`, as far as vmm.cli.launch uses it."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        stdin: int,
        stdout: int | IO[bytes] | None,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        process_group: int,
    ) -> None:
        assert stdin == subprocess.DEVNULL
        output = 1 if stdout is None else stdout if isinstance(stdout, int) else stdout.fileno()
        self._status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, process_group)
                become(words[words.index("-m") + 1 :], output, pass_fds, env)
            finally:
                os._exit(1)

    def wait(self, timeout: float | None = None) -> int:
        """Its status, negative if a signal ended it; subprocess.TimeoutExpired after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("forked", end)
            else:
                time.sleep(0.002)
        return self._status

    def kill(self) -> None:
        """SIGKILL, unless it has been waited for."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)


def become(words: Sequence[str], output: int, keep: Sequence[int], env: Mapping[str, str]) -> NoReturn:
    """Be the process that was asked for: module and arguments, and nothing open but streams and `keep`."""
    os.dup2(output, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for fd in (int(each) for each in os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed them
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[:] = words
    gc.freeze()
    status = importlib.import_module(words[0]).main()
    sys.stdout.flush()
    os._exit(status)
